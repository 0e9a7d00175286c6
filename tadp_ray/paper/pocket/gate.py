"""Do words mean anything to a pocket Stable Diffusion? Three measurements on scenes that it was not trained on.

Captions: how much worse does it denoise when its caption is wrong? Attention: does the map of a thing's name lie on the thing?
Drawing: does a picture drawn from a text show the things that are named, and no others?
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadp_ray.backbones.stable_diffusion.attention import level_maps
from tadp_ray.backbones.stable_diffusion.autoencoder import Autoencoder, decode, image_side, latent_scale
from tadp_ray.backbones.stable_diffusion.text_to_image import TextToImage, load_text_to_image
from tadp_ray.captions.describe import class_list, sentence
from tadp_ray.conditioning.text_encoder import encode_prompts
from tadp_ray.data.sample import Sample
from tadp_ray.data.scenes import CLASSES, GROUNDS, LOOK_ALIKES, THINGS, present_classes, render
from tadp_ray.errors import UserError
from tadp_ray.layout import CLASSIFIER
from tadp_ray.paper.localisation import localisation
from tadp_ray.paper.pocket.autoencoder import as_pixels, encode, psnr
from tadp_ray.paper.pocket.classifier import build_classifier, presence, shown
from tadp_ray.paper.pocket.denoiser import caption_errors
from tadp_ray.training.checkpoint import Damaged, load_weights, read_tensors
from tadp_ray.training.rng import generator

SEED = 1_000_000
"""Of the scenes that only measure; no pretraining uses it."""
TIMES = (300, 500, 700)
MAP_TIME = 100
"""The timestep at which attention is read: some noise, so that the words are needed."""
DRAWINGS, DRAWING_STEPS, GUIDANCE = 120, 25, 3.0

Rises = dict[tuple[str, int], float]
"""(kind of wrong caption, timestep) -> rise of the mean error in percent."""


@dataclass(frozen=True)
class HeldOut:
    """Scenes that look as pretraining sees them."""

    samples: tuple[Sample, ...]

    @cached_property
    def images(self) -> Tensor:
        """uint8 (N, H, W, 3)."""
        return torch.from_numpy(np.stack([sample.image for sample in self.samples]))

    @cached_property
    def names(self) -> list[tuple[str, ...]]:
        """The visible classes of each."""
        return [present_classes(sample.mask) for sample in self.samples]

    def latents(self, vae: Autoencoder) -> Tensor:
        """Scaled latents (N, 4, h, w), on the VAE's device."""
        return encode(vae, self.images, vae.device)[0] * latent_scale(vae)


def held_out(size: int, count: int = 160) -> HeldOut:
    """The first `count` scenes of the measuring seed."""
    return HeldOut(tuple(render("pretrain", SEED, index, size) for index in range(count)))


def other(name: str, shown: Sequence[str], among: Sequence[str]) -> str:
    """A name that a scene does not show, the same one every time; `name` itself if there is none."""
    absent = [candidate for candidate in among if candidate not in shown]
    return absent[CLASSES.index(name) % len(absent)] if absent else name


WRONG_CAPTIONS: Mapping[str, Callable[[Sequence[str]], list[str]]] = {
    "null": lambda names: [],
    "wrong ground": lambda names: [other(n, names, list(GROUNDS)) if n in GROUNDS else n for n in names],
    "wrong group": lambda names: [other(n, [*names, *LOOK_ALIKES[n]], THINGS) if n in THINGS else n for n in names],
    "look-alike": lambda names: [other(n, names, LOOK_ALIKES[n]) if n in THINGS else n for n in names],
}


@torch.no_grad()
def caption_rises(
    model: TextToImage, latents: Tensor, names: Sequence[Sequence[str]], times: Sequence[int] = TIMES
) -> Rises:
    """Compare wrong captions with right ones under the same noise.

    Args:
        model: that denoises.
        latents: scaled latents (N, 4, h, w) of the scenes.
        names: the visible classes of each; scenes without a thing are skipped.
        times: timesteps.
    """
    chosen = [index for index, shown in enumerate(names) if any(name in THINGS for name in shown)]
    clean, shown = latents[chosen], [names[index] for index in chosen]
    noise = torch.randn(clean.shape, generator=generator(SEED, 0)).to(clean.device)
    table = {}
    for time in times:
        at = torch.full((len(clean),), time, device=clean.device)
        right = caption_errors(model, clean, noise, at, [class_list(words) for words in shown])
        for kind, change in WRONG_CAPTIONS.items():
            wrong = caption_errors(model, clean, noise, at, [class_list(change(words)) for words in shown])
            table[kind, time] = 100 * (wrong.mean() / right.mean() - 1).item()
    return table


@torch.no_grad()
def attention_maps(model: TextToImage, latents: Tensor, samples: Sequence[Sample]) -> tuple[list[str], Tensor]:
    """Each scene's class list, and the cross-attention map of every token of it, (B, T, H, W) in pixels.

    Read at timestep 100; mean over layers and heads, summed over the two largest sizes.
    """
    noise = torch.randn(latents.shape, generator=generator(SEED, 1)).to(latents.device)
    noisy = model.schedule.add_noise(latents, noise, torch.tensor([MAP_TIME]))
    captions = [class_list(present_classes(sample.mask)) for sample in samples]
    context = encode_prompts(model.diffusion.tokenizer, model.diffusion.text_encoder, captions)
    maps = level_maps(model.diffusion.unet, noisy, MAP_TIME, context, levels=(0, 1))
    size = samples[0].mask.shape
    return captions, sum(F.interpolate(level, size, mode="bilinear") for level in maps).cpu()


