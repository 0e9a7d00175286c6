"""Fixtures that the tests of several data sets use."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tadp_ray.data.files import FileDataset, Layout
from tadp_ray.errors import UserError

Put = Callable[[str, Path | np.ndarray | str], Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Lay files out below this test's folder: a path as a link to it, an array as an image, text as it is."""

    def write(where: str, what: Path | np.ndarray | str) -> Path:
        file = tmp_path / where
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        if isinstance(what, Path):
            file.symlink_to(what)
        elif isinstance(what, str):
            file.write_text(what)
        else:
            Image.fromarray(what).save(file)
        return file

    return write


@pytest.fixture
def refusal() -> Callable[[Callable[[], Layout]], str]:
    """What is said of files that cannot be used."""

    def said(layout: Callable[[], Layout]) -> str:
        with pytest.raises(UserError) as caught:
            FileDataset(layout())
        return str(caught.value)

    return said


@pytest.fixture
def photo() -> np.ndarray:
    """A colour image of 40 x 48 pixels."""
    return np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
