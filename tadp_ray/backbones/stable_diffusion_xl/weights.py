"""Locates the files of a Stable Diffusion XL and hashes their contents. Needs no torch, so that planning is fast."""

from pathlib import Path

from tadp_ray.backbones.latent.weights import PARTS, layout_of, locate, weights_digest
from tadp_ray.backbones.stable_diffusion.weights import check_kind
from tadp_ray.errors import UserError

PARTS_XL = (*PARTS, "text_encoder_2", "tokenizer_2")
LAYOUT_XL = layout_of(PARTS_XL)


def locate_xl(weights: str) -> Path:
    """Return the diffusers folder of `weights`: a path, or a hub id (downloaded on first use).

    Raises:
        UserError: it does not exist, is incomplete, a single file, or of another version. The message describes the layout.
    """
    try:
        path = locate(weights, PARTS_XL)
    except UserError as error:
        raise UserError(
            f"{error}; model.backbone: stable_diffusion_xl reads Stable Diffusion XL, for 1.x and 2.x set it to stable_diffusion"
        ) from None
    if path.is_file():
        raise UserError(
            f"model.weights={weights!r}: model.backbone: stable_diffusion_xl reads no single file; {LAYOUT_XL}, so convert it "
            "with diffusers' StableDiffusionXLPipeline: from_single_file, then save_pretrained"
        )
    check_kind(weights, path, "stable_diffusion_xl")
    return path


def digest_xl(weights: str) -> str:
    """Return the hash of the contents of weights and configurations, independent of their location."""
    locate_xl(weights)
    return weights_digest(weights, PARTS_XL)
