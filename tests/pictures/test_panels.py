"""Systems side by side, from folders: what is drawn, why, and every way in which the folders do not fit."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tadp_ray.tracking.findings import findings
from tests.fixtures.cli import invoke

CLASSES = "sky,sea,cat"
NAMES = ("a", "b", "c")


def save(path: Path, values: np.ndarray) -> None:
    """An array as PNG or .npy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values) if path.suffix == ".npy" else Image.fromarray(values).save(path)


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Three images of sky over sea. Ours is right in a, wrong in a corner of b; theirs the other way round; c is a draw."""
    truth = np.repeat(np.uint8([[0], [1]]), 16, 0).repeat(48, 1)
    wrong = truth.copy()
    wrong[20:30, 30:44] = 2
    for name, ours, theirs in zip(NAMES, (truth, wrong, wrong), (wrong, truth, wrong), strict=True):
        save(tmp_path / f"images/{name}.jpg", np.full((32, 48, 3), 100, np.uint8))
        for place, labels in (("targets", truth), ("ours", ours), ("theirs", theirs)):
            save(tmp_path / place / f"{name}.png", labels)
            save(tmp_path / f"deep_{place}" / f"{name}.npy", 1 + labels.astype(np.float32))
    return tmp_path


def options(folder: Path, prefix: str = "") -> list[object]:
    """The folders of `maps`."""
    systems = [f"{name}={folder / (prefix + name)}" for name in ("ours", "theirs")]
    return ["--images", folder / "images", "--targets", folder / f"{prefix}targets"] + [
        word for system in systems for word in ("--system", system)
    ]


def test_the_frames_lie_where_label_maps_differ(maps: Path) -> None:
    result = invoke("picture", "segmentation", maps / "out", "--classes", CLASSES, *options(maps))
    assert result.exit_code == 0, result.output
    choice = json.loads((maps / "out/choice.json").read_text())
    assert [(own["direction"], own["id"], own["against"]) for own in choice["images"]] == [
        ("better", "a", "theirs"),
        ("worse", "b", "theirs"),
    ]
    for own in choice["images"]:
        left, top, right, bottom = own["frames"][0]
        assert 30 <= left < right <= 44 and 20 <= top < bottom <= 30 and (right - left, bottom - top) == (12, 8)
    assert "correct pixels" in choice["rules"]["worse"] and "correct pixels" in result.stdout
    for name in ("better.png", "worse.png"):
        with Image.open(maps / "out" / name) as drawn:
            # four panels in a row, and the white rims of frames in the grey image
            assert drawn.width > 2 * drawn.height > 200
            assert (np.asarray(drawn.convert("L"))[:, : drawn.width // 4] == 100).any()
    written = (maps / "out/better.pdf").read_bytes()
    assert written[:5] == b"%PDF-" and b"CreationDate" not in written
    again = invoke("picture", "segmentation", maps / "again", "--classes", CLASSES, *options(maps))
    assert again.exit_code == 0 and (maps / "again/better.pdf").read_bytes() == written


def test_pictures_are_kept_for_the_report(maps: Path, store, monkeypatch) -> None:
    monkeypatch.setattr(
        "sys.argv", ["tadp-ray", "picture", "--tracking-uri", "postgresql://me:geheim@db/x?sslkey=geheim"]
    )
    words = ["picture", "segmentation", maps / "panels", "--classes", CLASSES, *options(maps)]
    refused = invoke(*words, "--tracking-uri", store.uri)
    assert refused.exit_code == 2 and "nothing is logged without --log" in refused.stderr
    assert not (maps / "panels").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    assert invoke(*words, "--count", 1).exit_code == 0 and not findings(store, maps / "none")
    result = invoke(*words, "--count", 1, "--log")
    assert result.exit_code == 0, result.output
    found = findings(store, maps / "fetched")["panels"]
    assert found.run_id in result.stdout and found.question == "Where do ours and theirs differ most?"
    assert found.command == "tadp-ray picture --tracking-uri 'postgresql://me:***@db/x?sslkey=***'"
    ours, theirs = found.numbers.values()
    assert ours == theirs > 50  # each is right in one image and as wrong in another
    assert {path.name for path in (maps / "fetched/panels").iterdir()} == {"finding.json", *found.pictures}
    assert {"better.png", "worse.pdf", "choice.json"} <= {*found.pictures}


def test_depth_is_drawn_and_where_there_is_none_better_it_is_said(maps: Path) -> None:
    words = ["--prediction-scale", 1, "--target-scale", 1, *options(maps, "deep_")]
    result = invoke("picture", "depth", maps / "out", *words, "--count", 1)
    assert result.exit_code == 0 and (maps / "out/worse.pdf").is_file(), result.output
    assert re.search(r"  [abc]: ours RMSE \d\.\d{3} m, theirs RMSE \d\.\d{3} m", result.stdout)
    same = [word if "theirs" not in str(word) else f"theirs={maps}/deep_ours" for word in words]
    result = invoke("picture", "depth", maps / "same", *same)
    assert result.stdout.count("no image in which ours is") == 2
    assert [path.name for path in (maps / "same").iterdir()] == ["choice.json"]


def test_detections_are_drawn_with_classes_and_scores(maps: Path, store) -> None:
    images = [{"id": name, "file_name": f"{name}.jpg"} for name in NAMES]
    boxes = [{"image_id": name, "category_id": 1, "bbox": [4, 4, 20, 10]} for name in NAMES]
    truth = {"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": boxes}
    (maps / "truth.json").write_text(json.dumps(truth))
    for name, kept in (("ours", boxes[:2]), ("theirs", boxes[1:])):
        (maps / f"{name}.json").write_text(json.dumps([{**box, "score": 0.8} for box in kept]))
    systems = [word for name in ("ours", "theirs") for word in ("--system", f"{name}={maps}/{name}.json")]
    words = ["--images", maps / "images", "--targets", maps / "truth.json", "--classes", "cat,", *systems]
    result = invoke("picture", "detection", maps / "out", *words)
    assert result.exit_code == 0 and "  a: ours hits 100 %, theirs hits 0 %" in result.stdout, result.output
    assert "  c: ours hits 0 %, theirs hits 100 %" in result.stdout and (maps / "out/better.pdf").is_file()
    # Where nothing is to be found, a system that finds nothing has no score.
    (maps / "truth.json").write_text(json.dumps({**truth, "annotations": [boxes[0], boxes[2]]}))
    for name, box in (("ours", boxes[0]), ("theirs", boxes[2])):
        (maps / f"{name}.json").write_text(json.dumps([{**box, "score": 0.8}]))
    assert invoke("picture", "detection", maps / "logged", *words, "--log", "--tracking-uri", store.uri).exit_code == 0
    assert all(name.endswith("mean over 2 images") for name in findings(store, maps / "fetched")["logged"].numbers)
    # Boxes would lie elsewhere in a copy of another size.
    for height, code in ((32, 0), (64, 2)):
        sized = [{**image, "height": height, "width": 48} for image in images]
        (maps / "truth.json").write_text(json.dumps({**truth, "images": sized}))
        result = invoke("picture", "detection", maps / f"out{height}", *words)
        assert result.exit_code == code, result.output
    assert (
        "images/a.jpg: is (32, 48) (height, width), its target is (64, 48); they must be of one size" in result.stderr
    )


def test_all_that_is_missing_is_listed(maps: Path) -> None:
    (maps / "ours/a.png").unlink()
    (maps / "theirs/b.png").unlink()
    result = invoke("picture", "segmentation", maps / "out", "--classes", CLASSES, *options(maps))
    assert result.exit_code == 2 and not (maps / "out").exists()
    assert f"ours: {maps}/targets/a.png: no prediction of this name in {maps}/ours" in result.stderr
    assert f"theirs: {maps}/targets/b.png: no prediction of this name in {maps}/theirs" in result.stderr
    (maps / "images/c.jpg").unlink()
    for place in ("ours/a", "theirs/b"):
        save(maps / f"{place}.png", np.zeros((32, 48), np.uint8))
    result = invoke("picture", "segmentation", maps / "out", "--classes", CLASSES, *options(maps))
    assert result.exit_code == 2 and "images: holds no image called c" in result.stderr
    result = invoke("picture", "segmentation", maps / "out", "--classes", CLASSES, *options(maps)[:-1], "ours=x")
    assert result.exit_code == 2 and "expected NAME=PREDICTIONS of distinct names" in result.stderr


def test_one_system_is_drawn_beside_the_truth(maps: Path, store) -> None:
    words = ["picture", "segmentation", maps / "alone", "--classes", CLASSES, *options(maps)[:-2], "--count", 2]
    result = invoke(*words, "--log", "--tracking-uri", store.uri)
    assert result.exit_code == 0 and "at equal steps of their names" in result.stdout, result.output
    choice = json.loads((maps / "alone/choice.json").read_text())
    assert [(own["direction"], own["id"], own["frames"]) for own in choice["images"]] == [
        ("examples", "a", []),
        ("examples", "c", []),
    ]
    with Image.open(maps / "alone/examples.png") as drawn:
        assert 2 * drawn.height > drawn.width > 200  # two rows of three panels
    assert {path.name for path in (maps / "alone").glob("*.p*")} == {"examples.png", "examples.pdf"}
    found = findings(store, maps / "fetched")["alone"]
    assert (found.question, found.figure_of_paper) == ("What does ours predict?", "Figures S11 to S13")
