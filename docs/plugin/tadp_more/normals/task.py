"""The task as values (`tadp_ray.tasks.base.Task`)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor, nn

from tadp_ray.config.schema import Recipe
from tadp_ray.data.sample import Sample
from tadp_ray.processes import collect, total
from tadp_ray.tasks.base import Size, Task, bilinear
from tadp_ray.tasks.files import MapFiles, save


def normals(_: Recipe) -> Task:
    """Unit vectors (3, H, W) for every pixel, by the cosine of their angle to the true ones."""
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
    """Unit vectors (3, H, W): across, down, towards the camera. A pixel counts as a tenth of a metre on each side."""
    down, across = np.gradient(sample.depth.astype("float32"))
    vectors = torch.from_numpy(np.stack([10 * across, 10 * down, np.ones_like(down)]))
    return F.normalize(vectors, dim=0)


def resize(target: Tensor, _: Size, size: Size) -> Tensor:
    """A target (3, H, W) at another size."""
    return F.interpolate(target[None], size, mode="nearest-exact")[0]


def loss(vectors: Tensor, target: Tensor) -> Tensor:
    """One less the mean cosine of the angles between vectors (B, 3, h, w) and a target (B, 3, H, W)."""
    return 1 - F.cosine_similarity(bilinear(vectors, target.shape[-2:]), target, dim=1).mean()


def counted_loss(head: nn.Module, features: Sequence[Tensor], size: Size) -> Tensor:
    """The loss on a target without contents, from which the cost of a step is counted."""
    return loss(head(features), torch.empty(len(features[0]), 3, *size, device=features[0].device))


class Angles:
    """Mean angle in degrees, and the share of pixels within 30, over all pixels of a data set."""

    def __init__(self) -> None:
        self._sums = torch.zeros(3, dtype=torch.float64)
        self.images: list[dict[str, float]] = []

    def accumulate(self, predicted: Tensor, target: Tensor) -> None:
        """Count a batch of unit vectors (B, 3, H, W)."""
        angles = torch.rad2deg(torch.arccos((predicted * target).sum(1).clamp(-1, 1).double()))
        self._sums += torch.stack([angles.sum(), (angles <= 30).double().sum(), torch.tensor(angles.numel())])
        self.images += [{"angle": value} for value in angles.mean((1, 2)).tolist()]

    def reduce(self) -> None:
        """Add up what all processes counted."""
        self._sums, self.images = total(self._sums), collect(self.images)

    def compute(self) -> dict[str, float]:
        """The figures by name."""
        degrees, within, pixels = self._sums.tolist()
        return {"mean_angle": degrees / pixels, "within_30": 100 * within / pixels}


def draw(
    axes: Sequence[Axes], _: np.ndarray, shown: Sequence[Tensor], __: Sequence[str], ___: Sequence[Axes]
) -> set[int]:
    """Vectors (3, H, W) as colours, as is usual; no class is shown."""
    for axis, vectors in zip(axes, shown, strict=True):
        axis.imshow(vectors.permute(1, 2, 0).numpy() / 2 + 0.5, interpolation="nearest")
        axis.set_axis_off()
    return set()


def write(path: Path, vectors: Tensor) -> Path:
    """Write vectors (3, H, W) as .npy; `path` is without ending."""
    path = path.with_name(f"{path.name}.npy")
    save(path, vectors.numpy())
    return path
