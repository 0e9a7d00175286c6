"""Looks up families of backbones by name, and by the folder of a model. Needs no torch, so that planning is fast."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadp_ray.backbones.latent.family import LatentFamily
from tadp_ray.config.errors import nearest
from tadp_ray.errors import UserError
from tadp_ray.registry import BACKBONES, implementation

if TYPE_CHECKING:
    from tadp_ray.backbones.base import Family
    from tadp_ray.backbones.latent.image_generator import ImageGenerator


def family_of(model: Any) -> "Family":
    """Return the family of a recipe's `model`."""
    return implementation(BACKBONES[model.backbone].implementation)


def latent_families() -> dict[str, type[LatentFamily]]:
    """Return the registered families of latent diffusion models by name."""
    families = {name: implementation(entry.implementation) for name, entry in BACKBONES.items()}
    return {
        name: found for name, found in families.items() if isinstance(found, type) and issubclass(found, LatentFamily)
    }


def open_frozen(family: str, weights: str, embeddings: Path | None = None) -> Any:
    """Load a frozen latent diffusion model without a recipe, float32 on the CPU.

    Args:
        family: as `model.backbone`.
        weights: as `model.weights`.
        embeddings: file of a learned token, for a family with a key `embeddings`.

    Raises:
        UserError: there is no such family, a file is missing, damaged or does not fit, or the family has no learned tokens.
    """
    families = latent_families()
    if family not in families:
        raise UserError(
            f"backbone={family!r}: no family of latent diffusion models; {nearest(family, tuple(families))}"
        )
    if embeddings is None:
        return families[family].open_weights(weights)
    if "embeddings" not in BACKBONES[family].config.model_fields:
        raise UserError(
            f"embeddings={str(embeddings)!r}: a learned token is of one text encoder, a Stable Diffusion's 1.x or 2.x, not of "
            f"backbone={family!r}; leave it out"
        )
    return families[family].open_weights(weights, embeddings)


def generator_family(weights: str | Path) -> type[LatentFamily]:
    """Return the family that draws images with a model: in a folder that of its denoiser, otherwise Stable Diffusion.

    Raises:
        UserError: the family of the denoiser draws none.
    """
    families = latent_families()
    found = {name: each for name, each in families.items() if (Path(weights) / each.denoiser).is_dir()}
    for family in (found or families).values():
        if family.load_generator:
            return family
    raise UserError(
        f"weights={str(weights)!r}: model.backbone: {' or '.join(found)} reads this model, but draws no images: it has no "
        f"load_generator; name a model of {' or '.join(name for name, each in families.items() if each.load_generator)}"
    )


def load_generator(weights: str) -> "ImageGenerator":
    """Load a model with its noise schedule, on the CPU.

    Raises:
        UserError: see `generator_family`; or a file is missing, damaged or does not fit.
    """
    family = generator_family(weights)
    assert family.load_generator
    return family.load_generator(weights)
