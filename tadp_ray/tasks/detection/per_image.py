"""Per-image results of detection: correct and wrong detections, and objects. Imports no torch."""

from typing import ClassVar

import numpy as np

from tadp_ray.tasks.per_image import PerImage

MIN_SCORE = 0.5
"""Minimum score of a detection for the score of its image and for drawing."""


class DetectionImages(PerImage):
    """Per-image results of N images with their counted detections and the classes of their objects."""

    keys: ClassVar = ("labels", "scores", "right", "objects")

    @property
    def image_scores(self) -> np.ndarray:
        """Hits / (hits + false + missed) (N,) of each image in percent; NaN without objects and detections."""
        return np.array([hit_rate(image["scores"], image["right"], image["objects"]) for image in self.images])

    def counted(self, metric: str) -> np.ndarray:
        """Return which images (N,) have objects or detections."""
        return np.array([bool(image["objects"] or image["labels"]) for image in self.images])

    def scores(self, metric: str, weights: np.ndarray) -> np.ndarray:
        """Return ap50 (R,) of R data sets, see `PerImage.scores`."""
        if metric != "ap50":
            return super().scores(metric, weights)
        # A hundred data sets at once, since each needs memory for every detection.
        return np.concatenate([self._ap50(part) for part in np.array_split(weights, -(-len(weights) // 100))])

    def _ap50(self, weights: np.ndarray) -> np.ndarray:
        """Return VOC's area under the curve at an overlap of 0.5, in percent, averaged over the classes with objects."""
        image_of = np.repeat(np.arange(len(self.images)), [len(image["labels"]) for image in self.images])
        labels, scores, right = (
            np.array([value for image in self.images for value in image[name]])
            for name in ("labels", "scores", "right")
        )
        order = np.argsort(-scores, kind="stable")
        areas = []
        for label in range(len(self.classes)):
            objects = weights @ np.array([image["objects"].count(label) for image in self.images], float)
            ranked = order[labels[order] == label]
            # Each detection counts as often as its image is in the data set.
            counts = weights[:, image_of[ranked]]
            found = (counts * right[ranked]).cumsum(1)
            precision = found / np.maximum(counts.cumsum(1), 1)
            envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
            area = (np.diff(found, axis=1, prepend=0) * envelope).sum(1)
            areas.append(np.divide(100 * area, objects, out=np.full(len(weights), np.nan), where=objects > 0))
        return np.nanmean(areas, 0)


def hit_rate(scores: list[float], right: list[int], objects: list[int]) -> float:
    """Return hits / (hits + false + missed) in percent; NaN without objects and detections."""
    hits = [bool(hit) for score, hit in zip(scores, right, strict=True) if score >= MIN_SCORE]
    counted = len(objects) + len(hits) - sum(hits)
    return 100 * sum(hits) / counted if counted else float("nan")
