"""A source of contexts: one vector, mapped from the mean colour of the view. Imports no torch until a cell needs it."""

from typing import Any, Literal

from tadp_ray.config.vocabulary import StrictModel
from tadp_ray.registry import implementation, register_context_source

NETWORKS = "tadp_more.mean_colour.networks"


@register_context_source("mean_colour", "tadp_more.mean_colour:MeanColour", reads="image")
class MeanColourKeys(StrictModel):
    """One vector that says the mean colour of the view."""

    kind: Literal["mean_colour"]


class MeanColour:
    """The `tadp_ray.conditioning.base.ContextSource`. It has no files."""

    @staticmethod
    def length(config: Any, text: int) -> int:
        """Return one vector."""
        return 1

    @staticmethod
    def load(config: Any) -> Any:
        """Return the image encoder."""
        return implementation(f"{NETWORKS}:MeanEncoder")()

    @staticmethod
    def build(config: Any, width: int, encoder: Any) -> Any:
        """Return the trained layer."""
        return implementation(f"{NETWORKS}:ColourLayer")(encoder.width, width)

    @staticmethod
    def places(config: Any) -> dict[str, str]:
        """Return no files."""
        return {}

    @staticmethod
    def digests(config: Any) -> dict[str, str]:
        """Return no hashes."""
        return {}
