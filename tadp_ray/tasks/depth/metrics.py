"""The nine metrics of monocular depth: computed per image, then averaged over images."""

import torch
from torch import Tensor

from tadp_ray.data.images import EIGEN_SIZE
from tadp_ray.errors import UserError
from tadp_ray.processes import collect
from tadp_ray.tasks.depth.config import METRICS
from tadp_ray.wording import pluralized

NAMES = tuple(metric.name for metric in METRICS)
MIN_DEPTH = 1e-3
"""Metres; nearer pixels are not scored."""
EIGEN_CROP = (slice(45, 471), slice(41, 601))
"""Rows and columns of an NYUv2 image that are scored; the rest is a white frame or has no depth."""


class DepthMetrics:
    """Metrics averaged over the images of a data set, as in VPD and TADP for NYUv2 (models/depth/utils_depth/metrics.py).

    Pixels with a true depth between 1 mm and `max_depth` metres are scored; with `eigen_crop` only those inside the crop of
    Eigen et al. Predictions are neither rescaled by the median nor clamped to a range. `images` contains the metrics of each
    image, empty for an image without scored pixels.
    """

    def __init__(self, max_depth: float = 10.0, eigen_crop: bool = False) -> None:
        self._max_depth = max_depth
        self._eigen_crop = eigen_crop
        self.images: list[dict[str, float]] = []

    def scored(self, target: Tensor) -> Tensor:
        """Return which pixels of a target (..., H, W) are scored.

        Raises:
            UserError: the Eigen crop is enabled and the image is not 480x640.
        """
        valid = (target > MIN_DEPTH) & (target < self._max_depth)
        if not self._eigen_crop:
            return valid
        if target.shape[-2:] != EIGEN_SIZE:
            size = "x".join(map(str, target.shape[-2:]))
            raise UserError(f"the Eigen crop belongs to images of 480x640, this one is {size}; leave the crop off")
        inside = torch.zeros(EIGEN_SIZE, dtype=torch.bool)
        inside[EIGEN_CROP] = True
        return valid & inside

    def accumulate(self, predicted: Tensor, target: Tensor) -> None:
        """Add predicted (B, H, W) and true depth (B, H, W), 0 = missing; both float metres on the CPU.

        An infinite prediction counts as `max_depth`, NaN as 1 mm.
        """
        predicted = predicted.double().nan_to_num(MIN_DEPTH, self._max_depth, self._max_depth)
        for found, truth, valid in zip(predicted, target, self.scored(target), strict=True):
            if valid.any():
                values = image_metrics(found[valid], truth[valid].double())
                self.images.append(dict(zip(NAMES, values.tolist(), strict=True)))
            else:
                self.images.append({})

    def reduce(self) -> None:
        """Collect the per-image metrics of all processes."""
        self.images = collect(self.images)

    def compute(self) -> dict[str, float]:
        """Return the nine metrics: delta1..3 in [0, 1], rmse in metres, log10 in decades; and images_without_depth, if any.

        Images without scored pixels are excluded from the means.

        Raises:
            UserError: no image has a scored pixel.
        """
        scored = [image for image in self.images if image]
        without = len(self.images) - len(scored)
        if not scored:
            raise UserError(
                f"none of {pluralized(without, 'images')} has a pixel of known depth between {MIN_DEPTH} m and {self._max_depth} "
                f"m{' inside the Eigen crop' if self._eigen_crop else ''}; are the depths in metres?"
            )
        # Added in the order of the images, whichever process scored them.
        sums = torch.zeros(len(NAMES), dtype=torch.float64)
        for image in scored:
            sums += torch.tensor([image[name] for name in NAMES], dtype=torch.float64)
        means = dict(zip(NAMES, (sums / len(scored)).tolist(), strict=True))
        return means | ({"images_without_depth": float(without)} if without else {})


def image_metrics(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the nine metrics of one image, in the order of NAMES, from its scored pixels (N,) in metres."""
    ratio = torch.maximum(predicted / target, target / predicted)
    error, log_error = predicted - target, predicted.log() - target.log()
    return torch.stack(
        [
            *((ratio < 1.25**power).double().mean() for power in (1, 2, 3)),
            (error.abs() / target).mean(),
            (error.square() / target).mean(),
            error.square().mean().sqrt(),
            log_error.square().mean().sqrt(),
            (predicted.log10() - target.log10()).abs().mean(),
            (log_error.square().mean() - 0.5 * log_error.mean().square()).sqrt(),
        ]
    )
