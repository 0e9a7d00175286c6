"""The gate: evaluates on held-out scenes whether a pocket model understands words.

Captions: by how much does a wrong caption increase the denoising error? Attention: is the map of an object's name on the
object? Drawing: does an image generated from a text contain the named objects, and no others?
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tadp_ray.backbones.families import load_generator
from tadp_ray.backbones.latent.autoencoder import Autoencoder, decode, image_side, latent_scale
from tadp_ray.backbones.latent.image_generator import ImageGenerator
from tadp_ray.captions.describe import class_list, sentence
from tadp_ray.conditioning.text_encoder import encode_prompts
from tadp_ray.config.pretraining import HELD_OUT_SEED
from tadp_ray.data.scenes import CLASSES, GROUNDS, LOOK_ALIKES, THINGS, Scene, present_classes, render
from tadp_ray.errors import UserError
from tadp_ray.layout import CLASSIFIER
from tadp_ray.paper.analysis.attention import average, by_size
from tadp_ray.paper.localisation import localisation
from tadp_ray.paper.pocket.autoencoder import as_pixels, encode, psnr
from tadp_ray.paper.pocket.classifier import build_classifier, presence, shown
from tadp_ray.paper.pocket.denoiser import caption_errors
from tadp_ray.training.checkpoint import Damaged, load_weights, read_tensors
from tadp_ray.training.rng import generator

SEED = HELD_OUT_SEED
"""Seed of the held-out scenes; a pretraining refuses it."""
TIMES = (300, 500, 700)
MAP_TIME = 100
"""The timestep of the attention maps: some noise, so that the model needs the words."""
DRAWINGS, DRAWING_STEPS, GUIDANCE, BATCH = 144, 25, 3.0, 40

Rises = dict[tuple[str, int], float]
"""(kind of wrong caption, timestep) -> increase of the mean error in percent."""


@dataclass(frozen=True)
class HeldOut:
    """Scenes in the style of pretraining."""

    samples: tuple[Scene, ...]

    @cached_property
    def images(self) -> Tensor:
        """Images, uint8 (N, H, W, 3)."""
        return torch.from_numpy(np.stack([sample.image for sample in self.samples]))

    @cached_property
    def names(self) -> list[tuple[str, ...]]:
        """The visible classes of each scene."""
        return [present_classes(sample.mask) for sample in self.samples]

    def latents(self, vae: Autoencoder) -> Tensor:
        """Return scaled latents (N, 4, h, w), on the VAE's device."""
        return encode(vae, self.images, vae.device)[0] * latent_scale(vae)


def held_out(size: int, count: int = 160) -> HeldOut:
    """Return the first `count` held-out scenes."""
    return HeldOut(tuple(render("pretrain", SEED, index, size) for index in range(count)))


def other(name: str, shown: Sequence[str], among: Sequence[str]) -> str:
    """Return a name that is not in a scene, always the same for `name`; `name` itself if there is none."""
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
    model: ImageGenerator, latents: Tensor, names: Sequence[Sequence[str]], times: Sequence[int] = TIMES
) -> Rises:
    """Return by how much wrong captions increase the denoising error over correct ones, with the same noise.

    Args:
        model: model that denoises.
        latents: scaled latents (N, 4, h, w) of the scenes.
        names: the visible classes of each scene; scenes without objects are skipped.
        times: timesteps.
    """
    chosen = [index for index, shown in enumerate(names) if any(name in THINGS for name in shown)]
    clean, shown = latents[chosen], [names[index] for index in chosen]
    noise = torch.randn(clean.shape, generator=generator(SEED, 0)).to(clean.device)
    table = {}
    for time in times:
        timesteps = torch.full((len(clean),), time, device=clean.device)
        correct = caption_errors(model, clean, noise, timesteps, [class_list(words) for words in shown])
        for kind, change in WRONG_CAPTIONS.items():
            wrong = caption_errors(model, clean, noise, timesteps, [class_list(change(words)) for words in shown])
            table[kind, time] = 100 * (wrong.mean() / correct.mean() - 1).item()
    return table


@torch.no_grad()
def attention_maps(model: ImageGenerator, latents: Tensor, samples: Sequence[Scene]) -> tuple[list[str], Tensor]:
    """Return each scene's class list and the cross-attention maps (B, T, H, W) of its tokens, at the image's size.

    Maps are at timestep 100: the mean over layers and heads, summed over the two largest resolutions. A DiT has only one.
    """
    noise = torch.randn(latents.shape, generator=generator(SEED, 1)).to(latents.device)
    noisy = model.schedule.add_noise(latents, noise, torch.tensor([MAP_TIME]))
    captions = [class_list(present_classes(sample.mask)) for sample in samples]
    context = encode_prompts(model.diffusion.tokenizer, model.diffusion.text_encoder, captions)
    layers = model.diffusion.attention_layers(noisy, context, MAP_TIME)
    largest, size = list(by_size(layers).values())[:2], samples[0].mask.shape
    return captions, reduce(torch.add, (average(each, size) for each in largest)).cpu()


