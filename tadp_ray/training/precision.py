"""How this process computes: in the precision of a recipe (`schedule.precision`), with deterministic algorithms or any."""

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tadp_ray.errors import UserError


def allow_tf32(allowed: bool) -> None:
    """Let float32 matrix products and convolutions on GPUs of this process use TF32, or compute them in float32."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context of a forward pass in a precision of `schedule.precision`.

    It also sets this process's use of TF32, which the backward pass follows, until the next forward pass of any model. What
    autocast leaves in float32 may use TF32, which is more precise than bfloat16.
    """
    allow_tf32(precision != "float32")
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def fast_bfloat16(device: torch.device) -> bool:
    """Return whether a device computes in bfloat16 about as fast as in float32, or faster.

    An x86 CPU without AVX-512 multiplies bfloat16 matrices without its vector instructions, many times slower.
    """
    if device.type != "cpu" or platform.machine() not in ("x86_64", "AMD64"):
        return True
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """In the `with` block, use deterministic algorithms only (`compute.deterministic`), if wanted; change nothing otherwise.

    Raises:
        UserError: an operation has no deterministic algorithm; the message names it.
    """
    if not wanted:
        yield
        return
    # Read by cuBLAS when it starts in this process.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if found := re.match(r"(\S+) does not have a deterministic implementation", str(error)):
            raise UserError(
                f"compute.deterministic: true: {found[1]} has no deterministic algorithm here; leave the key out, or change "
                "the setting that needs this operation"
            ) from None
        raise
    finally:
        torch.use_deterministic_algorithms(False)
