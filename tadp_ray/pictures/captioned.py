"""Captions beside their pictures, and how well they fit them, for people to look at."""

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
"""Of a line above a picture."""


def spread_over(ids: Sequence[str], count: int) -> list[str]:
    """At most `count` of the ids, evenly spread over them, the first and the last among them."""
    ids = sorted(ids)
    if count >= len(ids):
        return ids
    return [ids[round(place * (len(ids) - 1) / max(count - 1, 1))] for place in range(count)]


def draw_captions(path: Path, images: Mapping[str, Path], captions: Mapping[str, Sequence[str]]) -> None:
    """Write a contact sheet of all `images`, each with its id and captions above; long ones end in three dots.

    Raises:
        UserError: an image cannot be read.
    """
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(3 * columns, 3.2 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (image_id, file) in zip(grid, images.items(), strict=False):
        axis.imshow(read_image(file))
        said = [textwrap.shorten(text, 5 * LETTERS, placeholder=" ...") or "(empty)" for text in captions[image_id]]
        lines = [line for text in said for line in textwrap.wrap(text, LETTERS)]
        # A dollar sign would start a formula.
        axis.set_title("\n".join([image_id, *lines]).replace("$", r"\$"), fontsize=8, loc="left")
    for axis in grid:
        axis.set_axis_off()
    write_figure(figure, path)


def draw_distributions(path: Path, figures: Mapping[str, Sequence[float]]) -> None:
    """Write how figures in [0, 1] are spread over images: a histogram of each, with its mean."""
    figure = Figure(figsize=(3.4 * len(figures), 2.8), layout="constrained", dpi=150)
    panels = figure.subplots(1, len(figures), squeeze=False, sharey=True).ravel()
    for axis, (name, values) in zip(panels, figures.items(), strict=True):
        axis.hist(values, bins=20, range=(0, 1), color=AMOUNTS(0.25))
        axis.axvline(fmean(values), color="black", linewidth=1, linestyle="--")
        axis.set_title(f"{name}: mean {fmean(values):.3f} of {len(values):,} images", fontsize=9)
        axis.set_xlabel(f"{name} of an image's names")
        axis.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("images")
    write_figure(figure, path)
