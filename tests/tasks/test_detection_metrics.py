"""Average precision worked by hand: what is a hit, what is ignored, what is wrong."""

import pytest
import torch

from tadp_ray.errors import UserError
from tadp_ray.tasks.detection.metrics import DetectionMetrics

CLASSES = ("cat", "dog")
FAR = (50, 50, 60, 60)
CAT, OTHER_CAT = (0, 0, 10, 10), (20, 0, 30, 10)


def found(*things: tuple[float, tuple[float, ...], str]) -> dict[str, torch.Tensor]:
    """Detections of (score, box, class)."""
    return {
        "boxes": torch.tensor([box for _, box, _ in things], dtype=torch.float32).reshape(-1, 4),
        "scores": torch.tensor([score for score, _, _ in things]),
        "labels": torch.tensor([CLASSES.index(name) for _, _, name in things], dtype=torch.int64),
    }


def there(*things: tuple[tuple[float, ...], str, bool]) -> dict[str, torch.Tensor]:
    """Objects of (box, class, difficult)."""
    return {
        "boxes": torch.tensor([box for box, _, _ in things], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([CLASSES.index(name) for _, name, _ in things], dtype=torch.int64),
        "difficult": torch.tensor([difficult for _, _, difficult in things], dtype=torch.bool),
    }


def scores(*images: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]) -> dict[str, float]:
    """Figures of (detections, objects) of each image."""
    metrics = DetectionMetrics(CLASSES)
    for detections, objects in images:
        metrics.accumulate([detections], [objects])
    return metrics.compute()


def test_a_duplicate_is_wrong_and_a_miss_costs_recall(capsys: pytest.CaptureFixture[str]) -> None:
    """Two of three cats are found: precision 1, 1/2, 2/3, 2/4 at recall 1/3, 1/3, 2/3, 2/3."""
    figures = scores(
        (found((0.9, CAT, "cat"), (0.8, CAT, "cat")), there((CAT, "cat", False), (OTHER_CAT, "cat", False))),
        (found((0.7, CAT, "cat"), (0.6, FAR, "cat")), there((CAT, "cat", False))),
    )
    assert figures["ap50"] == pytest.approx(100 * (1 / 3 + 1 / 3 * 2 / 3))
    # Recalls 0 .. 0.3 are reached with precision 1, those of 0.4 .. 0.6 with 2/3, the others never.
    assert figures["ap50_voc07"] == pytest.approx(100 * (4 * 1 + 3 * 2 / 3) / 11)
    assert figures["ap"] == pytest.approx(figures["ap50"])  # all hits are exact
    assert figures["ap50/cat"] == figures["ap50"] and "ap50/dog" not in figures
    assert capsys.readouterr().out == ""


def test_a_hit_on_a_difficult_object_counts_neither_way() -> None:
    """By VOC's rules and by COCO's; an easy object beside it still has to be found."""
    objects = there((CAT, "cat", True), (OTHER_CAT, "cat", False))
    both = scores((found((0.9, CAT, "cat"), (0.8, OTHER_CAT, "cat")), objects))
    assert [both[name] for name in ("ap50", "ap50_voc07", "coco_ap50")] == pytest.approx([100] * 3)
    wrong = scores((found((0.9, FAR, "cat"), (0.8, OTHER_CAT, "cat")), objects))
    assert [wrong[name] for name in ("ap50", "coco_ap50")] == pytest.approx([50] * 2)


def test_a_detection_goes_to_the_object_it_overlaps_most() -> None:
    """Even if that one is taken and another would do: there VOC counts an error, and COCO a hit."""
    near = (0, 0, 10, 8)
    figures = scores((found((0.9, CAT, "cat"), (0.8, CAT, "cat")), there((CAT, "cat", False), (near, "cat", False))))
    assert figures["ap50"] == pytest.approx(50) and figures["coco_ap50"] == pytest.approx(100)


def test_an_overlap_must_exceed_its_threshold() -> None:
    """As in the published evaluator; COCO takes equality."""
    figures = scores((found((0.9, (0, 0, 10, 5), "cat")), there((CAT, "cat", False))))
    assert figures["ap50"] == 0 and figures["coco_ap50"] == pytest.approx(100)


def test_equal_scores_keep_the_order_of_the_images() -> None:
    wrong, right = (found((0.5, box, "cat")) for box in (FAR, CAT))
    objects = there((CAT, "cat", False))
    assert scores((right, objects), (wrong, there()))["ap50"] == pytest.approx(100)
    assert scores((wrong, there()), (right, objects))["ap50"] == pytest.approx(50)


def test_nothing_found_is_zero_and_nothing_to_find_is_refused() -> None:
    figures = scores((found(), there((CAT, "cat", False), (CAT, "dog", True))))
    assert set(figures.values()) == {0.0} and "ap50/dog" not in figures
    with pytest.raises(UserError, match="none of 1 image holds an object that is not difficult"):
        scores((found((0.9, CAT, "dog")), there((CAT, "dog", True))))
