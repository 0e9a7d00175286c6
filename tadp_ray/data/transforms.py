"""Images in, tensors out: how training images are varied and how evaluation images are laid out (albumentations)."""

import albumentations as A
import cv2
import numpy as np
import torch
from torch import Tensor

from tadp_ray.config.schema import AugmentConfig
from tadp_ray.data.sample import IGNORE, Sample

# Mid-grey in [0, 255]: what padding is once an image is normalised to [-1, 1].
GREY = 127.5


def to_tensor(image: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) in [0, 255] -> float32 (3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float().div_(GREY).sub_(1.0)


def resize_shorter(side: int | None) -> list[A.BasicTransform]:
    """Shorter side to `side` pixels, ratio kept."""
    if side is None:
        return []
    return [A.SmallestMaxSize(side, interpolation=cv2.INTER_LINEAR, mask_interpolation=cv2.INTER_NEAREST)]


class Augment:
    """The training view of a sample: resize, random scale, pad, crop, flip, colour, in the published order.

    The view is a function of (sample, seed) alone, so that stopping, resuming and the number of workers change nothing.
    """

    def __init__(self, config: AugmentConfig) -> None:
        low, high = config.scale
        crop = config.crop
        self._tries = 10 if crop and config.crop_max_share < 1 else 1
        self._max_share = config.crop_max_share
        steps = resize_shorter(config.resize)
        if (low, high) != (1.0, 1.0):
            steps.append(A.RandomScale((low - 1, high - 1), p=1.0, mask_interpolation=cv2.INTER_NEAREST))
        if crop and config.pad:
            steps.append(A.PadIfNeeded(crop, crop, position="top_left", fill=round(GREY), fill_mask=IGNORE))
        self._before = A.Compose(steps)
        self._crop = A.Compose([A.RandomCrop(crop, crop)] if crop else [])
        after: list[A.BasicTransform] = [A.HorizontalFlip(p=config.flip)]
        if config.photometric:
            after += [
                A.RandomBrightnessContrast(brightness_limit=32 / 255, contrast_limit=0, p=0.5),
                A.RandomBrightnessContrast(brightness_limit=0, contrast_limit=0.5, p=0.5),
                A.ColorJitter(brightness=(1, 1), contrast=(1, 1), saturation=(0.5, 1.5), hue=(0, 0), p=0.5),
                A.HueSaturationValue(hue_shift_limit=18, sat_shift_limit=0, val_shift_limit=0, p=0.5),
            ]
        self._after = A.Compose(after)

    def __call__(self, sample: Sample, seed: int) -> tuple[Tensor, Tensor]:
        """Image (3, H, W) in [-1, 1] and mask int64 (H, W) of one random view."""
        for offset, stage in enumerate((self._before, self._crop, self._after)):
            stage.set_random_seed((seed + offset) % 2**32)
        view = self._before(image=sample.image, mask=sample.mask)
        cropped = self._crop(**view)
        for _ in range(self._tries - 1):
            counts = np.bincount(cropped["mask"][cropped["mask"] != IGNORE])
            if (counts > 0).sum() > 1 and counts.max() < self._max_share * counts.sum():
                break
            cropped = self._crop(**view)
        final = self._after(**cropped)
        return to_tensor(final["image"]), torch.from_numpy(final["mask"].astype(np.int64))


def smallest_view(size: tuple[int, int], config: AugmentConfig) -> int:
    """Shorter side in pixels that an image of `size` (H, W) can shrink to before it is cropped."""
    shorter = config.resize or min(size)
    return int(shorter * config.scale[0])
