"""Photographs with depth or boxes of one's own, and COCO's layout, are read as they are, or refused with file, key and mend."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tadp_ray.config.data import PublishedData
from tadp_ray.config.errors import ConfigError
from tadp_ray.config.load import load_recipe
from tadp_ray.data.coco import CLASSES
from tadp_ray.data.config import FolderData
from tadp_ray.data.datasets import Datasets, open_dataset, remarks
from tadp_ray.data.files import FileDataset, Layout
from tadp_ray.data.folder import layout
from tests.fixtures.cli import invoke

SIZE = {"height": 40, "width": 48}
XML = """<annotation><object><name>{name}</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax>
<ymax>{box[3]}</ymax></bndbox></object></annotation>"""


def depth_of(root: Path, **changes: object) -> FolderData:
    """A folder of photographs with depth."""
    split = {"images": "train/*.png", "depth": "depth/*"}
    return FolderData.model_validate({"kind": "folder", "root": root, "train": split, "val": split, **changes})


def boxes_of(root: Path, boxes: str = "boxes.json", **changes: object) -> FolderData:
    """A folder of photographs with boxes."""
    split = {"images": "train/*.png", "boxes": boxes}
    values = {"kind": "folder", "root": root, "train": split, "val": split, "classes": ("cat", "dog"), **changes}
    return FolderData.model_validate(values)


def annotation(image: int, category: int, bbox: list[float], **more: Any) -> dict[str, Any]:
    """An object in COCO's format."""
    return {"image_id": image, "category_id": category, "bbox": bbox, **more}


def instances(*objects: dict[str, Any], names: tuple[str, ...] = ("a", "b"), **size: int) -> str:
    """A file in COCO's format: categories 3 dog and 7 cat, images 1, 2 ..."""
    images = [{"id": n, "file_name": f"{name}.png", **(size or SIZE)} for n, name in enumerate(names, 1)]
    categories = [{"id": 3, "name": "dog"}, {"id": 7, "name": "cat"}]
    return json.dumps({"images": images, "categories": categories, "annotations": objects})


@pytest.fixture
def photos(put: Callable, photo: np.ndarray, tmp_path: Path) -> Path:
    """Two photographs, a and b, of 40 x 48 pixels."""
    for name in "ab":
        put(f"train/{name}.png", photo)
    return tmp_path


def test_depth_of_images_and_arrays_in_metres(photos: Path, put: Callable) -> None:
    put("depth/a.png", np.full((40, 48), 512, np.uint16))
    metres = np.full((40, 48), 2.5)
    metres[0] = 0
    np.save(photos / "depth/b.npy", metres)
    train = FileDataset(layout(depth_of(photos, depth_scale=256), "train"))
    assert (train[0].depth == 2).all() and train[0].depth.dtype == np.float32 and train[0].mask is None
    assert np.array_equal(train[1].depth, metres) and train.present(0) == () and not train.absent()
    other = FileDataset(layout(depth_of(photos, depth_scale=512), "train"))
    assert (other[0].depth == 1).all() and np.array_equal(other[1].depth, metres) and other.digest() != train.digest()
    # TIFF holds fractions, too.
    (photos / "depth/a.png").unlink()
    Image.fromarray(np.full((40, 48), 2560.5, np.float32)).save(photos / "depth/a.tif")
    tiff = FileDataset(layout(depth_of(photos, depth_scale=256), "train"))
    assert tiff[0].depth == pytest.approx(np.full((40, 48), 2560.5 / 256))


