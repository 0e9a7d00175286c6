"""Augmentation of training samples (albumentations)."""

import random
from dataclasses import replace
from functools import lru_cache
from typing import Any

import albumentations as A
import cv2
import numpy as np

from tadp_ray.config.data import AugmentConfig
from tadp_ray.data.pixels import NORMALISERS, Pixels, stretching
from tadp_ray.data.sample import IGNORE, Sample, Truth

TRIES = 10


def resize_shorter(side: int | None) -> list[A.BasicTransform]:
    """Resize the shorter side to `side` pixels, keeping the aspect ratio."""
    if side is None:
        return []
    return [A.SmallestMaxSize(side, interpolation=cv2.INTER_LINEAR, mask_interpolation=cv2.INTER_NEAREST)]


def colour_changes(kind: str) -> list[A.BasicTransform]:
    """Return the colour augmentations of AugmentConfig.colour."""
    match kind:
        case "mmseg":
            return [PhotometricDistortion(p=1.0)]
        case "hsv":
            return [A.HueSaturationValue((-10, 9), (-10, 9), (-10, 9), p=1.0)]
        case "nyu":
            return [A.RandomBrightnessContrast(p=0.5), A.RandomGamma(p=0.5), A.HueSaturationValue(p=0.5)]
    return []


def padding(side: int, truth: Truth, pixels: Pixels) -> A.BasicTransform:
    """Pad at the bottom and right to at least a square, with the mean colour and ignored ground truth."""
    grey = tuple(round(value) for value in NORMALISERS[pixels][0])
    return A.PadIfNeeded(side, side, position="top_left", fill=grey, fill_mask=IGNORE if truth == "mask" else 0)


class PhotometricDistortion(A.ImageOnlyTransform):
    """mmseg's PhotoMetricDistortion with its default ranges, each change with probability 0.5.

    albumentations changes saturation at constant luma; mmseg at constant value of HSV, which also changes the brightness.
    """

    def get_params(self) -> dict[str, Any]:
        """Draw the changes: levels added, factors, whether contrast comes first, and steps of two degrees of hue."""
        draw = self.random_generator
        return {
            "brightness": draw.uniform(-32, 32) if draw.integers(2) else 0.0,
            "contrast": draw.uniform(0.5, 1.5) if draw.integers(2) else 1.0,
            "contrast_first": bool(draw.integers(2)),
            "saturation": draw.uniform(0.5, 1.5) if draw.integers(2) else 1.0,
            "hue": int(draw.integers(-18, 18)) if draw.integers(2) else 0,
        }

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        """Return the changed image, uint8 (H, W, 3); contrast comes before or after saturation and hue."""
        first, last = (params["contrast"], 1.0) if params["contrast_first"] else (1.0, params["contrast"])
        image = linear(linear(img, 1.0, params["brightness"]), first)
        if (params["saturation"], params["hue"]) != (1.0, 0):
            hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
            hue = ((hue.astype(int) + params["hue"]) % 180).astype(np.uint8)
            image = cv2.merge([hue, linear(saturation, params["saturation"]), value])
            image = cv2.cvtColor(image, cv2.COLOR_HSV2RGB)
        return linear(image, last)


def linear(levels: np.ndarray, factor: float, added: float = 0) -> np.ndarray:
    """Return levels times a factor plus a number, uint8, without those behind the point, as mmseg does."""
    if (factor, added) == (1.0, 0.0):
        return levels
    return np.clip(levels.astype(np.float32) * factor + added, 0, 255).astype(np.uint8)


def compose(steps: list[A.BasicTransform], truth: Truth) -> A.Compose:
    """Return transforms of images and of their ground truth in order."""
    boxes = A.BboxParams("pascal_voc", label_fields=["box_classes", "difficult"], clip=True, min_area=1)
    # albumentations warns of boxes without a transform that moves them.
    return A.Compose(steps, bbox_params=boxes if steps and truth == "boxes" else None)


# Kept here and not in `Augment`, which is pickled for the loader's processes.
@lru_cache(maxsize=256)
def cropping(height: int, width: int, truth: Truth) -> A.Compose:
    """Return random crops of a size."""
    return compose([A.RandomCrop(height, width)], truth)


