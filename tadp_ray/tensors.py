"""Files of tensors that other tools wrote, read without running code in them; and whether tensors are numbers."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tadp_ray.errors import UserError


def read_foreign(path: Path) -> Any:
    """What a .safetensors file holds, or one of torch.save that holds nothing but tensors, text and numbers.

    Raises:
        UserError: the file is damaged, or holds objects whose reading would run code.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: damaged, or no .safetensors file ({error}); fetch or write it again") from None
    try:
        # What AUTOMATIC1111 keeps the vectors of an embedding in; of torch, and harmless.
        with torch.serialization.safe_globals([nn.ParameterDict]), warnings.catch_warnings(action="ignore"):
            return torch.load(path, "cpu", weights_only=True)
    # Whatever damaged bytes make the reader raise. Its texts are not passed on: they advise to run the code in the file.
    except Exception as error:
        raise UserError(
            f"{path}: damaged, or holds more than tensors ({type(error).__name__}): to read it would run code in it; get it "
            "as .safetensors"
        ) from None


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinity; None if none does."""
    return next((name for name, tensor in tensors.items() if not is_finite(tensor)), None)


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity."""
    if not tensor.is_floating_point():
        return True
    # NaN and infinity stay in a sum, which takes a tenth of the time of looking at each number. It may also overflow.
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())