@pytest.mark.parametrize(
    ("depth", "said"),
    [
        (None, "data.train.depth='depth/*': no depth map in"),
        (np.full((20, 24), 900, np.uint16), "b.png: depth map is (20, 24), its image"),
        (np.full((40, 48), 9, np.uint8), "b.png: a depth map of 8 bits, which are too few"),
        (np.zeros((40, 48), np.uint16), "b.png: no pixel has a reading"),
        (np.full((40, 48), 9, np.uint16), "b.png: its deepest reading is 0.009 m, read as 1000 units per metre"),
        (np.zeros((40, 48, 3), np.uint8), "b.png: a depth map needs one channel of numbers, this image is RGB"),
    ],
)
def test_bad_depth_is_named(
    photos: Path, put: Callable, refusal: Callable, depth: np.ndarray | None, said: str
) -> None:
    put("depth/a.png", np.full((40, 48), 900, np.uint16))
    if depth is not None:
        put("depth/b.png", depth)
    assert said in refusal(lambda: layout(depth_of(photos), "train"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.full((40, 48), np.nan), "b.npy: holds values that are negative or not finite; write 0 where"),
        (np.full((40, 48), -1.0), "b.npy: holds values that are negative"),
        (np.full((40, 48), 2500.0), "b.npy: its deepest reading is 2500 m, read as metres"),
        (np.ones((40, 48, 1)), "b.npy: expected numbers (height, width), this is float64 (40, 48, 1)"),
        (np.ones((40, 49)), "b.npy: depth map is (40, 49), its image"),
    ],
)
def test_bad_arrays_of_depth_are_named(
    photos: Path, put: Callable, refusal: Callable, values: np.ndarray, said: str
) -> None:
    put("depth/a.png", np.full((40, 48), 900, np.uint16))
    np.save(photos / "depth/b.npy", values)
    assert said in refusal(lambda: layout(depth_of(photos), "train"))


def test_boxes_of_a_coco_file(photos: Path, put: Callable) -> None:
    """Categories are found by their names; b has no object; an edge that rounding put outside ends at the image's."""
    objects = (
        annotation(1, 3, [10, 5, 20.5, 10]),
        annotation(1, 7, [0, 0, 48.01, 40]),
        annotation(1, 3, [1, 1, 9, 9], iscrowd=1),
    )
    put("boxes.json", instances(*objects))
    train, val = (FileDataset(layout(boxes_of(photos), split)) for split in ("train", "val"))
    assert train.ids == ("a", "b") and train.present(0) == ("cat", "dog") and train.present(1) == ()
    assert train[0].boxes.tolist() == [[10, 5, 30.5, 15], [0, 0, 48, 40]] and train[0].box_classes.tolist() == [1, 0]
    assert train[1].boxes.shape == (0, 4) and train[1].boxes.dtype == np.float32
    # A crowd is nothing to learn, and difficult where it is scored. Its class is in the image.
    put("boxes.json", instances(annotation(1, 7, [1, 2, 3, 4]), annotation(1, 3, [1, 1, 9, 9], iscrowd=1)))
    alone = FileDataset(layout(boxes_of(photos), "train"))
    assert alone.present(0) == ("cat", "dog") and alone[0].box_classes.tolist() == [0] and not alone[0].crowd.any()
    assert alone.annotation(0).boxes.tolist() == [[1, 2, 4, 6]] and alone.absent() == ["dog"]
    assert val[0].difficult.tolist() == val[0].crowd.tolist() == [False, False, True]
    assert train.annotation(0).boxes.tolist() == train[0].boxes.tolist()
    before = train.digest()
    put("boxes.json", instances(*objects[:1]))
    assert FileDataset(layout(boxes_of(photos), "train")).digest() != before


def test_an_edge_that_rounding_put_outside_ends_at_the_image_whose_size_the_file_does_not_tell(
    photos: Path, put: Callable, refusal: Callable
) -> None:
    def text(width: float) -> str:
        images = [{"id": n, "file_name": f"{name}.png"} for n, name in enumerate("ab", 1)]
        objects = [annotation(1, 1, [40, 5, width, 10])]
        return json.dumps({"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": objects})

    put("boxes.json", text(8.3))
    dataset = FileDataset(layout(boxes_of(photos), "val"))
    assert dataset[0].boxes.tolist() == dataset.annotation(0).boxes.tolist() == [[40, 5, 48, 15]]
    put("boxes.json", text(9.3))
    assert "object 1 (cat) reaches outside: (40, 5, 49.3, 15)" in refusal(lambda: layout(boxes_of(photos), "train"))


