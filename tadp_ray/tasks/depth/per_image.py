"""What each image adds to a score of depth: its own figures, none where it has no reading. Needs no torch."""

import numpy as np

from tadp_ray.registry import TASKS
from tadp_ray.tasks.per_image import PerImage


class DepthImages(PerImage):
    """N images, with the figures of each."""

    @property
    def image_scores(self) -> np.ndarray:
        """RMSE (N,) of each image in metres, negative; NaN where it has no reading."""
        return -self.column("rmse")

    def scores(self, metric: str, weights: np.ndarray) -> np.ndarray:
        """A metric (R,) of R data sets: one of the nine figures; as `PerImage.scores`."""
        if metric not in [each.name for each in TASKS[self.task].metrics]:
            return super().scores(metric, weights)
        values = self.column(metric)
        scored = np.isfinite(values)
        return weights[:, scored] @ values[scored] / weights[:, scored].sum(1)
