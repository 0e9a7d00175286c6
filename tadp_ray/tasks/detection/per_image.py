"""What each image adds to a score of detection: its detections, right or wrong, and its objects. Needs no torch."""

from typing import ClassVar

import numpy as np

from tadp_ray.tasks.per_image import PerImage

SURE = 0.5
"""Score from which on a detection counts in an image's own score, and is drawn."""


class DetectionImages(PerImage):
    """N images, with their judged detections and the classes of their objects."""

    keys: ClassVar = ("labels", "scores", "right", "objects")

    @property
    def image_scores(self) -> np.ndarray:
        """Hits / (hits + false + missed) (N,) of each image in percent; NaN where nothing is and nothing was found."""
        return np.array([hit_rate(image["scores"], image["right"], image["objects"]) for image in self.images])

    def scores(self, metric: str, weights: np.ndarray) -> np.ndarray:
        """A metric (R,) of R data sets: ap50; as `PerImage.scores`."""
        if metric != "ap50":
            return super().scores(metric, weights)
        # A hundred data sets at once, since each has a number for every detection.
        return np.concatenate([self._ap50(part) for part in np.array_split(weights, -(-len(weights) // 100))])

    def _ap50(self, weights: np.ndarray) -> np.ndarray:
        """VOC's area under the curve at an overlap of 0.5, in percent, averaged over the classes that have objects."""
        owners = np.repeat(np.arange(len(self.images)), [len(image["labels"]) for image in self.images])
        labels, scores, right = (
            np.array([value for image in self.images for value in image[name]])
            for name in ("labels", "scores", "right")
        )
        order = np.argsort(-scores, kind="stable")
        areas = []
        for label in range(len(self.classes)):
            objects = weights @ np.array([image["objects"].count(label) for image in self.images], float)
            ranked = order[labels[order] == label]
            # The curve steps by as many detections as there are copies of their image.
            counts = weights[:, owners[ranked]]
            found = (counts * right[ranked]).cumsum(1)
            precision = found / np.maximum(counts.cumsum(1), 1)
            envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
            area = (np.diff(found, axis=1, prepend=0) * envelope).sum(1)
            areas.append(np.divide(100 * area, objects, out=np.full(len(weights), np.nan), where=objects > 0))
        return np.nanmean(areas, 0)


def hit_rate(scores: list[float], right: list[int], objects: list[int]) -> float:
    """Hits / (hits + false + missed) in percent; NaN where nothing is and nothing was found."""
    sure = [bool(hit) for score, hit in zip(scores, right, strict=True) if score >= SURE]
    counted = len(objects) + len(sure) - sum(sure)
    return 100 * sum(sure) / counted if counted else float("nan")
