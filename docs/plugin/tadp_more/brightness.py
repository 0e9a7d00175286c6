"""A captioner of brightness: `tadp-ray caption brightness DATA --out STORE.jsonl`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tadp_ray.registry import register_captioner


class Brightness:
    """A `tadp_ray.captions.captioner.Captioner`."""

    def __init__(self, settings: Any, device: Any) -> None:
        self._threshold = int(settings.model)

    def __call__(self, images: Sequence[np.ndarray]) -> list[str]:
        """Return a caption for each image uint8 (H, W, 3)."""
        return ["a bright picture" if image.mean() > self._threshold else "a dark picture" for image in images]

    @staticmethod
    def identify(settings: Any) -> dict[str, Any]:
        """Return the settings that change captions. Captions are in one store only if these are equal."""
        return {"border": int(settings.model)}


register_captioner("brightness", "brightness of the image; --model: threshold of the mean", Brightness, model="128")
