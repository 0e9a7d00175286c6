"""Pretrains a pocket model: the VAE, then text encoder and denoiser together, then a classifier for evaluation.

The denoiser, a U-Net or a diffusion transformer, is trained by text-conditional denoising only, without masks, boxes or depth.
Random numbers are functions of (seed, stage, step), and every stage has checkpoints, so an interrupted pretraining resumes with
the same losses.
"""

import copy
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from tadp_ray.backbones.families import generator_family, load_generator
from tadp_ray.backbones.latent.autoencoder import Autoencoder, latent_scale, set_latent_scale
from tadp_ray.backbones.latent.image_generator import ImageGenerator
from tadp_ray.backbones.latent.weights import INDEX
from tadp_ray.config.pretraining import Pretraining
from tadp_ray.errors import UserError
from tadp_ray.files import is_any_of, write_text
from tadp_ray.layout import CLASSIFIER, DRAWINGS, PRETRAINING_FOLDER
from tadp_ray.paper.pocket import gate
from tadp_ray.paper.pocket.autoencoder import as_pixels, build_vae, psnr, vae_loss
from tadp_ray.paper.pocket.classifier import build_classifier, classifier_loss, image_noise
from tadp_ray.paper.pocket.denoiser import build_denoiser, build_dit, caption_errors, copy_weights, save_pocket
from tadp_ray.paper.pocket.latent_cache import COMPOSITIONS, LatentCache
from tadp_ray.paper.pocket.report import draw_words
from tadp_ray.training import checkpoint
from tadp_ray.training.async_checkpointer import AsyncCheckpointer
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.journal import check_journal, final_metrics, read_journal
from tadp_ray.training.loop import Trainer
from tadp_ray.training.reporter import Journal, NullReporter, Reporter, progress_line
from tadp_ray.training.rng import generator
from tadp_ray.training.state import TrainState

CHECKPOINT_EVERY = 200
"""Optimizer steps of a stage between two checkpoints."""
CLOSE_UPS_UNTIL = 0.2
"""Fraction of the denoiser's steps in which it sees only close-ups, if it starts from random weights."""
LEARNING_RATES = {"unet": 1e-3, "dit": 1e-3}
"""Of the denoiser, by its kind."""
OTHER_SETTINGS = "give the settings that it was begun with, or another folder"
"""What to do in a folder of another pretraining."""
PRINT_SECONDS = 20
"""Seconds between two lines on the terminal."""


@dataclass(frozen=True)
class PretrainJob:
    """A pretraining in one of its processes."""

    plan: Any
    """A `Pretraining`, or an `ImageEncoderTraining`."""
    folder: Path
    start: Path | None
    """Folder of the model that is trained on; None: from random weights."""
    device: torch.device
    world: ProcessGroup
    reporter: Reporter
    say: Callable[[str], None]

    @property
    def work(self) -> Path:
        """Folder of the latent cache and the checkpoints."""
        return self.folder / PRETRAINING_FOLDER


def check_folder(plan: Pretraining, folder: Path, start: Path | None) -> None:
    """Check that a pretraining overwrites no other model: neither the one that it starts from, nor anybody else's.

    Raises:
        UserError: the folder is the start model's, or contains another training, or a model without a journal.
    """
    if start and is_any_of(folder, [generator_family(start).locate(str(start))]):
        raise UserError(f"{folder}: is the model of --start {start}, which would be overwritten; name another folder")
    check_own(folder, plan.fingerprint, INDEX)


def check_own(folder: Path, fingerprint: str, file: str) -> None:
    """Check that a folder is empty, or that this training has written its model.

    Args:
        folder: output folder of the training.
        fingerprint: of the training.
        file: name of a file of the model.

    Raises:
        UserError: the folder contains another training, or a model without a journal.
    """
    work = folder / PRETRAINING_FOLDER
    check_journal(work, fingerprint, OTHER_SETTINGS)
    if (folder / file).is_file() and not any(read_journal(work)):
        raise UserError(
            f"{folder / file}: is of a model that was not trained in this folder, and would be overwritten; name another folder"
        )


