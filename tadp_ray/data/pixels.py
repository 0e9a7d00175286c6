"""Images as tensors, the normalization of their pixels, and how they are interpolated."""

from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from tadp_ray.data.sample import Truth

Pixels = Literal["half", "imagenet"]
NORMALISERS: dict[Pixels, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "half": ((127.5,) * 3, (127.5,) * 3),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
"""Mean and standard deviation for pixels in [0, 255]."""


def to_tensor(image: np.ndarray, pixels: Pixels = "half") -> Tensor:
    """Convert uint8 (H, W, 3) in [0, 255] to float32 (3, H, W), by default in [-1, 1]."""
    return normalized(channels_first(image), pixels)


def channels_first(image: np.ndarray) -> Tensor:
    """Convert an image (H, W, 3) to a tensor (3, H, W) of the same type."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def normalized(images: Tensor, pixels: Pixels = "half") -> Tensor:
    """Return images (..., 3, H, W) in [0, 255] as float32 on the same device, by default in [-1, 1]."""
    deviation, shift = _normaliser(pixels, images.device)
    return images.float().div_(deviation).sub_(shift)


def unit_range(images: Tensor, pixels: Pixels = "half") -> Tensor:
    """Return normalized images (..., 3, H, W) in [0, 1]."""
    deviation, shift = _normaliser(pixels, images.device)
    return (images + shift) * deviation / 255


@lru_cache
def _normaliser(pixels: Pixels, device: torch.device) -> tuple[Tensor, Tensor]:
    mean, deviation = (torch.tensor(values, device=device)[:, None, None] for values in NORMALISERS[pixels])
    return deviation, mean / deviation


def stretching(truth: Truth) -> int:
    """Return OpenCV's interpolation of images that are stretched to a square, in training and in evaluation.

    Source: the published Pascal code, cubic for label maps and linear for boxes.
    """
    return cv2.INTER_LINEAR if truth == "boxes" else cv2.INTER_CUBIC
