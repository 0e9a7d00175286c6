"""What a pocket Stable Diffusion knows about words: the gate beside its aims, and pictures to look at."""

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tadp_ray.data.scenes import THINGS
from tadp_ray.pocket import gate
from tadp_ray.pocket.denoiser import Denoiser, load_pipeline


@dataclass(frozen=True)
class Aim:
    """What a figure of the gate should be."""

    figure: str
    meaning: str
    least: float | None = None
    most: float | None = None

    def met(self, value: float) -> bool:
        """Whether a value is good enough."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def text(self) -> str:
        """`at least 15`."""
        return f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"

    def claim(self, value: float) -> dict[str, str | float | bool]:
        """The aim held against a value, as findings tell it."""
        return {"text": self.meaning, "value": value, "aim": self.text, "holds": self.met(value)}


AIMS = (
    Aim("caption/look-alike t=500", "a look-alike's name raises the denoising loss at t=500 (%)", least=15),
    Aim("attention/pointing", "the attention map of a thing's name is highest on the thing (%)", least=80),
    Aim("drawing/found", "named things that are found in drawn pictures (%)", least=80),
    Aim("drawing/found_unnamed", "things that are found and were not named (%)", most=10),
)


def write_gate(weights: Path, folder: Path, say: Callable[[str], None]) -> tuple[dict[str, float], str]:
    """Measure a pocket folder and write drawings.png and attention.png; returns the figures, and Markdown about them."""
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cpu")
    figures = gate.measure(weights, device, say)
    draw_words(weights, folder / "drawings.png", device)
    draw_attention(weights, folder / "attention.png", device)
    pictures = "![drawings](drawings.png)\n\n![attention](attention.png)"
    return figures, f"# What the pocket model knows about words\n\n{aims_table(figures)}\n\n{pictures}"


def aims_table(figures: Mapping[str, float]) -> str:
    """The gate's main figures beside their aims, in Markdown."""
    lines = ["| figure | value | aim | |", "|:--|--:|:--|:--|"]
    for aim in AIMS:
        value = figures[aim.figure]
        lines.append(f"| {aim.meaning} | {value:.1f} | {aim.text} | {'met' if aim.met(value) else 'missed'} |")
    chance = "a thing covers {attention/chance:.1f}% of a picture, so that much pointing is chance"
    judge = (
        "the classifier that judges drawings has precision {classifier/precision:.1f}%, recall {classifier/recall:.1f}%"
    )
    return "\n".join([*lines, "", f"- {chance}\n- {judge}".format(**figures)])


def draw_words(folder: Path, output: Path, device: torch.device) -> None:
    """Write what the model draws for each thing's name, one picture a thing, as PNG."""
    pipeline = load_pipeline(folder).to(device)
    texts = [
        f"a photo of a {thing}, {ground} and sky" for thing, ground in zip(THINGS, 12 * ["grass", "road"], strict=True)
    ]
    chances = [gate.generator(gate.SEED, 3, index) for index in range(len(texts))]
    drawn = pipeline(
        texts,
        num_inference_steps=gate.DRAWING_STEPS,
        guidance_scale=gate.GUIDANCE,
        generator=chances,
        output_type="np",
    ).images
    figure = Figure(figsize=(12, 6.6), layout="constrained", dpi=100)
    for axes, picture, thing in zip(figure.subplots(3, 8).ravel(), drawn, THINGS, strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(thing, fontsize=11)
        axes.set_axis_off()
    figure.suptitle("What the pocket model draws for a name: a photo of a ..., grass or road and sky")
    FigureCanvasAgg(figure).print_png(output)


def draw_attention(folder: Path, output: Path, device: torch.device, count: int = 5) -> None:
    """Write where the model looks for each named thing of some scenes, as PNG."""
    pipeline = load_pipeline(folder).to(device)
    samples = gate.held_out(pipeline.vae.config.sample_size, 4 * count).samples
    # Scenes with several things show best what a name singles out.
    chosen = sorted(samples, key=lambda sample: -len(set(sample.box_classes)))[:count]
    latents = gate.HeldOut(tuple(chosen)).latents(pipeline.vae)
    captions, maps = gate.attention_maps(Denoiser.of(pipeline), latents, chosen)
    figure = Figure(figsize=(10, 2.2 * count), layout="constrained", dpi=100)
    for row, sample, caption, own in zip(figure.subplots(count, 5), chosen, captions, maps, strict=True):
        row[0].imshow(sample.image, interpolation="nearest")
        row[0].set_title(textwrap.fill(caption, 26), fontsize=8)
        named = [(place, name) for place, name in enumerate(caption.split(), 1) if name in THINGS]
        for axes, (place, name) in zip(row[1:], named, strict=False):
            axes.imshow(sample.image.mean(axis=2), cmap="gray", interpolation="nearest")
            axes.imshow(own[place].numpy(), cmap="inferno", alpha=0.65)
            axes.set_title(name, fontsize=9)
        for axes in np.ravel(row):
            axes.set_axis_off()
    figure.suptitle("Cross-attention maps of the named things")
    FigureCanvasAgg(figure).print_png(output)
