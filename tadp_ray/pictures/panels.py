"""Panels of image, truth and what several systems make of it, where they differ most (Figures S7 and S11 to S20)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tadp_ray.data.images import read_image
from tadp_ray.errors import UserError
from tadp_ray.files import write_json
from tadp_ray.pictures.choose import SURE, Direction, Selection, choose, rule, windows
from tadp_ray.pictures.contest import Contest
from tadp_ray.pictures.files import write_figure
from tadp_ray.pictures.marks import (
    Box,
    frame,
    name_colours,
    short,
    show_boxes,
    show_depth,
    show_image,
    show_labels,
    show_scale,
    span_of,
)
from tadp_ray.scoring.things import LabelledBox

SIDE = 1.7
"""Inches of a panel's width."""
UNITS = {"segmentation": "mIoU {:.1f} %", "depth": "RMSE {:.2f} m", "detection": "hits {:.0f} %"}


def write_contest(contest: Contest, folder: Path, count: int) -> tuple[dict[Direction, list[Selection]], list[Path]]:
    """Write better.{png,pdf} and worse.{png,pdf}, as far as there are such images, and choice.json, which says why these.

    Args:
        contest: the systems.
        folder: where to write.
        count: images of a picture at most.

    Returns: the images that were chosen, and the files.

    Raises:
        UserError: an image cannot be read, or is of another size than its truth.
    """
    chosen: dict[Direction, list[Selection]] = {
        direction: choose(contest.scores, direction, count) for direction in ("better", "worse")
    }
    files, facts = [], []
    for direction, rows in chosen.items():
        figure, frames = draw_contest(contest, rows, direction)
        made = [folder / f"{direction}.{kind}" for kind in ("png", "pdf")] if rows else []
        write_figure(figure, *made)
        files += made
        facts += [described(contest, direction, own, boxes) for own, boxes in zip(rows, frames, strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    rules = {direction: rule(contest.task, direction) for direction in chosen}
    write_json(folder / "choice.json", {"rules": rules, "systems": contest.systems, "images": facts})
    return chosen, [*files, folder / "choice.json"]


def described(contest: Contest, direction: Direction, own: Selection, frames: Sequence[Box]) -> dict:
    """A chosen image in JSON's types."""
    return {
        "direction": direction,
        "id": contest.ids[own.number],
        "scores": dict(zip(contest.systems, contest.scores[:, own.number].tolist(), strict=True)),
        "against": contest.systems[own.rival],
        "frames": frames,
    }


def draw_contest(contest: Contest, rows: Sequence[Selection], direction: Direction) -> tuple[Figure, list[list[Box]]]:
    """A figure with a row for each image, and the windows (left, top, right, bottom) that are framed in it."""
    images = [read_image(contest.images[contest.ids[own.number]]) for own in rows]
    columns = ("image", "truth", *contest.systems)
    heights = [SIDE * image.shape[0] / image.shape[1] + 0.16 for image in images]
    figure = Figure(figsize=(SIDE * len(columns) + 0.5, sum(heights) + 1.0), layout="constrained", dpi=200)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    if not rows:
        return figure, []
    grid = figure.subplots(len(rows), len(columns), squeeze=False, height_ratios=heights)
    named: set[int] = set()
    frames = []
    for axes, image, own in zip(grid, images, rows, strict=True):
        frames.append(draw_row(contest, axes, image, own, direction, named))
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title(f"{name}\n{axes.get_title()}".strip(), fontsize=8)
    name_colours(figure, named, contest.classes)
    others = " and ".join(contest.systems[1:])
    figure.suptitle(f"{contest.systems[0]} {direction} than {others}, by most", fontsize=9)
    return figure, frames


def draw_row(
    contest: Contest, axes: Sequence[Axes], image: np.ndarray, own: Selection, direction: Direction, named: set[int]
) -> list[Box]:
    """Draw an image's row, add the classes it shows to `named`, and return its framed windows."""
    name = contest.ids[own.number]
    read = [contest.read(system, name) for system in range(len(contest.systems))]
    for axis, score in zip(axes[2:], contest.scores[:, own.number], strict=True):
        axis.set_title(UNITS[contest.task].format(abs(score)), fontsize=7, pad=2)
    if contest.merit is None:
        show_image(axes[0], image)
        for axis, things in zip(axes[1:], (read[0][1], *(found for found, _ in read)), strict=True):
            named |= draw_things(axis, image, things, contest.classes)
        return []
    truth = read[0][1].numpy()
    if image.shape[:2] != truth.shape:
        raise UserError(
            f"{contest.images[name]}: is {image.shape[:2]} (height, width), its target is {truth.shape}; they must be of one size"
        )
    show_image(axes[0], image)
    maps = (truth, *(found.numpy() for found, _ in read))
    if contest.task == "depth":
        span = span_of(truth)
        for axis, metres in zip(axes[1:], maps, strict=True):
            show_depth(axis, metres, span)
        show_scale(axes[0].figure, axes, span)
    else:
        for axis, labels in zip(axes[1:], maps, strict=True):
            named |= show_labels(axis, labels, contest.classes)
    gain = (contest.merit(*read[0]) - contest.merit(*read[own.rival])).numpy()
    boxes = list(windows(gain if direction == "better" else -gain))
    for axis in axes:
        for box in boxes:
            frame(axis, box, "white")
    return boxes


def draw_things(axes: Axes, image: np.ndarray, things: Sequence[LabelledBox], classes: Sequence[str]) -> set[int]:
    """Objects, or the detections that are sure enough, with their scores; returns the classes that are shown."""
    shown = []
    for thing in things:
        truth = isinstance(thing.value, bool)
        if thing.name in classes and (truth or thing.value >= SURE):
            words = short(thing.name) + ("" if truth else f" {thing.value:.2f}")
            shown.append((thing.box, classes.index(thing.name), words))
    show_boxes(axes, image, shown, classes)
    return {label for _, label, _ in shown}
