"""Tells which Stable Diffusion a folder holds, and hashes it. Needs no torch, so that planning is fast."""

import json
from pathlib import Path

from tadp_ray.backbones.latent.weights import locate, weights_digest
from tadp_ray.errors import UserError

KINDS = {"stable_diffusion": "Stable Diffusion 1.x or 2.x", "stable_diffusion_xl": "Stable Diffusion XL"}
"""Models by the family of backbones that reads them."""


def check_kind(weights: str, path: Path, family: str) -> None:
    """Check that a diffusers folder holds a model that a family of `KINDS` reads.

    Raises:
        UserError: another family reads it.
    """
    try:
        added = json.loads((path / "unet/config.json").read_bytes()).get("addition_embed_type")
    except (OSError, ValueError, AttributeError):
        return  # the loaders name what is wrong
    found = "stable_diffusion_xl" if added == "text_time" else "stable_diffusion"
    if found != family:
        raise UserError(
            f"model.weights={weights!r}: {path} holds a {KINDS[found]}, not a {KINDS[family]}; set model.backbone: {found}, or "
            "name other weights"
        )


def digest_sd(weights: str) -> str:
    """Return the hash of the contents of a Stable Diffusion 1.x or 2.x; errors are as for `locate` and `check_kind`."""
    check_kind(weights, locate(weights), "stable_diffusion")
    return weights_digest(weights)
