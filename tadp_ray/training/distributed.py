"""The processes that train one cell together, as torch.distributed knows them; one process needs none of it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tadp_ray.errors import UserError
from tadp_ray.processes import collect, shared_sum


@dataclass(frozen=True)
class ProcessGroup:
    """This process's place among those that train the cell."""

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

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model with its gradients averaged over the processes."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)

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
