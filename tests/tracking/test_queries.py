"""How often MLflow is asked for the state of cells: by pages of runs, not by cell, unless few cells lie in a large store."""

from collections.abc import Callable
from typing import Any

import pytest

from tadp_ray.config.cell import Cell
from tadp_ray.tracking import query
from tadp_ray.tracking.client import Client
from tadp_ray.tracking.query import evidence, finished, rows
from tadp_ray.tracking.store import Store
from tadp_ray.training.provenance import provenance

Put = Callable[..., str]


@pytest.fixture
def put(store: Store) -> Put:
    """Puts a run of a cell into the store, as the sweep records it; the later the higher its mIoU. Returns its id."""
    clock = iter(range(1000, 10_000_000, 1000))

    def write(cell: Cell, status: str = "FINISHED", **tags: str) -> str:
        own = {
            "fingerprint": cell.fingerprint,
            "experiment": cell.experiment,
            "scale": cell.scale,
            "seed": str(cell.seed),
        }
        named = provenance() | {f"tadp.{name}": value for name, value in (own | tags).items()}
        start = next(clock)
        run = store.client.create_run(store.experiment_id(cell.experiment), start_time=start, tags=named).info.run_id
        store.client.set_terminated(run, status, start + 500)
        return run

    return write


@pytest.fixture
def searches(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The keyword arguments of every search for runs from now on."""
    calls: list[dict[str, Any]] = []
    whole = Client.__getattr__

    def noted(client: Client, name: str) -> Callable[..., Any]:
        method = whole(client, name)
        return (
            (lambda *words, **named: calls.append(named) or method(*words, **named))
            if "search_runs" in name
            else method
        )

    monkeypatch.setattr(Client, "__getattr__", noted)
    return calls


@pytest.mark.slow
def test_the_number_of_queries_does_not_grow_with_the_cells(store, make_cell, put: Put, searches) -> None:
    cells = [make_cell(seed=seed) for seed in range(12)]
    runs = {cell.fingerprint: put(cell) for cell in cells[:10]}
    for some in (cells[:6], cells[:10], cells):
        searches.clear()
        found = finished(store, [cell.fingerprint for cell in some])
        assert {name: row.run_id for name, row in found.items()} == {
            cell.fingerprint: runs[cell.fingerprint] for cell in some if cell.fingerprint in runs
        }
        assert len(searches) == 1
    searches.clear()
    assert finished(store, []) == {} and searches == []


def test_pages_are_read_one_after_another(
    store, make_cell, put: Put, searches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "PAGE", 4)
    cells = [make_cell(seed=seed) for seed in range(10)]
    runs = [put(cell) for cell in cells]
    found = finished(store, [cell.fingerprint for cell in cells])
    assert [found[cell.fingerprint].run_id for cell in cells] == runs
    assert [named["max_results"] for named in searches] == [4, 4, 4]


def test_few_cells_of_a_large_store_are_searched_one_by_one(store, make_cell, put: Put, searches) -> None:
    cells = [make_cell(seed=seed) for seed in range(12)]
    runs = [put(cell) for cell in cells]
    oldest = [cells[0].fingerprint, cells[1].fingerprint]
    assert [row.run_id for row in finished(store, oldest).values()] == runs[:2]
    # The newest four of the store, then two searches.
    assert [named["max_results"] for named in searches] == [4, query.PAGE, query.PAGE]
    searches.clear()
    assert finished(store, [cells[11].fingerprint])[cells[11].fingerprint].run_id == runs[11] and len(searches) == 1


def test_the_newest_run_of_the_current_code_counts_wherever_it_is_found(store, make_cell, put: Put) -> None:
    wanted, others = make_cell(), [make_cell(seed=seed) for seed in range(1, 8)]
    old = put(wanted, code="0ld")
    own = put(wanted)
    newer = put(wanted, code="0ld")
    alone = put(others[0], code="0ld")
    put(others[0], status="FAILED")
    for other in others[1:]:
        put(other)
    # The first search reads them all, the second one only the newest, which are of other cells.
    for fingerprints in ([cell.fingerprint for cell in (wanted, *others)], [wanted.fingerprint, others[0].fingerprint]):
        found = finished(store, fingerprints)
        assert found[wanted.fingerprint].run_id == own and found[others[0].fingerprint].run_id == alone
        assert others[0].fingerprint not in finished(store, fingerprints, strict=True)
    assert len({old, own, newer}) == 3


def test_rows_by_status_and_the_newest_of_them(store, make_cell, put: Put, searches) -> None:
    cells = [make_cell(seed=seed) for seed in range(4)]
    runs = [put(cell, status=status) for cell, status in zip(cells, ("FINISHED", "FAILED") * 2, strict=True)]
    ids = lambda **which: [row.run_id for row in rows(store, "prec_recall", **which)]
    assert ids() == runs and ids(finished=False) == runs[1::2] and ids(finished=True, newest=1) == [runs[2]]
    assert len(searches) == 3


def test_of_the_runs_of_one_journal_the_one_that_goes_on_comes_last(store, make_cell, put: Put) -> None:
    """A sweep with other settings continues the journal of a cell that failed in the one before: both runs began then."""
    for _ in range(4):
        failed = put(make_cell(), status="FAILED")
        run = store.client.get_run(failed)
        start, own = run.info.start_time, dict(run.data.tags)
        going_on = store.client.create_run(run.info.experiment_id, start_time=start, tags=own).info.run_id
        assert [row.run_id for row in rows(store, "prec_recall")][-2:] == [failed, going_on]
        store.client.set_terminated(going_on, "KILLED", start + 600)
        assert [row.run_id for row in rows(store, "prec_recall")][-2:] == [failed, going_on]


def test_cells_of_one_sweep_may_have_several_scales(store, make_cell, put: Put) -> None:
    pocket, paper = put(make_cell()), put(make_cell(), scale="paper")
    assert [row.run_id for row in rows(store, "prec_recall")] == [pocket, paper]
    assert [row.run_id for row in rows(store, "prec_recall", scale="paper")] == [paper]


def test_the_traceback_of_a_cell_is_that_of_its_newest_failure(store, make_cell, put: Put) -> None:
    cell = make_cell()
    for status, said in (("FAILED", "first"), ("FAILED", "second"), ("FINISHED", "third")):
        store.client.log_text(put(cell, status=status), said, "traceback.txt")
    assert evidence(store, cell.fingerprint) == {"traceback.txt": "second"}
