"""Locates the files of a PixArt and hashes their contents. Needs no torch, so that planning is fast."""

import json
from pathlib import Path

from tadp_ray.backbones.latent.weights import INDEX, folder_digest, layout_of, locate
from tadp_ray.errors import UserError

PARTS_PIXART = ("vae", "transformer", "text_encoder", "tokenizer")
LAYOUT_PIXART = layout_of(PARTS_PIXART)
TRANSFORMERS = ("PixArtTransformer2DModel", "Transformer2DModel")
"""diffusers' names of the transformer's class, of today and of the time of publication."""
TOKENS = {"PixArtAlphaPipeline": 120}
"""Tokens of a text by diffusers' pipeline, if not `TOKENS_SIGMA`."""
TOKENS_SIGMA = 300


def locate_pixart(weights: str) -> Path:
    """Return the diffusers folder of `weights`: a path, or a hub id (downloaded on first use).

    Raises:
        UserError: it does not exist, is incomplete, a single file, or holds another transformer. The message describes the
            layout.
    """
    try:
        path = locate(weights, PARTS_PIXART)
    except UserError as error:
        raise UserError(
            f"{error}; model.backbone: pixart reads PixArt, some of whose repositories hold transformer/ alone and have the "
            "other parts in another one; for Stable Diffusion set it to stable_diffusion or stable_diffusion_xl"
        ) from None
    if path.is_file():
        raise UserError(f"model.weights={weights!r}: model.backbone: pixart reads no single file; {LAYOUT_PIXART}")
    config = path / "transformer/config.json"
    try:
        kind = json.loads(config.read_bytes())["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        return path  # the loaders name what is wrong
    if kind not in TRANSFORMERS:
        raise UserError(f"model.weights={weights!r}: {config} is of a {kind}, not of a PixArt; name a PixArt's folder")
    return path


def text_length(path: Path) -> int:
    """Return the number of tokens of a text, with its end, which diffusers' pipeline named in a folder reads by default."""
    try:
        pipeline = json.loads((path / INDEX).read_bytes())["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        return TOKENS_SIGMA
    return TOKENS.get(pipeline, TOKENS_SIGMA)


def digest_pixart(weights: str) -> str:
    """Return the hash of the contents of weights and configurations, independent of their location."""
    return folder_digest(locate_pixart(weights), (*PARTS_PIXART, INDEX))
