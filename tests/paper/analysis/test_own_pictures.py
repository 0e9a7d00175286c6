"""Figure S2 with pictures and cut-outs of one's own: what is pasted where, and what does not fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from tadp_ray.backbones.stable_diffusion.load import load_diffusion
from tadp_ray.config.analysis import CopyPaste
from tadp_ray.config.load import load_recipe
from tadp_ray.errors import UserError
from tadp_ray.paper.analysis.copy_paste import check_files, copy_paste, own_cases, paste, scaled
from tadp_ray.paper.analysis.images import ShownObject

RECIPE = Path(__file__).resolve().parents[3] / "experiments/recipes/pocket_segmentation.yaml"


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Any]:
    """A grey picture of 64 x 96 with a dog at the left and a bird in the middle; a cat and a bottle to paste."""
    Image.fromarray(np.full((64, 96, 3), 90, np.uint8)).save(tmp_path / "base.png")
    for name, columns in (("dog", slice(2, 22)), ("bird", slice(40, 50))):
        region = np.zeros((64, 96), np.uint8)
        region[30:60, columns] = 255
        Image.fromarray(region).save(tmp_path / f"{name}.png")
    for name, colour in (("cat", 250), ("bottle", 10)):
        cut = np.zeros((20, 14, 4), np.uint8)
        cut[2:18, 2:12] = (colour, colour, colour, 255)
        Image.fromarray(cut).save(tmp_path / f"{name}_cut.png")
    regions = {name: str(tmp_path / f"{name}.png") for name in ("dog", "bird")}
    cutouts = {name: str(tmp_path / f"{name}_cut.png") for name in ("cat", "bottle")}
    return {
        "kind": "copy_paste",
        "pairs": {"bottle": "bird", "cat": "dog"},
        "cutouts": cutouts,
        "pictures": [{"path": str(tmp_path / "base.png"), "regions": regions}],
    }


def test_each_pair_is_pasted_into_the_picture(spec: dict[str, Any], tmp_path: Path) -> None:
    config = CopyPaste.model_validate(spec)
    check_files(config)
    diffusion = load_diffusion("pocket")
    cases = list(own_cases(config, diffusion))
    assert [(case.word, case.other, case.prompt) for case in cases] == [
        ("bottle", "bird", "dog bird bottle"),
        ("cat", "dog", "dog bird cat"),
    ]
    for case, colour in zip(cases, (10, 250), strict=True):
        assert (case.after[case.pasted] == colour).all() and (case.before == 90).all()
        assert not (case.pasted & case.look_alike).any()
        # As large as its look-alike.
        assert 0.7 < case.pasted.sum() / case.look_alike.sum() < 1.4
    found = copy_paste(config, load_recipe(RECIPE), 0, diffusion, tmp_path)
    assert found.numbers["cases"] == 2 and (tmp_path / "copy_paste.png").is_file()


def test_what_is_transparent_colours_no_edge_and_what_is_too_thin_is_not_pasted() -> None:
    other = ShownObject("dog", np.zeros((64, 96), bool))
    other.region[30:60, 2:12] = True
    rows, columns = np.indices((101, 101)) - 50
    disc = rows**2 + columns**2 < 45**2
    small = scaled(np.dstack([np.where(disc, 255, 0).astype(np.uint8)] * 4), other)
    assert (small[small[..., 3] > 127][:, :3] >= 254).all() and (small[..., 3] > 127).sum() == pytest.approx(
        300, rel=0.1
    )
    thin = np.zeros((200, 200, 4), np.uint8)
    thin[::8] = 255
    assert paste(np.zeros((64, 96, 3), np.uint8), scaled(thin, other), [other], other) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cases": 5}, "cases: 5 counts images of the data set, but pictures are given"),
        ({"cutouts": {}}, "cutouts: has none of 'bottle', which pairs paste into pictures"),
        ({"pairs": {}}, "pairs: pictures need pairs"),
        ({"pairs": {"cat": "wolf"}}, r"pairs: 'wolf' is in no picture's regions \(bird, dog\); add it there"),
    ],
)
def test_keys_that_do_not_fit_are_named(spec: dict[str, Any], change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CopyPaste.model_validate(spec | change)


def test_files_that_do_not_fit_are_named(spec: dict[str, Any], tmp_path: Path) -> None:
    diffusion = load_diffusion("pocket")

    def said() -> str:
        with pytest.raises(UserError) as caught:
            check_files(CopyPaste.model_validate(spec))
            list(own_cases(CopyPaste.model_validate(spec), diffusion))
        return str(caught.value)

    wide = np.zeros((64, 96), np.uint8)
    wide[30:60, 2:94] = 255
    Image.fromarray(wide).save(tmp_path / "dog.png")
    assert "base.png has no room for a cat as large as the dog and beside it" in said()
    Image.fromarray(wide[:, :90]).save(tmp_path / "dog.png")
    assert "dog.png: is 90 x 64, but the image is 96 x 64" in said()
    (tmp_path / "dog.png").unlink()
    assert "spec.pictures.regions.dog: " in said() and "there is no such file" in said()
