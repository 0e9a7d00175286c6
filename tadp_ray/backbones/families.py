"""The families of backbones by the names that recipes give them. Needs no torch, so that planning is quick."""

from typing import TYPE_CHECKING, Any

from tadp_ray.registry import BACKBONES, implementation

if TYPE_CHECKING:
    from tadp_ray.backbones.base import Family


def family_of(model: Any) -> "Family":
    """The registered family of a recipe's `model`."""
    return implementation(BACKBONES[model.backbone].implementation)