def pretrain(plan: Pretraining, folder: Path, processes: int, device: str, start: Path | None = None) -> None:
    """Pretrain a pocket model and write it as a diffusers folder; resume if an earlier call was interrupted.

    Args:
        plan: size of the model and length of the stages.
        folder: output folder for vae/, unet/ or transformer/, text_encoder/, tokenizer/, scheduler/ and model_index.json;
            overwritten at every evaluation, so that an interrupted run leaves a usable model.
        processes: number of single-threaded processes that share each batch.
        device: "cpu", or "cuda" for one process on a GPU.
        start: folder of the model whose digest is `plan.start`.

    Raises:
        UserError: a batch is not divisible by the number of processes, or see `check_folder`.
    """
    check_folder(plan, folder, start)
    if final_metrics(folder / PRETRAINING_FOLDER, plan.fingerprint):
        delete_cache(folder / PRETRAINING_FOLDER)
        return
    if plan.vae_batch % processes or plan.unet_batch % processes:
        raise UserError(f"batches of {plan.vae_batch} and {plan.unet_batch} do not divide among {processes} processes")
    if processes == 1:
        _worker(0, plan, folder, start, 1, device, None)
        return
    with tempfile.TemporaryDirectory() as shared:
        store = Path(shared) / "store"
        try:
            # Daemons, which end with this process when it is told to stop.
            mp.spawn(_worker, (plan, folder, start, processes, device, store), nprocs=processes, daemon=True)
        except mp.ProcessRaisedException:
            if errors := sorted(Path(shared).glob("error*")):
                raise UserError(errors[0].read_text()) from None
            raise


def _worker(
    rank: int, plan: Pretraining, folder: Path, start: Path | None, processes: int, device: str, store: Path | None
) -> None:
    """Run all stages in one process; `store` is the rendezvous file of several processes, None for one alone."""
    say = timed_lines() if rank == 0 else lambda text: None
    if store is not None:
        # For networks this small, several single-threaded processes are faster than one with several threads. This is set
        # in spawned processes only, so the caller's settings do not change.
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        # Of the VAE's convolutions of one pixel, whose gradients lie in memory alike, whatever their strides.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=processes)
    try:
        job = partial(PretrainJob, plan, folder, start, torch.device(device), ProcessGroup.current())
        if rank == 0:
            with Journal(folder / PRETRAINING_FOLDER, plan.fingerprint) as journal:
                metrics = stages(job(reporter=journal, say=say))
                journal.finish(plan.unet_steps, metrics)
            delete_cache(folder / PRETRAINING_FOLDER)
        else:
            stages(job(reporter=NullReporter(), say=say))
    except UserError as error:
        # torch.multiprocessing passes on only the traceback of an exception in a spawned process.
        if store is not None:
            write_text(store.with_name(f"error{rank}"), str(error))
        raise
    finally:
        if store is not None:
            dist.destroy_process_group()


def delete_cache(work: Path) -> None:
    """Delete scenes, latents and checkpoints of a finished training, which nothing can resume from any more."""
    for path in work.glob("*.safetensors"):
        path.unlink(missing_ok=True)


def timed_lines() -> Callable[[str], None]:
    """Return a function that prints a text after the minutes that have passed since now."""
    began = time.monotonic()
    return lambda text: print(f"[{(time.monotonic() - began) / 60:5.1f} min] {text}", flush=True)


def stages(job: PretrainJob) -> dict[str, float]:
    """Run all stages, and return the gate's metrics in the main process."""
    plan, cache = job.plan, LatentCache(job.work, job.plan.seed, job.plan.images, job.plan.size)
    cache.render(job.world, job.say)
    vae = load_generator(str(job.start)).diffusion.vae.to(job.device) if job.start else train_vae(job, cache)
    held_out = gate.held_out(plan.size)
    job.say(f"vae: PSNR {psnr(vae, held_out.images, job.device):.1f} dB on held-out scenes")
    cache.encode(vae, job.device, job.world, job.say)
    mean, std = cache.latents()
    if not job.start:
        set_latent_scale(vae, 1 / math.sqrt(mean.var().item() + std.square().mean().item()))
    scale = latent_scale(vae)
    denoiser = train_denoiser(job, cache, vae, (mean * scale, std * scale), held_out)
    classifier = shared_classifier(job) or train_classifier(job, cache)
    if not job.world.is_main_process:
        return {}
    save_pocket(job.folder, denoiser)
    checkpoint.write_tensors(job.folder / CLASSIFIER, classifier.state_dict(), {"classes": list(gate.THINGS)})
    metrics = gate.measure(job.folder, job.device, job.say)
    draw_words(job.folder, job.folder / DRAWINGS, job.device)
    return metrics


