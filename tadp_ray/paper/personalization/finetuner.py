"""The training code shared by textual inversion and DreamBooth: random numbers, loss and optimizer."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from tadp_ray.backbones.latent.denoising import NoiseSchedule, denoising_errors
from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.config.vocabulary import CAPTION
from tadp_ray.layout import CHECKPOINT
from tadp_ray.paper.personalization.images import Latents, StyleImages
from tadp_ray.paper.personalization.job import PersonalizationJob
from tadp_ray.training.async_checkpointer import AsyncCheckpointer
from tadp_ray.training.loop import Trainer
from tadp_ray.training.reporter import Reporter
from tadp_ray.training.rng import generator
from tadp_ray.training.state import TrainState


@dataclass(frozen=True)
class Finetuner:
    """The training of one personalization."""

    job: PersonalizationJob
    diffusion: Diffusion
    noising: NoiseSchedule
    images: StyleImages
    latents: Latents
    device: torch.device
    reporter: Reporter

    def loss(
        self, number: int, count: int, kind: int, latents: Latents, context_of: Callable[[Sequence[int]], Tensor]
    ) -> Tensor:
        """Return the mean denoising error of `count` randomly chosen images.

        Args:
            number: number of the forward pass from the start of training; with the seed it determines all random numbers.
            count: images of the pass.
            kind: distinguishes the random numbers of style images (0) and prior images (1).
            latents: latents of the images to choose from.
            context_of: maps indices of images to their contexts (B, L, D).
        """
        rng = generator(self.job.seed, 10 + kind, number)
        chosen = torch.randint(len(latents), (count,), generator=rng)
        mirrored = (torch.rand(count, generator=rng) < self.job.plan.flip).long()
        times = torch.randint(self.noising.steps, (count,), generator=rng)
        first, second = torch.randn((2, count, *latents.mean.shape[2:]), generator=rng)
        clean = latents.mean[mirrored, chosen] + latents.std[mirrored, chosen] * first
        clean, noise, times = (tensor.to(self.device) for tensor in (clean, second, times))
        context = context_of(chosen.tolist())
        return denoising_errors(self.diffusion.predict, self.noising, clean, noise, times, context).mean()

    def learn(self, trained: nn.Module, loss_at: Callable[[int, int], Tensor]) -> TrainState:
        """Train to the last step, from the newest checkpoint if there is one, and return the final state.

        `loss_at(number, count)` is the loss of a forward pass of `count` images.

        Raises:
            UserError: the loss or the trained weights are no longer finite.
        """
        schedule, every = self.job.plan.schedule, self.job.plan.compute.checkpoint_every
        optimizer = torch.optim.AdamW(
            trained.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        lr_scheduler = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(schedule.warmup_iterations, 1)))
        size = schedule.micro_batch or schedule.batch_size
        trainer = Trainer(
            model=trained,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            steps=schedule.iterations,
            passes=schedule.batch_size // size,
            max_grad_norm=schedule.max_grad_norm,
            remedy=f"lower schedule.learning_rate={schedule.learning_rate}",
            device=self.device,
        )
        # The last step needs no checkpoint, since the result is written.
        is_due = lambda step, minutes: step % every == 0 and step < schedule.iterations
        path = self.job.folder / CHECKPOINT
        with AsyncCheckpointer(path, self.job.fingerprint, self.reporter, is_due) as checkpointer:
            state = checkpointer.resume(trained, optimizer, lr_scheduler)
            # In float64, so that the sum over the passes of a step is not rounded.
            trainer.fit(lambda number: loss_at(number, size).double(), state, checkpointer, self.reporter)
        return state

    def draw_prompts(self, prompts: Sequence[str], number: int, indices: Sequence[int]) -> list[str]:
        """Return a random prompt for each image of a forward pass, with the image's caption in place of its placeholder."""
        rng = random.Random(f"{self.job.seed}/prompts/{number}")
        return [rng.choice(prompts).replace(CAPTION, self.images.captions[index]) for index in indices]
