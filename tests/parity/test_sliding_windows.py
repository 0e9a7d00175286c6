"""Sliding windows give mmsegmentation's logits."""

import warnings
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadp_ray.config.recipe import EvaluationConfig
from tadp_ray.tasks.base import bilinear
from tadp_ray.training.windows import assemble, cut, view_boxes

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mmseg.models.segmentors import EncoderDecoder

CLASSES, CROP, STRIDE = 5, 64, 43


@pytest.mark.parametrize("size", [(64, 64), (70, 150), (128, 97)])
def test_logits_are_those_of_slide_inference(size: tuple[int, int]) -> None:
    """Source: mmseg's EncoderDecoder.slide_inference with the same head, which answers at a quarter of a window's size."""
    torch.manual_seed(0)
    image, head = torch.randn(1, 3, *size), nn.Conv2d(3, CLASSES, 4, 4)

    def upscaled(windows: Tensor, _: object = None) -> Tensor:
        return F.interpolate(head(windows), windows.shape[-2:], mode="bilinear", align_corners=False)

    segmentor = SimpleNamespace(
        test_cfg=SimpleNamespace(stride=(STRIDE, STRIDE), crop_size=(CROP, CROP)),
        out_channels=CLASSES,
        encode_decode=upscaled,
    )
    with torch.no_grad():
        wanted = EncoderDecoder.slide_inference(segmentor, image, [{"img_shape": size}])
        boxes = view_boxes(*size, EvaluationConfig(mode="slide", crop=CROP, stride=STRIDE))
        found = assemble([head(cut(image[0], box, 32)[None])[0] for box in boxes], boxes, size, 32, bilinear)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
