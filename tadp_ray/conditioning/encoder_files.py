"""Locates the files of an image encoder and hashes their contents. Needs no torch, so that planning is fast."""

from importlib import resources
from pathlib import Path

from tadp_ray.errors import UserError
from tadp_ray.hub import contents_digest, from_hub

KEY = "model.context.sources.encoder"
FILES = ("config.json", "preprocessor_config.json")
LAYOUT = f"a folder of transformers holds {' and '.join(FILES)} beside .safetensors weights"


def locate_encoder(encoder: str) -> Path:
    """Return the folder of an image encoder: "pocket", a path, or a hub id (downloaded on first use).

    Raises:
        UserError: it does not exist or is incomplete. The message describes the layout.
    """
    pocket = Path(str(resources.files("tadp_ray") / "assets/pocket/image_encoder"))
    path = pocket if encoder == "pocket" else Path(encoder)
    if not path.is_dir():
        path = from_hub(
            encoder,
            (*FILES, "*.safetensors", "*.safetensors.index.json"),
            f"{KEY}={encoder!r}: there is no such folder",
            f". Put an image encoder there ({LAYOUT}), or name its folder",
        )
    missing = [name for name in FILES if not (path / name).is_file()]
    if not list(path.glob("*.safetensors")):
        missing.append(".safetensors weights")
    if missing:
        raise UserError(f"{KEY}={encoder!r}: {path} lacks {', '.join(missing)}; {LAYOUT}")
    return path


def encoder_digest(encoder: str) -> str:
    """Return the hash of the contents of weights and configurations, independent of their location."""
    path = locate_encoder(encoder)
    files = [*(path / name for name in FILES), *sorted(path.glob("*.safetensors"))]
    return contents_digest({file.name: file for file in files})
