"""What each image adds to a score gives back the score of any choice of images."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tadp_ray.captions.prompts import make_prompts
from tadp_ray.captions.store import CaptionStore
from tadp_ray.config.data import CaptionConfig
from tadp_ray.errors import UserError
from tadp_ray.tasks.depth.metrics import DepthMetrics
from tadp_ray.tasks.depth.per_image import DepthImages
from tadp_ray.tasks.detection.metrics import DetectionMetrics
from tadp_ray.tasks.detection.per_image import DetectionImages
from tadp_ray.tasks.per_image import checksum, read_per_image, write_per_image
from tadp_ray.tasks.segmentation.metrics import SegmentationMetrics
from tadp_ray.tasks.segmentation.per_image import SegmentationImages

CLASSES = ("sky", "road", "boat", "unseen")
CHOICE = (3, 0, 0, 5, 3, 3)
"""Images of a data set, some of them more than once."""


def masks(rng: torch.Generator) -> tuple[Any, Any]:
    truth = torch.randint(3, (6, 8, 9), generator=rng)
    found = torch.where(torch.rand(truth.shape, generator=rng) < 0.6, truth, 2)
    truth[torch.rand(truth.shape, generator=rng) < 0.2] = 255
    return found, truth


def depths(rng: torch.Generator) -> tuple[Any, Any]:
    found, truth = 1 + torch.rand(2, 6, 4, 4, generator=rng)
    truth[5] = 0  # an image without a reading has no part in the means
    return found, truth


def boxes(rng: torch.Generator) -> tuple[Any, Any]:
    corner = 60 * torch.rand(6, 5, 2, generator=rng)
    objects = torch.cat([corner, corner + 20], 2)
    labels = torch.randint(3, (6, 5), generator=rng)
    moved = torch.cat([objects, objects], 1) + 8 * torch.rand(6, 10, 1, generator=rng)
    scores = torch.rand(6, 10, generator=rng)
    found = [
        {"boxes": box, "scores": score, "labels": own.repeat(2)}
        for box, score, own in zip(moved, scores, labels, strict=True)
    ]
    hard = torch.rand(6, 5, generator=rng) < 0.2
    truth = [
        {"boxes": box, "labels": own, "difficult": difficult}
        for box, own, difficult in zip(objects, labels, hard, strict=True)
    ]
    return found, truth


@pytest.mark.parametrize(
    ("task", "make", "data", "names"),
    [
        ("segmentation", lambda: SegmentationMetrics(CLASSES), masks, ("miou", "accuracy", "iou/boat")),
        ("depth", DepthMetrics, depths, ("rmse", "delta1", "silog")),
        ("detection", lambda: DetectionMetrics(CLASSES), boxes, ("ap50",)),
    ],
)
def test_a_choice_of_images_scores_as_a_data_set_of_them(
    task: str, make: Callable[[], Any], data: Callable, names: Sequence[str], tmp_path: Path
) -> None:
    found, truth = data(torch.Generator().manual_seed(0))
    whole, chosen = make(), make()
    for metrics, images in ((whole, range(6)), (chosen, CHOICE)):
        for i in images:
            metrics.accumulate(found[i : i + 1], truth[i : i + 1])
    lines = [{"id": str(i), **image} for i, image in enumerate(whole.images)]
    write_per_image(tmp_path / "images.jsonl", "f", task, CLASSES, lines)
    images = read_per_image(tmp_path / "images.jsonl", "f")
    weights = np.stack([np.ones(6), np.bincount(CHOICE, minlength=6)])
    for name in names:
        expected = whole.compute()[name], chosen.compute()[name]
        assert expected[0] != expected[1]
        assert images.scores(name, weights) == pytest.approx(expected, rel=1e-7), name
    with pytest.raises(UserError, match=f"best_miou is not told apart by image for {task}"):
        images.scores("best_miou", weights)


def test_iou_and_size_are_of_the_classes_that_an_image_shows(tmp_path: Path) -> None:
    metrics = SegmentationMetrics(CLASSES)
    metrics.accumulate(torch.tensor([[[0, 0, 1, 2]]]), torch.tensor([[[0, 1, 1, 255]]]))
    write_per_image(tmp_path / "images.jsonl", "f", "segmentation", CLASSES, [{"id": "a", **metrics.images[0]}])
    images = read_per_image(tmp_path / "images.jsonl", "f")
    np.testing.assert_array_equal(images.iou, [[50, 50, np.nan, np.nan]])
    np.testing.assert_array_equal(images.shares, [[0.25, 0.5, 0, 0]])


def test_an_image_is_scored_by_itself() -> None:
    areas = {"pixels": 10, "classes": [0, 1, 2], "intersection": [2, 0, 0], "union": [4, 5, 1], "truth": [3, 5, 0]}
    nothing = {"pixels": 10, "classes": [2], "intersection": [0], "union": [1], "truth": [0]}
    images = SegmentationImages("segmentation", ("sky", "sea", "cat"), (areas, nothing))
    assert images.image_scores.tolist()[0] == 25 and np.isnan(images.image_scores[1])
    assert DepthImages("depth", (), ({"rmse": 2.0},)).image_scores.tolist() == [-2]
    # a hit, a false one, one that is not sure enough, and a missed object
    boxes = {"scores": [0.9, 0.5, 0.4], "right": [1, 0, 1], "objects": [0, 1]}
    assert DetectionImages("detection", ("cat", "dog"), (boxes,)).image_scores.round(1).tolist() == [33.3]


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    write_per_image(path, "f", "depth", CLASSES, [{"id": "a"}, {"id": "b"}])
    path.write_text("\n".join(path.read_text().splitlines()[:2]))
    with pytest.raises(UserError, match="not a whole file .*train the cell anew"):
        read_per_image(path, "f")
    write_per_image(path, "f", "depth", CLASSES, [{"id": "a", "rmse": 1.5}])
    path.write_text(path.read_text().replace("1.5", "1.4"))
    with pytest.raises(UserError, match="it does not hold what was written"):
        read_per_image(path, "f")
    write_per_image(path, "another", "depth", CLASSES, [{"id": "a"}])
    with pytest.raises(UserError, match="of training another, not of f"):
        read_per_image(path, "f")


def test_a_prompt_may_hold_any_line_break(tmp_path: Path) -> None:
    """Those that str.splitlines knows, and JSON does not escape, from a store through the prompts into the file and back."""
    caption = "a\u2028cat\u2029on\x85a\x0b\x0c\x1c\x1d\x1e\rroad\nby night"
    CaptionStore({"a": (caption,), "b": ("a dog",)}).write(tmp_path / "store.jsonl")
    config = CaptionConfig(source="store", store=tmp_path / "store.jsonl")
    prompts = make_prompts(config, {"a": (), "b": ()}, CLASSES, 0, len, 77)
    assert prompts["a"] == caption
    path = tmp_path / "images.jsonl"
    write_per_image(path, "f", "depth", CLASSES, [{"id": name, "prompt": prompts[name]} for name in ("a", "b")])
    assert [image["prompt"] for image in read_per_image(path, "f").images] == [caption, "a dog"]


@pytest.mark.parametrize(
    ("task", "line", "said"),
    [
        ("segmentation", '{"id": "a", "classes": [0], "union": [1]}', "line 2 lacks pixels, intersection, truth"),
        ("detection", '{"id": "a", "labels": []}', "line 2 lacks scores, right, objects"),
        ("depth", "{}", "line 2 lacks id"),
        ("dreams", "{}", "'dreams'"),
        ("depth", "3", "not a whole file"),
    ],
)
def test_lines_of_other_code_are_refused(task: str, line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    facts = {"fingerprint": "f", "task": task, "classes": ["cat"]}
    header = {"per_image": 1, **facts, "images": 1, "crc32": checksum(facts, [line])}
    path.write_text(f"{json.dumps(header)}\n{line}\n")
    with pytest.raises(UserError, match=said):
        read_per_image(path, "f")
