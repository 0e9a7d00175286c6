"""Locates the files of a Stable Diffusion and hashes their contents. Needs no torch, so that planning is fast."""

from importlib import resources
from pathlib import Path

from tadp_ray.errors import UserError
from tadp_ray.files import file_digest
from tadp_ray.hub import contents_digest, from_hub

PARTS = ("vae", "unet", "text_encoder", "tokenizer")
FETCHED = [f"{part}/{files}" for part in (*PARTS, "scheduler") for files in ("*.json", "*.txt", "*model.safetensors")]
"""Files that are downloaded from a hub repository: one set of weights, without half-precision and non-EMA copies."""
LAYOUT = "a diffusers folder holds " + ", ".join(f"{part}/" for part in PARTS) + " with .safetensors weights"


def locate(weights: str) -> Path:
    """Return the folder or file of `weights`: "pocket", a path, or a hub id (downloaded on first use).

    Raises:
        UserError: it does not exist or is incomplete. The message describes the layout.
    """
    path = Path(str(resources.files("tadp_ray") / "assets/pocket")) if weights == "pocket" else Path(weights)
    if path.is_file():
        return path
    if not path.is_dir():
        path = from_hub(
            weights,
            FETCHED,
            f"model.weights={weights!r}: there is no such folder or file",
            f". Put Stable Diffusion there ({LAYOUT}), or name it with --set model.weights=FOLDER",
        )
    missing = [part for part in PARTS if not (path / part).is_dir()]
    if missing:
        raise UserError(f"model.weights={weights!r}: {path} lacks {', '.join(missing)}; {LAYOUT}")
    return path


def schedule_file(weights: str) -> Path:
    """Return the configuration of a model's noise schedule.

    Raises:
        UserError: see `locate`; or it is missing.
    """
    path = locate(weights) / "scheduler/scheduler_config.json"
    if not path.is_file():
        raise UserError(
            f"weights={weights!r}: {path} is missing: it says what the U-Net predicts and how noise is added; name a whole "
            "diffusers folder"
        )
    return path


def weights_digest(weights: str) -> str:
    """Return the hash of the contents of weights and configurations, independent of their location."""
    path = locate(weights)
    if path.is_file():
        return file_digest(path)
    files = sorted(file for part in PARTS for file in (path / part).rglob("*") if file.is_file())
    return contents_digest({str(file.relative_to(path)): file for file in files})
