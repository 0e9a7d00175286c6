"""Per-image results of depth: the metrics of each image, missing without true depth. Imports no torch."""

import numpy as np

from tadp_ray.registry import TASKS
from tadp_ray.tasks.per_image import PerImage


class DepthImages(PerImage):
    """Per-image results of N images with the metrics of each."""

    @property
    def image_scores(self) -> np.ndarray:
        """Negative RMSE (N,) of each image in metres; NaN without true depth."""
        return -self.column("rmse")

    def counted(self, metric: str) -> np.ndarray:
        """Return which images (N,) have true depth."""
        return np.isfinite(self.column("rmse"))

    def scores(self, metric: str, weights: np.ndarray) -> np.ndarray:
        """Return one of the nine metrics (R,) of R data sets, see `PerImage.scores`."""
        if metric not in [each.name for each in TASKS[self.task].metrics]:
            return super().scores(metric, weights)
        values = self.column(metric)
        scored = np.isfinite(values)
        count = weights[:, scored].sum(1)
        return np.divide(weights[:, scored] @ values[scored], count, out=np.full(len(count), np.nan), where=count > 0)
