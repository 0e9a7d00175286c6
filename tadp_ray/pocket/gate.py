"""Is the text alive? How much worse a diffusion model denoises when its caption is wrong."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from tadp_ray.data.scenes import GROUPS, THINGS

GROUNDS = {"grass": "sand", "sand": "grass"}
LOOK_ALIKE = {name: group[1 - place] for group in GROUPS for place, name in enumerate(group)}
OTHER_GROUP = {
    name: GROUPS[(at + 1) % len(GROUPS)][place] for at, group in enumerate(GROUPS) for place, name in enumerate(group)
}

WRONG_CAPTIONS: Mapping[str, Callable[[Sequence[str]], list[str]]] = {
    "null": lambda names: [],
    "wrong ground": lambda names: [GROUNDS.get(name, name) for name in names],
    "wrong group": lambda names: [OTHER_GROUP.get(name, name) for name in names],
    "look-alike": lambda names: [LOOK_ALIKE.get(name, name) for name in names],
}


@dataclass(frozen=True)
class Denoiser:
    """The parts of a Stable Diffusion that predict noise or velocity from a text."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler

    def context(self, texts: list[str]) -> torch.Tensor:
        """Return the text encoder's states (B, 77, D)."""
        tokens = self.tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        return self.text_encoder(tokens.input_ids)[0]

    def errors(self, latents: torch.Tensor, noise: torch.Tensor, times: torch.Tensor, texts: list[str]) -> torch.Tensor:
        """Return each image's mean squared velocity error (B,), given scaled latents, noise and timesteps (B,)."""
        noisy = self.scheduler.add_noise(latents, noise, times)
        velocity = self.scheduler.get_velocity(latents, noise, times)
        predicted = self.unet(noisy, times, self.context(texts)).sample
        return (predicted - velocity).square().mean(dim=(1, 2, 3))


def is_clear(names: Sequence[str]) -> bool:
    """Return whether a scene shows some thing and no look-alike pair together, so that every swap names it wrongly."""
    return any(name in THINGS for name in names) and not any(LOOK_ALIKE.get(name) in names for name in names)


@torch.no_grad()
def text_liveness(
    denoiser: Denoiser,
    latents: torch.Tensor,
    present: Sequence[Sequence[str]],
    times: Sequence[int] = (300, 500, 700),
    seed: int = 0,
) -> dict[tuple[str, int], tuple[float, float]]:
    """Compare wrong captions with right ones under the same noise.

    Args:
        latents: scaled latents (N, 4, h, w) of the scenes.
        present: the visible classes of each; scenes that are not clear are skipped.
        times: timesteps.
        seed: of the noise.

    Returns: (kind of wrong caption, timestep) -> (rise of the mean error in percent, share of images it is worse for).
    """
    chosen = [index for index, names in enumerate(present) if is_clear(names)]
    clean, names = latents[chosen], [list(present[index]) for index in chosen]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    table = {}
    for time in times:
        at = torch.full((len(clean),), time)
        right = denoiser.errors(clean, noise, at, [" ".join(words) for words in names])
        for kind, change in WRONG_CAPTIONS.items():
            wrong = denoiser.errors(clean, noise, at, [" ".join(change(words)) for words in names])
            rise = 100 * (wrong.mean() / right.mean() - 1).item()
            table[kind, time] = rise, (wrong > right).float().mean().item()
    return table


def format_liveness(table: Mapping[tuple[str, int], tuple[float, float]]) -> str:
    """Lay the gate out as a Markdown table: a row for a kind of wrong caption, a column for a timestep."""
    kinds, times = (list(dict.fromkeys(key[place] for key in table)) for place in (0, 1))
    lines = ["| caption | " + " | ".join(f"t={time}" for time in times) + " |", "|---" * (len(times) + 1) + "|"]
    for kind in kinds:
        cells = (f"{table[kind, time][0]:+.1f}% ({table[kind, time][1]:.0%})" for time in times)
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
