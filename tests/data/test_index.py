"""Opening a data set again opens only the files that have changed; a deep look finds what sizes and times do not show."""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from tadp_ray import files
from tadp_ray.config.data import PublishedData
from tadp_ray.data import files as data_files
from tadp_ray.data import images
from tadp_ray.data.ade20k import layout
from tadp_ray.data.check import check
from tadp_ray.data.config import FolderData
from tadp_ray.data.datasets import Datasets, open_dataset
from tadp_ray.data.files import FileDataset
from tadp_ray.data.index import Index
from tadp_ray.data.sample import annotation
from tadp_ray.errors import UserError

NAMES = [f"ADE_val_{number:08d}" for number in range(1, 6)]


def picture(root: Path, name: str) -> Path:
    """The photograph of a sample."""
    return root / f"images/validation/{name}.jpg"


def label_map(root: Path, name: str) -> Path:
    """The label map of a sample."""
    return root / f"annotations/validation/{name}.png"


def paint(file: Path, label: int) -> None:
    """Write a label map, a minute old."""
    Image.fromarray(np.full((6, 8), label, np.uint8)).save(file)
    age(file)


def age(file: Path, seconds: float = 60) -> None:
    """Make a file look this old."""
    then = time.time() - seconds
    os.utime(file, (then, then))


@pytest.fixture
def ade20k(tmp_path: Path) -> Path:
    """Five validation images in ADE20K's layout, written a minute ago."""
    root = tmp_path / "ade"
    for kind in ("images", "annotations"):
        for split in ("training", "validation"):
            (root / kind / split).mkdir(parents=True)
    for label, name in enumerate(NAMES, 1):
        Image.new("RGB", (8, 6), "teal").save(picture(root, name))
        age(picture(root, name))
        paint(label_map(root, name), label)
    return root


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the data's files that are decoded or hashed from now on."""
    names: list[str] = []
    for place, name in ((images, "_decode"), (files, "sha256_file")):

        def noted(path: Path, whole: Callable[[Path], object] = getattr(place, name)) -> object:
            names.extend([path.name] if path.suffix in (".jpg", ".png") else [])
            return whole(path)

        monkeypatch.setattr(place, name, noted)
    return names


@pytest.fixture
def opened(ade20k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], FileDataset]:
    """Opens the validation split as a process of its own does, with an index in this test's storage folder."""

    def fresh() -> FileDataset:
        monkeypatch.setattr(files, "_digests", {})
        return Datasets(tmp_path / "runs").open(PublishedData(kind="ade20k", root=ade20k), "val")

    return fresh


def facts(split: FileDataset) -> tuple[object, ...]:
    """All that a data set says without reading a sample."""
    return split.ids, split.sizes, [split.present(index) for index in range(len(split))], split.digest()


def test_a_second_process_opens_no_file(opened, touched, ade20k: Path) -> None:
    first = facts(opened())
    assert sorted(set(touched)) == sorted([f"{name}.{ending}" for name in NAMES for ending in ("jpg", "png")])
    assert first[1] == ((6, 8),) * 5 and first[2][0] == ("wall",)
    touched.clear()
    assert facts(opened()) == first and touched == []
    assert facts(FileDataset(layout(ade20k, "val"))) == first


def test_only_a_changed_file_is_read_again(opened, touched, ade20k: Path) -> None:
    before = facts(opened())
    paint(label_map(ade20k, NAMES[2]), 4)
    touched.clear()
    after = opened()
    assert after.present(2) == ("floor",) and after.digest() != before[3]
    assert {name.partition(".")[0] for name in touched} == {NAMES[2]}
    touched.clear()
    assert opened().digest() == after.digest() and touched == []