def attention_hits(model: TextToImage, latents: Tensor, samples: Sequence[Sample]) -> dict[str, float]:
    """Where the cross-attention map of a named thing lies.

    Returns, over all things in all scenes, in percent: `pointing`, how often the map's highest place is on the thing;
    `chance`, the mean share of the picture that a thing covers; `average_precision` of the map as a score of its pixels.
    """
    captions, maps = attention_maps(model, latents, samples)
    found = [
        localisation(own[place].numpy(), sample.mask == CLASSES.index(name))
        for sample, caption, own in zip(samples, captions, maps, strict=True)
        for place, name in enumerate(caption.split(), 1)  # behind the start mark; every class name is one token
        if name in THINGS
    ]
    return {name: 100 * float(np.mean([own[name] for own in found])) for name in found[0]}


def drawing_texts(count: int = DRAWINGS) -> tuple[list[str], list[tuple[str, ...]]]:
    """Texts to draw, each of one or two things on a ground under the sky, and the things that each names."""
    texts, named = [], []
    for index in range(count):
        rng = np.random.default_rng((SEED, index))
        # Every thing comes up equally often as the first.
        first = THINGS[index % len(THINGS)]
        second = other(first, (first, *LOOK_ALIKES[first]), [THINGS[k] for k in rng.permutation(len(THINGS))])
        things = (first, second)[: 1 + index % 2]
        texts.append(sentence([*things, list(GROUNDS)[rng.integers(len(GROUNDS))], "sky"], THINGS))
        named.append(things)
    return texts, named


@torch.no_grad()
def drawn_things(folder: Path, device: torch.device, batch: int = 40) -> dict[str, float]:
    """Draw pictures with the model in `folder` and let its classifier say what they show.

    Returns: in percent, `found` (named things that are there), `found_unnamed` (other things that are there).
    """
    model, classifier = load_text_to_image(str(folder)).to(device), load_classifier(folder).to(device)
    texts, named = drawing_texts()
    rngs = [generator(SEED, 2, index) for index in range(len(texts))]
    images = np.stack(model.draw(texts, rngs, DRAWING_STEPS, GUIDANCE, batch))
    found, asked = shown(classifier, as_pixels(torch.from_numpy(images).to(device))), presence(named)
    figures = {"found": found[asked], "found_unnamed": found[~asked]}
    return {name: 100 * values.float().mean().item() for name, values in figures.items()}


def load_classifier(folder: Path) -> nn.Module:
    """The classifier beside a pocket model.

    Raises:
        UserError: it is missing, damaged, or knows other things.
    """
    path, classifier = folder / CLASSIFIER, build_classifier()
    if not path.is_file():
        raise UserError(
            f"{path} is missing: without it nobody judges the pictures; `tadp-ray pocket pretrain` makes it"
        )
    try:
        weights = read_tensors(path)[0]
    except Damaged as error:
        raise UserError(f"{error}; fetch or make the model again") from None
    load_weights(path, classifier, weights)
    return classifier.eval()


@torch.no_grad()
def judged(classifier: nn.Module, vae: Autoencoder, scenes: HeldOut) -> dict[str, float]:
    """How far the classifier can be believed: its precision and recall in percent on reconstructions of known scenes."""
    seen = decode(vae, scenes.latents(vae) / latent_scale(vae))
    found, there = shown(classifier, seen), presence(scenes.names)
    hits = (found & there).sum().item()
    return {"precision": 100 * hits / max(found.sum().item(), 1), "recall": 100 * hits / there.sum().item()}


def measure(folder: Path, device: torch.device, say: Callable[[str], None]) -> dict[str, float]:
    """The whole gate for a pocket model with its classifier: figures in percent by name, `psnr` in dB."""
    model = load_text_to_image(str(folder)).to(device)
    diffusion = model.diffusion
    scenes = held_out(image_side(diffusion.vae))
    latents = scenes.latents(diffusion.vae)
    rises = caption_rises(model, latents, scenes.names)
    say(f"wrong captions raise the loss by\n{format_rises(rises)}")
    hits = attention_hits(model, latents, scenes.samples)
    say(
        "attention: pointing {pointing:.1f}% (chance {chance:.1f}%), average precision {average_precision:.1f}%".format(
            **hits
        )
    )
    drawn = drawn_things(folder, device)
    sure = judged(load_classifier(folder).to(device), diffusion.vae, scenes)
    say(
        f"drawing: {drawn['found']:.1f}% of named things found, {drawn['found_unnamed']:.1f}% of others "
        f"(the classifier's precision {sure['precision']:.1f}%, recall {sure['recall']:.1f}%)"
    )
    parts = {"attention": hits, "drawing": drawn, "classifier": sure}
    return {
        **as_metrics(rises),
        **{f"{part}/{name}": value for part, figures in parts.items() for name, value in figures.items()},
        "psnr": psnr(diffusion.vae, scenes.images, device),
        "parameters": sum(
            p.numel() for part in (diffusion.vae, diffusion.unet, diffusion.text_encoder) for p in part.parameters()
        ),
    }


def as_metrics(rises: Rises) -> dict[str, float]:
    """Rises by the names that the journal and MLflow use."""
    return {f"caption/{kind} t={time}": rise for (kind, time), rise in rises.items()}


def format_rises(table: Rises) -> str:
    """A Markdown table: a row for a kind of wrong caption, a column for a timestep."""
    kinds, times = (list(dict.fromkeys(key[place] for key in table)) for place in (0, 1))
    lines = ["| caption | " + " | ".join(f"t={time}" for time in times) + " |", "|---" * (len(times) + 1) + "|"]
    for kind in kinds:
        cells = (f"{table[kind, time]:+.1f}%" for time in times)
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
