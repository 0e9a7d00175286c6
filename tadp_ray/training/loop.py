"""The training loop: knows time, and leaves the loss to the task and the world to the reporter."""

import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tadp_ray.config.cell import Cell
from tadp_ray.data.loader import AugmentedDataset, BatchSampler, train_loader
from tadp_ray.data.transforms import Augment
from tadp_ray.errors import UserError
from tadp_ray.layout import BEST, CHECKPOINT, PER_IMAGE
from tadp_ray.tasks.per_image import write_per_image
from tadp_ray.tensors import not_finite
from tadp_ray.training import checkpoint
from tadp_ray.training.async_checkpointer import AsyncCheckpointer
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.evaluate import evaluate, image_lines
from tadp_ray.training.model import TADP
from tadp_ray.training.optim import make_optimizer
from tadp_ray.training.reporter import Reporter
from tadp_ray.training.rng import draw_pass, generator
from tadp_ray.training.setup import TrainSetup

LOG_EVERY = 10


@dataclass
class TrainState:
    """How far a training has come; kept in its checkpoint."""

    step: int = 0
    best: float = 0.0
    """The task's main metric at its best evaluation."""
    best_step: int = 0
    seconds: float = 0.0
    stalled: float = 0.0
    """Seconds that steps waited for checkpoints."""
    latest: dict[str, float] = field(default_factory=dict)
    """Metrics of the newest evaluation."""


def lost(loss: float, place: str) -> str:
    """What is told of a training whose loss may still be a number while a tensor of it is none."""
    kind = "moments" if place.startswith("optimizer.") else "weights"
    return f"the loss is {loss:.4g}, and {kind} are no longer finite ({place})"


def to_device(targets: Any, device: torch.device) -> Any:
    """Targets of a batch, a tensor or a list of boxes, on a device."""
    if isinstance(targets, Tensor):
        return targets.to(device)
    return [{name: value.to(device) for name, value in own.items()} for own in targets]


