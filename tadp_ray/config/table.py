"""The layout of an experiment's table: rows, columns, and the place of each cell."""

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tadp_ray.config.cell import Cell
from tadp_ray.config.claims import TableClaim
from tadp_ray.config.experiment import Experiment, FigureConfig
from tadp_ray.config.sweep import Sweep
from tadp_ray.config.values import headings_of, last_part, text_of
from tadp_ray.config.vocabulary import METRIC, Scale
from tadp_ray.errors import UserError


@dataclass(frozen=True)
class Side:
    """The rows or the columns of a table: all combinations of the values of one or several axes."""

    keys: tuple[str, ...]
    """Axes: dotted recipe keys, names of variants, or `metric`."""
    values: tuple[tuple[Any, ...], ...]
    """For each row or column, one value per key."""

    @classmethod
    def of(cls, keys: Sequence[str], axes: Mapping[str, Sequence[Any]]) -> "Side":
        """Return all combinations, the last axis fastest."""
        return cls(tuple(keys), tuple(itertools.product(*(axes[key] for key in keys))))

    @property
    def label(self) -> str:
        """The last parts of the keys, e.g. `precision` for caption.precision."""
        return ", ".join(map(last_part, self.keys))

    @cached_property
    def axes(self) -> dict[str, list[Any]]:
        """The values of each axis."""
        columns = zip(*self.values, strict=True)
        return {
            key: list({hashable(value): value for value in column}.values())
            for key, column in zip(self.keys, columns, strict=True)
        }

    @cached_property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        """The values of each row or column as texts, one per key."""
        texts = {
            key: dict(zip(map(hashable, values), headings_of(values), strict=True)) for key, values in self.axes.items()
        }
        return tuple(
            tuple(texts[key][hashable(value)] for key, value in zip(self.keys, values, strict=True))
            for values in self.values
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The values of each row or column, e.g. `0.5`."""
        return tuple(map(", ".join, self.texts))

    @cached_property
    def headings(self) -> tuple[str, ...]:
        """Label and value, e.g. `recall 0.5`; only the values if there are several axes or named variants."""
        values_only = self.keys[1:] or "." not in self.keys[0]
        return self.names if values_only else tuple(f"{self.label} {name}" for name in self.names)

    def place(self, cell: Cell, metric: str) -> int:
        """Return the index of the row or column of a cell's metric.

        Raises:
            UserError: there is none, because the file of the experiment or of the sweep was changed after the cell was planned.
        """
        chosen = {METRIC: metric, **cell.axes}
        values = tuple(chosen.get(key) for key in self.keys)
        found = self._places.get(hashable(values))
        if found is None:
            named = ", ".join(f"{key}={text_of(value)}" for key, value in zip(self.keys, values, strict=True))
            raise UserError(
                f"the sweep that was run has cells of {named}, which the files no longer name; run it again"
            )
        return found

    @cached_property
    def _places(self) -> dict[Hashable, int]:
        return {hashable(values): place for place, values in enumerate(self.values)}


def hashable(value: Any) -> Hashable:
    """Return a JSON value with tuples for its lists and mappings; equal values stay equal."""
    if isinstance(value, Mapping):
        return tuple(sorted((key, hashable(each)) for key, each in value.items()))
    return tuple(map(hashable, value)) if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class TableSpec:
    """A table: rows, columns, metrics and published numbers."""

    title: str
    metrics: tuple[str, ...]
    """Several are an axis of the rows or the columns."""
    rows: Side
    columns: Side
    published: tuple[tuple[float | None, ...], ...] | None = None
    """One row per row value, one number per column value."""
    source: str = ""
    """Source of the published numbers."""
    scale: Scale = "pocket"
    settings: str = ""
    """The recipe and its overrides."""
    figure: FigureConfig | None = None
    """The scatter plot of results by image."""
    claims: tuple[TableClaim, ...] = ()
    """The claims on the table."""
    question: str = ""
    """The experiment's question."""

    @classmethod
    def of(cls, experiment: Experiment, sweep: Sweep, scale: Scale, settings: str = "") -> "TableSpec":
        """Return the table of an experiment with a sweep, for cells of the given scale and settings."""
        table, published = experiment.table, experiment.table.published
        sides = table.sides(sweep.values)
        rows, columns = Side.of(table.rows, sides), Side.of(table.columns, sides)
        return cls(
            title=table.title,
            metrics=table.metrics,
            rows=rows,
            columns=columns,
            published=published.values if published else None,
            source=published.source if published else "",
            scale=scale,
            settings=settings,
            figure=experiment.figure,
            claims=experiment.claims,
            question=experiment.question,
        )

    @property
    def curve(self) -> str:
        """The first metric as a curve of training, without `best_`, since the best value is a point of the same curve."""
        return self.metrics[0].removeprefix("best_")

    def place(self, cell: Cell, metric: str) -> tuple[int, int]:
        """Return the (row, column) of a cell's metric.

        Raises:
            UserError: there is none, because the file of the experiment or of the sweep was changed after the cell was planned.
        """
        return self.rows.place(cell, metric), self.columns.place(cell, metric)

    def coordinates(self, row: int, column: int) -> dict[str, Any]:
        """Return the value on every axis at a place, and the metric."""
        sides = ((self.rows, row), (self.columns, column))
        pairs = (pair for side, place in sides for pair in zip(side.keys, side.values[place], strict=True))
        return {METRIC: self.metrics[0], **dict(pairs)}

    def metric_at(self, row: int, column: int) -> str:
        """Return the metric at a place."""
        return self.coordinates(row, column)[METRIC]
