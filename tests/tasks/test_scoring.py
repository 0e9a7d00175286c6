"""Scoring what others predicted: the figures, and every way in which files do not fit together."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tadp_ray.errors import UserError
from tadp_ray.tasks.depth.scoring import compare_depth, score_depth
from tadp_ray.tasks.detection.scoring import score_detection
from tadp_ray.tasks.segmentation.scoring import correct, score_segmentation
from tests.fixtures.cli import invoke

Files = dict[str, np.ndarray]


@pytest.fixture
def folders(tmp_path: Path) -> Callable[[Files, Files], tuple[Path, Path]]:
    """Writes predictions and targets, PNG or .npy by their names, and gives their folders."""

    def write(predictions: Files, targets: Files) -> tuple[Path, Path]:
        places = tmp_path / "predictions", tmp_path / "targets"
        for place, files in zip(places, (predictions, targets), strict=True):
            place.mkdir()
            for name, values in files.items():
                if name.endswith(".npy"):
                    np.save(place / name, values)
                else:
                    Image.fromarray(values).save(place / name)
        return places

    return write


def grey(*rows: tuple[int, ...]) -> np.ndarray:
    """A label map."""
    return np.array(rows, np.uint8)


def deep(*rows: tuple[int, ...]) -> np.ndarray:
    """A depth map of 16 bits."""
    return np.array(rows, np.uint16)


def test_segmentation_counts_over_all_pairs(folders) -> None:
    """What a prediction says of ignored pixels counts for nothing."""
    predictions, targets = folders(
        {"a.png": grey((0, 1, 1)), "b.png": grey((0, 0, 255))}, {"a.png": grey((0, 1, 255)), "b.png": grey((0, 1, 255))}
    )
    scores = score_segmentation(predictions, targets, ("sky", "sea"))
    third = pytest.approx(200 / 3)
    assert scores == {
        "miou": pytest.approx((200 / 3 + 50) / 2),
        "accuracy": 75,
        "iou/sky": third,
        "iou/sea": 50,
        "images": 2,
    }


def test_with_a_reduced_zero_label_both_folders_count_from_one(folders) -> None:
    predictions, targets = folders({"a.png": grey((1, 2, 0, 2))}, {"a.png": grey((1, 2, 0, 0))})
    assert score_segmentation(predictions, targets, ("sky", "sea"), reduce_zero_label=True)["miou"] == 100


def test_a_class_may_be_ignored_in_targets_and_predicted_all_the_same(folders) -> None:
    predictions, targets = folders({"a.png": grey((0, 1, 0))}, {"a.png": grey((0, 1, 1))})
    scores = score_segmentation(predictions, targets, ("none", "sea"), ignore=(0, 255))
    assert scores["iou/sea"] == 50 and scores["accuracy"] == 50


def test_all_that_is_wrong_with_label_maps_is_told_at_once(folders) -> None:
    good = grey((0, 1))
    predictions, targets = folders(
        {"left.png": good, "size.png": grey((0, 1), (0, 1)), "label.png": grey((0, 7)), "void.png": grey((0, 255))}
        | {"broken.png": good, "colour.png": np.zeros((1, 2, 3), np.uint8), "twice.png": good, "twice.bmp": good},
        dict.fromkeys(("lone.png", "size.png", "label.png", "void.png", "broken.png", "colour.png", "twice.png"), good),
    )
    (predictions / "broken.png").write_bytes((predictions / "broken.png").read_bytes()[:40])
    with pytest.raises(UserError) as refused:
        score_segmentation(predictions, targets, ("sky", "sea"))
    lines = str(refused.value).splitlines()
    for file, said in (
        (predictions / "left.png", "no target of this name"),
        (targets / "lone.png", "no prediction of this name"),
        (predictions / "size.png", "predict at the target's size"),
        (predictions / "label.png", "label 7 is none of the 2 classes, whose labels are 0 to 1"),
        (predictions / "void.png", "1 pixel without a class where"),
        (predictions / "broken.png", "cannot be read as an image"),
        (predictions / "colour.png", "one channel"),
        (predictions / "twice.png", "differs from twice.bmp by its ending alone"),
    ):
        assert [line for line in lines if line.startswith(f"{file}: ") and said in line], (file, lines)
    assert len(lines) == 8


def test_at_most_twenty_problems_are_listed(folders) -> None:
    predictions, targets = folders({"0.png": grey((0,))}, {f"{number}.png": grey((0,)) for number in range(31)})
    with pytest.raises(UserError, match="and 10 more problems") as refused:
        score_segmentation(predictions, targets, ("sky",))
    assert len(str(refused.value).splitlines()) == 21


def test_depth_is_compared_in_metres(folders) -> None:
    """Predictions in metres, targets in millimetres; what has no reading or is too far is not scored."""
    predictions, targets = folders(
        {"a.npy": np.float32([[1.5, 2.0, 9.0, -1.0]]), "b.npy": np.ones((1, 4))},
        {"a.png": deep((1000, 2000, 0, 10000)), "b.png": deep((0, 0, 0, 0))},
    )
    scores = score_depth(predictions, targets, 1, 1000)
    assert scores["abs_rel"] == pytest.approx(0.25) and scores["rmse"] == pytest.approx(0.125**0.5)
    assert (scores["images"], scores["images_without_depth"]) == (2, 1)


def test_what_a_picture_frames_are_the_errors_that_are_scored(folders) -> None:
    """A prediction beyond the maximum is as wrong as it is far away; an infinite one is at the maximum."""
    found, truth = np.float32([[1.5, 30.0, np.inf, 9.0]]), np.float32([[1.0, 2.0, 3.0, 0.0]])
    predictions, targets = folders({"a.npy": found}, {"a.npy": truth})
    (targets.parent / "images").mkdir()
    Image.new("RGB", (4, 1)).save(targets.parent / "images/a.png")
    compared = compare_depth({"ours": predictions}, targets, targets.parent / "images", [1.0], 1.0)
    assert compared.pixel_score is not None
    errors = -compared.pixel_score(*compared.read(0, "a"))
    assert errors.tolist() == [[0.25, 784, 49, 0]]
    assert compared.scores.item() == pytest.approx(-((errors.sum().item() / 3) ** 0.5))


def test_what_is_ignored_is_not_framed_as_correct() -> None:
    found, truth = torch.tensor([[0, 1, 255, 2]]), torch.tensor([[0, 2, 255, 255]])
    assert correct(found, truth).tolist() == [[1, 0, 0, 0]]


def test_targets_without_an_end_are_not_scored_and_other_folders_are_no_predictions(folders) -> None:
    predictions, targets = folders({"a.npy": np.float32([[1.5, 3.0]])}, {"a.npy": np.float32([[1.0, np.inf]])})
    (predictions / "vis").mkdir()
    (predictions / "vis/a.png").write_bytes(b"a picture")
    assert score_depth(predictions, targets, 1, 1)["abs_rel"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        (
            "a.png",
            deep((1, 2)),
            "no value is above 2, which is 0.002 m at 1000 units per metre, so these must be metres",
        ),
        ("a.png", deep((1000, 0)), "1 scored pixels hold no depth above 0"),
        ("a.npy", np.array([[1000, np.nan]]), "1 scored pixels hold no depth above 0"),
        ("a.png", grey((100, 200)), "a depth map of 8 bits, which are too few"),
        ("a.npy", np.ones((1, 2, 1)), r"expected numbers \(height, width\)"),
        ("a.npy", np.array([[{}]]), "cannot be read as an array of numbers; write it by numpy.save$"),
        ("a.npy", np.ones((0, 2)), r"expected numbers|cannot be read as an array of numbers"),
        ("a.npy", np.array([[1.5, 2.0]]), "no value is above 2, which is 0.002 m at 1000 units per metre"),
    ],
)
def test_depth_maps_that_do_not_fit_are_refused(folders, name: str, values: np.ndarray, said: str) -> None:
    predictions, targets = folders({name: values}, {"a.png": deep((1000, 2000))})
    with pytest.raises(UserError, match=f"{name}: {said}"):
        score_depth(predictions, targets, 1000, 1000)


def test_a_header_that_promises_more_than_there_is_costs_no_memory(folders) -> None:
    predictions, targets = folders({"a.npy": np.ones((1, 2))}, {"a.png": deep((1000, 2000))})
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)}
    with (predictions / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(b"x" * 100)
    with pytest.raises(UserError, match=r"a\.npy: cannot be read as an array of numbers"):
        score_depth(predictions, targets, 1, 1000)
    np.savez(predictions / "b.npz", np.ones((1, 2)))
    (predictions / "b.npz").rename(predictions / "a.npy")
    with pytest.raises(UserError, match=r"a\.npy: expected numbers .* this is an archive of arrays"):
        score_depth(predictions, targets, 1, 1000)


def test_targets_that_are_farther_than_anything_is_are_in_other_units(folders) -> None:
    predictions, targets = folders({"a.npy": np.ones((1, 2))}, {"a.png": deep((1000, 2000))})
    with pytest.raises(
        UserError, match="a.png: its deepest value is 2000 m at 1 units per metre, farther than anything"
    ):
        score_depth(predictions, targets, 1, 1)


def test_files_in_folders_pair_by_path(folders) -> None:
    """Frames of several towns are called alike; what the operating system leaves behind counts for nothing."""
    predictions, targets = folders({"a.png": grey((0, 1))}, {"a.png": grey((0, 1))})
    for town, label in (("bern", 0), ("chur", 1)):
        for place in (predictions, targets):
            (place / town).mkdir()
            Image.fromarray(grey((label, label))).save(place / town / "0.png")
        (predictions / town / ".DS_Store").touch()
        (predictions / town / "Thumbs.db").touch()
    assert score_segmentation(predictions, targets, ("sky", "sea")) == {
        "miou": 100,
        "accuracy": 100,
        "iou/sky": 100,
        "iou/sea": 100,
        "images": 3,
    }
    (predictions / "chur/0.png").unlink()
    with pytest.raises(UserError, match="chur/0.png: no prediction of this name"):
        score_segmentation(predictions, targets, ("sky", "sea"))


def test_more_classes_than_a_mask_holds_are_refused(folders) -> None:
    predictions, targets = folders({"a.png": grey((0, 1))}, {"a.png": grey((0, 1))})
    with pytest.raises(UserError, match="256 classes: at most 255"):
        score_segmentation(predictions, targets, [str(number) for number in range(256)])


BOXES = {"one": ("dog", 0, (1, 1, 10, 10)), "two": ("dog", 1, (5, 5, 24, 24)), "three": ("cat", 0, (3, 3, 12, 22))}


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Three images in VOC's XML, one with a difficult dog; and the same in COCO's JSON beside them, annotations.json."""
    folder = tmp_path / "Annotations"
    folder.mkdir()
    names = ("cat", "dog", "horse")
    images, objects = [], []
    for number, (image, (name, difficult, (x1, y1, x2, y2))) in enumerate(BOXES.items()):
        box = f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        inside = f"<name>{name}</name><difficult>{difficult}</difficult><bndbox>{box}</bndbox>"
        (folder / f"{image}.xml").write_text(f"<annotation><object>{inside}</object></annotation>")
        images.append({"id": number, "file_name": f"JPEGImages/{image}.jpg"})
        bbox = [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]
        objects.append({"image_id": number, "category_id": 40 + names.index(name), "bbox": bbox, "ignore": difficult})
    categories = [{"id": 40 + place, "name": name} for place, name in enumerate(names)]
    (tmp_path / "annotations.json").write_text(
        json.dumps({"images": images, "categories": categories, "annotations": objects})
    )
    return folder


