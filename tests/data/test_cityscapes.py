"""Cityscapes' labelIds become trainIds; night sets are targets of it, and of nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import Cityscapes

from tadp_ray.config.cell import Cell
from tadp_ray.config.data import PublishedData
from tadp_ray.config.recipe import Recipe
from tadp_ray.data.cityscapes import CLASSES, LABEL_IDS, cityscapes
from tadp_ray.data.datasets import open_dataset
from tadp_ray.data.files import FileDataset
from tadp_ray.errors import UserError
from tadp_ray.sweep.inputs import with_absolute_paths


def test_label_ids_are_those_of_the_makers() -> None:
    """torchvision's copy of the official label table."""
    for label in Cityscapes.classes:
        if label.id >= 0:
            assert LABEL_IDS[label.id] == label.train_id
            assert label.train_id == 255 or CLASSES[label.train_id] == label.name
    assert len(CLASSES) == 19


def test_real_labels_become_the_published_train_ids(shared: Path, put, tmp_path: Path) -> None:
    """A frame of Frankfurt, made small, whose labelTrainIds come with it; and one of Aachen at its true size."""
    small = shared / "data/mmseg_samples/tests/data/pseudo_cityscapes_dataset"
    stem = "val/frankfurt/frankfurt_000000_000294"
    put(f"leftImg8bit/{stem}_leftImg8bit.png", small / f"leftImg8bit/{stem}_leftImg8bit.png")
    put(f"gtFine/{stem}_gtFine_labelIds.png", small / f"gtFine/{stem}_gtFine_labelIds.png")
    # Others of the makers' files lie in the same folder.
    put(f"gtFine/{stem}_gtFine_labelTrainIds.png", small / f"gtFine/{stem}_gtFine_labelTrainIds.png")
    val = FileDataset(cityscapes(tmp_path, "val"))
    assert val.ids == ("frankfurt/frankfurt_000000_000294_leftImg8bit.png",) and val.sizes == ((128, 256),)
    given = np.asarray(Image.open(small / f"gtFine/{stem}_gtFine_labelTrainIds.png"))
    # The two files were made small one by one, and differ in 81 of 32,768 pixels along borders.
    assert (val[0].mask == given).mean() > 0.997

    large, name = shared / "data/cityscapes/datasets/cityscapes", "aachen_000000_000019"
    put(f"leftImg8bit/train/aachen/{name}_leftImg8bit.png", large / f"train_img/{name}_leftImg8bit.png")
    put(f"gtFine/train/aachen/{name}_gtFine_labelIds.png", large / f"train_label/{name}_gtFine_labelIds.png")
    train = FileDataset(cityscapes(tmp_path, "train"))
    assert train.sizes == ((1024, 2048),) and {"road", "building", "bicycle"} <= set(train.present(0))


@pytest.mark.parametrize(
    ("kind", "captions", "images", "truths", "ending", "truth_ending"),
    [
        (
            "dark_zurich",
            "dark_zurich_captions_min=0_max=77",
            "rgb_anon/val",
            "gt/val",
            "_rgb_anon",
            "_gt_labelTrainIds",
        ),
        (
            "nighttime_driving",
            "nighttimedriving_captions_min=0_max=77",
            "leftImg8bit/test",
            "gtCoarse_daytime_trainvaltest/test",
            "_leftImg8bit",
            "_gtCoarse_labelTrainIds",
        ),
    ],
)
def test_night_sets_are_scored_under_the_ids_of_their_captions(
    shared: Path,
    put,
    tmp_path: Path,
    photo: np.ndarray,
    kind: str,
    captions: str,
    images: str,
    truths: str,
    ending,
    truth_ending,
) -> None:
    """The published caption files key each image by its path below the image folder."""
    ids = sorted(json.loads((shared / f"data/tadp/captions/{captions}.json").read_text()))
    mask = np.full((40, 48), 10, np.uint8)
    mask[0], mask[1] = 255, 18
    for name in ids:
        put(f"night/{images}/{name}", photo)
        put(f"night/{truths}/{name.replace(ending, truth_ending)}", mask)
    # The day's set need not be there: scoring opens the target alone.
    data = PublishedData(
        kind="cityscapes", root=tmp_path / "day", target_domain={"kind": kind, "root": tmp_path / "night"}
    )
    val = open_dataset(data, "val")
    assert list(val.ids) == ids and len(ids) == 50 and val.classes == CLASSES
    assert val.present(0) == ("sky", "bicycle") and np.array_equal(val[7].mask, mask)
    with pytest.raises(UserError, match="cityscapes: root=.*day.*: there is no such folder"):
        open_dataset(data, "train")

    put(f"night/{truths}/{ids[3].replace(ending, truth_ending)}", mask + 1)
    with pytest.raises(UserError, match="label 11 is no trainId|label 19 is no trainId"):
        open_dataset(data, "val")


def test_a_target_must_share_the_classes(tmp_path: Path) -> None:
    data = PublishedData(
        kind="pascal_detection", root=tmp_path, target_domain={"kind": "dark_zurich", "root": tmp_path}
    )
    with pytest.raises(
        UserError, match=r"data\.target_domain\.kind=dark_zurich: .* targets that fit: watercolor2k, comic2k"
    ):
        open_dataset(data, "val")


def test_where_data_lie_is_no_part_of_a_cell_and_holds_in_every_folder() -> None:
    def recipe(root: str, target: str, kind: str = "dark_zurich") -> Recipe:
        data = {"kind": "cityscapes", "root": root, "target_domain": {"kind": kind, "root": target}}
        schedule = {"iterations": 9, "learning_rate": 0.1}
        stated = {"caption": {"source": "null"}, "model": {"weights": "pocket"}}
        return Recipe.model_validate({"data": data, "augment": {"crop": 512}, "schedule": schedule, **stated})

    def fingerprint(found: Recipe) -> str:
        cell = {"experiment": "e", "seed": 0, "axes": {}, "digests": {"train": "a", "val": "b"}}
        return Cell.model_validate({**cell, "recipe": found}).fingerprint

    here = recipe("day", "night")
    assert fingerprint(here) == fingerprint(recipe("elsewhere/day", "elsewhere/night"))
    assert fingerprint(here) != fingerprint(recipe("day", "night", "nighttime_driving"))
    moved = with_absolute_paths(here).data
    assert (moved.root, moved.target_domain.root) == (Path("day").absolute(), Path("night").absolute())
