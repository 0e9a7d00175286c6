"""Looks up families of backbones by name. Needs no torch, so that planning is fast."""

from typing import TYPE_CHECKING, Any

from tadp_ray.registry import BACKBONES, implementation

if TYPE_CHECKING:
    from tadp_ray.backbones.base import Family


def family_of(model: Any) -> "Family":
    """Return the family of a recipe's `model`."""
    return implementation(BACKBONES[model.backbone].implementation)
