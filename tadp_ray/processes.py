"""Sums and gathers over the processes that train one cell; without a process group they return their input."""

from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


class _Sum(torch.autograd.Function):
    """The sum over all processes; a share's gradient is the sum of theirs."""

    # torch's own, in `torch.distributed.nn.functional`, is deprecated, and its successor is in a private module.

    @staticmethod
    def forward(ctx: Any, share: Tensor) -> Tensor:
        summed = share.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        return _Sum.apply(grad_outputs[0])


def shared_sum(share: Tensor) -> Tensor:
    """Sum a tensor over all processes, on the same device, with gradients.

    A loss made from such sums has the same value in every process. Each process then sends its gradient to all others, which
    DistributedDataParallel's average over the processes compensates.
    """
    return share if world_size() == 1 else _Sum.apply(share)


def total(share: Tensor) -> Tensor:
    """Sum a tensor over all processes, on the CPU, without gradients."""
    if world_size() == 1:
        return share
    summed = share.to(torch.device("cuda" if dist.get_backend() == "nccl" else "cpu"), copy=True)
    dist.all_reduce(summed)
    return summed.cpu()


def collect(share: list[T]) -> list[T]:
    """Gather the items of all processes, in the order of their ranks."""
    if world_size() == 1:
        return share
    shares: list = [None] * world_size()
    dist.all_gather_object(shares, share)
    return [item for items in shares for item in items]
