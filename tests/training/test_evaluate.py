"""Sliding windows cover an image as mmsegmentation's do, and overlapping logits are averaged."""

import pytest
import torch
import torch.nn.functional as F

from tadp_ray.config.schema import EvaluationConfig
from tadp_ray.tasks import bilinear
from tadp_ray.training.evaluate import assemble, cut, view_boxes

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
