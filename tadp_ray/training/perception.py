"""Trains the model of one cell: batches, loss, evaluation and the files that are written."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tadp_ray.config.cell import Cell
from tadp_ray.config.metrics import best_first
from tadp_ray.data.loader import AugmentedDataset, BatchSampler, train_batches
from tadp_ray.errors import UserError
from tadp_ray.layout import BEST, CHECKPOINT, MODEL, PER_IMAGE
from tadp_ray.tasks.per_image import write_per_image
from tadp_ray.training import checkpoint
from tadp_ray.training.async_checkpointer import AsyncCheckpointer
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.embeddings import ViewEmbeddings
from tadp_ray.training.evaluate import evaluate, per_image_records
from tadp_ray.training.latents import ViewLatents
from tadp_ray.training.loop import Trainer
from tadp_ray.training.model import TADP
from tadp_ray.training.optim import make_optimizer
from tadp_ray.training.precision import autocast
from tadp_ray.training.reporter import Reporter
from tadp_ray.training.rng import draw_pass, generator
from tadp_ray.training.setup import TrainSetup
from tadp_ray.training.state import TrainState
from tadp_ray.training.transfer import to_device

Batch = tuple[list[str], Tensor, Any]
"""Image ids, images uint8 (B, 3, H, W) and targets of this process's share of a pass."""


def targets_on(device: torch.device, targets: Any) -> Any:
    """Return the targets of a batch, a tensor or a list of boxes, on a device."""
    if isinstance(targets, Tensor):
        return to_device(targets, device)
    return [{name: to_device(value, device) for name, value in target.items()} for target in targets]


