"""Pretrain the pocket Stable Diffusion on captioned scenes: VAE first, then text encoder and U-Net together.

The result is an ordinary diffusers folder with Stable Diffusion 1.5's architecture at a small width. The U-Net learns
by text-conditional denoising alone: it sees no mask, box or depth. It predicts velocity, as Stable Diffusion 2 does, and
not noise as 1.5 does, because a short noise-predicting pretraining leaves the words nearly unused.
"""

import copy
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tadp_ray.data.scenes import describe, present_classes, render
from tadp_ray.training.autoencoder import build_vae, encode, psnr, train_vae
from tadp_ray.training.liveness import Denoiser, format_liveness, text_liveness
from tadp_ray.training.parallel import Peers, Progress
from tadp_ray.training.tokenizer import write_tokenizer

TEXT_WIDTH = 64
HELD_OUT = 160
"""Scenes behind the training ones that only measure: reconstruction and the text-liveness gate."""


@dataclass(frozen=True)
class _Plan:
    folder: Path
    images: int
    vae_steps: int
    unet_steps: int
    seed: int
    processes: int
    batch: int
    size: int
    channels: tuple[int, ...]
    gate_every: int


def pretrain(
    folder: Path,
    *,
    images: int = 16000,
    vae_steps: int = 1500,
    unet_steps: int = 2000,
    seed: int = 0,
    processes: int = 2,
    batch: int = 32,
    size: int = 64,
    channels: tuple[int, ...] = (32, 48, 64, 96),
    gate_every: int = 500,
) -> None:
    """Train a pocket Stable Diffusion and write it as a diffusers folder, half precision but for the text encoder.

    Args:
        folder: where vae/, unet/, text_encoder/, tokenizer/, scheduler/ and model_index.json go; written anew at
            every gate, so that a run cut short leaves a usable model.
        images: pretraining scenes to render; the U-Net draws from them with replacement.
        vae_steps: optimizer steps of the VAE, at half of `batch`.
        unet_steps: optimizer steps of the U-Net with the text encoder.
        seed: of the scenes, the initial weights and the order.
        processes: one-thread processes that share each batch.
        batch: U-Net images a step, over all processes.
        size: height and width of a scene in pixels.
        channels: widths of the U-Net's four levels.
        gate_every: U-Net steps between two measurements of the text's effect.

    Raises:
        ValueError: the batch does not divide among the processes.
    """
    if batch % (2 * processes):
        raise ValueError(f"batch must be a multiple of 2 x processes = {2 * processes}, not {batch}")
    plan = _Plan(Path(folder), images, vae_steps, unet_steps, seed, processes, batch, size, tuple(channels), gate_every)
    if processes == 1:
        _worker(0, plan, None)
        return
    with tempfile.TemporaryDirectory() as meeting:
        mp.spawn(_worker, args=(plan, Path(meeting) / "store"), nprocs=processes)


def _worker(rank: int, plan: _Plan, meeting: Path | None) -> None:
    """Run every stage in one process; scenes are split among the processes, gradients are averaged."""
    if meeting is not None:
        # Several one-thread processes beat one process of several threads on networks this small. Set only in a
        # spawned process: the caller's own settings stay as they are.
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=plan.processes)
    peers, started = Peers(rank, plan.processes), time.monotonic()

    def say(text: str) -> None:
        if rank == 0:
            print(f"[{(time.monotonic() - started) / 60:5.1f} min] {text}", flush=True)

    try:
        pictures, present = _render(plan, range(rank, plan.images, plan.processes))
        held_out, held_out_present = _render(plan, range(plan.images, plan.images + HELD_OUT))
        say(f"{plan.images} scenes rendered")
        # The same first weights everywhere, then another stream of random numbers in each process.
        torch.manual_seed(plan.seed)
        vae, denoiser = build_vae(plan.size), build_denoiser(plan.size, plan.channels)
        torch.manual_seed(plan.seed + 1000 * (rank + 1))
        train_vae(vae, pictures, plan.vae_steps, plan.batch // 2 // plan.processes, peers, say)
        mean, std = encode(vae, pictures)
        spread = math.sqrt(peers.mean(mean.var().item() + std.square().mean().item()))
        vae.register_to_config(scaling_factor=1 / spread)
        say(f"vae: PSNR {psnr(vae, held_out):.1f} dB on held-out scenes, scaling factor {1 / spread:.4f}")
        latents, measured = (mean / spread, std / spread), (encode(vae, held_out)[0] / spread, held_out_present)
        _train_unet(plan, peers, denoiser, vae, latents, present, measured, say)
    finally:
        if meeting is not None:
            dist.destroy_process_group()


def _render(plan: _Plan, indices: range) -> tuple[torch.Tensor, list[tuple[str, ...]]]:
    scenes = [render("pretrain", plan.seed, index, plan.size) for index in indices]
    present = [present_classes(scene.mask) for scene in scenes]
    return torch.from_numpy(np.stack([scene.image for scene in scenes])), present


def build_denoiser(size: int, channels: tuple[int, ...]) -> Denoiser:
    """Return an untrained U-Net, text encoder, tokenizer and scheduler of Stable Diffusion 1.5's architecture."""
    with tempfile.TemporaryDirectory() as words:
        write_tokenizer(Path(words))
        tokenizer = CLIPTokenizer.from_pretrained(words, model_max_length=77)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=size // 4,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=channels,
        layers_per_block=2,
        cross_attention_dim=TEXT_WIDTH,
        # diffusers calls the number of heads attention_head_dim, and Stable Diffusion 1.5's config follows it.
        attention_head_dim=2,
        norm_num_groups=8,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )
    return Denoiser(unet, text_encoder, tokenizer, scheduler)


