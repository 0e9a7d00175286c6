"""The `tadp_ray.tasks.base.Task`: target, loss, prediction, metrics, files and drawing."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor, nn

from tadp_ray.config.recipe import Recipe
from tadp_ray.data.sample import Sample
from tadp_ray.processes import collect, total
from tadp_ray.tasks.base import Size, Task, bilinear
from tadp_ray.tasks.files import MapFiles, save


def normals(_: Recipe) -> Task:
    """Return the task: a unit vector per pixel, trained with the cosine of its angle to the true one."""
    return Task(
        truth="depth",
        target=normals_of,
        resize=resize,
        upsample=bilinear,
        loss=loss,
        probabilities=lambda vectors: F.normalize(vectors, dim=1),
        predict=lambda vectors: F.normalize(vectors, dim=1).cpu(),
        draw=draw,
        arrays=lambda vectors: {"normals": vectors.numpy()},
        metrics=lambda classes: Angles(),
        logged_metrics=("mean_angle",),
        files=partial(MapFiles, write),
        write=write,
        counted_loss=counted_loss,
        names_classes=False,
    )


def normals_of(sample: Sample) -> Tensor:
    """Return unit vectors (3, H, W) with components right, down and towards the camera. A pixel is 0.1 m wide."""
    down, across = np.gradient(sample.depth.astype("float32"))
    vectors = torch.from_numpy(np.stack([10 * across, 10 * down, np.ones_like(down)]))
    return F.normalize(vectors, dim=0)


def resize(target: Tensor, _: Size, size: Size) -> Tensor:
    """Resize a target (3, H, W)."""
    return F.interpolate(target[None], size, mode="nearest-exact")[0]


def loss(vectors: Tensor, target: Tensor) -> Tensor:
    """Return 1 - the mean cosine similarity of vectors (B, 3, h, w) and a target (B, 3, H, W)."""
    return 1 - F.cosine_similarity(bilinear(vectors, target.shape[-2:]), target, dim=1).mean()


def counted_loss(head: nn.Module, features: Sequence[Tensor], size: Size) -> Tensor:
    """Return the loss for an empty target, with which the cost of a step is estimated."""
    return loss(head(features), torch.empty(len(features[0]), 3, *size, device=features[0].device))


class Angles:
    """Mean angle in degrees, and percentage of pixels within 30 degrees, over all pixels of a data set."""

    def __init__(self) -> None:
        self._sums = torch.zeros(3, dtype=torch.float64)
        self.images: list[dict[str, float]] = []

    def accumulate(self, predicted: Tensor, target: Tensor) -> None:
        """Add a batch of unit vectors (B, 3, H, W)."""
        angles = torch.rad2deg(torch.arccos((predicted * target).sum(1).clamp(-1, 1).double()))
        self._sums += torch.stack([angles.sum(), (angles <= 30).double().sum(), torch.tensor(angles.numel())])
        self.images += [{"angle": value} for value in angles.mean((1, 2)).tolist()]

    def reduce(self) -> None:
        """Sum over all processes."""
        self._sums, self.images = total(self._sums), collect(self.images)

    def compute(self) -> dict[str, float]:
        """Return the metrics by name."""
        degrees, within, pixels = self._sums.tolist()
        return {"mean_angle": degrees / pixels, "within_30": 100 * within / pixels}


def draw(
    axes: Sequence[Axes], _: np.ndarray, results: Sequence[Tensor], __: Sequence[str], ___: Sequence[Axes]
) -> set[int]:
    """Draw vectors (3, H, W) as colours. The set of drawn classes is empty."""
    for axis, vectors in zip(axes, results, strict=True):
        axis.imshow(vectors.permute(1, 2, 0).numpy() / 2 + 0.5, interpolation="nearest")
        axis.set_axis_off()
    return set()


def write(path: Path, vectors: Tensor) -> Path:
    """Write vectors (3, H, W) as .npy; `path` has no suffix."""
    path = path.with_name(f"{path.name}.npy")
    save(path, vectors.numpy())
    return path
