"""Finished cells of a small table, without MLflow."""

from collections.abc import Callable

import pytest

from tadp_ray.config.cell import Cell
from tadp_ray.config.table import Side, TableSpec
from tadp_ray.tracking.query import CellRow


@pytest.fixture
def spec() -> TableSpec:
    """Three rows, two columns, one number not published."""
    return TableSpec(
        title="Oracle captions of reduced precision and recall",
        metrics=("miou",),
        rows=Side.of(["caption.precision"], {"caption.precision": (0.5, 0.75, 1.0)}),
        columns=Side.of(["caption.recall"], {"caption.recall": (0.5, 1.0)}),
        published=((49.53, 55.22), (49.17, 58.62), (None, 63.29)),
        source="TADP supplement, Table S2 (ADE20K & others)",
    )


@pytest.fixture
def row_of() -> Callable[..., CellRow]:
    """The finished row of a cell with one metric."""

    def row(cell: Cell, miou: float, commit: str | None = "a" * 40) -> CellRow:
        return CellRow(
            code={},
            run_id=f"run-{cell.fingerprint[:6]}",
            fingerprint=cell.fingerprint,
            experiment=cell.experiment,
            scale=cell.scale,
            axes=cell.axes,
            seed=cell.seed,
            metrics={"miou": miou},
            status="FINISHED",
            error=None,
            commit=commit,
            start_time=0.0,
            end_time=1.0,
            params={},
            hardware="2 cores",
        )

    return row
