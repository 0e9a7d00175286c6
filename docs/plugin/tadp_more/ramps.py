"""A data set: tilted planes, drawn from a seed, each pixel as bright as it is near."""

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
    val: int = Field(16, ge=1, description="images that a model is scored on")
    size: int = Field(64, ge=32, description="height and width in pixels")


class Ramps:
    """Opens it (`tadp_ray.data.datasets.DatasetSource`)."""

    @staticmethod
    def open(data: RampsData, split: Literal["train", "val"]) -> "RampsSplit":
        """One split."""
        return RampsSplit(split, data.train if split == "train" else data.val, data.size)

    @staticmethod
    def class_names(data: RampsData) -> tuple[str, ...]:
        """All there is."""
        return ("plane",)


class RampsSplit:
    """One split (`tadp_ray.data.sample.Dataset`)."""

    classes = ("plane",)

    def __init__(self, split: str, count: int, size: int) -> None:
        self.ids = tuple(f"{split}-{index}" for index in range(count))
        self.sizes = ((size, size),) * count

    def __len__(self) -> int:
        """How many images."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Any:
        """A plane whose tilt its id decides."""
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
        """Names of what an image shows."""
        return self.classes

    def digest(self) -> str:
        """Of everything that can change a result: raise the number when a plane is drawn otherwise."""
        return hashlib.sha256(repr((1, self.ids, self.sizes)).encode()).hexdigest()
