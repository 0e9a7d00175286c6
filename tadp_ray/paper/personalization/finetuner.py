"""What textual inversion and DreamBooth share: what a step draws, its loss, and the loop that can be interrupted."""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from tadp_ray.backbones.stable_diffusion.denoising import NoiseSchedule, denoising_errors
from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.config.vocabulary import CAPTION
from tadp_ray.errors import UserError
from tadp_ray.layout import CHECKPOINT
from tadp_ray.paper.personalization.images import Latents, Look
from tadp_ray.paper.personalization.job import PersonalizationJob
from tadp_ray.tensors import not_finite
from tadp_ray.training import checkpoint
from tadp_ray.training.async_checkpointer import AsyncCheckpointer
from tadp_ray.training.reporter import Reporter
from tadp_ray.training.rng import generator

LOG_EVERY = 10


@dataclass(frozen=True)
class Finetuner:
    """One personalization at work."""

    job: PersonalizationJob
    diffusion: Diffusion
    noising: NoiseSchedule
    look: Look
    latents: Latents
    device: torch.device
    reporter: Reporter

    def loss(
        self, number: int, count: int, kind: int, latents: Latents, context_of: Callable[[Sequence[int]], Tensor]
    ) -> Tensor:
        """The mean denoising error of `count` drawn images.

        Args:
            number: of the forward pass, from the start of training: with the seed it decides everything that is drawn.
            count: images of the pass.
            kind: tells the draws of one kind of images from another's.
            latents: of the images to draw from.
            context_of: contexts (B, L, D) of images by index.
        """
        rng = generator(self.job.seed, 10 + kind, number)
        chosen = torch.randint(len(latents), (count,), generator=rng)
        mirrored = (torch.rand(count, generator=rng) < self.job.plan.flip).long()
        times = torch.randint(self.noising.steps, (count,), generator=rng)
        first, second = torch.randn((2, count, *latents.mean.shape[2:]), generator=rng)
        clean = latents.mean[mirrored, chosen] + latents.std[mirrored, chosen] * first
        clean, noise, times = (tensor.to(self.device) for tensor in (clean, second, times))
        context = context_of(chosen.tolist())
        return denoising_errors(self.diffusion.unet, self.noising, clean, noise, times, context).mean()

    def learn(self, trained: nn.Module, loss_at: Callable[[int, int], Tensor]) -> float:
        """Train to the last step, from the newest checkpoint if there is one; returns the last step's loss.

        `loss_at(number, count)` is the loss of a forward pass of `count` images.

        Raises:
            UserError: the loss is no longer a number.
        """
        schedule = self.job.plan.schedule
        optimizer = torch.optim.AdamW(
            trained.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        rates = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(schedule.warmup_iterations, 1)))
        step = self._resume(trained, optimizer, rates)
        with AsyncCheckpointer(self.job.folder / CHECKPOINT, self.reporter) as checkpointer:
            return self._steps(step, trained, optimizer, rates, loss_at, checkpointer)

    def _steps(
        self,
        step: int,
        trained: nn.Module,
        optimizer: torch.optim.Optimizer,
        rates: LambdaLR,
        loss_at: Callable[[int, int], Tensor],
        checkpointer: AsyncCheckpointer,
    ) -> float:
        """The steps that are left."""
        schedule, every = self.job.plan.schedule, self.job.plan.compute.checkpoint_every
        size = schedule.micro_batch or schedule.batch_size
        passes, clock, clock_step, loss = schedule.batch_size // size, time.monotonic(), step, math.nan
        while step < schedule.iterations:
            # forward and backward
            loss = 0.0
            for part in range(passes):
                share = loss_at(step * passes + part, size) / passes
                share.backward()
                loss += share.item()
            if not math.isfinite(loss):
                raise self._diverged(step + 1, f"the loss is {loss}")

            # update
            if schedule.largest_gradient:
                nn.utils.clip_grad_norm_(trained.parameters(), schedule.largest_gradient)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            rates.step()
            step += 1

            # what the step was like, and where to go on after an interruption
            if step % LOG_EVERY == 0 or step == schedule.iterations:
                per_step = (time.monotonic() - clock) / (step - clock_step)
                self.reporter.report(step, {"loss": loss, "seconds_per_step": per_step})
                clock, clock_step = time.monotonic(), step
            checkpointer.poll()
            if step % every == 0 and step < schedule.iterations:
                if not checkpointer.save(trained, optimizer, {"fingerprint": self.job.fingerprint, "step": step}):
                    raise self._diverged(step, "what is learned is no longer finite")
        if not_finite(trained.state_dict()):
            raise self._diverged(step, "what is learned is no longer finite")
        return loss

    def _diverged(self, step: int, said: str) -> UserError:
        return UserError(f"step {step}: {said}; lower schedule.learning_rate={self.job.plan.schedule.learning_rate}")

    def _resume(self, trained: nn.Module, optimizer: torch.optim.Optimizer, rates: LambdaLR) -> int:
        found = self.reporter.resume_from()
        newest = checkpoint.resume(found, trained, optimizer, rates, self.job.fingerprint)
        return newest[1]["step"] if newest else 0

    def said(self, prompts: Sequence[str], number: int, indices: Sequence[int]) -> list[str]:
        """What is said of each of some images in a forward pass: a prompt drawn by chance, which may take up its caption."""
        rng = random.Random(f"{self.job.seed}/prompts/{number}")
        return [rng.choice(prompts).replace(CAPTION, self.look.captions[index]) for index in indices]