class StageReporter:
    """The reporter of one stage: adds the stage's name to metrics and checkpoints, and prints its progress regularly."""

    def __init__(self, job: PretrainJob, name: str, steps: int) -> None:
        self._job, self._name, self._steps = job, name, steps
        self._printed, self._losses = time.monotonic(), list[float]()

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Report the metrics of a step; regularly print the mean loss since the last line."""
        self._job.reporter.report(step, {f"{self._name}/{key}": value for key, value in metrics.items()}, checkpoint)
        if "loss" not in metrics:
            return
        self._losses.append(metrics["loss"])
        if step == self._steps or time.monotonic() - self._printed > PRINT_SECONDS:
            mean = sum(self._losses) / len(self._losses)
            self._job.say(f"{self._name}: {progress_line(step, self._steps, {**metrics, 'loss': mean})}")
            self._printed, self._losses = time.monotonic(), []


def train(
    job: PretrainJob,
    name: str,
    model: nn.Module,
    steps: int,
    rate: float,
    loss_at: Callable[[int], Tensor],
    after_step: Callable[[int], None] = lambda step: None,
    evaluate: Callable[[TrainState], None] = lambda state: None,
    evaluate_every: int | None = None,
) -> None:
    """Train a stage to its last step, from its newest checkpoint; `loss_at(step)` is the mean loss of this process's share.

    The optimizer is AdamW with a warm-up and a linear decay to a tenth over the last 30 % of the steps.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, steps))
    trainer = Trainer(
        model=model,
        optimizer=optimizer,
        lr_scheduler=lr_scheduler,
        steps=steps,
        max_grad_norm=1.0,
        remedy="begin again in another folder with another --seed",
        name=name,
        device=job.device,
        world=job.world,
        after_step=after_step,
        evaluate=evaluate,
        evaluate_every=evaluate_every,
    )
    # A resumed pretraining reads a finished stage from the checkpoint of its last step.
    is_due = lambda step, minutes: step % CHECKPOINT_EVERY == 0 or step == steps
    reporter, path = StageReporter(job, name, steps), job.work / f"{name}.safetensors"
    with AsyncCheckpointer(path, job.plan.fingerprint, reporter, is_due) as checkpointer:
        state = checkpointer.resume(model, optimizer, lr_scheduler)
        if state.step:
            job.say(f"{name}: goes on from step {state.step}")
        # In float64, so that the mean over the processes is not rounded.
        trainer.fit(lambda step: loss_at(step).double(), state, checkpointer, reporter)
    job.world.barrier()


def min_snr_weights(snr: Tensor) -> Tensor:
    """Return the weights (B,) of denoising errors of velocities, given signal-to-noise ratios (B,).

    Nearly clean latents need no words and have large errors, which would drown what words teach; their ratio counts at most as
    5. Source: min-SNR weighting (Hang et al. 2023), equation for v-prediction.
    """
    return snr.clamp(max=5.0) / (snr + 1)


