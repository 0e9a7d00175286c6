"""Opens a frozen model of any family of this package, without a recipe."""

from pathlib import Path
from typing import TYPE_CHECKING

from tadp_ray.config.errors import nearest
from tadp_ray.errors import UserError

if TYPE_CHECKING:
    from tadp_ray.backbones.pixart.load import PixArt
    from tadp_ray.backbones.stable_diffusion.load import Diffusion

FAMILIES = ("stable_diffusion", "stable_diffusion_xl", "pixart")
"""Values of `model.backbone` whose models are latent diffusion models of this package."""


def open_frozen(family: str, weights: str, embeddings: Path | None = None) -> "Diffusion | PixArt":
    """Load a frozen model, float32 on the CPU.

    Args:
        family: as `model.backbone`.
        weights: as `model.weights`.
        embeddings: file of a learned token, of a Stable Diffusion 1.x or 2.x.

    Raises:
        UserError: there is no such family, a file is missing, damaged or does not fit, or the family has no learned tokens.
    """
    if family not in FAMILIES:
        raise UserError(f"backbone={family!r}: no latent diffusion model of this package; {nearest(family, FAMILIES)}")
    if family == "stable_diffusion":
        from tadp_ray.backbones.stable_diffusion.load import open_diffusion

        return open_diffusion(weights, embeddings)
    if embeddings is not None:
        raise UserError(
            f"embeddings={str(embeddings)!r}: a learned token is of one text encoder, a Stable Diffusion's 1.x or 2.x, not of "
            f"backbone={family!r}; leave it out"
        )
    if family == "stable_diffusion_xl":
        from tadp_ray.backbones.stable_diffusion_xl.load import load_diffusion_xl

        return load_diffusion_xl(weights)
    from tadp_ray.backbones.pixart.load import load_pixart

    return load_pixart(weights)
