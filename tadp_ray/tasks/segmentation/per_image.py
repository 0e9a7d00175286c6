"""Per-image results of segmentation: pixels of intersection, union and ground truth per class. Imports no torch."""

import numpy as np

from tadp_ray.tasks.per_image import AreaImages


class SegmentationImages(AreaImages):
    """Per-image results of N images, scored by the areas of their classes."""

    @property
    def image_scores(self) -> np.ndarray:
        """Mean IoU (N,) over the true classes of each image, in percent; NaN without classes."""
        present = np.isfinite(self.iou)
        count = present.sum(1)
        total = np.where(present, self.iou, 0).sum(1)
        return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)

    def counted(self, metric: str) -> np.ndarray:
        """Return which images (N,) have labels, or for iou/<class> show or are said to show the class."""
        name = metric.removeprefix("iou/")
        if metric == name or name not in self.classes:
            return self.areas("truth").sum(1) > 0
        return self.areas("union")[:, self.classes.index(name)] > 0

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
