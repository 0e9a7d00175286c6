"""The nine figures of monocular depth: each image on its own, then the mean over images."""

import torch
from torch import Tensor

from tadp_ray.errors import UserError
from tadp_ray.processes import collect, total
from tadp_ray.tasks.depth.config import METRICS

FIGURES = tuple(metric.name for metric in METRICS)
NEAREST = 1e-3
"""Metres; nothing nearer is scored."""
CROPPED_SIZE = (480, 640)
EIGEN_CROP = (slice(45, 471), slice(41, 601))
"""Rows and columns of an NYUv2 image that are scored: the rest is a white frame or has no reading."""


class DepthMetrics:
    """Sums of the figures over the images of a data set, as VPD and TADP score NYUv2 (models/depth/utils_depth/metrics.py).

    Scored are pixels whose true depth lies between 1 mm and `max_depth` metres, with `eigen_crop` only those inside the
    crop of Eigen et al. No prediction is rescaled by the median or clamped to a range. `images` holds the figures of each
    image, none for one without a scored pixel.
    """

    def __init__(self, max_depth: float = 10.0, eigen_crop: bool = False) -> None:
        self._max_depth = max_depth
        self._eigen_crop = eigen_crop
        self._sums = torch.zeros(len(FIGURES), dtype=torch.float64)
        self._images = torch.zeros(2, dtype=torch.float64)  # scored, without a scored pixel
        self.images: list[dict[str, float]] = []

    def scored(self, target: Tensor) -> Tensor:
        """Which pixels of a target (..., H, W) count.

        Raises:
            UserError: the Eigen crop is asked of an image that is not 480x640.
        """
        valid = (target > NEAREST) & (target < self._max_depth)
        if not self._eigen_crop:
            return valid
        if target.shape[-2:] != CROPPED_SIZE:
            size = "x".join(map(str, target.shape[-2:]))
            raise UserError(f"the Eigen crop belongs to images of 480x640, this one is {size}; leave the crop off")
        inside = torch.zeros(CROPPED_SIZE, dtype=torch.bool)
        inside[EIGEN_CROP] = True
        return valid & inside

    def accumulate(self, predicted: Tensor, target: Tensor) -> None:
        """Score predicted (B, H, W) against true depth (B, H, W), 0 = no reading; both float metres on the CPU.

        A prediction that is infinite counts as `max_depth`, one that is not a number as 1 mm.
        """
        predicted = predicted.double().nan_to_num(NEAREST, self._max_depth, self._max_depth)
        for found, truth, valid in zip(predicted, target, self.scored(target), strict=True):
            if valid.any():
                own = figures(found[valid], truth[valid].double())
                self._sums += own
                self._images[0] += 1
                self.images.append(dict(zip(FIGURES, own.tolist(), strict=True)))
            else:
                self._images[1] += 1
                self.images.append({})

    def reduce(self) -> None:
        """Add up the sums of all processes, and collect their images."""
        self._sums, self._images = total(torch.cat([self._sums, self._images])).split([len(FIGURES), 2])
        self.images = collect(self.images)

    def compute(self) -> dict[str, float]:
        """The nine figures: delta1..3 as shares, rmse in metres, log10 in decades; and images_without_depth, if any.

        Images without a scored pixel have no part in the means.

        Raises:
            UserError: no image has a scored pixel.
        """
        scored, without = self._images.tolist()
        if not scored:
            raise UserError(
                f"none of {without:.0f} images has a pixel of known depth between {NEAREST} m and {self._max_depth} m"
                f"{' inside the Eigen crop' if self._eigen_crop else ''}; are the depths in metres?"
            )
        means = dict(zip(FIGURES, (self._sums / scored).tolist(), strict=True))
        return means | ({"images_without_depth": without} if without else {})


def figures(predicted: Tensor, target: Tensor) -> Tensor:
    """The nine figures, in the order of FIGURES, of one image's scored pixels (N,), both in metres."""
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