def test_a_crowd_of_any_box_is_left_out_of_a_training(photos: Path, put: Callable, refusal: Callable) -> None:
    put("boxes.json", instances(annotation(1, 7, [1, 2, 3, 4]), annotation(1, 3, [1, 1, 60, 9], iscrowd=1)))
    assert FileDataset(layout(boxes_of(photos), "train"))[0].boxes.tolist() == [[1, 2, 4, 6]]
    assert "object 2 (dog) reaches outside" in refusal(lambda: layout(boxes_of(photos), "val"))


@pytest.mark.parametrize("objects", [[], [annotation(1, 3, [1, 1, 9, 9], iscrowd=1)]])
def test_a_split_without_anything_to_score_is_refused_before_a_training(
    photos: Path, put: Callable, refusal: Callable, objects: list[dict[str, Any]]
) -> None:
    put("boxes.json", instances(*objects))
    said = refusal(lambda: layout(boxes_of(photos), "val"))
    assert said == (
        "data.val: the ground truth of all 2 images is difficult or empty, so there is nothing to score; name images with "
        "ground truth"
    )


@pytest.mark.parametrize("first", ["train", "val"])
def test_the_index_of_a_split_holds_nothing_of_the_other(
    photos: Path, put: Callable, tmp_path: Path, first: str
) -> None:
    """Whichever is opened first: val counts a crowd, and train does not in the same images."""
    put("boxes.json", instances(annotation(1, 3, [1, 1, 9, 9], iscrowd=1), annotation(1, 7, [0, 0, 4, 4])))
    for file in photos.rglob("*.*"):
        os.utime(file, (1e9, 1e9))  # what is a few seconds old is not kept
    data, counted = boxes_of(photos), {"train": 1, "val": 2}
    for split in (first, *({*counted} - {first})):
        opened = Datasets(tmp_path / "runs").open(data, split)
        assert isinstance(opened, FileDataset) and opened.present(0) == ("cat", "dog")
        assert opened._found["a"].counted == counted[split]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "boxes.json: there is no such file"),
        ("{", "boxes.json: (whole file): Invalid JSON"),
        (json.dumps({"images": [], "categories": [], "annotations": []}), "boxes.json: images: List should have"),
        (instances(names=("a",)), "data.train.boxes='boxes.json': "),
        (instances(names=("a",)), "has no entry under images for b (1 of 2 photographs)"),
        (instances(names=("a", "a")), "images: the file_name without ending 'a' occurs twice"),
        (instances(names=("a", "b", "train/a")), "file_name 'train/a.png' may mean a, or another entry means it, too"),
        (instances(annotation(9, 3, [1, 1, 2, 2])), "annotations.0: its image_id or category_id is not defined"),
        (instances(annotation(1, 3, [1, 1, -2, 2])), "annotations.0.bbox.2: Input should be greater"),
        (
            instances(annotation(1, 3, [40, 1, 20, 2])),
            "boxes.json, image 'a': object 1 (dog) reaches outside: (40, 1, 60, 3)",
        ),
        (instances(annotation(1, 3, [4, 1, 0, 2])), "object 1 (dog) has no area"),
        (instances(annotation(1, 3, [1, 1, 2, 2]), height=80, width=96), "was made for an image of (80, 96), but"),
        (instances(), "data.train.boxes: none of the 2 images has a box"),
        (instances(annotation(1, 3, [0.1, 0.2, 0.5, 0.4])), "no box is longer than 0.5 pixels: fractions of an image?"),
        (instances(annotation(1, 3, [0, 0, 1, 1])), "no box is longer than 1 pixels: fractions of an image?"),
        (
            instances(annotation(1, 7, [1, 1, 2, 2])).replace('"cat"', '"lynx"'),
            "boxes.json: has boxes of 'lynx', but the classes are cat, dog; add the name to data.classes",
        ),
    ],
)
def test_bad_coco_files_are_named(photos: Path, put: Callable, refusal: Callable, text: str | None, said: str) -> None:
    if text is not None:
        put("boxes.json", text)
    assert said in refusal(lambda: layout(boxes_of(photos), "train"))


