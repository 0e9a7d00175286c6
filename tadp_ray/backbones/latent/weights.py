"""Locates the files of a latent diffusion model and hashes their contents. Needs no torch, so that planning is fast."""

from collections.abc import Sequence
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path

from tadp_ray.errors import UserError
from tadp_ray.files import file_digest
from tadp_ray.hub import contents_digest, from_hub

PARTS = ("vae", "unet", "text_encoder", "tokenizer")
"""Subfolders of a Stable Diffusion 1.x or 2.x, which are the default here."""
INDEX = "model_index.json"
"""File of a diffusers folder that names its pipeline."""
FETCHED = ("*.json", "*.txt", "*.model", "*model.safetensors", "*model-*-of-*.safetensors")
"""Files that are downloaded from a hub repository: one set of weights, without half-precision and non-EMA copies."""


def layout_of(parts: Sequence[str]) -> str:
    """Describe a diffusers folder with these parts."""
    return "a diffusers folder holds " + ", ".join(f"{part}/" for part in parts) + " with .safetensors weights"


LAYOUT = layout_of(PARTS)


def locate(weights: str, parts: Sequence[str] = PARTS) -> Path:
    """Return the folder or file of `weights`: "pocket", a path, or a hub id (downloaded on first use).

    Args:
        weights: of a recipe.
        parts: subfolders that a diffusers folder must have.

    Raises:
        UserError: it does not exist or is incomplete. The message describes the layout.
    """
    path = Path(str(resources.files("tadp_ray") / "assets/pocket")) if weights == "pocket" else Path(weights)
    if path.is_file():
        return path
    if not path.is_dir():
        path = from_hub(
            weights,
            [INDEX, *(f"{part}/{files}" for part in (*parts, "scheduler") for files in FETCHED)],
            f"model.weights={weights!r}: there is no such folder or file",
            f". Put Stable Diffusion there ({layout_of(parts)}), or name it with --set model.weights=FOLDER",
        )
    missing = [part for part in parts if not (path / part).is_dir()]
    if missing:
        other = (
            "; model.backbone: pixart reads a transformer/"
            if "unet" in missing and (path / "transformer").is_dir()
            else ""
        )
        raise UserError(f"model.weights={weights!r}: {path} lacks {', '.join(missing)}; {layout_of(parts)}{other}")
    return path


def lacks_weights(path: Path, denoiser: str) -> bool:
    """Return whether a diffusers folder holds a denoiser's configuration without weights, which suffices to plan."""
    files = {file.suffix for file in (path / denoiser).glob("*")}
    return path.is_dir() and ".json" in files and not files & {".safetensors", ".bin"}


def schedule_file(weights: str, parts: Sequence[str] = PARTS) -> Path:
    """Return the configuration of a model's noise schedule. Arguments are as for `locate`.

    Raises:
        UserError: see `locate`; or it is missing.
    """
    path = locate(weights, parts) / "scheduler/scheduler_config.json"
    if not path.is_file():
        raise UserError(
            f"weights={weights!r}: {path} is missing: it says what the denoiser predicts and how noise is added; name a whole "
            "diffusers folder"
        )
    return path


def weights_digest(weights: str, parts: Sequence[str] = PARTS) -> str:
    """Return the hash of the contents of weights and configurations, independent of their location.

    Arguments and errors are as for `locate`.
    """
    path = locate(weights, parts)
    if path.is_file():
        return file_digest(path)
    return folder_digest(path, parts)


def folder_digest(path: Path, parts: Sequence[str]) -> str:
    """Return the hash of the contents of a diffusers folder: of subfolders, or of files at its top, of these names."""
    files = sorted(file for part in parts for file in files_of(path / part))
    return contents_digest({str(file.relative_to(path)): file for file in files})


def files_of(part: Path) -> list[Path]:
    """Return a file, or the files of a subfolder that are read: those that `locate` downloads.

    The hub's cache may hold others, which another program downloaded. Half-precision weights are read where there are no others.
    """
    if part.is_file():
        return [part]
    files = [file for file in part.rglob("*") if file.is_file()]
    fetched = [file for file in files if any(fnmatch(file.name, pattern) for pattern in FETCHED)]
    weights = {file for file in files if file.suffix == ".safetensors"}
    return files if weights and weights.isdisjoint(fetched) else fetched
