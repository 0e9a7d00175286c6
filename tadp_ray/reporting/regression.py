"""Lines through per-image results: IoU over the caption's recall, or over the size of what is shown (Figures S5 and S6)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tadp_ray.config.cell import Cell
from tadp_ray.config.schema import FigureConfig
from tadp_ray.config.table import TableSpec
from tadp_ray.config.vocabulary import Scale
from tadp_ray.errors import UserError
from tadp_ray.reporting.matching import RULES
from tadp_ray.reporting.resampling import PERCENT, RESAMPLES, interval, resamples
from tadp_ray.tasks.per_image import PerImage
from tadp_ray.tracking.query import CellRow


@dataclass(frozen=True)
class Points:
    """P points of N images."""

    x: np.ndarray
    """(P,) recall of the caption, or share of the image that a class covers."""
    y: np.ndarray
    """(P,) IoU in percent: the mean over the classes that an image shows, or of one of them."""
    image: np.ndarray
    """(P,) number of the image within the data set."""


@dataclass(frozen=True)
class Line:
    """The line of least squares through points, and where others would lie had other images been drawn."""

    points: Points
    r: float
    """Pearson's correlation."""
    r_interval: tuple[float, float]
    x: np.ndarray
    """(G,) from the least to the largest of the points."""
    y: np.ndarray
    """(G,) the line."""
    band: np.ndarray
    """(2, G) low and high."""

    @property
    def text(self) -> str:
        """`r = 0.31 [0.24, 0.38]`."""
        return f"r = {self.r:.2f} [{self.r_interval[0]:.2f}, {self.r_interval[1]:.2f}]"


def points_of(kind: str, images: PerImage) -> Points:
    """The points of one cell's images; what has no number is left out.

    Raises:
        UserError: the images were not segmented, so that their classes have no IoU.
    """
    if images.task != "segmentation":
        raise UserError(f"figure: kind: {kind} is of segmentation; these cells do {images.task}, leave the figure out")
    number = np.arange(len(images.ids))
    if kind == "size":
        image, label = np.nonzero(np.isfinite(images.iou))
        return Points(images.shares[image, label], images.iou[image, label], image)
    shown = np.isfinite(images.iou).any(1)
    mean, recall = np.full(len(number), np.nan), images.column("recall")
    mean[shown] = np.nanmean(images.iou[shown], 1)
    known = np.isfinite(mean) & np.isfinite(recall)
    return Points(recall[known], mean[known], number[known])


def line_through(cells: Sequence[Points], images: int) -> Line | None:
    """The line through the points of several cells that were scored on the same N images; None if there is none.

    An image is drawn with all its points, since those of one image are alike.
    """
    points = Points(*(np.concatenate([getattr(own, name) for own in cells]) for name in ("x", "y", "image")))
    if len(points.x) < 3 or np.ptp(points.x) == 0 or np.ptp(points.y) == 0:
        return None
    # Sums of centred values, so that nothing cancels.
    middle = points.x.mean(), points.y.mean()
    x, y = points.x - middle[0], points.y - middle[1]
    moments = (np.ones_like(x), x, y, x * x, x * y, y * y)
    sums = np.stack([np.bincount(points.image, moment, images) for moment in moments], 1)
    grid = np.linspace(x.min(), x.max(), 101)
    (r,), ours = fitted(sums.sum(0, keepdims=True), grid)
    others_r, others = fitted(resamples(images) @ sums, grid)
    band = interval(others) + middle[1]
    return Line(points, float(r), tuple(interval(others_r).tolist()), grid + middle[0], ours[0] + middle[1], band)


def fitted(sums: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlations (R,) and lines (R, G) over a grid, out of sums (R, 6) of 1, x, y, xx, xy and yy."""
    n, x, y, xx, xy, yy = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        spread_x, spread_y, together = xx - x * x / n, yy - y * y / n, xy - x * y / n
        slope = together / spread_x
        return together / np.sqrt(spread_x * spread_y), ((y - slope * x) / n)[:, None] + slope[:, None] * grid


def lines_of(
    spec: TableSpec, cells: Sequence[Cell], done: Mapping[str, CellRow], images: Mapping[str, PerImage]
) -> dict[str, Line | None]:
    """One line per row of the table, through the points of its finished cells; None where there is none.

    Args:
        spec: the table, with its figure.
        cells: every cell of the table.
        done: finished cells by fingerprint.
        images: what each image adds to a cell's score, by run id.
    """
    rows: dict[str, list[PerImage]] = {heading: [] for heading in spec.rows.headings}
    for cell in cells:
        if cell.fingerprint in done and (run := done[cell.fingerprint].run_id) in images:
            rows[spec.rows.headings[spec.rows.place(cell, spec.metrics[0])]].append(images[run])
    lines = {}
    for heading, row in rows.items():
        # Only what was scored on the same images is resampled together.
        row = [own for own in row if own.ids == row[0].ids]
        points = [points_of(spec.figure.kind, own) for own in row]
        lines[heading] = line_through(points, len(row[0].ids)) if row else None
    return lines


def correlation_notes(figure: FigureConfig, scale: Scale, lines: Mapping[str, Line | None]) -> Iterator[str]:
    """The figure in words, ours and the published correlation."""
    for heading, line in lines.items():
        if line is None:
            yield f"Figure, {heading}: no line, for lack of finished cells with results by image, or because these do not vary"
        else:
            yield f"Figure, {heading}: {line.text}, {len(line.points.x)} points"
    if any(lines.values()):
        yield f"Figure: brackets and bands hold {PERCENT} % of {RESAMPLES} resamples of the images, each with all its points"
    if figure.kind == "recall":
        yield f"Figure: a caption names a class by {RULES[figure.match_at(scale)]}"
    if figure.published:
        yield f"Figure, published: r = {figure.published.r:.2f} ({figure.published.source})"
