"""The processes that train together, as torch.distributed knows them; one process needs none of it."""

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
    """A loss as a module that holds the model: DistributedDataParallel averages the gradients of a module's forward pass."""

    def __init__(self, model: nn.Module, loss_at: Callable[[int], Tensor]) -> None:
        super().__init__()
        self.model = model
        self._loss_at = loss_at

    def forward(self, number: int) -> Tensor:
        """The loss of a forward pass."""
        return self._loss_at(number)


@dataclass(frozen=True)
class ProcessGroup:
    """This process's place among those that train together."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> "ProcessGroup":
        """The default process group, or one process alone."""
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def wrap(self, model: nn.Module, loss_at: Callable[[int], Tensor], device: torch.device) -> nn.Module:
        """The loss of a forward pass of a model, whose backward pass averages the gradients over the processes.

        `loss_at(number)` is the mean loss of this process's share. The result is called like it, and must live until the
        backward pass is over.
        """
        loss = Loss(model, loss_at)
        if self.size == 1:
            return loss
        return DistributedDataParallel(loss, device_ids=[device.index] if device.type == "cuda" else None)

    def exchange(self, loss: nn.Module, wanted: bool) -> AbstractContextManager[None]:
        """Where a loss of `wrap` is called and run backward; gradients wait here unless their exchange is wanted."""
        return nullcontext() if wanted or self.size == 1 else loss.no_sync()

    def share(self, images: int) -> slice:
        """This process's part of a global batch or pass."""
        return slice(self.rank * images // self.size, (self.rank + 1) * images // self.size)

    def mean(self, value: Tensor) -> float:
        """Mean of a scalar over the processes (every process must call this)."""
        return float(shared_sum(value) / self.size)

    def together(self, check: Callable[[], None]) -> None:
        """Run a check in every process: what one of them refuses, all refuse, and none waits for the others in vain.

        Raises:
            UserError: what the first process that refuses has said.
        """
        said = ""
        try:
            check()
        except UserError as error:
            said = str(error)
        if refused := next(filter(None, collect([said])), None):
            raise UserError(refused)

    def barrier(self) -> None:
        """Wait for the other processes."""
        if self.size > 1:
            dist.barrier()
