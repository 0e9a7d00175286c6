"""The training loop of perception, personalization and pretraining.

It depends on no task and no model: the caller passes the loss and the callbacks after a step and for an evaluation.
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
    """Runs optimizer steps on a model, with reports, evaluations and checkpoints."""

    model: nn.Module
    """Checkpoints contain all of its state, which must stay finite."""
    optimizer: Optimizer
    lr_scheduler: LRScheduler
    """Stepped with the optimizer; the learning rate of the last group is reported."""
    steps: int
    """Number of optimizer steps in total."""
    passes: int = 1
    """Forward passes per step, whose gradients are accumulated."""
    max_grad_norm: float | None = None
    """Norm to which gradients are clipped; None: no clipping."""
    remedy: str
    """What the user can do when the loss is no longer finite; the end of the error message."""
    name: str = ""
    """Name of the stage if a training has several; the start of the error message."""
    device: torch.device
    world: ProcessGroup = field(default_factory=ProcessGroup.current)
    """The processes that train together; each calls `fit`."""
    after_step: Callable[[int], None] = lambda step: None
    """Called after every step with the number of steps done."""
    evaluate: Callable[[TrainState], None] = lambda state: None
    """Called every `evaluate_every` steps and after the last one, once the weights are known to be finite."""
    evaluate_every: int | None = None

    def fit(
        self, loss_at: Callable[[int], Tensor], state: TrainState, checkpointer: AsyncCheckpointer, reporter: Reporter
    ) -> None:
        """Train from `state.step` to the last step, and keep `state` up to date.

        Args:
            loss_at: returns the mean loss of this process's share of a forward pass, given the number of the pass from the
                start of training. Its random numbers depend only on that number, so that a resumed training repeats them.
            state: fresh, or from `checkpointer.resume`.
            checkpointer: writes checkpoints, in the main process.
            reporter: receives loss, learning rate and seconds per step.

        Raises:
            UserError: the loss or the weights are no longer finite, or a checkpoint cannot be written.
        """
        loss_of = self.world.wrap(self.model, loss_at, self.device)
        clock = counted = time.monotonic()
        clock_step, broken = state.step, None

        while state.step < self.steps:
            loss = self._train_step(loss_of, state.step)
            rate = float(self.optimizer.param_groups[-1]["lr"])
            self.lr_scheduler.step()
            state.step += 1
            self.after_step(state.step)

            # report metrics
            if self._due(state.step, LOG_EVERY):
                state.loss = self._mean(state.step, loss, broken)
                now = time.monotonic()
                per_step = (now - clock) / (state.step - clock_step)
                state.seconds += now - counted
                clock, counted, clock_step = now, now, state.step
                reporter.report(state.step, {"loss": state.loss, "learning_rate": rate, "seconds_per_step": per_step})

            # evaluate
            if self._due(state.step, self.evaluate_every):
                began = time.monotonic()
                self._check_weights(state.step, loss)
                self.evaluate(state)
                paused = time.monotonic() - began
                clock, counted = clock + paused, counted + paused

            # write a checkpoint
            checkpointer.poll()
            if self.world.is_main_process and broken is None and checkpointer.due(state.step):
                began = time.monotonic()
                # Of the steps since the last report, too, which a resumed training does not repeat.
                state.seconds, counted = state.seconds + began - counted, began
                broken = checkpointer.save(self.model, self.optimizer, state)
                state.stalled += time.monotonic() - began

    def _due(self, step: int, every: int | None) -> bool:
        """Return whether a periodic action is due: every `every` steps and after the last one."""
        return step == self.steps or (every is not None and step % every == 0)

    def _train_step(self, loss_of: nn.Module, step: int) -> Tensor:
        """Run one optimizer step over the global batch; return the mean loss of this process's share."""
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
        """Return the mean loss over the processes; it becomes NaN for all if the main process has a `broken` tensor."""
        mean = self.world.mean(loss if broken is None else torch.full_like(loss, math.nan))
        if not math.isfinite(mean):
            local = float(loss)
            raise self._diverged(step, local if broken and math.isfinite(local) else mean, broken)
        return mean

    def _check_weights(self, step: int, loss: Tensor) -> None:
        """Raise in all processes if the weights of one are not finite, before they are evaluated or written."""
        broken = not_finite(self.model.state_dict())
        if self.world.mean(torch.full_like(loss, float(broken is not None))):
            raise self._diverged(step, float(loss), broken or "in another process")

    def _diverged(self, step: int, loss: float, tensor: str | None) -> UserError:
        """Return the error of a loss that is not finite, or of a `tensor` that is not."""
        place = f"{self.name}, step {step}" if self.name else f"step {step}"
        problem = f"the loss is {loss:.4g}"
        if tensor and math.isfinite(loss):
            kind = "moments" if tensor.startswith("optimizer.") else "weights"
            problem += f", and {kind} are no longer finite ({tensor})"
        return UserError(f"{place}: {problem}; {self.remedy}")