def comp4(folder: Path, **lines: str) -> Path:
    """A folder of detections in VOC's files."""
    folder.mkdir()
    for name, text in lines.items():
        (folder / f"comp4_det_test_{name}.txt").write_text(text)
    return folder


def test_voc_and_coco_files_give_the_same_scores(annotations: Path, tmp_path: Path) -> None:
    """One dog is found, another is difficult, the cat's box is half of it and one line more."""
    folder = comp4(
        tmp_path / "comp4",
        dog="one 0.9 1 1 10 10\ntwo 0.8 5 5 24 24\n",
        cat="three 0.7 3 3 12 13\n\n",
        horse="one 0.9 1 1 10 10\n",
    )
    results = [
        {"image_id": 0, "category_id": 41, "bbox": [0, 0, 10, 10], "score": 0.9},
        {"image_id": 1, "category_id": 41, "bbox": [4, 4, 20, 20], "score": 0.8},
        {"image_id": 2, "category_id": 40, "bbox": [2, 2, 10, 11], "score": 0.7},
        {"image_id": 0, "category_id": 42, "bbox": [0, 0, 10, 10], "score": 0.9},
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    by_name = [
        entry | {"image_id": list(BOXES)[entry["image_id"]], "category_id": {40: 2, 41: 1}[entry["category_id"]]}
        for entry in results[:3]
    ]
    (tmp_path / "by_name.json").write_text(json.dumps(by_name))
    scores = score_detection(folder, annotations, ("dog", "cat"))
    assert scores["ap50"] == 100 and scores["images"] == 3
    assert scores["ap"] == pytest.approx(100 * (1 + 1 / 10) / 2)  # the cat overlaps by 0.55, which must be exceeded
    for predictions, targets in (
        (folder, tmp_path / "annotations.json"),
        (tmp_path / "results.json", tmp_path / "annotations.json"),
        (tmp_path / "by_name.json", annotations),
    ):
        assert score_detection(predictions, targets, ("dog", "cat")) == scores


def test_a_list_names_the_images_to_score(annotations: Path, tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("one\nthree\n")
    folder = comp4(tmp_path / "comp4", dog="one 0.9 1 1 10 10\n")
    assert score_detection(folder, annotations, ("dog",), tmp_path / "test.txt")["images"] == 2
    (tmp_path / "test.txt").write_text("one\nfour\n")
    with pytest.raises(UserError, match="has nothing on image 'four'"):
        score_detection(folder, annotations, ("dog",), tmp_path / "test.txt")


def test_names_with_spaces_and_dots_are_not_cut(tmp_path: Path) -> None:
    """Of VOC's detections, lists and objects; a list of one class says behind each image whether it shows it."""
    folder = tmp_path / "Annotations"
    folder.mkdir()
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    for name in ("my photo 1", "frame_0.5s", "other"):
        (folder / f"{name}.xml").write_text(f"<annotation><object><name>dog</name>{box}</object></annotation>")
    (folder / "._other.xml").write_bytes(b"\0\5\x16\7")
    found = comp4(tmp_path / "comp4", dog="my photo 1 0.9 1 1 9 9\nframe_0.5s 0.8 1 1 9 9\n")
    for flag in (" 1", "0", "-1"):
        (tmp_path / "list.txt").write_text(f"my photo 1\nframe_0.5s {flag}\n")
        scores = score_detection(found, folder, ("dog",), tmp_path / "list.txt")
        assert scores["ap50"] == 100 and scores["images"] == 2


def test_images_of_several_folders_are_told_apart(tmp_path: Path) -> None:
    """COCO's file_name may carry folders; ids, names and categories that occur twice are named."""
    entries = [{"id": number, "file_name": f"{town}/0.5s.jpg"} for number, town in enumerate(("bern", "chur"))]
    objects = [{"image_id": number, "category_id": 1, "bbox": [0, 0, 9, 9 - number]} for number in (0, 1)]
    truth = {"images": entries, "categories": [{"id": 1, "name": "dog"}], "annotations": objects}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps([each | {"score": 0.5} for each in objects]))
    (tmp_path / "list.txt").write_text("chur/0.5s.jpg\n")
    scores = score_detection(tmp_path / "found.json", tmp_path / "truth.json", ("dog",))
    assert scores["ap50"] == 100 and scores["images"] == 2
    (tmp_path / "found.json").write_text(json.dumps([objects[1] | {"score": 0.5}]))
    assert (
        score_detection(tmp_path / "found.json", tmp_path / "truth.json", ("dog",), tmp_path / "list.txt")["images"]
        == 1
    )

    wrong = [*entries, {"id": 1, "file_name": "bern/0.5s.png"}]
    twice = {"images": wrong, "categories": [{"id": 1, "name": "dog"}, {"id": 1, "name": "dog"}], "annotations": []}
    (tmp_path / "truth.json").write_text(json.dumps(twice))
    with pytest.raises(UserError) as refused:
        score_detection(tmp_path / "found.json", tmp_path / "truth.json", ("dog",))
    for said in (
        "images: the id '1'",
        "without ending 'bern/0.5s'",
        "categories: the id 1",
        "categories: the name 'dog'",
    ):
        assert f"{said} occurs twice" in str(refused.value)


def test_boxes_without_an_area_are_scored_as_misses(tmp_path: Path) -> None:
    """COCO's own annotations hold some, and so do detections that were cut at an image's edge."""
    objects = [{"image_id": 0, "category_id": 1, "bbox": box} for box in ([0, 0, 9, 9], [3, 3, 0, 5])]
    truth = {
        "images": [{"id": 0, "file_name": "a.jpg"}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": objects,
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    found = [each | {"score": score} for each, score in zip(objects, (0.5, 0.9), strict=True)]
    (tmp_path / "found.json").write_text(json.dumps(found))
    scores = score_detection(tmp_path / "found.json", tmp_path / "truth.json", ("dog",))
    # The better ranked detection is a miss: half of the objects are found, at a precision of a half.
    assert scores["ap50"] == pytest.approx(25) and scores["coco_ap50"] == pytest.approx(100 * 51 / 101 / 2)


def test_all_that_is_wrong_with_voc_files_is_told_at_once(annotations: Path, tmp_path: Path) -> None:
    lines = ["one nan 1 1 10 10", "one 0.9 10 1 1 10", "four 0.9 1 1 10 10", "one 0.9 1 1 10", "one 0.9 1 1 10 10"]
    lines.append("one 0.9 5 5 5 5")  # a box of one pixel is one
    folder = comp4(tmp_path / "comp4", dog="\n".join(lines))
    with pytest.raises(UserError) as refused:
        score_detection(folder, annotations, ("dog", "cat"))
    said = str(refused.value).splitlines()
    dog = folder / "comp4_det_test_dog.txt"
    assert [line.split(": ")[0] for line in said] == [
        *(f"{dog}:{number}" for number in (1, 2, 3, 4)),
        str(folder / "comp4_det_test_cat.txt"),
    ]
    with pytest.raises(UserError, match="no object is called dgo; they are called cat, dog"):
        score_detection(folder, annotations, ("dgo",))
    box = "<bndbox><xmin>9</xmin><ymin>1</ymin><xmax>2</xmax><ymax>10</ymax></bndbox>"
    (annotations / "one.xml").write_text(f"<annotation><object><name>dog</name>{box}</object></annotation>")
    (annotations / "two.xml").write_text("<annotation>")
    with pytest.raises(
        UserError,
        match=r"one.xml: object 1 \(dog\) needs a <bndbox>.*, not 9, 1, 2, 10;.*\n.*two.xml: cannot be read as XML",
    ):
        score_detection(folder, annotations, ("dog",))


def test_all_that_is_wrong_with_a_coco_file_is_told_at_once(annotations: Path, tmp_path: Path) -> None:
    good = {"image_id": 0, "category_id": 41, "bbox": [0, 0, 10, 10], "score": 0.5}
    wrong = [{"score": float("nan")}, {"bbox": [0, 0, -1, 10]}, {"score": None}]
    results = tmp_path / "results.json"
    results.write_text(json.dumps([good, *(good | change for change in wrong)]))
    with pytest.raises(UserError) as refused:
        score_detection(results, tmp_path / "annotations.json", ("dog",))
    assert [line.split(": ")[1] for line in str(refused.value).splitlines()] == ["1.score", "2.bbox.2", "3.score"]
    results.write_text(json.dumps([good | {"image_id": 9}, good | {"category_id": 1}]))
    with pytest.raises(UserError, match="0.image_id='?9'?: none of .*\n.*1.category_id=1: none of 40 cat, 41 dog"):
        score_detection(results, tmp_path / "annotations.json", ("dog",))


def test_a_perfect_detector_of_real_annotations(shared: Path, tmp_path: Path) -> None:
    """Photographs of Pascal VOC with a real difficult object or more; their own boxes are the detections."""
    from tadp_ray.tasks.detection.voc import read_annotation

    folder = shared / "data/voc/Annotations"
    lines: dict[str, list[str]] = {}
    difficult = 0
    for path in sorted(folder.glob("*.xml")):
        for thing in read_annotation(path):
            x1, y1, x2, y2 = thing.box
            lines.setdefault(thing.name, []).append(f"{path.stem} 0.9 {x1 + 1} {y1 + 1} {x2} {y2}")
            difficult += thing.difficult
    detections = comp4(tmp_path / "comp4", **{name: "\n".join(text) for name, text in lines.items()})
    scores = score_detection(detections, folder, list(lines))
    assert difficult and scores.pop("images") == 14
    assert list(scores.values()) == pytest.approx([100] * len(scores))


def test_the_command_prints_figures_or_what_is_wrong(folders, tmp_path: Path) -> None:
    predictions, targets = folders({"a.png": grey((0, 1))}, {"a.png": grey((0, 1))})
    (tmp_path / "classes.txt").write_text("sky\nsea\n")
    words = ["score", "segmentation", "--predictions", str(predictions), "--targets", str(targets), "--classes"]
    result = invoke(*words, tmp_path / "classes.txt", "--json")
    assert json.loads(result.stdout)["iou/sea"] == 100
    printed = invoke(*words, "sky,sea").stdout
    assert printed.split()[:2] == ["metric", "value"] and "miou" in printed
    for classes, said in (
        ("nowhere.txt", "expected names separated by commas or a file"),
        ("sky,", "label 1 is none of"),
    ):
        refused = invoke(*words, classes)
        assert refused.exit_code == 2 and said in refused.stderr