def draw_caption(names: tuple[str, ...], rng: np.random.Generator, drop: float = 0.1) -> str:
    """Return a caption of the visible classes: their names, a sentence, or nothing for a share `drop` of draws."""
    if rng.random() < drop:
        return ""
    shuffled = tuple(names[place] for place in rng.permutation(len(names)))
    return " ".join(shuffled) if rng.random() < 0.5 else describe(shuffled)


def _train_unet(
    plan: _Plan,
    peers: Peers,
    denoiser: Denoiser,
    vae: AutoencoderKL,
    latents: tuple[torch.Tensor, torch.Tensor],
    present: list[tuple[str, ...]],
    held_out: tuple[torch.Tensor, list[tuple[str, ...]]],
    say: Callable[[str], None],
) -> None:
    """Learn to denoise given the caption; weights are averaged over time, and the average is what is saved."""
    mean, std = latents
    trained = torch.nn.ModuleList([denoiser.unet, denoiser.text_encoder])
    average = copy.deepcopy(trained).requires_grad_(False).eval()
    averaged = replace(denoiser, unet=average[0], text_encoder=average[1])
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, plan.unet_steps))
    rng = np.random.default_rng((plan.seed, peers.rank))
    progress = Progress("u-net", plan.unet_steps, say)
    for step in range(plan.unet_steps):
        chosen = torch.randint(len(mean), (plan.batch // peers.world,))
        clean = mean[chosen] + std[chosen] * torch.randn_like(mean[chosen])
        captions = [draw_caption(present[index], rng) for index in chosen.tolist()]
        times = torch.randint(denoiser.scheduler.config.num_train_timesteps, (len(chosen),))
        loss = denoiser.errors(clean, torch.randn_like(clean), times, captions).mean()
        optimizer.zero_grad()
        loss.backward()
        peers.average_gradients(trained.parameters())
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        keep = min(0.998, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(average.parameters()), list(trained.parameters()), 1 - keep)
        progress.tick(step, loss.item())
        last = step + 1 == plan.unet_steps
        if peers.rank == 0 and (last or (step + 1) % plan.gate_every == 0):
            save(plan.folder, vae, averaged)
            table = text_liveness(averaged, *held_out, times=(300, 500, 700) if last else (500,))
            say(f"wrong captions raise the loss after {plan.batch * (step + 1)} images by\n{format_liveness(table)}")


def _rate(step: int, steps: int) -> float:
    """Learning rate, relative: warm-up, hold, and a linear fall to a tenth over the last 30%."""
    left = (steps - step) / (0.3 * steps)
    return min(1.0, (step + 1) / 100) * (1.0 if left >= 1 else 0.1 + 0.9 * max(left, 0.0))


def save(folder: Path, vae: AutoencoderKL, denoiser: Denoiser) -> None:
    """Write a folder that `StableDiffusionPipeline.from_pretrained` reads."""
    pipeline = StableDiffusionPipeline(
        vae=copy.deepcopy(vae).half(),
        unet=copy.deepcopy(denoiser.unet).half(),
        # Loaders disagree on whether half precision is widened on loading; the text encoder is small enough to keep.
        text_encoder=denoiser.text_encoder,
        tokenizer=denoiser.tokenizer,
        scheduler=denoiser.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    write_tokenizer(folder / "tokenizer")


@torch.no_grad()
def measure(folder: Path, count: int = 160, seed: int = 1) -> tuple[float, dict[tuple[str, int], tuple[float, float]]]:
    """Measure a finished folder on pretraining-style scenes of another seed than it was trained on.

    Returns: PSNR in dB of the autoencoder, and the text-liveness table.
    """
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    denoiser = Denoiser(pipeline.unet, pipeline.text_encoder, pipeline.tokenizer, pipeline.scheduler)
    size = pipeline.vae.config.sample_size
    scenes = [render("pretrain", seed, index, size) for index in range(count)]
    images = torch.from_numpy(np.stack([scene.image for scene in scenes]))
    latents = encode(pipeline.vae, images)[0] * pipeline.vae.config.scaling_factor
    present = [present_classes(scene.mask) for scene in scenes]
    return psnr(pipeline.vae, images), text_liveness(denoiser, latents, present)
