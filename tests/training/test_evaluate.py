"""Sliding windows cover an image as mmsegmentation's do, and what several looks at an image say is averaged."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tadp_ray.config.recipe import EvaluationConfig, Recipe
from tadp_ray.data.sample import Sample
from tadp_ray.tasks.base import bilinear, resize_map
from tadp_ray.tasks.build import task_of
from tadp_ray.training.evaluate import combined, scored_image, truth
from tadp_ray.training.windows import assemble, cut, key_of, passes, view_boxes

RECIPE = Recipe.model_validate({"caption": {"source": "null"}, "schedule": {"iterations": 1, "learning_rate": 1e-3}})
SLIDE = EvaluationConfig(mode="slide", crop=64, stride=48)


def mmseg_boxes(height: int, width: int, crop: int, stride: int) -> list[tuple[int, int, int, int]]:
    """Windows as mmseg's EncoderDecoder.slide_inference computes them."""
    boxes = []
    for row in range(max(height - crop + stride - 1, 0) // stride + 1):
        for column in range(max(width - crop + stride - 1, 0) // stride + 1):
            bottom, right = min(row * stride + crop, height), min(column * stride + crop, width)
            top, left = max(bottom - crop, 0), max(right - crop, 0)
            boxes.append((top, left, bottom - top, right - left))
    return boxes


@pytest.mark.parametrize("size", [(64, 64), (65, 200), (40, 300), (200, 113)])
def test_windows_are_mmsegs(size: tuple[int, int]) -> None:
    assert view_boxes(*size, SLIDE) == mmseg_boxes(*size, 64, 48)
    assert view_boxes(*size, EvaluationConfig()) == [(0, 0, *size)]


def test_views_cut_and_assembled_give_the_image_back() -> None:
    """With windows of a multiple of 32 nothing is padded, and a head at full size changes nothing."""
    image = torch.randn(3, 100, 144)
    boxes = view_boxes(100, 144, SLIDE)
    views = [cut(image, box, 32) for box in boxes]
    assert {view.shape for view in views} == {(3, 64, 64)}
    torch.testing.assert_close(assemble(views, boxes, (100, 144), 32, bilinear)[0], image)


def test_a_whole_image_is_padded_for_the_unet_and_cropped_afterwards() -> None:
    image = torch.linspace(0, 1, 50).expand(3, 40, 50)
    view = cut(image, (0, 0, 40, 50), 32)
    assert view.shape == (3, 64, 64) and view[:, 40:].abs().max() == 0
    coarse = F.avg_pool2d(view[None], 4)[0]
    logits = assemble([coarse], [(0, 0, 40, 50)], (40, 50), 32, bilinear)
    assert logits.shape == (1, 3, 40, 50)
    assert (logits[0, :, :36, 4:44] - image[:, :36, 4:44]).abs().max() < 0.02


def test_a_mirrored_look_is_turned_back_and_shares_are_averaged() -> None:
    """Shares, not logits: a look that is sure counts no more than one that is not."""
    evaluation, size = EvaluationConfig(flip=True), (32, 64)
    setup = SimpleNamespace(
        recipe=SimpleNamespace(evaluation=evaluation),
        task=task_of(RECIPE),
        evaluated_size=lambda index, factor=1.0: size,
        scored_size=lambda index: size,
        multiple=32,
    )
    straight, mirrored = torch.randn(2, 5, *size) * 4
    looks = passes(evaluation)
    assert [look.mirrored for look in looks] == [False, True]
    found = {key_of(0, looks[0], 0): straight, key_of(0, looks[1], 0): mirrored}
    expected = (straight.softmax(0) + mirrored.flip(-1).softmax(0)) / 2
    torch.testing.assert_close(combined(setup, 0, looks, found), expected[None])


def test_logits_of_a_smaller_view_are_enlarged_to_the_size_that_is_scored() -> None:
    setup = SimpleNamespace(
        recipe=SimpleNamespace(evaluation=EvaluationConfig()),
        task=task_of(RECIPE),
        evaluated_size=lambda index, factor=1.0: (32, 64),
        scored_size=lambda index: (48, 80),
        multiple=32,
    )
    (look,), logits = passes(EvaluationConfig()), torch.randn(5, 32, 64)
    found = combined(setup, 0, (look,), {key_of(0, look, 0): logits})
    torch.testing.assert_close(found, F.interpolate(logits[None], (48, 80), mode="bilinear"))


class Val(list[Sample]):
    """A data set of one image."""

    sizes = [(6, 6)]


def test_labels_of_a_smaller_view_are_those_of_opencv() -> None:
    """As in the published code, and as the training's labels are stretched."""
    mask = np.arange(36, dtype=np.uint8).reshape(6, 6)
    setup = SimpleNamespace(
        val=Val([Sample("a", np.zeros((6, 6, 3), np.uint8), mask=mask)]),
        task=task_of(RECIPE),
        scored_size=lambda index: (2, 3),
    )
    assert truth(setup, 0)[0].tolist() == cv2.resize(mask, (3, 2), interpolation=cv2.INTER_NEAREST).tolist()
    for size in (372, 442, 500):
        numbers = np.arange(size * 7, dtype=np.int32).reshape(size, 7)
        stretched = cv2.resize(numbers.astype(np.float32), (16, 512), interpolation=cv2.INTER_NEAREST)
        assert resize_map(torch.from_numpy(numbers), (size, 7), (512, 16)).tolist() == stretched.tolist()


def test_a_shown_image_has_the_size_that_is_scored() -> None:
    image = np.arange(6 * 9 * 3, dtype=np.uint8).reshape(6, 9, 3)
    for size, expected in (((6, 9), image), ((3, 5), cv2.resize(image, (5, 3)))):
        setup = SimpleNamespace(val=[Sample("a", image)], scored_size=lambda index, size=size: size)
        assert np.array_equal(scored_image(setup, 0), expected)


def test_boxes_are_scored_at_the_size_of_the_image() -> None:
    """The model finds them in a view of 64 x 64 pixels, the image has 40 x 48, and half of that is asked for."""
    recipe = {"task": "detection", "model": {"head": {"kind": "faster_rcnn"}}}
    task = task_of(Recipe.model_validate({**RECIPE.model_dump(exclude_defaults=True), **recipe}))
    box = np.array([[24, 10, 48, 40]], np.float32)
    image = Sample("a", np.zeros((40, 48, 3), np.uint8), boxes=box, box_classes=np.array([1]))
    val = Val([image])
    val.sizes = [(40, 48)]
    setup = SimpleNamespace(
        recipe=SimpleNamespace(evaluation=EvaluationConfig()),
        task=task,
        val=val,
        evaluated_size=lambda index, factor=1.0: (64, 64),
        scored_size=lambda index: (20, 24),
    )
    (look,) = passes(EvaluationConfig())
    seen = {"boxes": torch.tensor([[32.0, 16, 64, 64]]), "labels": torch.tensor([1]), "scores": torch.tensor([0.5])}
    (found,) = combined(setup, 0, (look,), {key_of(0, look, 0): seen})
    (true,) = truth(setup, 0)
    assert found["boxes"].tolist() == [[12, 5, 24, 20]] == true["boxes"].tolist()
