"""Work beside a GPU: copies to it, and preparation of the next batch, while it computes."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
END: Any = object()


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
