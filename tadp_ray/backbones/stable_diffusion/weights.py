"""Where the files of a Stable Diffusion lie, and the hash of their contents. Needs no torch, so that planning is quick."""

from importlib import resources
from pathlib import Path

from tadp_ray.errors import UserError
from tadp_ray.files import file_digest
from tadp_ray.hub import contents_digest, from_hub

PARTS = ("vae", "unet", "text_encoder", "tokenizer")
FETCHED = [f"{part}/{files}" for part in (*PARTS, "scheduler") for files in ("*.json", "*.txt", "*model.safetensors")]
"""What is fetched of a hub repository: one set of weights, neither half-precision nor non-averaged copies."""
LAYOUT = "a diffusers folder holds " + ", ".join(f"{part}/" for part in PARTS) + " with .safetensors weights"


def locate(weights: str) -> Path:
    """The folder or file behind `weights`: "pocket", a path, or a hub id (fetched on first use).

    Raises:
        UserError: there is nothing, or not all of it; the message says what belongs where.
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


def weights_digest(weights: str) -> str:
    """Content hash of the weights and configurations behind `weights`, wherever they lie."""
    path = locate(weights)
    if path.is_file():
        return file_digest(path)
    files = sorted(file for part in PARTS for file in (path / part).rglob("*") if file.is_file())
    return contents_digest({str(file.relative_to(path)): file for file in files})