def test_an_entry_names_an_image_by_the_end_of_its_path(photos: Path, put: Callable) -> None:
    put("deep/x/a.png", np.zeros((40, 48, 3), np.uint8))
    put("deep/y/a.png", np.zeros((40, 48, 3), np.uint8))
    split = {"images": "deep/*/*.png", "boxes": "boxes.json"}
    data = boxes_of(photos, train=split, val=split)
    put("boxes.json", instances(annotation(2, 3, [1, 1, 2, 2]), names=("x/a", "y/a")))
    found = FileDataset(layout(data, "train"))
    assert found.ids == ("x/a", "y/a") and found.present(1) == ("dog",)


def test_entries_of_a_coco_file_whose_image_no_glob_finds_are_told(photos: Path, put: Callable) -> None:
    """One file may serve both splits, and a list leaves out what it does not name."""
    put("val/v.png", np.zeros((40, 48, 3), np.uint8))
    put(
        "boxes.json",
        instances(annotation(1, 3, [1, 1, 2, 2]), annotation(3, 3, [1, 1, 2, 2]), names=("a", "b", "v", "c")),
    )
    own = {split: {"images": f"{split}/*.png", "boxes": "boxes.json"} for split in ("train", "val")}

    def told(**changes: Any) -> list[str]:
        data = boxes_of(photos, **changes)
        return [line for line in remarks(data, *(open_dataset(data, split) for split in own)) if "entr" in line]

    assert told(**own) == [f"data: 1 entry of boxes without an image: {photos}/boxes.json: c.png"]
    put("val.json", instances(annotation(1, 3, [1, 1, 2, 2]), names=("v", "d", "e")))
    apart = {**own, "val": {"images": "val/*.png", "boxes": "val.json"}}
    assert told(**apart)[0].startswith(f"data: 3 entries of boxes without an image: {photos}/boxes.json: c.png, ")
    put("all.txt", "a\nb\n")
    assert told(**apart | {"train": {**own["train"], "list": "all.txt"}})[0].startswith("data: 2 entries of boxes")


def test_a_list_chooses_images_and_boxes(photos: Path, put: Callable) -> None:
    put("boxes.json", instances(annotation(1, 3, [1, 1, 2, 2]), names=("b",)))
    put("train.txt", "b\n")
    split = {"images": "train/*.png", "boxes": "boxes.json", "list": "train.txt"}
    assert FileDataset(layout(boxes_of(photos, train=split), "train")).ids == ("b",)


def test_boxes_of_voc_files(photos: Path, put: Callable) -> None:
    put("xml/a.xml", XML.format(name="dog", box=(1, 1, 48, 40)))
    put("xml/b.xml", "<annotation><size><width>0</width><height>0</height></size></annotation>")
    train = FileDataset(layout(boxes_of(photos, "xml/*.xml"), "train"))
    assert train[0].boxes.tolist() == [[0, 0, 48, 40]] and train.present(0) == ("dog",)
    assert train[1].boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "data.train.boxes='xml/*.xml': no annotation in"),
        (
            XML.format(name="wolf", box=(1, 1, 9, 9)),
            "is called 'wolf'; add the name to data.classes, spelled like this",
        ),
        (XML.format(name="cat", box=(1, 1, 49, 9)), "object 1 (cat) reaches outside: (0, 0, 49, 9)"),
        (
            XML.format(name="cat", box=(1, 1, 9, 9)).replace(
                "<object>", "<size><width>40.0</width><height>48</height></size><object>"
            ),
            "b.xml: was made for an image of (48, 40), but ",
        ),
        ("<annotation>", "b.xml: cannot be read as XML"),
    ],
)
def test_bad_voc_files_are_named(photos: Path, put: Callable, refusal: Callable, text: str | None, said: str) -> None:
    put("xml/a.xml", XML.format(name="dog", box=(1, 1, 48, 40)))
    if text is not None:
        put("xml/b.xml", text)
    assert said in refusal(lambda: layout(boxes_of(photos, "xml/*.xml"), "train"))


