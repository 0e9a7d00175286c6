"""`tadp-ray data` tells what goes where, and lists everything that is wrong below a root."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from tadp_ray.cli import app
from tadp_ray.data.check import check, check_own, report_lines
from tadp_ray.data.config import FolderData
from tadp_ray.data.datasets import published_datasets
from tadp_ray.data.folder import layout
from tadp_ray.registry import DATASETS, DatasetEntry


def invoke(*words: object):
    """Run a command in this process."""
    return CliRunner().invoke(app, ["data", *map(str, words)])


def test_every_set_is_listed_and_described() -> None:
    listed = invoke("list").stdout
    known = json.loads(invoke("list", "--json").stdout)
    for entry in known:
        assert entry["name"] in listed and entry["home"] and entry["terms"] and entry["layout"]
    assert [entry["name"] for entry in known] == list(published_datasets())
    answer = invoke("check", "nyuv2")
    assert answer.exit_code == 0 and "24,231 train" in answer.stdout
    assert "sync/kitchen_0028b/sync_depth_00045.png" in answer.stdout
    wrong = invoke("check", "ade20")
    assert wrong.exit_code == 2 and "did you mean 'ade20k'?" in wrong.stderr


def test_a_whole_set_passes(put, tmp_path: Path) -> None:
    mask = np.full((8, 10), 13, np.uint8)
    mask[:2] = 255
    for number in range(50):
        put(f"rgb_anon/val/night/{number}_rgb_anon.png", np.zeros((8, 10, 3), np.uint8))
        put(f"gt/val/night/{number}_gt_labelTrainIds.png", mask)
    said = invoke("check", "dark_zurich", "--root", tmp_path)
    assert said.exit_code == 0, said.output
    assert "val: 50 images of 50 published, 50 valid" in said.stdout and "no problems" in said.stdout
    found = json.loads(invoke("check", "dark_zurich", "--root", tmp_path, "--json").stdout)["splits"]["val"]
    assert found["height"] == {"min": 8, "median": 8, "max": 8} and found["width"]["max"] == 10
    assert found["values"] == {"of": "class index", "min": 13, "max": 13}
    assert found["counted"] == {"of": "pixels", "total": 4000, "left_out": 0.25, "because": "ignored"}
    assert found["classes"]["car"] == 50 and found["classes"]["sky"] == 0


def test_all_that_is_wrong_is_listed(put, tmp_path: Path, photo: np.ndarray) -> None:
    put("test_list.txt", "".join(f"/study_1/{n}.jpg /study_1/{n}.png\n" for n in range(40)))
    for number in range(38):
        put(f"official_splits/test/study_1/{number}.jpg", photo)
        put(f"official_splits/test/study_1/{number}.png", np.full((40, 48), 5 if number < 30 else 5000, np.uint16))
    put("official_splits/test/study_1/37.jpg", "no picture")
    report = check("nyuv2", tmp_path)
    problems = report["problems"]
    assert "train: nyuv2: root=" in problems[0] and "does not hold train_list.txt, sync" in problems[0]
    assert problems[1] == "val: 40 images, the published split has 654"
    assert sum("which no camera takes" in line for line in problems) == 30 and len(problems) == 2 + 30 + 1 + 2
    assert report["splits"]["val"]["valid"] == 7 and report["splits"]["val"]["values"]["max"] == 5
    assert report["splits"]["val"]["classes"]["study"] == 7
    said = invoke("check", "nyuv2", "--root", tmp_path)
    assert said.exit_code == 1 and all(line in said.stdout for line in report_lines(report))


def test_boxes_are_counted(put, tmp_path: Path, photo: np.ndarray) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>11</ymin><xmax>30</xmax><ymax>12</ymax></bndbox>"
    objects = "".join(f"<object><name>dog</name><difficult>{hard}</difficult>{box}</object>" for hard in (0, 0, 0, 1))
    put("ImageSets/Main/test.txt", "a")
    put("JPEGImages/a.jpg", photo)
    put("Annotations/a.xml", f"<annotation>{objects}</annotation>")
    found = check("comic2k", tmp_path)["splits"]["val"]
    assert found["values"] == {"of": "box side in pixels", "min": 2, "max": 30} and found["classes"]["dog"] == 1
    assert found["counted"] == {"of": "boxes", "total": 4, "left_out": 0.25, "because": "difficult"}


def test_labels_beyond_the_classes_are_the_only_problem_of_files_that_can_be_read(put, tmp_path: Path) -> None:
    for name in ("a", "b"):
        put(f"img/{name}.png", np.zeros((8, 10, 3), np.uint8))
        put(f"lab/{name}.png", np.full((8, 10), 7, np.uint8))
    split = {"images": "img/*", "masks": "lab/*"}
    own = FolderData(kind="folder", root=tmp_path, train=split, val=split, classes=("road", "car"))
    report = check_own("mine", own)
    assert "train: 2 images, 0 valid" in report_lines(report)
    assert len(report["problems"]) == 4, "one for each file of each split, and no verdict on all of them"
    assert all("label 7 is beyond the 2 names of data.classes" in line for line in report["problems"])


def test_files_of_a_data_set_without_a_root_are_checked(put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plug-in's may have another key for them."""
    put("img/a.png", np.zeros((8, 10, 3), np.uint8))
    put("lab/a.png", np.eye(8, 10, dtype=np.uint8))
    split = {"images": "img/*", "masks": "lab/*"}
    own = FolderData(kind="folder", root=tmp_path, train=split, val=split, classes=("road", "car"))
    source = SimpleNamespace(layout=lambda _, split: layout(own, split), class_names=lambda _: own.classes)
    monkeypatch.setitem(DATASETS._entries, "listed", DatasetEntry(SimpleNamespace, source))
    report = check_own("mine", SimpleNamespace(kind="listed"))
    assert (
        not report["problems"]
        and report["root"] is None
        and report["splits"]["val"]["classes"] == {"road": 1, "car": 1}
    )
