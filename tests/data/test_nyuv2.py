"""NYU Depth v2: millimetres become metres, and the folder names the room."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tadp_ray.config.data import PublishedData
from tadp_ray.data.check import check
from tadp_ray.data.datasets import open_dataset
from tadp_ray.data.files import FileDataset
from tadp_ray.data.nyuv2 import CLASSES, SCENES, layout, scene
from tadp_ray.data.sample import Sample


def test_a_real_pair_in_metres(shared: Path, put, tmp_path: Path) -> None:
    source = shared / "data/mmseg_samples/tests/data/pseudo_nyu_dataset"
    put("test_list.txt", "/bookstore_0001d/rgb_00001.jpg /bookstore_0001d/sync_depth_00001.png\n")
    put("official_splits/test/bookstore_0001d/rgb_00001.jpg", source / "images/bookstore_0001d_00001.jpg")
    depth = put(
        "official_splits/test/bookstore_0001d/sync_depth_00001.png", source / "annotations/bookstore_0001d_00001.png"
    )
    val = open_dataset(PublishedData(kind="nyuv2", root=tmp_path), "val")
    sample = val[0]
    assert val.ids == ("/bookstore_0001d/rgb_00001.jpg",) and val.present(0) == ("bookstore",)
    assert sample.mask is None and sample.depth.dtype == np.float32 and sample.depth.shape == (120, 160)
    assert np.array_equal(np.round(sample.depth * 1000), np.asarray(Image.open(depth)))
    assert sample.depth.max() == 10 and (sample.depth == 0).any()


def test_every_published_line_names_a_room(shared: Path, put, tmp_path: Path) -> None:
    """24,231 and 654 lines; office kitchens count as kitchens and study rooms as studies, as in VPD."""
    source = shared / "data/tadp/datasets/depth"
    assert list(SCENES) == json.loads((source / "nyu_class_list.json").read_text())
    for split, name, folder, count in (
        ("train", "train_list.txt", "sync", 24231),
        ("val", "test_list.txt", "official_splits/test", 654),
    ):
        put(name, source / "filenames/nyudepthv2" / name)
        (tmp_path / folder).mkdir(parents=True)
        files = layout(tmp_path, split)
        assert len(files.images) == count and {file.parents[1] for file in files.images.values()} == {tmp_path / folder}
        rooms = Counter(CLASSES[scene(Sample(id=name, image=np.empty(0)))[0]] for name in files.images)
        expected = {"train": (5156, 3814, 473, 87), "val": (191, 110, 13, 0)}[split]
        assert tuple(rooms[room] for room in ("bedroom", "kitchen", "study", "exercise room")) == expected
        assert not {"office kitchen", "study room"} & rooms.keys()


def test_lists_with_a_focal_length_name_the_same_pairs(put, tmp_path: Path, photo: np.ndarray) -> None:
    """BTS's own lists have a third column and no slash in front."""
    put("test_list.txt", "study_0003/rgb_1.jpg study_0003/sync_depth_1.png 518.8579\n\n")
    put("official_splits/test/study_0003/rgb_1.jpg", photo)
    put("official_splits/test/study_0003/sync_depth_1.png", np.full((40, 48), 2500, np.uint16))
    val = FileDataset(layout(tmp_path, "val"))
    assert val.ids == ("/study_0003/rgb_1.jpg",) and val.present(0) == ("study",) and (val[0].depth == 2.5).all()


@pytest.mark.parametrize(
    ("line", "depth", "said"),
    [
        (
            "study/a.jpg study/a.png",
            np.full((40, 48), 9, np.uint16),
            "its deepest reading is 0.009 m, read as 1000 units per metre, which no camera takes; write 16-bit millimetres",
        ),
        ("study/a.jpg study/a.png", np.full((20, 24), 900, np.uint16), "depth map is (20, 24), its image"),
        ("study/a.jpg study/b.png", np.full((40, 48), 900, np.uint16), "b.png: there is no such file"),
        (
            "study/a.jpg",
            np.full((40, 48), 900, np.uint16),
            "an image and its depth map on each line, not 'study/a.jpg'",
        ),
        (
            "attic/a.jpg study/a.png",
            np.full((40, 48), 900, np.uint16),
            "/attic/a.jpg: its folder names none of the rooms",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    put, refusal: Callable, tmp_path: Path, photo: np.ndarray, line: str, depth: np.ndarray, said: str
) -> None:
    put("test_list.txt", line)
    put(f"official_splits/test/{line.split()[0]}", photo)
    put("official_splits/test/study/a.png", depth)
    assert said in refusal(lambda: layout(tmp_path, "val"))


@pytest.mark.parametrize(
    ("deepest", "said"),
    [
        (
            20001,
            "3.png: its deepest reading is 20.001 m, but NYUv2 ends at 10 m, so these are no millimetres; write 16-bit",
        ),
        (49500, "3.png: its deepest reading is 49.5 m"),
        (1050, "the deepest of all readings is 1.05 m, in the depth map of /study_1/3.jpg, but rooms are deeper"),
        (990, "the deepest of all readings is 0.99 m, in the depth map of /study_1/3.jpg"),
        (1051, None),
        (20000, None),
    ],
)
def test_depth_in_other_units_is_refused(
    put, refusal: Callable, tmp_path: Path, photo: np.ndarray, deepest: int, said: str | None
) -> None:
    """A close-up among rooms is good; a split of nothing else is not in millimetres."""
    put("test_list.txt", "".join(f"/study_1/{n}.jpg /study_1/{n}.png\n" for n in range(4)))
    for number in range(4):
        put(f"official_splits/test/study_1/{number}.jpg", photo)
        depth = np.full((40, 48), deepest if number == 3 else min(900, deepest - 1), np.uint16)
        put(f"official_splits/test/study_1/{number}.png", depth)
    if said is None:
        assert FileDataset(layout(tmp_path, "val"))[3].depth.max() == np.float32(deepest) / np.float32(1000)
        return
    assert said in refusal(lambda: layout(tmp_path, "val"))
    assert any(said in line for line in check("nyuv2", tmp_path)["problems"])