@dataclass
class Training:
    """One cell in training: its model, its data and its place among the processes."""

    cell: Cell
    setup: TrainSetup
    model: TADP
    latents: Mapping[str, Tensor]
    reporter: Reporter
    device: torch.device
    world: ProcessGroup

    def fit(self) -> TrainState:
        """Train to the last step, from the newest checkpoint if there is one, and return its state."""
        optimizer, rates = make_optimizer(self.model, self.cell.recipe.schedule)
        state = self._resume(optimizer, rates)
        with AsyncCheckpointer(self.cell.folder / CHECKPOINT, self.reporter) as checkpointer:
            self._train(state, optimizer, rates, checkpointer)
        return state

    def _train(
        self, state: TrainState, optimizer: torch.optim.Optimizer, rates: Any, checkpointer: AsyncCheckpointer
    ) -> None:
        """The steps that are left."""
        schedule = self.cell.recipe.schedule
        model = self.world.wrap(self.model, self.device).train()
        passes = self._passes(state.step)
        clock, clock_step = time.monotonic(), state.step
        whole, broken = True, None

        while state.step < schedule.iterations:
            loss = self._train_step(model, optimizer, passes, state.step)
            rate = rates.get_last_lr()[-1]
            rates.step()
            state.step += 1

            # what the step was like
            if state.step % LOG_EVERY == 0 or state.step == schedule.iterations:
                value = self.world.mean(loss if whole else torch.full_like(loss, math.nan))
                if not math.isfinite(value):
                    own = float(loss)
                    raise self._diverged(
                        state.step, lost(own, broken) if broken and math.isfinite(own) else f"the loss is {value}"
                    )
                spent = time.monotonic() - clock
                per_step = spent / (state.step - clock_step)
                state.seconds += spent
                clock, clock_step = time.monotonic(), state.step
                self.reporter.report(state.step, {"loss": value, "learning_rate": rate, "seconds_per_step": per_step})

            # how good the model is
            if state.step % self.cell.recipe.evaluation.interval == 0 or state.step == schedule.iterations:
                self._check_weights(state.step, loss)
                self._evaluate(state)
                clock, clock_step = time.monotonic(), state.step

            # where to go on after an interruption
            checkpointer.poll()
            if self.world.is_main_process and self._due(state, checkpointer):
                began = time.monotonic()
                facts = {"fingerprint": self.cell.fingerprint, "step": state.step, "state": asdict(state)}
                # The others learn at the next exchange of losses that nothing is to be saved any more.
                if whole and not (bool(loss.isfinite()) and checkpointer.save(self.model, optimizer, facts)):
                    whole, broken = False, not_finite(checkpoint.snapshot(self.model, optimizer))
                state.stalled += time.monotonic() - began

    def _check_weights(self, step: int, loss: Tensor) -> None:
        """Refuse to score and to keep weights that are not finite, in all processes together."""
        broken = not_finite(self.model.state_dict())
        if self.world.mean(torch.full_like(loss, float(broken is not None))):
            raise self._diverged(step, lost(float(loss), broken or "elsewhere"))

    def _diverged(self, step: int, said: str) -> UserError:
        return UserError(f"step {step}: {said}; lower schedule.learning_rate={self.cell.recipe.schedule.learning_rate}")

    def _train_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, passes: Any, step: int) -> Tensor:
        """One optimizer step over the global batch; returns the mean loss of this worker's share."""
        schedule, head, task = self.cell.recipe.schedule, self.cell.recipe.model.head, self.setup.task
        count = schedule.batch_size // schedule.images_per_pass
        total = torch.zeros((), device=self.device)
        for part in range(count):
            # the share of this worker
            ids, images, targets = next(passes)
            images, targets = images.to(self.device), to_device(targets, self.device)
            contexts = self.setup.contexts([self.setup.train_prompts[i] for i in ids]).to(self.device)
            number, share = step * count + part, slice(self.world.rank * len(ids), (self.world.rank + 1) * len(ids))
            noise, dropout_mask = draw_pass(
                self.cell.seed,
                number,
                schedule.images_per_pass,
                self.model.backbone.latent_shape(images),
                getattr(head, "channels", 0),
                getattr(head, "dropout", 0.0),
                share,
            )
            dropout_mask = dropout_mask if dropout_mask is None else dropout_mask.to(self.device)
            sampled = None
            if task.head_targets:
                rngs = [generator(self.cell.seed, 2, number, place) for place in range(share.start, share.stop)]
                sampled = task.head_targets(targets, rngs)

            # forward and backward; gradients are exchanged once, with the last pass
            waits = isinstance(model, DistributedDataParallel) and part < count - 1
            lowered = torch.autocast(self.device.type, torch.bfloat16, enabled=schedule.precision == "bfloat16")
            with model.no_sync() if waits else nullcontext(), lowered:
                latents = self.model.backbone.encode_image(images, noise.to(self.device))
                output = model(latents, contexts, dropout_mask, sampled)
                loss = task.loss(output, targets) / count
            loss.backward()
            total += loss.detach()

        # update
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    def _passes(self, step: int) -> Any:
        recipe = self.cell.recipe
        task, pixels = self.setup.task, recipe.model.pixel_normalization
        views = AugmentedDataset(self.setup.train, Augment(recipe.augment, task.truth, pixels), task.target, pixels)
        order = BatchSampler(
            start=step,
            stop=recipe.schedule.iterations,
            batch_size=recipe.schedule.batch_size,
            per_pass=recipe.schedule.images_per_pass,
            length=len(self.setup.train),
            seed=self.cell.seed,
            rank=self.world.rank,
            world_size=self.world.size,
        )
        return iter(train_loader(views, order, recipe.compute.num_workers))

    def write_model(self, name: str, state: TrainState) -> None:
        """Write the trained weights into the cell's folder."""
        facts = {"fingerprint": self.cell.fingerprint, "step": state.step, "classes": self.setup.train.classes}
        checkpoint.write_tensors(self.cell.folder / name, self.model.state_dict(), facts)

    def _evaluate(self, state: TrainState) -> None:
        score = evaluate(self.model, self.setup, self.latents, self.device, self.world)
        state.latest = score.compute()
        if self.world.is_main_process and state.step == self.cell.recipe.schedule.iterations:
            images = image_lines(self.setup, score)
            path, task = self.cell.folder / PER_IMAGE, self.cell.recipe.task
            write_per_image(path, self.cell.fingerprint, task, self.setup.val.classes, images)
        task = self.setup.task
        value = state.latest[task.main]
        if not state.best_step or task.better(value, state.best):
            state.best, state.best_step = value, state.step
            if self.world.is_main_process and state.step < self.cell.recipe.schedule.iterations:
                self.write_model(BEST, state)
        self.reporter.report(state.step, {name: state.latest[name] for name in task.logged_metrics})

    def _resume(self, optimizer: torch.optim.Optimizer, rates: Any) -> TrainState:
        found = checkpoint.resume(self.reporter.resume_from(), self.model, optimizer, rates, self.cell.fingerprint)
        if found is None:
            return TrainState()
        path, facts = found
        state = TrainState(**facts["state"])
        self.reporter.report(state.step, {}, path)
        return state

    def _due(self, state: TrainState, checkpointer: AsyncCheckpointer) -> bool:
        """Whether it is time for a checkpoint; the last step needs none."""
        compute = self.cell.recipe.compute
        due = state.step % compute.checkpoint_every == 0 or checkpointer.age_minutes >= compute.checkpoint_minutes
        return due and state.step < self.cell.recipe.schedule.iterations
