"""Which code has trained a finished cell, and which of several counts."""

import json
from pathlib import Path

import pytest

from tadp_ray.layout import CELL
from tadp_ray.sweep.engine import archive
from tadp_ray.tracking.query import finished, other_code, rows, short
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.tracking.sender import replay
from tadp_ray.tracking.sweep_run import parent
from tadp_ray.training.journal import final_metrics
from tadp_ray.training.provenance import code_of, contents, merged, provenance

HERE = {"tadp_code": "c0de", "tadp_version_torch": "2.15.0", "tadp_commit": "a" * 40}
OTHER = {"tadp_code": "0ld", "tadp_version_torch": "2.14.0", "tadp_commit": "b" * 40 + "+dirty"}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This code is HERE."""
    tags = {name.replace("_", "."): tag for name, tag in HERE.items()}
    for module in ("tracking.query", "sweep.engine"):
        monkeypatch.setattr(f"tadp_ray.{module}.provenance", lambda: tags)


def test_what_counts_of_provenance() -> None:
    tags = {
        "tadp.commit": "abc",
        "tadp.code": "c0de",
        "tadp.version.torch": "2.15.0+cpu",
        "tadp.version.mlflow": "3.17.2",
        "tadp.version.ray": "2.60.0",
        "tadp.version.python": "3.11.7",
        "tadp.hardware.cpu": "a",
    }
    assert code_of(tags) == {"code": "c0de", "torch": "2.15.0"}
    assert {"torch", "numpy", "diffusers"} <= code_of(provenance()).keys()
    assert code_of(provenance())["code"] == contents() and len(contents()) == 12


def test_a_training_that_other_code_went_on_with_bears_both() -> None:
    first, later = {"tadp.code": "1", "tadp.version.torch": "2"}, {"tadp.code": "3", "tadp.version.torch": "2"}
    both = merged(first, later)
    assert both == {"tadp.code": "1, then 3", "tadp.version.torch": "2"} == merged(both, later)
    assert merged({}, later) == {"tadp.code": "unknown, then 3", "tadp.version.torch": "unknown, then 2"}
    assert (
        short("a" * 40 + "+dirty, then " + "b" * 40) == "aaaaaaaaa+dirty, then bbbbbbbbb"
        and short("unknown") == "unknown"
    )


def test_rows_of_the_current_code_come_first(store, make_cell, journals) -> None:
    """Two runs of a cell by other code, one of them newer, and one by this."""
    cell, sweep = make_cell(), parent(store, "prec_recall", "pocket", "key")

    def train(miou: float, *code: dict[str, str]) -> None:
        (cell.folder / "journal.jsonl").unlink(missing_ok=True)
        for by in code:
            journals.start(cell, **by)
        journals.finish(cell, miou=miou)
        replay(store, cell_run_spec(sweep, cell))

    found = lambda **flags: {row.metrics["miou"] for row in finished(store, [cell.fingerprint], **flags).values()}
    train(1.0, OTHER)
    assert found() == {1.0} and found(strict=True) == set()
    (line,) = other_code(finished(store, [cell.fingerprint]).values())
    assert line == (
        "1 cell was trained by code 0ld (here c0de), torch 2.14.0 (here 2.15.0); commit bbbbbbbbb+dirty (here aaaaaaaaa)"
    )
    train(2.0, {**HERE, "tadp_commit": "d" * 40, "tadp_version_torch": "2.15.0+cpu"})
    train(3.0, OTHER, HERE)
    assert found() == {2.0} and found(strict=True) == {2.0}
    assert other_code(finished(store, [cell.fingerprint]).values()) == []
    (mixed,) = [row for row in rows(store, "prec_recall") if row.metrics["miou"] == 3.0]
    assert mixed.commit == "b" * 40 + "+dirty, then " + "a" * 40 and mixed.code["code"] == "0ld, then c0de"


def test_a_journal_that_is_sent_anew_keeps_its_code(store, make_cell, journals, tmp_path) -> None:
    """Under another sweep's run, by whatever code sends it."""
    cell = make_cell()
    journals.start(cell, **OTHER)
    journals.finish(cell, miou=1.0)
    for key in ("one", "another"):
        replay(store, cell_run_spec(parent(store, "prec_recall", "pocket", key), cell))
    found = rows(store, "prec_recall")
    assert [row.code for row in found] == [{"code": "0ld", "torch": "2.14.0"}] * 2
    for row in found:
        card = json.loads(Path(store.client.download_artifacts(row.run_id, CELL, str(tmp_path))).read_text())
        assert card["provenance"]["tadp.code"] == "0ld"


def test_what_other_code_has_trained_or_begun_is_set_aside(store, make_cell, journals) -> None:
    """Its weights stay with its run, and nothing of it is gone on with."""
    done, begun, own = (make_cell(seed=seed) for seed in range(3))
    sweep = parent(store, "prec_recall", "pocket", "key")
    for cell, code in ((done, OTHER), (begun, OTHER), (own, HERE)):
        journals.start(cell, **code)
        journals.train(cell, 1, 2)
    (begun.folder / "checkpoint.safetensors").write_bytes(b"half")
    journals.finish(done, miou=1.0)
    (done.folder / "model.safetensors").write_bytes(b"old")
    replay(store, cell_run_spec(sweep, done))
    for cell in (done, begun, own):
        archive(store, cell)
    assert not done.folder.exists() and not begun.folder.exists()
    assert (own.folder / "journal.jsonl").is_file() and final_metrics(done.folder, done.fingerprint) is None
    (run,) = [row for row in rows(store, "prec_recall") if row.fingerprint == done.fingerprint]
    weights = store.client.get_run(run.run_id).data.tags["tadp.checkpoint"]
    assert weights.startswith(f"{done.folder}.") and Path(weights).read_bytes() == b"old"
    archive(store, done)
    assert store.client.get_run(run.run_id).data.tags["tadp.checkpoint"] == weights
