"""COCO's figures of files against COCO's own program: its published sample, and tied scores and crowds in a small case."""

import json
from pathlib import Path

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tadp_ray.tasks.detection.coco import read_coco
from tadp_ray.tasks.detection.scoring import score_detection

SAMPLE = "data/coco_val2014_100"
"""COCO's sample for its evaluation program, beside the project: annotations.json and results.json, of cocoapi."""


def names_of(annotations: Path) -> list[str]:
    """The classes that have objects."""
    return sorted({thing.name for things in read_coco(annotations, None).objects.values() for thing in things})


def scores_of(results: Path, annotations: Path) -> list[float]:
    """Our coco_ap, coco_ap50 and coco_ap75, as shares of 1."""
    scores = score_detection(results, annotations, names_of(annotations))
    return [scores[name] / 100 for name in ("coco_ap", "coco_ap50", "coco_ap75")]


def theirs_of(results: Path, annotations: Path) -> list[float]:
    """The same by COCO's own program."""
    truth = COCO(annotations)
    evaluation = COCOeval(truth, truth.loadRes(str(results)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[:3].tolist()


def test_the_published_sample_of_coco(shared: Path) -> None:
    """A hundred images with 9 crowds; images are not in the order of their ids, and 340 detections share their score."""
    sample = shared / SAMPLE
    if not sample.is_dir():
        pytest.skip(f"COCO's sample is not here: {sample}")
    scores = scores_of(sample / "results.json", sample / "annotations.json")
    assert [round(score, 6) for score in scores] == [0.504581, 0.696973, 0.572982]


CROWD = [100, 0, 200, 100]
"""Left, top, width and height of a crowd of cats."""


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Path]:
    """Three images that are not in the order of their ids, equal scores in all of them, and a crowd."""
    images = [{"id": n, "file_name": f"{letter}.jpg"} for n, letter in ((10, "a"), (9, "b"), (2, "c"))]
    one, far, near = [0, 0, 50, 50], [0, 200, 50, 50], [0, 0, 50, 30]
    objects = [
        *({"image_id": image, "category_id": 1, "bbox": one, "iscrowd": 0} for image in (10, 9, 2)),
        {"image_id": 9, "category_id": 1, "bbox": CROWD, "iscrowd": 1},
        {"image_id": 2, "category_id": 2, "bbox": far, "iscrowd": 0},
        {"image_id": 2, "category_id": 2, "bbox": CROWD, "iscrowd": 1},
    ]
    objects = [{"id": n, "area": own["bbox"][2] * own["bbox"][3], **own} for n, own in enumerate(objects, 1)]
    found = [
        # Of the same score: in image 10 right, in image 9 wrong but half right, in image 2 wrong. Ranked by id they are 2, 9, 10.
        (10, 1, one, 0.5),
        (9, 1, near, 0.5),
        (2, 1, far, 0.5),
        # Three in one crowd, the last of them half outside; none is an error.
        *((9, 1, [left, 10, 40, 40], 0.9) for left in (110, 150, 280)),
        (9, 1, one, 0.4),
        (2, 2, [120, 20, 20, 20], 0.8),
        (2, 2, [140, 20, 20, 20], 0.7),
        (2, 2, far, 0.6),
    ]
    results = [{"image_id": i, "category_id": c, "bbox": box, "score": score} for i, c, box, score in found]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    annotations = tmp_path / "annotations.json"
    annotations.write_text(json.dumps({"images": images, "categories": categories, "annotations": objects}))
    (tmp_path / "results.json").write_text(json.dumps(results))
    return tmp_path / "results.json", annotations


GOLDEN = [0.6481518151815181, 0.721122112211221, 0.6326732673267326]
"""Of the small case, by pycocotools 2.0.11."""


def test_tied_scores_rank_by_image_id_and_crowds_hold_any_number(small: tuple[Path, Path]) -> None:
    assert theirs_of(*small) == pytest.approx(GOLDEN, abs=1e-12)
    assert scores_of(*small) == pytest.approx(GOLDEN, abs=1e-12)


def test_in_vocs_figures_a_crowd_is_a_difficult_object(small: tuple[Path, Path]) -> None:
    """It is a small part of a crowd that each covers, which is a miss: two cats are right among 6, the dog is the third."""
    scores = score_detection(*small, ("cat", "dog"))
    assert (scores["ap50/cat"], scores["ap50/dog"]) == pytest.approx((100 * 2 / 3 * 2 / 6, 100 / 3))


def test_a_list_chooses_images_and_leaves_their_order(small: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a\nb\nc\n")
    whole = score_detection(*small, ("cat", "dog"))
    assert score_detection(*small, ("cat", "dog"), tmp_path / "list.txt") == whole