DATA = "data={kind: folder, root: x, train: {images: a, %s}, val: {images: b, %s}%s}"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (("depth: c, masks: c", "depth: d", ""), "data.train: has masks and depth; give one of masks (segmentation)"),
        (("list: c", "depth: d", ""), "data.train: has no ground truth"),
        (("depth: c", "masks: d", ""), "data: train has depth, but val has masks"),
        (("depth: c", "depth: d", ", classes: [a]"), "classes: ['a']: depth has no classes; leave them out"),
        (("depth: c", "depth: d", ", mask_suffix: _x"), "mask_suffix: _x belongs to masks, but the splits have depth"),
        (("boxes: c.xml", "boxes: d.xml", ""), "classes: []: boxes need at least 1"),
        (("boxes: c", "boxes: d.xml", ", classes: [a]"), "boxes: 'c' is neither a file of COCO's format (.json) nor"),
        (("boxes: c.json", "boxes: d.json", ", classes: [a], depth_scale: 5"), "depth_scale: 5.0 belongs to depth"),
        (("masks: c", "masks: d", ", classes: [a]"), "classes: ['a']: masks need at least 2"),
    ],
)
def test_keys_that_do_not_fit_are_named(parts: tuple[str, str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(Path("experiments/recipes/pocket_segmentation.yaml"), [DATA % parts, "model.weights=pocket"])
    assert said in str(caught.value)


def test_captions_of_class_names_are_refused_where_there_are_none() -> None:
    with pytest.raises(ConfigError, match=r"caption: source: oracle, encoding: text: needs names of classes"):
        load_recipe(Path("experiments/recipes/folder_depth.yaml"), ["caption.source=oracle"])


def coco(put: Callable, photo: np.ndarray, split: str, *objects: dict[str, Any]) -> None:
    """A split of COCO with images 5 and 9."""
    images = [{"id": n, "file_name": f"{n:012}.jpg", **SIZE} for n in (9, 5)]
    categories = [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
    file = {"images": images, "categories": categories, "annotations": objects}
    put(f"annotations/instances_{split}2017.json", json.dumps(file))
    for n in (5, 9):
        put(f"{split}2017/{n:012}.jpg", photo)


def test_coco_in_its_own_layout(put: Callable, photo: np.ndarray, tmp_path: Path) -> None:
    assert len(CLASSES) == len({*CLASSES}) == 80 and (CLASSES[0], CLASSES[-1]) == ("person", "toothbrush")
    flat, crowd = annotation(9, 1, [1, 2, 0, 4]), annotation(5, 1, [1, 1, 9, 9], iscrowd=1)
    beside = annotation(9, 90, [1, 1, 9, 9], iscrowd=1)
    coco(put, photo, "train", annotation(9, 90, [1, 2, 3, 4]), flat, crowd, beside)
    coco(put, photo, "val", annotation(9, 90, [5, 6, 7, 8]))
    data = PublishedData(kind="coco", root=tmp_path)
    train, val = open_dataset(data, "train", tmp_path / "runs"), open_dataset(data, "val")
    assert train.ids == ("000000000009",) and train.present(0) == ("toothbrush",)
    assert train[0].boxes.tolist() == [[1, 2, 4, 6]] and train[0].box_classes.tolist() == [79]
    assert val.ids == ("000000000005", "000000000009") and len(val[0].boxes) == 0
    assert val[1].boxes.tolist() == [[5, 6, 12, 14]]
    assert [opened.layout.images["000000000009"].parent.name for opened in (train, val)] == ["train2017", "val2017"]
    assert open_dataset(data, "train", tmp_path / "runs").digest() == train.digest()


@pytest.mark.parametrize("kind", ["coco", "folder"])
def test_objects_with_any_mark_are_difficult_where_they_are_scored(
    photos: Path, put: Callable, photo: np.ndarray, kind: str
) -> None:
    """In COCO's own layout and in a file of one's own; crowds alone are marked as such."""
    marks: tuple[dict[str, Any], ...] = ({}, {"iscrowd": 1}, {"ignore": 1}, {"difficult": True})
    if kind == "coco":
        coco(put, photo, "val", *(annotation(5, 1, [1, 2, 3, 4], **mark) for mark in marks))
        val = open_dataset(PublishedData(kind="coco", root=photos), "val")
    else:
        put("boxes.json", instances(*(annotation(1, 3, [1, 2, 3, 4], **mark) for mark in marks)))
        val = open_dataset(boxes_of(photos), "val")
    assert val[0].difficult.tolist() == [False, True, True, True]
    assert val[0].crowd.tolist() == [False, True, False, False]


def test_data_check_looks_at_the_data_of_a_recipe(photos: Path, put: Callable, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in "ab":
            Image.fromarray(np.full((40, 48), 900, np.uint16)).save(put(f"{split}_depth/{name}.png", "").as_posix())
            put(f"{split}/{name}.png", np.zeros((40, 48, 3), np.uint8))

    def checked() -> Any:
        words = ["data", "check", "folder_depth", "--root", str(tmp_path), "--storage", str(tmp_path / "runs")]
        return invoke(*words)

    # A folder's name is no YAML.
    for name in ("set #1", "2024", "null"):
        words = ["data", "check", "folder_depth", "--root", name, "--storage", str(tmp_path / "runs")]
        assert f"data.root='{name}'" in invoke(*words).output
    good = checked()
    assert good.exit_code == 0 and "train: 2 images, 2 valid" in good.stdout and "no problems" in good.stdout
    assert "depth in metres 0.9 to 0.9" in good.stdout and "classes" not in good.stdout
    put("train_depth/c.png", (tmp_path / "train_depth/a.png").resolve())
    assert "warning: data: 1 file of ground truth without an image: " in checked().stdout, "as before a training"
    (tmp_path / "val_depth/b.png").unlink()
    bad = checked()
    assert bad.exit_code == 1 and "data.val.depth='val_depth/*': no depth map in" in bad.stdout
    refused = invoke("data", "check", "pocket_depth")
    assert refused.exit_code == 2 and "data.kind: scenes has no files to check" in refused.stderr


def test_layouts_can_be_sent_to_loader_processes(photos: Path, put: Callable) -> None:
    import pickle

    put("boxes.json", instances(annotation(1, 3, [1, 1, 2, 2])))
    found = pickle.loads(pickle.dumps(layout(boxes_of(photos), "train")))  # noqa: S301
    assert isinstance(found, Layout) and found.sample("a").boxes.tolist() == [[1, 1, 3, 3]]


def test_crowds_are_written_so_that_score_reads_them(tmp_path: Path) -> None:
    import torch

    from tadp_ray.tasks.detection.coco import BoxFiles, read_coco

    boxes = torch.tensor([[1.0, 1, 4, 4], [0, 0, 9, 9], [2, 2, 5, 5]])
    flags = {"difficult": torch.tensor([False, True, True]), "crowd": torch.tensor([False, True, False])}
    wanted = {"boxes": boxes, "labels": torch.tensor([0, 1, 0]), **flags}
    found = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0), "scores": torch.zeros(0)}
    files = BoxFiles(("cat", "dog"))
    files.add(tmp_path, "a", (40, 48), wanted, found)
    files.end(tmp_path)
    objects = read_coco(tmp_path / "targets.json", None).objects["a"]
    assert [(each.name, each.difficult, each.crowd) for each in objects] == [
        ("cat", False, False),
        ("dog", True, True),
        ("cat", True, False),
    ]