@dataclass
class PerceptionTraining:
    """The training of one cell: its model, its data and its process group."""

    cell: Cell
    setup: TrainSetup
    model: TADP
    views: ViewLatents
    """Encodes training views."""
    embeddings: ViewEmbeddings
    """Of training views, for the sources of the context that read images."""
    latents: Mapping[str, Tensor]
    """Latents of the evaluation views by key, and their embeddings."""
    reporter: Reporter
    device: torch.device
    world: ProcessGroup

    def __post_init__(self) -> None:
        model, task = self.model, self.setup.task

        def loss_of(
            latents: Tensor,
            contexts: Tensor,
            dropout_mask: Tensor | None,
            sampled: Any,
            added: Tensor | None,
            embeddings: list[Tensor],
            targets: Any,
        ) -> Tensor:
            return task.loss(model(latents, contexts, dropout_mask, sampled, added, embeddings), targets)

        # Evaluation calls the model itself, whose inputs have many sizes.
        self._loss_of = torch.compile(loss_of) if self.cell.recipe.compute.compile else loss_of

    def fit(self) -> TrainState:
        """Train to the last step, from the newest checkpoint if there is one, and return the final state."""
        schedule, evaluation = self.cell.recipe.schedule, self.cell.recipe.evaluation
        optimizer, lr_scheduler = make_optimizer(self.model, schedule)
        path = self.cell.folder / CHECKPOINT
        with AsyncCheckpointer(path, self.cell.fingerprint, self.reporter, self._checkpoint_due) as checkpointer:
            state = checkpointer.resume(self.model, optimizer, lr_scheduler)
            batches = self._batches(state.step)
            trainer = Trainer(
                model=self.model.train(),
                optimizer=optimizer,
                lr_scheduler=lr_scheduler,
                steps=schedule.iterations,
                passes=schedule.batch_size // schedule.images_per_pass,
                remedy=f"lower schedule.learning_rate={schedule.learning_rate}",
                device=self.device,
                world=self.world,
                evaluate=lambda state: self._evaluate(state, checkpointer),
                evaluate_every=evaluation.interval,
            )
            trainer.fit(lambda number: self._loss(next(batches), number), state, checkpointer, self.reporter)
        return state

    def _checkpoint_due(self, step: int, minutes: float) -> bool:
        compute = self.cell.recipe.compute
        due = step % compute.checkpoint_every == 0 or minutes >= compute.checkpoint_minutes
        # The last step needs no checkpoint, since the model is written.
        return due and step < self.cell.recipe.schedule.iterations

    def _batches(self, step: int) -> Iterator[Batch]:
        """Return this process's share of every pass, starting at an optimizer step."""
        from tadp_ray.data.transforms import Augment

        recipe = self.cell.recipe
        task = self.setup.task
        augment = Augment(recipe.augment, task.truth, recipe.model.pixel_normalization)
        views = AugmentedDataset(self.setup.train, augment, task.target)
        order = BatchSampler(
            start=step,
            stop=recipe.schedule.iterations,
            batch_size=recipe.schedule.batch_size,
            per_pass=recipe.schedule.images_per_pass,
            length=len(self.setup.train),
            seed=self.cell.seed,
            share=self.world.share(recipe.schedule.images_per_pass),
        )
        return train_batches(views, order, recipe.compute.num_workers, pinned=self.device.type == "cuda")

    def _loss(self, batch: Batch, number: int) -> Tensor:
        """Return the mean loss of this process's share of a pass."""
        schedule, head, task = self.cell.recipe.schedule, self.cell.recipe.model.head, self.setup.task
        ids, images, targets = batch
        targets = targets_on(self.device, targets)
        contexts = to_device(self.setup.contexts([self.setup.train_prompts[i] for i in ids]), self.device)

        # random numbers of this pass
        share = self.world.share(schedule.images_per_pass)
        noise, dropout_mask, added = draw_pass(
            self.cell.seed,
            number,
            schedule.images_per_pass,
            self.model.backbone.latent_shape(images),
            getattr(head, "channels", 0),
            getattr(head, "dropout", 0.0),
            self.model.backbone.noise_samples,
            share,
        )
        dropout_mask, added = (
            drawn if drawn is None else to_device(drawn, self.device) for drawn in (dropout_mask, added)
        )
        sampled = None
        if task.head_targets:
            rngs = [generator(self.cell.seed, 2, number, place) for place in range(share.start, share.stop)]
            sampled = task.head_targets(targets, rngs)

        # forward
        with autocast(self.device, schedule.precision):
            latents = self.views(images, self.device).sample(to_device(noise, self.device))
            embeddings = self.embeddings(images, self.device)
            return self._loss_of(latents, contexts, dropout_mask, sampled, added, embeddings, targets)

    def _evaluate(self, state: TrainState, checkpointer: AsyncCheckpointer) -> None:
        """Evaluate the model and write the best one; at the last step, write the per-image metrics too."""
        task, last = self.setup.task, state.step == self.cell.recipe.schedule.iterations
        score = evaluate(self.model, self.setup, self.latents, self.device, self.world)
        state.latest = score.compute()
        if task.main not in state.latest:
            raise UserError(
                f"task {self.cell.recipe.task!r}: compute of its metrics returned {', '.join(state.latest)} without the main "
                f"metric; name it {task.main}, as it is registered"
            )
        if self.world.is_main_process and last:
            images = per_image_records(self.setup, score)
            path, kind = self.cell.folder / PER_IMAGE, self.cell.recipe.task
            write_per_image(path, self.cell.fingerprint, kind, self.setup.val.classes, images)
        value, order = state.latest[task.main], best_first(task.main)
        if not state.best_step or order(value) < order(state.best):
            state.best, state.best_step = value, state.step
            if self.world.is_main_process and not last:
                checkpointer.save_weights(self.cell.folder / BEST, self.model, self._facts(state))
        # Images that show no thing have no miou_things.
        logged = {name: state.latest[name] for name in task.logged_metrics if name in state.latest}
        self.reporter.report(state.step, logged)

    def write_model(self, state: TrainState) -> None:
        """Write the trained weights into the cell's folder."""
        checkpoint.write_tensors(self.cell.folder / MODEL, self.model.state_dict(), self._facts(state))

    def _facts(self, state: TrainState) -> dict[str, Any]:
        return {"fingerprint": self.cell.fingerprint, "step": state.step, "classes": self.setup.train.classes}
