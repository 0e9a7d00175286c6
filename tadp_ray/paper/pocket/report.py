"""Reports the gate of a pocket model: its metrics with their targets, and figures."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from tadp_ray.backbones.families import load_generator
from tadp_ray.backbones.latent.autoencoder import image_side
from tadp_ray.captions.describe import sentence
from tadp_ray.config.claims import Measure, Verdict
from tadp_ray.data.scenes import THINGS
from tadp_ray.layout import ATTENTION, DRAWINGS
from tadp_ray.paper.analysis.sheets import highest, overlay, show_scale
from tadp_ray.paper.pocket import gate
from tadp_ray.pictures.files import write_figure

SHOWN, MAPS_SHOWN = 5, 4
"""Scenes whose attention maps are drawn, and maps of each."""
AIMS = tuple(
    Measure.model_validate({"kind": "measure", "measure": figure, "text": text, **bound})
    for figure, text, bound in (
        ("caption/look-alike t=500", "a look-alike's name raises the denoising loss at t=500 (%)", {"min": 15}),
        ("attention/pointing", "the attention map of a thing's name is highest on the thing (%)", {"min": 80}),
        ("drawing/found", "named things that are found in drawn pictures (%)", {"min": 80}),
        (
            "drawing/found_unnamed",
            "of the 46 or 47 names that are not in the text, the share that is found in the picture anyway (%)",
            {"max": 10},
        ),
    )
)
"""Target values of the gate's metrics."""


def write_gate(weights: Path, folder: Path, say: Callable[[str], None]) -> dict[str, float]:
    """Run the gate on a pocket model, write drawings.png and attention.png, and return the metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cpu")
    metrics = gate.measure(weights, device, say)
    draw_words(weights, folder / DRAWINGS, device)
    draw_attention(weights, folder / ATTENTION, device)
    return metrics


def gate_text(figures: Mapping[str, float], verdicts: Sequence[Verdict]) -> str:
    """Return the gate's report in Markdown, with its figures; `verdicts` are those of `AIMS`."""
    pictures = "![drawings](drawings.png)\n\n![attention](attention.png)"
    return f"# What the pocket model knows about words\n\n{aims_table(figures, verdicts)}\n\n{pictures}"


def aims_table(figures: Mapping[str, float], verdicts: Sequence[Verdict]) -> str:
    """Return the gate's main metrics and their targets as a Markdown table."""
    lines = ["| figure | value | aim | |", "|:--|--:|:--|:--|"]
    lines += [
        f"| {each.text} | {each.value:.1f} | {each.aim} | {'met' if each.holds else 'missed'} |" for each in verdicts
    ]
    chance = "a thing covers {attention/chance:.1f}% of a picture, so that much pointing is chance"
    judge = (
        "the classifier that judges drawings has precision {classifier/precision:.1f}%, recall {classifier/recall:.1f}%"
    )
    return "\n".join([*lines, "", f"- {chance}\n- {judge}".format(**figures)])


def draw_words(folder: Path, output: Path, device: torch.device) -> None:
    """Write a PNG with one generated image per object name."""
    model = load_generator(str(folder)).to(device)
    texts = [sentence([thing, ("grass", "road")[place % 2], "sky"], THINGS) for place, thing in enumerate(THINGS)]
    rngs = [gate.generator(gate.SEED, 3, index) for index in range(len(texts))]
    drawn = model.draw(texts, rngs, gate.DRAWING_STEPS, gate.GUIDANCE, batch=len(texts))
    figure = Figure(figsize=(12, 5.4), layout="constrained", dpi=100)
    for axes, image, thing in zip(figure.subplots(4, 12).ravel(), drawn, THINGS, strict=True):
        axes.imshow(image, interpolation="nearest")
        axes.set_title(thing, fontsize=10)
        axes.set_axis_off()
    figure.suptitle("What the pocket model draws for a name: a photo of a ..., grass or road and sky")
    write_figure(figure, output)


def draw_attention(folder: Path, output: Path, device: torch.device) -> None:
    """Write a PNG with the cross-attention maps of the named objects of some scenes."""
    model = load_generator(str(folder)).to(device)
    vae = model.diffusion.vae
    samples = gate.held_out(image_side(vae), 4 * SHOWN).samples
    # Scenes with several objects show best how a name selects one.
    chosen = sorted(samples, key=lambda sample: -len(set(sample.box_classes)))[:SHOWN]
    latents = gate.HeldOut(tuple(chosen)).latents(vae)
    captions, maps = gate.attention_maps(model, latents, chosen)
    shown = [
        [(name, token_maps[place].numpy()) for place, name in enumerate(caption.split(), 1) if name in THINGS][
            :MAPS_SHOWN
        ]
        for caption, token_maps in zip(captions, maps, strict=True)
    ]
    top = highest(scores for named in shown for _, scores in named)
    figure = Figure(figsize=(10, 2.2 * SHOWN), layout="constrained", dpi=100)
    rows = figure.subplots(SHOWN, 1 + MAPS_SHOWN)
    for row, sample, caption, named in zip(rows, chosen, captions, shown, strict=True):
        row[0].imshow(sample.image, interpolation="nearest")
        row[0].set_title(textwrap.fill(caption, 26), fontsize=8)
        for axes, (name, scores) in zip(row[1:], named, strict=False):
            overlay(axes, sample.image, scores, top, name)
        for axes in row:
            axes.set_axis_off()
    show_scale(figure, figure.axes, top)
    figure.suptitle("Cross-attention maps of the named things")
    write_figure(figure, output)
