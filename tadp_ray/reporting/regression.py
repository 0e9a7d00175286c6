"""Fits lines to per-image results: IoU over the caption's recall, or over a class's area (Figures S5 and S6)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tadp_ray.config.cell import Cell
from tadp_ray.config.experiment import FigureConfig
from tadp_ray.config.table import TableSpec
from tadp_ray.config.vocabulary import MIN_COUNT, Scale
from tadp_ray.reporting.matching import MATCH_RULES, segmented
from tadp_ray.reporting.resampling import PERCENT, RESAMPLES, interval, resamples
from tadp_ray.tasks.per_image import PerImage
from tadp_ray.tracking.query import CellRow
from tadp_ray.wording import pluralized


@dataclass(frozen=True)
class Points:
    """P points from N images."""

    x: np.ndarray
    """(P,) recall of the caption, or share of the image area that a class covers."""
    y: np.ndarray
    """(P,) IoU in percent: the mean over the classes in the image, or that of one class."""
    image: np.ndarray
    """(P,) index of the image in the data set."""


@dataclass(frozen=True)
class Line:
    """A least-squares line, with percentile bands over resampled images."""

    points: Points
    r: float
    """Pearson's correlation."""
    r_interval: tuple[float, float]
    x: np.ndarray
    """(G,) a grid over the range of the points."""
    y: np.ndarray
    """(G,) the line's values on the grid."""
    band: np.ndarray
    """(2, G) its lower and upper bounds."""
    left_out: int = 0
    """Cells that were scored on other images than the first one."""

    @property
    def text(self) -> str:
        """The correlation as text, such as `r = 0.31 [0.24, 0.38]`."""
        return f"r = {self.r:.2f} [{self.r_interval[0]:.2f}, {self.r_interval[1]:.2f}]"


def points_of(kind: str, images: PerImage) -> Points:
    """Return the points of one cell's images, without those that have no value.

    Raises:
        UserError: the task is not segmentation, so there is no IoU.
    """
    images = segmented(kind, images)
    number = np.arange(len(images.ids))
    if kind == "size":
        image, label = np.nonzero(np.isfinite(images.iou))
        return Points(images.shares[image, label], images.iou[image, label], image)
    has_iou = np.isfinite(images.iou).any(1)
    mean, recall = np.full(len(number), np.nan), images.column("recall")
    mean[has_iou] = np.nanmean(images.iou[has_iou], 1)
    valid = np.isfinite(mean) & np.isfinite(recall)
    return Points(recall[valid], mean[valid], number[valid])


def fit_line(cells: Sequence[Points], images: int) -> Line | None:
    """Fit a line to the points of several cells that were scored on the same N images; None if the points do not vary, or are
    of fewer than MIN_COUNT images, whose spread is unknown.

    Resampling draws an image together with all its points, since these are correlated.
    """
    points = Points(*(np.concatenate([getattr(own, name) for own in cells]) for name in ("x", "y", "image")))
    if len({*points.image.tolist()}) < MIN_COUNT or np.ptp(points.x) == 0 or np.ptp(points.y) == 0:
        return None
    # Centred values avoid cancellation in the sums.
    middle = points.x.mean(), points.y.mean()
    x, y = points.x - middle[0], points.y - middle[1]
    moments = (np.ones_like(x), x, y, x * x, x * y, y * y)
    sums = np.stack([np.bincount(points.image, moment, images) for moment in moments], 1)
    grid = np.linspace(x.min(), x.max(), 101)
    (r,), ours = least_squares(sums.sum(0, keepdims=True), grid)
    resampled_r, resampled = least_squares(resamples(images) @ sums, grid)
    band = interval(resampled) + middle[1]
    return Line(points, float(r), tuple(interval(resampled_r).tolist()), grid + middle[0], ours[0] + middle[1], band)


def least_squares(sums: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return correlations (R,) and lines (R, G) on a grid, from sums (R, 6) of 1, x, y, xx, xy and yy.

    They are NaN for points that do not vary, such as those of one image that was drawn over and over.
    """
    n, x, y, xx, xy, yy = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        spread_x, spread_y, together = xx - x * x / n, yy - y * y / n, xy - x * y / n
        # Rounding leaves a little of a spread that is zero.
        spread_x, spread_y = (np.where(s > 1e-12 * of, s, np.nan) for s, of in ((spread_x, xx), (spread_y, yy)))
        slope = together / spread_x
        return together / np.sqrt(spread_x * spread_y), ((y - slope * x) / n)[:, None] + slope[:, None] * grid


def fit_rows(
    spec: TableSpec, kind: str, cells: Sequence[Cell], done: Mapping[str, CellRow], images: Mapping[str, PerImage]
) -> dict[str, Line | None]:
    """Fit one line per row of the table to the points of its finished cells; None if a row has no line.

    Args:
        spec: the table.
        kind: of its figure.
        cells: every cell of the table.
        done: finished cells by fingerprint.
        images: per-image results by run id.
    """
    rows: dict[str, list[PerImage]] = {heading: [] for heading in spec.rows.headings}
    for cell in cells:
        if cell.fingerprint in done and (run := done[cell.fingerprint].run_id) in images:
            rows[spec.rows.headings[spec.rows.place(cell, spec.metrics[0])]].append(images[run])
    lines = {}
    for heading, row in rows.items():
        # Only cells that were scored on the same images are resampled together.
        same = [own for own in row if own.ids == row[0].ids]
        line = fit_line([points_of(kind, own) for own in same], len(row[0].ids)) if row else None
        lines[heading] = replace(line, left_out=len(row) - len(same)) if line else None
    return lines


def correlation_notes(figure: FigureConfig, scale: Scale, lines: Mapping[str, Line | None]) -> Iterator[str]:
    """Yield notes on the figure: our correlations and the published one."""
    for heading, line in lines.items():
        if line is None:
            yield f"Figure, {heading}: no line; no finished cell has per-image results, or these do not vary or are too few"
        else:
            others = f"; left out: {pluralized(line.left_out, 'cells')} scored on other images" if line.left_out else ""
            yield f"Figure, {heading}: {line.text}, {pluralized(len(line.points.x), 'points')}{others}"
    if any(lines.values()):
        yield f"Figure: brackets and bands are {PERCENT} % percentile intervals over {RESAMPLES} resamples of the images"
    if figure.kind == "recall":
        yield f"Figure: a caption names a class by {MATCH_RULES[figure.match_at(scale)]}"
    if figure.published:
        yield f"Figure, published: r = {figure.published.r:.2f} ({figure.published.source})"
