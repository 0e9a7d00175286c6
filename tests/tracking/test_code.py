"""Which code has trained a finished cell, and which of several counts."""

import pytest

from tadp_ray.tracking import query
from tadp_ray.tracking.provenance import code_of, provenance
from tadp_ray.tracking.query import finished, other_code
from tadp_ray.tracking.sender import replay
from tadp_ray.tracking.source import cell_source
from tadp_ray.tracking.sweep_run import parent


def test_what_counts_of_provenance() -> None:
    tags = {
        "tadp.commit": "abc",
        "tadp.version.torch": "2.15.0+cpu",
        "tadp.version.mlflow": "3.17.2",
        "tadp.version.ray": "2.60.0",
        "tadp.version.python": "3.11.7",
        "tadp.hardware.cpu": "a",
    }
    assert code_of(tags) == {"commit": "abc", "torch": "2.15.0"}
    assert {"torch", "numpy", "diffusers"} <= code_of(provenance()).keys()


def test_rows_of_the_current_code_come_first(store, make_cell, journals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of a cell by other code, one of them newer, and one by this."""
    cell, sweep, here = make_cell(), parent(store, "prec_recall", "pocket", "key"), dict(provenance())
    here["tadp.commit"] = "a" * 40
    current = here

    def as_of(commit: str, torch: str) -> None:
        tags = {**here, "tadp.commit": commit, "tadp.version.torch": torch}
        for module in ("journal_run", "query"):
            monkeypatch.setattr(f"tadp_ray.tracking.{module}.provenance", lambda: tags)

    def train(miou: float) -> None:
        (cell.folder / "journal.jsonl").unlink(missing_ok=True)
        journals.start(cell)
        journals.finish(cell, miou=miou)
        replay(store, cell_source(sweep, cell))

    found = lambda **flags: {row.metrics["miou"] for row in finished(store, [cell.fingerprint], **flags).values()}
    as_of("b" * 40, "2.14.0")
    train(1.0)
    as_of("a" * 40, "2.15.0+cpu")
    assert found() == {1.0} and found(strict=True) == set()
    (line,) = other_code(finished(store, [cell.fingerprint]).values())
    assert line == "1 cell was trained by commit bbbbbbb (here aaaaaaa), torch 2.14.0 (here 2.15.0)"
    train(2.0)
    as_of("c" * 40 + "+dirty", "2.15.0")
    train(3.0)
    as_of("a" * 40, "2.15.0")
    assert current and found() == {2.0} and found(strict=True) == {2.0}
    assert other_code(finished(store, [cell.fingerprint]).values()) == []
    as_of("d" * 40, "2.15.0")
    assert found() == {3.0} and found(strict=True) == set()
    assert query.shown("commit", {"commit": "c" * 40 + "+dirty"}) == "ccccccc+dirty"
