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
from tadp_ray.data.loader import Batches, Views, train_loader
from tadp_ray.data.transforms import Augment
from tadp_ray.errors import UserError
from tadp_ray.metrics.per_image import PER_IMAGE, write_per_image
from tadp_ray.models.tadp import TADP
from tadp_ray.models.tensors import not_finite
from tadp_ray.training import checkpoint
from tadp_ray.training.chance import draw_pass, generator
from tadp_ray.training.distributed import World
from tadp_ray.training.evaluate import evaluate, image_lines
from tadp_ray.training.optim import make_optimizer
from tadp_ray.training.reporter import CHECKPOINT, Reporter
from tadp_ray.training.saver import Saver
from tadp_ray.training.study import Study

LOG_EVERY = 10
BEST = "best.safetensors"
"""Weights of the best evaluation, where that was not the last one."""


@dataclass
class Course:
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
    study: Study
    model: TADP
    latents: Mapping[str, Tensor]
    reporter: Reporter
    device: torch.device
    world: World

    def fit(self) -> Course:
        """Train to the last step, from the newest checkpoint if there is one, and return the course."""
        optimizer, rates = make_optimizer(self.model, self.cell.recipe.schedule)
        course = self._resume(optimizer, rates)
        with Saver(self.cell.folder / CHECKPOINT, self.reporter) as saver:
            self._train(course, optimizer, rates, saver)
        return course

    def _train(self, course: Course, optimizer: torch.optim.Optimizer, rates: Any, saver: Saver) -> None:
        """The steps that are left."""
        schedule = self.cell.recipe.schedule
        model = self.world.wrap(self.model, self.device).train()
        passes = self._passes(course.step)
        clock, clock_step = time.monotonic(), course.step
        whole, broken = True, None

        while course.step < schedule.iterations:
            loss = self._train_step(model, optimizer, passes, course.step)
            rate = rates.get_last_lr()[-1]
            rates.step()
            course.step += 1

            # what the step was like
            if course.step % LOG_EVERY == 0 or course.step == schedule.iterations:
                value = self.world.mean(loss if whole else torch.full_like(loss, math.nan))
                if not math.isfinite(value):
                    own = float(loss)
                    raise self._diverged(
                        course.step, lost(own, broken) if broken and math.isfinite(own) else f"the loss is {value}"
                    )
                spent = time.monotonic() - clock
                per_step = spent / (course.step - clock_step)
                course.seconds += spent
                clock, clock_step = time.monotonic(), course.step
                self.reporter.report(course.step, {"loss": value, "learning_rate": rate, "seconds_per_step": per_step})

            # how good the model is
            if course.step % self.cell.recipe.evaluation.every == 0 or course.step == schedule.iterations:
                self._check_weights(course.step, loss)
                self._evaluate(course)
                clock, clock_step = time.monotonic(), course.step

            # where to go on after an interruption
            saver.tell()
            if self.world.leads and self._due(course, saver):
                began = time.monotonic()
                facts = {"fingerprint": self.cell.fingerprint, "step": course.step, "course": asdict(course)}
                # The others learn at the next exchange of losses that nothing is to be saved any more.
                if whole and not (bool(loss.isfinite()) and saver.save(self.model, optimizer, facts)):
                    whole, broken = False, not_finite(checkpoint.snapshot(self.model, optimizer))
                course.stalled += time.monotonic() - began

    def _check_weights(self, step: int, loss: Tensor) -> None:
        """Refuse to score and to keep weights that are not finite, in all processes together."""
        broken = not_finite(self.model.state_dict())
        if self.world.mean(torch.full_like(loss, float(broken is not None))):
            raise self._diverged(step, lost(float(loss), broken or "elsewhere"))

    def _diverged(self, step: int, said: str) -> UserError:
        return UserError(f"step {step}: {said}; lower schedule.learning_rate={self.cell.recipe.schedule.learning_rate}")

    def _train_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, passes: Any, step: int) -> Tensor:
        """One optimizer step over the global batch; returns the mean loss of this worker's share."""
        schedule, head = self.cell.recipe.schedule, self.cell.recipe.model.head
        count = schedule.batch_size // schedule.images_per_pass
        total = torch.zeros((), device=self.device)
        for part in range(count):
            # the share of this worker
            ids, images, targets = next(passes)
            images, targets = images.to(self.device), to_device(targets, self.device)
            contexts = self.study.contexts([self.study.train_prompts[i] for i in ids]).to(self.device)
            number, share = step * count + part, slice(self.world.rank * len(ids), (self.world.rank + 1) * len(ids))
            noise, keep = draw_pass(
                self.cell.seed,
                number,
                schedule.images_per_pass,
                self.model.latent_shape(images),
                getattr(head, "channels", 0),
                getattr(head, "dropout", 0.0),
                share,
            )
            boxes = None
            if self.study.task.truth == "boxes":
                chances = [generator(self.cell.seed, 2, number, place) for place in range(share.start, share.stop)]
                boxes = [{**own, "generator": chance} for own, chance in zip(targets, chances, strict=True)]

            # forward and backward; gradients are exchanged once, with the last pass
            waits = isinstance(model, DistributedDataParallel) and part < count - 1
            lowered = torch.autocast(self.device.type, torch.bfloat16, enabled=schedule.precision == "bfloat16")
            with model.no_sync() if waits else nullcontext(), lowered:
                latents = self.model.encode_images(images, noise.to(self.device))
                output = model(latents, contexts, keep if keep is None else keep.to(self.device), boxes)
                loss = self.study.task.loss(output, targets) / count
            loss.backward()
            total += loss.detach()

        # update
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    def _passes(self, step: int) -> Any:
        recipe = self.cell.recipe
        task, pixels = self.study.task, recipe.model.pixels
        views = Views(self.study.train, Augment(recipe.augment, task.truth, pixels), task.target, pixels)
        order = Batches(
            start=step,
            stop=recipe.schedule.iterations,
            batch_size=recipe.schedule.batch_size,
            per_pass=recipe.schedule.images_per_pass,
            length=len(self.study.train),
            seed=self.cell.seed,
            rank=self.world.rank,
            world_size=self.world.size,
        )
        return iter(train_loader(views, order, recipe.compute.loaders))

    def write_model(self, name: str, course: Course) -> None:
        """Write the trained weights into the cell's folder."""
        facts = {"fingerprint": self.cell.fingerprint, "step": course.step, "classes": self.study.train.classes}
        checkpoint.write_tensors(self.cell.folder / name, self.model.state_dict(), facts)

    def _evaluate(self, course: Course) -> None:
        score = evaluate(self.model, self.study, self.latents, self.device, self.world)
        course.latest = score.compute()
        if self.world.leads and course.step == self.cell.recipe.schedule.iterations:
            images = image_lines(self.study, score)
            path, task = self.cell.folder / PER_IMAGE, self.cell.recipe.task
            write_per_image(path, self.cell.fingerprint, task, self.study.val.classes, images)
        task = self.study.task
        value = course.latest[task.main]
        if not course.best_step or task.better(value, course.best):
            course.best, course.best_step = value, course.step
            if self.world.leads and course.step < self.cell.recipe.schedule.iterations:
                self.write_model(BEST, course)
        self.reporter.report(course.step, {name: course.latest[name] for name in task.curves})

    def _resume(self, optimizer: torch.optim.Optimizer, rates: Any) -> Course:
        found = checkpoint.resume(self.reporter.resume_from(), self.model, optimizer, rates, self.cell.fingerprint)
        if found is None:
            return Course()
        path, facts = found
        course = Course(**facts["course"])
        self.reporter.report(course.step, {}, path)
        return course

    def _due(self, course: Course, saver: Saver) -> bool:
        """Whether it is time for a checkpoint; the last step needs none."""
        compute = self.cell.recipe.compute
        due = course.step % compute.checkpoint_every == 0 or saver.minutes >= compute.checkpoint_minutes
        return due and course.step < self.cell.recipe.schedule.iterations