def test_a_new_file_is_read_alone_and_a_missing_one_is_named(opened, touched, ade20k: Path) -> None:
    opened()
    Image.new("RGB", (8, 6)).save(picture(ade20k, "ADE_val_00000006"))
    paint(label_map(ade20k, "ADE_val_00000006"), 7)
    touched.clear()
    assert opened().present(5) == ("road",)
    assert {name.partition(".")[0] for name in touched} == {"ADE_val_00000006"}
    label_map(ade20k, NAMES[0]).unlink()
    with pytest.raises(UserError, match=f"{NAMES[0]}.png: there is no such file"):
        opened()


def test_a_file_that_was_just_written_is_read_again_as_its_time_may_stay(opened, touched, ade20k: Path) -> None:
    age(label_map(ade20k, NAMES[1]), seconds=0)
    opened()
    touched.clear()
    opened()
    assert {name.partition(".")[0] for name in touched} == {NAMES[1]}


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-9], lambda text: text.replace("[6,8]", "[6,9]", 1), lambda _: "{}"]
)
def test_a_damaged_index_is_made_afresh(opened, touched, tmp_path: Path, damage, caplog) -> None:
    first = facts(opened())
    (index,) = (tmp_path / "runs/data").iterdir()
    whole = index.read_text()
    index.write_text(damage(whole))
    assert facts(opened()) == first
    assert f"{index}: damaged" in caplog.text and index.read_text() == whole
    assert json.loads(whole.partition("\n")[0])["data_index"] == 1


def test_a_folder_that_cannot_be_written_costs_time_alone(ade20k: Path, tmp_path: Path, caplog) -> None:
    (tmp_path / "runs").write_text("a file")
    assert len(Datasets(tmp_path / "runs").open(PublishedData(kind="ade20k", root=ade20k), "val")) == 5
    assert "cannot be written" in caplog.text


def test_a_deep_check_finds_what_size_and_times_hide(opened, ade20k: Path, tmp_path: Path, monkeypatch) -> None:
    before = opened()
    # A file system without the time of change: the same size, the same time, other contents.
    monkeypatch.setattr("tadp_ray.data.index.without_inode", lambda state: (*state[1:3], 0))
    then = label_map(ade20k, NAMES[3]).stat().st_mtime_ns
    known = opened()
    content = bytearray(label_map(ade20k, NAMES[3]).read_bytes())
    paint(label_map(ade20k, NAMES[3]), 9)
    assert len(label_map(ade20k, NAMES[3]).read_bytes()) == len(content)
    os.utime(label_map(ade20k, NAMES[3]), ns=(then, then))
    assert opened().present(3) == known.present(3) == before.present(3) == ("floor",)
    monkeypatch.setattr(files, "_digests", {})
    quick = check("ade20k", ade20k, tmp_path / "runs")
    assert quick["splits"]["val"]["classes"]["floor"] == 1
    deep = check("ade20k", ade20k, tmp_path / "runs", deep=True)
    assert deep["splits"]["val"]["classes"]["floor"] == 0
    (problem,) = [text for text in deep["problems"] if NAMES[3] in text]
    assert "1 sample changed, though sizes and times" in problem
    assert opened().present(3) == ("windowpane",)