def rate_factor(step: int, steps: int) -> float:
    """Return the learning rate at a step, relative to the stage's."""
    left = (steps - step) / (0.3 * steps)
    return min(1.0, (step + 1) / min(100, max(1, steps // 10))) * (1.0 if left >= 1 else 0.1 + 0.9 * max(left, 0.0))


def train_vae(job: PretrainJob, cache: LatentCache) -> Autoencoder:
    """Train the first stage, the VAE."""
    plan = job.plan
    torch.manual_seed(plan.seed)
    vae, images = build_vae(plan.size).to(job.device).train(), cache.images()
    shape = (plan.vae_batch, 4, plan.size // 4, plan.size // 4)

    def loss_at(step: int) -> Tensor:
        rng, share = generator(plan.seed, 0, step), job.world.share(plan.vae_batch)
        chosen = torch.randint(len(images), (plan.vae_batch,), generator=rng)[share]
        noise = torch.randn(shape, generator=rng)[share]
        return vae_loss(vae, as_pixels(images[chosen].to(job.device)), noise.to(job.device))

    train(job, "vae", vae, plan.vae_steps, 2e-3, loss_at)
    return vae.eval().requires_grad_(False)


def train_denoiser(
    job: PretrainJob, cache: LatentCache, vae: Autoencoder, latents: tuple[Tensor, Tensor], held_out: gate.HeldOut
) -> ImageGenerator:
    """Train the second stage, the denoiser; the returned weights are a moving average of the trained ones."""
    plan, captions_of, (mean, std) = job.plan, cache.captions(), latents
    torch.manual_seed(plan.seed + 1)
    denoiser = (
        build_dit(vae, plan.size, plan.width, plan.blocks, plan.heads)
        if plan.backbone == "dit"
        else build_denoiser(vae, plan.size, plan.channels)
    )
    diffusion, begins = denoiser.diffusion, True
    if job.start:
        source = load_generator(str(job.start)).diffusion
        copy_weights(source, diffusion)
        begins = type(source) is not type(diffusion)
        # Both kinds of denoisers then read the same text.
        diffusion.text_encoder.requires_grad_(not begins)
    trained = nn.ModuleList([diffusion.denoiser, diffusion.text_encoder]).to(job.device)
    averaged = copy.deepcopy(denoiser)
    average = nn.ModuleList([averaged.diffusion.denoiser, averaged.diffusion.text_encoder]).requires_grad_(False).eval()

    def loss_at(step: int) -> Tensor:
        rng, share = generator(plan.seed, 1, step), job.world.share(plan.unet_batch)
        chosen = torch.randint(len(mean), (plan.unet_batch,), generator=rng)
        if begins and step < CLOSE_UPS_UNTIL * plan.unet_steps:
            chosen -= chosen % len(COMPOSITIONS)  # close-ups come first
        times = torch.randint(denoiser.schedule.steps, (plan.unet_batch,), generator=rng)
        noise = torch.randn((2, plan.unet_batch, *mean.shape[1:]), generator=rng)
        rng = np.random.default_rng((plan.seed, 1, step))
        captions = [captions_of[index].draw(rng) for index in chosen.tolist()][share]
        clean = (mean[chosen] + std[chosen] * noise[0])[share].to(job.device)
        times = times[share].to(job.device)
        errors = caption_errors(denoiser, clean, noise[1][share].to(job.device), times, captions)
        return (min_snr_weights(denoiser.schedule.snr(times)) * errors).mean()

    @torch.no_grad()
    def after_step(step: int) -> None:
        decay = min(0.998, (1 + step) / (10 + step))
        torch._foreach_lerp_(tuple(average.parameters()), tuple(trained.parameters()), 1 - decay)

    def evaluate(state: TrainState) -> None:
        if job.world.is_main_process:
            save_pocket(job.folder, averaged)
            table = gate.caption_rises(averaged, held_out.latents(vae), held_out.names, times=(500,))
            job.reporter.report(state.step, gate.as_metrics(table))
            images = plan.unet_batch * state.step
            job.say(f"{images} images: wrong captions raise the loss by\n{gate.format_rises(table)}")

    model = nn.ModuleDict({"trained": trained, "average": average})
    rate = LEARNING_RATES[plan.backbone]
    train(
        job, plan.backbone, model, plan.unet_steps, rate, loss_at, after_step, evaluate, evaluate_every=plan.gate_every
    )
    return averaged


def shared_classifier(job: PretrainJob) -> nn.Module | None:
    """Return the classifier of the start model, if that has another kind of denoiser, so that one judge compares both kinds."""
    if job.start is None:
        return None
    family = generator_family(job.start)
    if (family.denoiser == "unet") == (job.plan.backbone == "unet"):
        return None
    place = family.locate(str(job.start))
    return gate.load_classifier(place) if (place / CLASSIFIER).is_file() else None


def train_classifier(job: PretrainJob, cache: LatentCache) -> nn.Module:
    """Train the last stage, the classifier of objects in generated images; the denoiser is not trained with it."""
    plan = job.plan
    torch.manual_seed(plan.seed + 2)
    classifier, images, masks = build_classifier().to(job.device).train(), cache.images(), cache.masks()

    def loss_at(step: int) -> Tensor:
        rng, share = generator(plan.seed, 2, step), job.world.share(plan.unet_batch)
        chosen = torch.randint(len(images), (plan.unet_batch,), generator=rng)[share]
        noise = image_noise(plan.unet_batch, plan.size, rng)[share].to(job.device)
        pixels = as_pixels(images[chosen].to(job.device)) + noise
        return classifier_loss(classifier, pixels, masks[chosen].to(job.device))

    train(job, "classifier", classifier, plan.classifier_steps, 2e-3, loss_at)
    return classifier.eval()