def attention_hits(model: ImageGenerator, latents: Tensor, samples: Sequence[Scene]) -> dict[str, float]:
    """Return how well the cross-attention maps of the named objects localise them.

    Returns: in percent, over all objects in all scenes: `pointing`, how often the map's maximum is on the object; `chance`,
    the mean share of the image that an object covers; `average_precision` of the map as a score of the object's pixels.
    """
    captions, maps = attention_maps(model, latents, samples)
    found = [
        localisation(token_maps[place].numpy(), sample.mask == CLASSES.index(name))
        for sample, caption, token_maps in zip(samples, captions, maps, strict=True)
        for place, name in enumerate(caption.split(), 1)  # after the start token; every class name is one token
        if name in THINGS
    ]
    return {name: 100 * float(np.mean([each[name] for each in found])) for name in found[0]}


def drawing_texts() -> tuple[list[str], list[tuple[str, ...]]]:
    """Return texts for generation, each with one or two objects on a ground under the sky, and the objects of each."""
    texts, named = [], []
    for index in range(DRAWINGS):
        rng = np.random.default_rng((SEED, index))
        # Every object is equally often the first.
        first = THINGS[index % len(THINGS)]
        second = other(first, (first, *LOOK_ALIKES[first]), [THINGS[k] for k in rng.permutation(len(THINGS))])
        things = (first, second)[: 1 + index % 2]
        texts.append(sentence([*things, list(GROUNDS)[rng.integers(len(GROUNDS))], "sky"], THINGS))
        named.append(things)
    return texts, named


@torch.no_grad()
def drawn_things(model: ImageGenerator, classifier: nn.Module) -> dict[str, float]:
    """Generate images with a model and classify the objects in them.

    Returns: in percent, `found`, the share of the named objects that is found in the images, and `found_unnamed`: of the 46 or
    47 names that are not in the text, the share that is found anyway. 2 % of them are about one object in each image.
    """
    texts, named = drawing_texts()
    rngs = [generator(SEED, 2, index) for index in range(len(texts))]
    images = np.stack(model.draw(texts, rngs, DRAWING_STEPS, GUIDANCE, BATCH))
    found = shown(classifier, as_pixels(torch.from_numpy(images).to(model.diffusion.vae.device)))
    wanted = presence(named)
    parts = {"found": found[wanted], "found_unnamed": found[~wanted]}
    return {name: 100 * values.float().mean().item() for name, values in parts.items()}


def load_classifier(folder: Path) -> nn.Module:
    """Load the classifier in the folder of a pocket model.

    Raises:
        UserError: the classifier is missing or damaged, or has other classes.
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
    """Return the precision and recall of the classifier in percent, on VAE reconstructions of held-out scenes."""
    images = decode(vae, scenes.latents(vae) / latent_scale(vae))
    found, present = shown(classifier, images), presence(scenes.names)
    hits = (found & present).sum().item()
    return {"precision": 100 * hits / max(found.sum().item(), 1), "recall": 100 * hits / present.sum().item()}


def measure(folder: Path, device: torch.device, say: Callable[[str], None]) -> dict[str, float]:
    """Run the gate on a pocket model with its classifier; return metrics in percent by name, `psnr` in dB."""
    model, classifier = load_generator(str(folder)).to(device), load_classifier(folder).to(device)
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
    drawn = drawn_things(model, classifier)
    accuracy = judged(classifier, diffusion.vae, scenes)
    say(
        f"drawing: {drawn['found']:.1f}% of named things found, {drawn['found_unnamed']:.1f}% of the names not in the text "
        f"(the classifier's precision {accuracy['precision']:.1f}%, recall {accuracy['recall']:.1f}%)"
    )
    parts = {"attention": hits, "drawing": drawn, "classifier": accuracy}
    return {
        **as_metrics(rises),
        **{f"{part}/{name}": value for part, metrics in parts.items() for name, value in metrics.items()},
        "psnr": psnr(diffusion.vae, scenes.images, device),
        "parameters": sum(p.numel() for part in (diffusion.denoiser, *diffusion.networks) for p in part.parameters()),
    }


def as_metrics(rises: Rises) -> dict[str, float]:
    """Return the increases with their metric names in the journal and MLflow."""
    return {f"caption/{kind} t={time}": rise for (kind, time), rise in rises.items()}


def format_rises(table: Rises) -> str:
    """Return a Markdown table with a row per kind of wrong caption and a column per timestep."""
    kinds, times = dict.fromkeys(kind for kind, _ in table), dict.fromkeys(time for _, time in table)
    lines = ["| caption | " + " | ".join(f"t={time}" for time in times) + " |", "|---" * (len(times) + 1) + "|"]
    for kind in kinds:
        cells = (f"{table[kind, time]:+.1f}%" for time in times)
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
