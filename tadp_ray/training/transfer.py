"""Devices: whether torch can use one, copies to a GPU, and preparation of the next batch while it computes."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from tadp_ray.config.cell import Cell
from tadp_ray.errors import UserError

T = TypeVar("T")
END: Any = object()


def usable(device: str | torch.device) -> torch.device:
    """Return a device that torch can use on this machine.

    Raises:
        UserError: torch cannot use it.
    """
    try:
        usable_device = torch.device(device)
        torch.empty(0, device=usable_device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"device {str(device)!r}: torch {torch.__version__} cannot use it here ({reason}); try 'cpu'"
        ) from None
    return usable_device


def check_gpu(device: torch.device, gpus: float) -> None:
    """Check that torch sees a GPU if a device is one; `gpus` is the value of `compute.gpus`.

    Raises:
        UserError: it sees none.
    """
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"compute.gpus: {gpus:g}, but torch {torch.__version__} sees no GPU here; install a torch for this machine's GPU and "
            f"driver (this one is for CUDA {torch.version.cuda}; nvidia-smi shows the driver's), or set compute.gpus: 0"
        )


def device_for(cell: Cell, device: str | torch.device | None) -> torch.device:
    """Return the named device; None: a GPU if the cell was trained on one, else the CPU.

    Raises:
        UserError: torch cannot use it here.
    """
    return usable(device or ("cuda" if cell.recipe.compute.gpus else "cpu"))


def to_device(value: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device. A copy to a GPU does not wait for what the GPU computes."""
    if device.type == "cuda":
        return value.pin_memory().to(device, non_blocking=True)
    return value.to(device)


def prefetched(items: Iterator[T], device: torch.device, ahead: int = 1) -> Iterator[T]:
    """Yield the items of an iterator. Beside a GPU, a thread makes `ahead` of them in advance.

    On a CPU it would take a core from the computation.
    """
    if device.type != "cuda":
        yield from items
        return
    with ThreadPoolExecutor(1, "prefetch") as thread:
        upcoming = deque(thread.submit(next, items, END) for _ in range(ahead))
        while (item := upcoming.popleft().result()) is not END:
            upcoming.append(thread.submit(next, items, END))
            yield item
