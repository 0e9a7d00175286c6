"""Data-parallel pretraining on one machine: one-thread processes that average one flat gradient."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class DataParallel:
    """This process's place among those that train together."""

    rank: int
    world: int

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes, in one exchange."""
        if self.world == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= self.world
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def share(self, whole: int) -> slice:
        """This process's part of a global batch."""
        return slice(self.rank * whole // self.world, (self.rank + 1) * whole // self.world)

    def barrier(self) -> None:
        """Wait for the others."""
        if self.world > 1:
            dist.barrier()

    def mean(self, value: float) -> float:
        """Return the mean of a number over the processes."""
        if self.world == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(total)
        return total.item() / self.world


class PretrainProgress:
    """Prints a line with the mean loss and the time left about every 20 seconds."""

    def __init__(self, name: str, start: int, steps: int, say: Callable[[str], None]) -> None:
        self.name, self.start, self.steps, self.say = name, start, steps, say
        self.started = self.printed = time.monotonic()
        self.losses: list[float] = []

    def tick(self, step: int, loss: float) -> None:
        """Note one step's loss; print when it is time, and at the end."""
        self.losses.append(loss)
        now = time.monotonic()
        if now - self.printed > 20 or step + 1 == self.steps:
            left = (now - self.started) / (step + 1 - self.start) * (self.steps - step - 1)
            mean = sum(self.losses) / len(self.losses)
            self.say(f"{self.name}: step {step + 1}/{self.steps}, loss {mean:.4f}, {left / 60:.1f} min left")
            self.printed, self.losses = now, []