def test_what_a_deep_check_finds_damaged_is_looked_at_again(
    opened, ade20k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened()
    monkeypatch.setattr("tadp_ray.data.index.without_inode", lambda state: (*state[1:3], 0))
    file = label_map(ade20k, NAMES[3])
    opened()
    then, size = file.stat().st_mtime_ns, file.stat().st_size
    file.write_bytes(b"x" * size)
    os.utime(file, ns=(then, then))
    monkeypatch.setattr(files, "_digests", {})
    found = [
        any(NAMES[3] in problem for problem in check("ade20k", ade20k, tmp_path / "runs", deep=deep)["problems"])
        for deep in (False, True, False)
    ]
    assert found == [False, True, True]


def test_ground_truth_is_read_without_its_photograph(opened, touched) -> None:
    split = opened()
    touched.clear()
    sample = annotation(split, 1)
    assert touched == [f"{NAMES[1]}.png"]
    assert sample.id == f"{NAMES[1]}.jpg" and sample.image.shape == (0, 0, 3)
    assert np.array_equal(sample.mask, split[1].mask)


def test_an_index_holds_all_samples_of_its_folders(ade20k: Path, tmp_path: Path, touched) -> None:
    """As of two lists of one folder, which are opened by turns."""
    whole = layout(ade20k, "val")
    some = lambda *ids: data_files.Layout(
        whole.classes,
        {name: whole.images[name] for name in ids},
        {name: whole.truths[name] for name in ids},
        whole.read,
        whole.rules,
    )
    first, second = some(f"{NAMES[0]}.jpg"), some(f"{NAMES[1]}.jpg")
    for part in (first, second):
        FileDataset(part, Index(tmp_path, part))
    touched.clear()
    for part in (first, second):
        FileDataset(part, Index(tmp_path, part))
    assert touched == []


def own(root: Path, truth: str, files: str, classes: tuple[str, ...], **changes: object) -> FolderData:
    """The same files as a folder of one's own."""
    split = {"images": "images/validation/*.jpg", truth: files}
    values = {"kind": "folder", "root": root, "train": split, "val": split, "classes": classes, **changes}
    return FolderData.model_validate(values)


def test_label_maps_that_are_read_in_another_way_are_read_anew(ade20k: Path, tmp_path: Path) -> None:
    """By another rule, and by other classes, of which there may be too few."""
    shown = []
    for classes, reduced in (("abcdef", False), ("abcdef", True), ("uvwxyz", False)):
        data = own(ade20k, "masks", "annotations/validation/*.png", tuple(classes), reduce_zero_label=reduced)
        split = open_dataset(data, "val", tmp_path / "runs")
        assert facts(split) == facts(open_dataset(data, "val"))
        shown.append(split.present(0))
    assert shown == [("b",), ("a",), ("v",)]
    few = own(ade20k, "masks", "annotations/validation/*.png", tuple("abcde"))
    with pytest.raises(UserError, match="label 5 is beyond the 5 names"):
        open_dataset(few, "val", tmp_path / "runs")


def test_boxes_whose_classes_have_another_order_are_read_anew(ade20k: Path, tmp_path: Path) -> None:
    """So are those of a split that leaves crowds out."""
    images = [{"id": number, "file_name": f"{name}.jpg"} for number, name in enumerate(NAMES)]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    crowd = {"image_id": 0, "category_id": 2, "bbox": [1, 1, 3, 3], "iscrowd": 1}
    boxes = [crowd, {"image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3]}]
    (ade20k / "boxes.json").write_text(json.dumps({"images": images, "categories": categories, "annotations": boxes}))
    age(ade20k / "boxes.json")
    for classes in (("cat", "dog"), ("dog", "cat")):
        val, train = (
            open_dataset(own(ade20k, "boxes", "boxes.json", classes), split, tmp_path / "runs")
            for split in ("val", "train")
        )
        assert (val.present(0), val.present(1), val.absent()) == (("dog",), ("cat",), [])
        assert (train.present(0), train.absent()) == (("dog",), ["dog"])


def test_files_are_read_anew_by_a_reader_whose_code_has_changed(
    ade20k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, file = "def read(path):\n    return {'mask': np.full((6, 8), %d, np.uint8)}\n", tmp_path / "reader.py"
    shown = []
    for label in (0, 0, 10):
        file.write_text(code % label)
        module = ModuleType("reader_of_its_own")
        vars(module).update(np=np, __file__=str(file))
        exec(file.read_text(), vars(module))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        whole = replace(layout(ade20k, "val"), read=module.read)
        shown.append(FileDataset(whole, Index(tmp_path / "runs", whole)).present(0))
    assert shown == [("wall",), ("wall",), ("cabinet",)] and len([*(tmp_path / "runs/data").iterdir()]) == 2
