"""The one training loop: of perception, of personalization and of pretraining.

It knows time, and neither a task nor a model. Those who call it hand in a loss, and what is to be done after a step and at
an evaluation.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tadp_ray.errors import UserError
from tadp_ray.tensors import not_finite
from tadp_ray.training.async_checkpointer import AsyncCheckpointer
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.reporter import Reporter
from tadp_ray.training.state import TrainState

LOG_EVERY = 10
"""Optimizer steps between two reports of the loss."""


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """What is trained, for how long, and what a step does to it."""

    model: nn.Module
    """All of its state is kept in checkpoints and must stay finite."""
    optimizer: Optimizer
    lr_scheduler: LRScheduler
    """Stepped with the optimizer; the learning rate of the last group is reported."""
    steps: int
    """Optimizer steps, from the first to the last."""
    passes: int = 1
    """Forward passes of a step, whose gradients are accumulated."""
    max_grad_norm: float | None = None
    """Norm to which gradients are clipped; None: they are not."""
    remedy: str
    """What the user can do when the loss is no longer finite; it ends the error's message."""
    name: str = ""
    """Name of the stage, where a training has several; it begins an error's message."""
    device: torch.device
    world: ProcessGroup = field(default_factory=ProcessGroup.current)
    """The processes that train together; each calls `fit`."""
    after_step: Callable[[int], None] = lambda step: None
    """Called after every step with the number of steps done."""
    evaluate: Callable[[TrainState], None] = lambda state: None
    """Called every `evaluate_every` steps and at the last one, when the weights are finite."""
    evaluate_every: int | None = None

    def fit(
        self, loss_at: Callable[[int], Tensor], state: TrainState, checkpointer: AsyncCheckpointer, reporter: Reporter
    ) -> None:
        """Train from `state.step` to the last step, and keep `state` up to date.

        Args:
            loss_at: the mean loss of this process's share of a forward pass. Passes are counted from the start of training.
                All that is random in one depends on its number alone, so that an interrupted training sees the same.
            state: fresh, or from `checkpointer.resume`.
            checkpointer: writes where to go on after an interruption, in the first process.
            reporter: is told loss, learning rate and seconds per step.

        Raises:
            UserError: the loss or the weights are no longer finite, or a checkpoint cannot be written.
        """
        loss_of = self.world.wrap(self.model, loss_at, self.device)
        clock, clock_step, broken = time.monotonic(), state.step, None

        while state.step < self.steps:
            loss = self._train_step(loss_of, state.step)
            rate = self.lr_scheduler.get_last_lr()[-1]
            self.lr_scheduler.step()
            state.step += 1
            self.after_step(state.step)

            # what the step was like
            if self._due(state.step, LOG_EVERY):
                state.loss = self._mean(state.step, loss, broken)
                spent = time.monotonic() - clock
                per_step = spent / (state.step - clock_step)
                state.seconds += spent
                clock, clock_step = time.monotonic(), state.step
                reporter.report(state.step, {"loss": state.loss, "learning_rate": rate, "seconds_per_step": per_step})

            # how good the model is
            if self._due(state.step, self.evaluate_every):
                began = time.monotonic()
                self._check_weights(state.step, loss)
                self.evaluate(state)
                clock += time.monotonic() - began

            # where to go on after an interruption
            checkpointer.poll()
            if self.world.is_main_process and broken is None and checkpointer.due(state.step):
                began = time.monotonic()
                broken = checkpointer.save(self.model, self.optimizer, state)
                state.stalled += time.monotonic() - began

    def _due(self, step: int, every: int | None) -> bool:
        """Whether something is to be done after a step: every so many, and after the last one."""
        return step == self.steps or (every is not None and step % every == 0)

    def _train_step(self, loss_of: nn.Module, step: int) -> Tensor:
        """One optimizer step over the global batch; returns the mean loss of this process's share."""
        losses = []
        for part in range(self.passes):
            # gradients are exchanged once, with the last pass
            with self.world.exchange(loss_of, wanted=part == self.passes - 1):
                loss = loss_of(step * self.passes + part) / self.passes
                loss.backward()
            losses.append(loss.detach())
        if self.max_grad_norm:
            trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(trained, self.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return sum(losses, start=torch.zeros_like(losses[0]))

    def _mean(self, step: int, loss: Tensor, broken: str | None) -> float:
        """The mean loss over the processes; by it they learn that the first one has found a tensor that is not finite."""
        value = self.world.mean(loss if broken is None else torch.full_like(loss, math.nan))
        if not math.isfinite(value):
            own = float(loss)
            raise self._diverged(step, own if broken and math.isfinite(own) else value, broken)
        return value

    def _check_weights(self, step: int, loss: Tensor) -> None:
        """Refuse to score and to keep weights that are not finite, in all processes together."""
        broken = not_finite(self.model.state_dict())
        if self.world.mean(torch.full_like(loss, float(broken is not None))):
            raise self._diverged(step, float(loss), broken or "in another process")

    def _diverged(self, step: int, loss: float, tensor: str | None) -> UserError:
        """The error of a loss that is not finite, or of a tensor of the checkpoint, while the loss may still be."""
        place = f"{self.name}, step {step}" if self.name else f"step {step}"
        problem = f"the loss is {loss:.4g}"
        if tensor and math.isfinite(loss):
            kind = "moments" if tensor.startswith("optimizer.") else "weights"
            problem += f", and {kind} are no longer finite ({tensor})"
        return UserError(f"{place}: {problem}; {self.remedy}")
