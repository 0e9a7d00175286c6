"""The process group of a training. A single process needs no torch.distributed."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tadp_ray.errors import UserError
from tadp_ray.processes import collect, shared_sum


class Loss(nn.Module):
    """A loss as a module around the model, since DistributedDataParallel averages the gradients of a module's forward."""

    def __init__(self, model: nn.Module, loss_at: Callable[[int], Tensor]) -> None:
        super().__init__()
        self.model = model
        self._loss_at = loss_at

    def forward(self, number: int) -> Tensor:
        """Return the loss of a forward pass."""
        return self._loss_at(number)


@dataclass(frozen=True)
class ProcessGroup:
    """This process's rank and the number of processes that train together."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> "ProcessGroup":
        """Return the default process group, or a group of one process."""
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and reports metrics."""
        return self.rank == 0

    def wrap(self, model: nn.Module, loss_at: Callable[[int], Tensor], device: torch.device) -> nn.Module:
        """Return a module that computes the loss and averages the gradients over the processes in the backward pass.

        `loss_at(number)` is the mean loss of this process's share of a pass. The module is called like it, and must live
        until the backward pass is over.
        """
        loss = Loss(model, loss_at)
        if self.size == 1:
            return loss
        # Gradients are views of the buffers that are exchanged, which saves as much memory as the gradients take.
        return DistributedDataParallel(
            loss, device_ids=[device.index] if device.type == "cuda" else None, gradient_as_bucket_view=True
        )

    def exchange(self, loss: nn.Module, wanted: bool) -> AbstractContextManager[None]:
        """Return the context for forward and backward of a loss from `wrap`; gradients are exchanged only if `wanted`."""
        return loss.no_sync() if isinstance(loss, DistributedDataParallel) and not wanted else nullcontext()

    def share(self, images: int) -> slice:
        """Return this process's slice of a global batch or pass."""
        return slice(self.rank * images // self.size, (self.rank + 1) * images // self.size)

    def part(self, items: int, size: int) -> range:
        """Return this process's part of a number of items: consecutive whole batches of `size`, and what is left at the end.

        So a batch does not depend on the number of processes.
        """
        batches = -(-items // size)
        first, last = (rank * batches // self.size * size for rank in (self.rank, self.rank + 1))
        return range(first, min(last, items))

    def mean(self, value: Tensor) -> float:
        """Return the mean of a scalar over the processes; every process must call this."""
        return float(shared_sum(value) / self.size)

    def together(self, check: Callable[[], None]) -> None:
        """Run a check in every process; if it fails in one, it fails in all, so that no process waits for another.

        Raises:
            UserError: the message of the first process whose check failed.
        """
        message = ""
        try:
            check()
        except UserError as error:
            message = str(error)
        if failed := next(filter(None, collect([message])), None):
            raise UserError(failed)

    def barrier(self) -> None:
        """Wait for the other processes."""
        if self.size > 1:
            dist.barrier()
