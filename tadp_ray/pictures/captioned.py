"""Figures of captions: contact sheets of captioned images, and histograms of caption scores."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

from tadp_ray.data.images import read_image
from tadp_ray.pictures.colours import AMOUNTS
from tadp_ray.pictures.files import write_figure

COLUMNS = 4
LETTERS = 38
"""Maximum length of a line of a caption."""


def draw_captions(path: Path, images: Mapping[str, Path], captions: Mapping[str, Sequence[str]]) -> None:
    """Write a contact sheet of `images`, each with its id and captions above. Long captions are truncated.

    Raises:
        UserError: an image cannot be read.
    """
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(3 * columns, 3.2 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (image_id, file) in zip(grid, images.items(), strict=False):
        axis.imshow(read_image(file))
        texts = [textwrap.shorten(text, 5 * LETTERS, placeholder=" ...") or "(empty)" for text in captions[image_id]]
        lines = [line for text in texts for line in textwrap.wrap(text, LETTERS)]
        axis.set_title("\n".join([image_id, *lines]), fontsize=8, loc="left")
    for axis in grid:
        axis.set_axis_off()
    write_figure(figure, path)


def draw_distributions(path: Path, metrics: Mapping[str, Sequence[float]]) -> None:
    """Write a histogram over images, with its mean, of each metric in [0, 1]."""
    figure = Figure(figsize=(3.4 * len(metrics), 2.8), layout="constrained", dpi=150)
    panels = figure.subplots(1, len(metrics), squeeze=False, sharey=True).ravel()
    for axis, (name, values) in zip(panels, metrics.items(), strict=True):
        axis.hist(values, bins=20, range=(0, 1), color=AMOUNTS(0.25))
        axis.axvline(fmean(values), color="black", linewidth=1, linestyle="--")
        axis.set_title(f"{name}: mean {fmean(values):.3f} of {len(values):,} images", fontsize=9)
        axis.set_xlabel(f"{name} of an image's names")
        axis.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("images")
    write_figure(figure, path)
