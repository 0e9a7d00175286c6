"""A captioner: `tadp-ray caption brightness DATA --out STORE.jsonl` says how bright each picture is."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tadp_ray.registry import register_captioner


class Brightness:
    """As `tadp_ray.captions.captioner.Captioner`: made of settings and a device, called with images, and `identify`."""

    def __init__(self, settings: Any, device: Any) -> None:
        self._border = int(settings.model)

    def __call__(self, images: Sequence[np.ndarray]) -> list[str]:
        """A caption for each image, uint8 (H, W, 3)."""
        return ["a bright picture" if image.mean() > self._border else "a dark picture" for image in images]

    @staticmethod
    def identify(settings: Any) -> dict[str, Any]:
        """Everything that two captioners must have in common for their captions to be of one making."""
        return {"border": int(settings.model)}


register_captioner("brightness", "how bright a picture is; --model: from which mean on", Brightness, model="128")
