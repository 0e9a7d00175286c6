"""A data set of random tilted planes. The brightness of a pixel is its proximity."""

import hashlib
from typing import Any, Literal

import numpy as np
from pydantic import Field

from tadp_ray.config.vocabulary import StrictModel
from tadp_ray.registry import register_dataset


@register_dataset("ramps", "tadp_more.ramps:Ramps")
class RampsData(StrictModel):
    """Tilted planes."""

    kind: Literal["ramps"]
    train: int = Field(32, ge=1, description="training images")
    val: int = Field(16, ge=1, description="evaluation images")
    size: int = Field(64, ge=32, description="height and width in pixels")


class Ramps:
    """Opens the data set (`tadp_ray.data.datasets.DatasetSource`)."""

    @staticmethod
    def open(data: RampsData, split: Literal["train", "val"]) -> "RampsSplit":
        """Return one split."""
        return RampsSplit(split, data.train if split == "train" else data.val, data.size)

    @staticmethod
    def class_names(data: RampsData) -> tuple[str, ...]:
        """Return the classes."""
        return ("plane",)


class RampsSplit:
    """One split (`tadp_ray.data.sample.Dataset`)."""

    classes = ("plane",)

    def __init__(self, split: str, count: int, size: int) -> None:
        self.ids = tuple(f"{split}-{index}" for index in range(count))
        self.sizes = ((size, size),) * count

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Any:
        """Return a plane, whose tilt is a function of its id."""
        from tadp_ray.data.sample import Sample

        if not 0 <= index < len(self):
            raise IndexError(index)
        rng = np.random.default_rng([*self.ids[index].encode()])
        down, across = np.indices(self.sizes[index], dtype=np.float32) / self.sizes[index][0] - 0.5
        tilt = rng.uniform(-5, 5, 2)
        depth = (6 + tilt[0] * down + tilt[1] * across).astype(np.float32)
        image = np.repeat((255 * (1 - depth / 12)).astype(np.uint8)[..., None], 3, axis=2)
        return Sample(self.ids[index], image, depth=depth)

    def present(self, index: int) -> tuple[str, ...]:
        """Return the names of the classes in an image."""
        return self.classes

    def digest(self) -> str:
        """Return a hash of everything that can change a result. Raise the number when the planes change."""
        return hashlib.sha256(repr((1, self.ids, self.sizes)).encode()).hexdigest()
