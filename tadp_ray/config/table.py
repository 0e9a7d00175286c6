"""The table that an experiment asks for: its rows and columns, and the place of a cell in it."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tadp_ray.config.cell import Cell
from tadp_ray.config.claims import TableClaim
from tadp_ray.config.schema import Experiment, FigureConfig, Sweep
from tadp_ray.config.vocabulary import METRIC, Scale
from tadp_ray.errors import UserError


@dataclass(frozen=True)
class Side:
    """The rows or the columns of a table: one or several axes of the sweep, in all combinations of their values."""

    keys: tuple[str, ...]
    """Dotted recipe keys."""
    values: tuple[tuple[Any, ...], ...]
    """One value per key."""

    @classmethod
    def of(cls, keys: Sequence[str], axes: Mapping[str, Sequence[Any]]) -> "Side":
        """All combinations, last axis fastest."""
        return cls(tuple(keys), tuple(itertools.product(*(axes[key] for key in keys))))

    @property
    def label(self) -> str:
        """`precision` for caption.precision."""
        return ", ".join(key.rpartition(".")[2] for key in self.keys)

    @property
    def names(self) -> tuple[str, ...]:
        """What stands at the head of each row or column."""
        return tuple(", ".join(str(value) for value in values) for values in self.values)

    @property
    def headings(self) -> tuple[str, ...]:
        """`recall 0.5`; the values alone where there are several axes, or where they are names themselves."""
        named = self.keys[1:] or "." not in self.keys[0]
        return self.names if named else tuple(f"{self.label} {name}" for name in self.names)

    def place(self, cell: Cell, metric: str) -> int:
        """Which row or column a metric of a cell belongs to.

        Raises:
            UserError: none, since the experiment's file or its sweep's was changed after the cell was planned.
        """
        chosen = {METRIC: metric, **cell.axes}
        values = tuple(chosen.get(key) for key in self.keys)
        if values not in self.values:
            named = ", ".join(f"{key}={value}" for key, value in zip(self.keys, values, strict=True))
            raise UserError(
                f"the sweep that was run has cells of {named}, which the files no longer name; run it again"
            )
        return self.values.index(values)


@dataclass(frozen=True)
class TableSpec:
    """What is asked: rows, columns, a metric, and what the paper printed."""

    title: str
    metrics: tuple[str, ...]
    """Several lie along one of the sides."""
    rows: Side
    columns: Side
    published: tuple[tuple[float | None, ...], ...] | None = None
    """One row per row value, one number per column value."""
    source: str = ""
    """Where the published numbers stand."""
    scale: Scale = "pocket"
    settings: str = ""
    """The recipe, and what was changed in it by hand."""
    figure: FigureConfig | None = None
    """What is drawn of the results by image."""
    claims: tuple[TableClaim, ...] = ()
    """What the numbers are held against."""

    @classmethod
    def of(cls, experiment: Experiment, sweep: Sweep, scale: Scale, settings: str = "") -> "TableSpec":
        """The table an experiment file asks for, filled by cells of the given settings."""
        asked, published = experiment.table, experiment.table.published
        sides = asked.sides(sweep.values)
        rows, columns = Side.of(asked.rows, sides), Side.of(asked.columns, sides)
        return cls(
            title=asked.title,
            metrics=asked.metrics,
            rows=rows,
            columns=columns,
            published=published.values if published else None,
            source=published.source if published else "",
            scale=scale,
            settings=settings,
            figure=experiment.figure,
            claims=experiment.claims,
        )

    @property
    def curve(self) -> str:
        """The first metric as it was measured during training: the best one is a point of the plain one's curve."""
        return self.metrics[0].removeprefix("best_")

    def place(self, cell: Cell, metric: str) -> tuple[int, int]:
        """The (row, column) in which a metric of a cell stands.

        Raises:
            UserError: there is none, since the experiment's file or its sweep's was changed after the cell was planned.
        """
        return self.rows.place(cell, metric), self.columns.place(cell, metric)

    def metric_at(self, row: int, column: int) -> str:
        """The metric that stands at a place."""
        chosen = dict(zip(self.rows.keys, self.rows.values[row], strict=True))
        chosen |= dict(zip(self.columns.keys, self.columns.values[column], strict=True))
        return chosen.get(METRIC, self.metrics[0])
