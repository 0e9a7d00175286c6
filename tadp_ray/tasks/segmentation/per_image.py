"""Per-image results of segmentation: pixels of intersection, union and ground truth per class. Imports no torch."""

from functools import cached_property
from typing import ClassVar

import numpy as np

from tadp_ray.tasks.per_image import PerImage


class SegmentationImages(PerImage):
    """Per-image results of N images with the areas of their classes."""

    keys: ClassVar = ("pixels", "classes", "intersection", "union", "truth")
    by_area: ClassVar = True

    def areas(self, name: str) -> np.ndarray:
        """Return the pixels (N, C) of "intersection", "union" or "truth" of every class in every image."""
        areas = np.zeros((len(self.images), len(self.classes)))
        for row, image in zip(areas, self.images, strict=True):
            row[image["classes"]] = image[name]
        return areas

    @cached_property
    def iou(self) -> np.ndarray:
        """IoU (N, C) of each class in each image in percent; NaN if the class is not in the image."""
        truth, union = self.areas("truth"), self.areas("union")
        return np.divide(100 * self.areas("intersection"), union, out=np.full(union.shape, np.nan), where=truth > 0)

    @cached_property
    def shares(self) -> np.ndarray:
        """Share (N, C) of each image's pixels with the true class, in [0, 1]."""
        return self.areas("truth") / self.column("pixels")[:, None]

    @property
    def present(self) -> list[list[str]]:
        """Names of the true classes of each image."""
        return [[self.classes[label] for label in np.flatnonzero(truth)] for truth in self.areas("truth")]

    @property
    def image_scores(self) -> np.ndarray:
        """Mean IoU (N,) over the true classes of each image, in percent; NaN without classes."""
        present = np.isfinite(self.iou)
        count = present.sum(1)
        total = np.where(present, self.iou, 0).sum(1)
        return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)

    def scores(self, metric: str, weights: np.ndarray) -> np.ndarray:
        """Return miou, accuracy or iou/<class> (R,) of R data sets, see `PerImage.scores`."""
        name = metric.removeprefix("iou/")
        if metric not in ("miou", "accuracy") and (metric == name or name not in self.classes):
            return super().scores(metric, weights)
        found = weights @ self.areas("intersection")
        if metric == "accuracy":
            return 100 * found.sum(1) / (weights @ self.areas("truth")).sum(1)
        union = weights @ self.areas("union")
        iou = np.divide(100 * found, union, out=np.full(union.shape, np.nan), where=union > 0)
        return np.nanmean(iou, 1) if metric == "miou" else iou[:, self.classes.index(name)]
