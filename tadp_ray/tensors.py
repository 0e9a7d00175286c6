"""Reads tensor files of other tools without running code in them, and checks tensors for NaN and infinity."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from tadp_ray.errors import UserError


def read_foreign(path: Path) -> Any:
    """Read a .safetensors file, or a torch.save file that contains only tensors, text and numbers.

    Raises:
        UserError: the file is damaged, or contains objects that would run code.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{path}: damaged, or not a .safetensors file ({error}); download or write it again"
            ) from None
    try:
        # AUTOMATIC1111 stores embeddings in this class, which is torch's and harmless.
        with torch.serialization.safe_globals([nn.ParameterDict]), warnings.catch_warnings(action="ignore"):
            return torch.load(path, "cpu", weights_only=True)
    # Damaged bytes can raise anything. The messages are not shown, since they advise to run the code in the file.
    except Exception as error:
        raise UserError(
            f"{path}: damaged, or contains more than tensors ({type(error).__name__}), and reading it would run code; get it "
            "as .safetensors"
        ) from None


def tensor_names(path: Path) -> list[str]:
    """Return the names of the tensors in a .safetensors file, from its header alone.

    Raises:
        SafetensorError, OSError: the file is damaged, or cannot be read.
    """
    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor with NaN or infinity; None if there is none."""
    return next((name for name, tensor in tensors.items() if not is_finite(tensor)), None)


def is_finite(tensor: Tensor) -> bool:
    """Return whether a tensor has neither NaN nor infinity."""
    if not tensor.is_floating_point():
        return True
    # A sum propagates NaN and infinity, and takes a tenth of the time of testing every value. It may also overflow.
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())
