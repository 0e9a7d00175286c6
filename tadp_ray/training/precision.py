"""The precision of a recipe (`schedule.precision`) in matrix products, convolutions and autocast."""

import torch


def allow_tf32(allowed: bool) -> None:
    """Let float32 matrix products and convolutions on GPUs of this process use TF32, or compute them in float32."""
    precision = "tf32" if allowed else "ieee"
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.conv.fp32_precision = precision


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context of a forward pass in a precision of `schedule.precision`.

    It also sets this process's use of TF32, which the backward pass follows, until the next forward pass of any model.
    """
    allow_tf32(precision == "tf32")
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
