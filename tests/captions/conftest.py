"""The true distribution of class names in Pascal VOC, from the published oracle captions."""

import re
from pathlib import Path

import pytest

from tadp_ray.captions.store import read_store

VOC = (
    "background,airplane,bicycle,bird,boat,bottle,bus,car,cat,chair,cow,dining table,dog,horse,motorcycle,person,"
    "potted plant,sheep,sofa,train,television"
).split(",")


@pytest.fixture(scope="session")
def voc_classes() -> list[str]:
    """The names by which the published captions call VOC's classes, in class-index order."""
    return VOC


@pytest.fixture(scope="session")
def voc(shared: Path) -> dict[str, list[str]]:
    """The present names of each of VOC's 1,449 validation images, in class-index order."""
    folder = shared / "data/tadp/captions"
    oracle = read_store(folder / "pascal_class_names.json")
    validation = read_store(folder / "voc_val_captions.json")
    present = {i: re.findall("|".join(VOC), oracle[i][0]) for i in validation.captions}
    assert all(" ".join(names) == oracle[i][0] for i, names in present.items())
    return present