class Augment:
    """Augments a training sample: resize, random scale, crop, flip, colour, stretch, pad.

    The result is a function of (sample, seed), so it does not depend on resuming or on the number of workers.

    Args:
        config: the augmentations.
        truth: the ground truth to transform; other fields are dropped.
        pixels: the normalization, whose mean is the colour of padding.
    """

    def __init__(self, config: AugmentConfig, truth: Truth = "mask", pixels: Pixels = "half") -> None:
        self._config = config
        self._truth = truth
        low, high = config.scale
        steps = resize_shorter(config.resize)
        if (low, high) != (1.0, 1.0):
            kind = stretching(truth) if config.stretch else cv2.INTER_LINEAR
            steps.append(A.RandomScale((low - 1, high - 1), kind, mask_interpolation=cv2.INTER_NEAREST, p=1.0))
        self._before = compose(steps, truth)
        after = [A.HorizontalFlip(p=config.flip), *colour_changes(config.colour)]
        if config.stretch:
            after.append(A.Resize(config.stretch, config.stretch, stretching(truth), cv2.INTER_NEAREST))
        # Last, as in the published code: padding is neither mirrored nor recoloured.
        if side := config.pad_to or (config.crop if config.pad and not config.stretch else None):
            after.append(padding(side, truth, pixels))
        self._after = compose(after, truth)

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """Return an augmented sample."""
        view = self._run(self._before, seed, self._parts(sample))
        if self._config.cut_depth:
            view["image"] = cut_depth(view["image"], view["mask"], self._config.cut_depth, np.random.default_rng(seed))
        view = self._cropped(view, seed + 1)
        return self._sample(sample, self._run(self._after, seed + 2, view))

    def _parts(self, sample: Sample) -> dict[str, Any]:
        if self._truth == "boxes":
            boxes, classes, difficult = sample.objects()
            return {"image": sample.image, "bboxes": boxes, "box_classes": classes, "difficult": difficult}
        return {"image": sample.image, "mask": sample.truth(self._truth)}

    def _sample(self, sample: Sample, view: dict[str, Any]) -> Sample:
        empty = Sample(sample.id, view["image"])
        if self._truth == "boxes":
            return replace(
                empty,
                boxes=np.asarray(view["bboxes"], np.float32).reshape(-1, 4),
                box_classes=np.asarray(view["box_classes"], np.int64),
                difficult=np.asarray(view["difficult"], bool),
            )
        return replace(empty, **{self._truth: view["mask"]})

    @staticmethod
    def _run(stage: A.Compose, seed: int, view: dict[str, Any]) -> dict[str, Any]:
        # All steps of a stage share one generator. With one seed per step, the steps would be correlated: flipped images would
        # always be brightened, too.
        stream = np.random.default_rng(seed), random.Random(seed)
        for step in stage.transforms:
            step.set_random_state(*stream)
        return stage(**view) if stage.transforms else view

    def _cropped(self, view: dict[str, Any], seed: int) -> dict[str, Any]:
        crop, share = self._config.crop, self._config.crop_max_share
        if not crop:
            return view
        height, width = view["image"].shape[:2]
        # An image that is stretched (Pascal's code) or padded at the end may be smaller than the crop; others were refused.
        size = (min(crop, height), min(crop, width)) if self._config.stretch or self._config.pad else (crop, crop)
        stage = cropping(*size, self._truth)
        cropped = self._run(stage, seed, view)
        for _ in range(TRIES - 1 if share < 1 else 0):
            counts = np.bincount(cropped["mask"][cropped["mask"] != IGNORE])
            if (counts > 0).sum() > 1 and counts.max() < share * counts.sum():
                break
            cropped = stage(**view)
        return cropped


def cut_depth(image: np.ndarray, depth: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Replace, with some probability, a band of columns by its depth.

    Source: the published NYUv2 code (GLPDepth's CutDepth): depth in millimetres modulo 256, so that values wrap.
    """
    if rng.uniform() >= probability:
        return image
    width = image.shape[1]
    left, share = rng.uniform(size=2)
    first = int(left * width)
    last = first + int(max((width - left * width) * share * 0.75, 1))
    image = image.copy()
    image[:, first:last] = ((depth[:, first:last, None] * 1000).astype(np.int64) % 256).astype(np.uint8)
    return image
