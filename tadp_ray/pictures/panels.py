"""Draws images, ground truth and predictions of several systems where they differ most (Figures S7 and S11 to S20)."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tadp_ray.data.images import read_image
from tadp_ray.errors import UserError
from tadp_ray.files import write_json
from tadp_ray.pictures.choose import Direction, Selection, choose, directions, rule, windows
from tadp_ray.pictures.comparison import Comparison
from tadp_ray.pictures.files import write_figure
from tadp_ray.pictures.overlays import Box, frame, name_colours, show_image

SIDE = 1.7
"""Width of a panel in inches."""
NAME_WIDTH = 24
"""Letters of a title above a panel."""
LETTERS = 36
"""Of a line of a caption below a panel."""
LINES = 4
"""Of a caption; longer ones are cut."""
LINE = 0.11
"""Height of such a line in inches."""


def write_comparison(
    comparison: Comparison, folder: Path, count: int
) -> tuple[dict[Direction, list[Selection]], list[Path]]:
    """Write better.{png,pdf} and worse.{png,pdf}, if there are such images, and choice.json with the rules of selection.

    Of a single system, write examples.{png,pdf} instead (Figures S11 to S13).

    Args:
        comparison: the systems.
        folder: destination.
        count: maximum number of images per figure.

    Returns: the selected images, and the files.

    Raises:
        UserError: an image cannot be read, or its ground truth has another size.
    """
    chosen: dict[Direction, list[Selection]] = {
        direction: choose(comparison.scores, direction, count) for direction in directions(len(comparison.systems))
    }
    files, facts = [], []
    for direction, rows in chosen.items():
        made = [folder / f"{direction}.{kind}" for kind in ("png", "pdf")]
        if not rows:
            # An earlier call's.
            for file in made:
                file.unlink(missing_ok=True)
            continue
        figure, frames = draw_comparison(comparison, rows, direction)
        write_figure(figure, *made)
        files += made
        facts += [
            described(comparison, direction, selection, boxes) for selection, boxes in zip(rows, frames, strict=True)
        ]
    folder.mkdir(parents=True, exist_ok=True)
    rules = {direction: rule(comparison.score, direction) for direction in chosen}
    write_json(folder / "choice.json", {"rules": rules, "systems": comparison.systems, "images": facts})
    return chosen, [*files, folder / "choice.json"]


def described(comparison: Comparison, direction: Direction, selection: Selection, frames: Sequence[Box]) -> dict:
    """Return a selected image in JSON's types."""
    return {
        "direction": direction,
        "id": comparison.ids[selection.number],
        "scores": dict(zip(comparison.systems, comparison.scores[:, selection.number].tolist(), strict=True)),
        **({} if direction == "examples" else {"against": comparison.systems[selection.rival]}),
        "frames": frames,
    }


def draw_comparison(
    comparison: Comparison, rows: Sequence[Selection], direction: Direction
) -> tuple[Figure, list[list[Box]]]:
    """Return a figure with one row per image, and the framed windows (left, top, right, bottom) of each row."""
    images = [read_image(comparison.images[comparison.ids[selection.number]]) for selection in rows]
    columns = ("image", "truth", *comparison.systems)
    below = [captions_of(comparison, comparison.ids[selection.number]) for selection in rows]
    heights = [
        SIDE * image.shape[0] / image.shape[1] + 0.16 + LINE * max((text.count("\n") + 1 for text in own), default=0)
        for image, own in zip(images, below, strict=True)
    ]
    figure = Figure(
        figsize=(SIDE * len(columns) + 0.5, sum(heights) + (1.3 if any(below) else 1.0)), layout="constrained", dpi=200
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    grid = figure.subplots(len(rows), len(columns), squeeze=False, height_ratios=heights)
    named: set[int] = set()
    frames = []
    for axes, image, selection in zip(grid, images, rows, strict=True):
        frames.append(draw_row(comparison, axes, image, selection, direction, named))
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title(f"{textwrap.fill(name, NAME_WIDTH)}\n{axes.get_title()}".strip(), fontsize=8)
    name_colours(figure, named, comparison.classes)
    others = " and ".join(comparison.systems[1:])
    title = f"{comparison.systems[0]} {direction} than {others}, by most" if others else comparison.systems[0]
    figure.suptitle(textwrap.fill(title, NAME_WIDTH * len(columns)), fontsize=9)
    return figure, frames


def draw_row(
    comparison: Comparison,
    axes: Sequence[Axes],
    image: np.ndarray,
    selection: Selection,
    direction: Direction,
    named: set[int],
) -> list[Box]:
    """Draw the row of an image, add its classes to `named`, and return its framed windows."""
    name = comparison.ids[selection.number]
    read = [comparison.read(system, name) for system in range(len(comparison.systems))]
    for axis, score in zip(axes[2:], comparison.scores[:, selection.number], strict=True):
        axis.set_title(comparison.score.shown(score), fontsize=7, pad=2)
    truth = read[0][1]
    size = tuple(truth.shape) if comparison.pixel_score else comparison.sizes.get(name, image.shape[:2])
    if image.shape[:2] != size:
        sizes = f"is {image.shape[:2]} (height, width), its target is {size}"
        raise UserError(f"{comparison.images[name]}: {sizes}; they must be of one size")
    show_image(axes[0], image)
    named |= comparison.draw(
        axes[1:], image, [truth, *(prediction for prediction, _ in read)], comparison.classes, axes
    )
    for axis, caption in zip(axes[2:], captions_of(comparison, name), strict=False):
        # A label keeps its room in the layout; an axis that is off shows none, so its lines and ticks are hidden instead.
        axis.set_axis_on()
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        axis.set_xlabel(caption, fontsize=5.5, labelpad=2)
    if comparison.pixel_score is None or direction == "examples":
        return []
    gain = (comparison.pixel_score(*read[0]) - comparison.pixel_score(*read[selection.rival])).numpy()
    boxes: list[Box] = list(windows(gain if direction == "better" else -gain))
    for axis in axes:
        for box in boxes:
            frame(axis, box, "white")
    return boxes


def captions_of(comparison: Comparison, name: str) -> list[str]:
    """Return the prompt of each system for an image, in lines; none if captions are not shown."""
    return [
        "\n".join(textwrap.wrap(textwrap.shorten(caption, LINES * (LETTERS - 4), placeholder=" ..."), LETTERS))
        or "(the empty prompt)"
        for caption in comparison.captions.get(name, ())
    ]
