"""The answer of a sweep is laid out, compared and drawn from what MLflow holds, without its cells' folders."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from tadp_ray.api.experiments import read_plan
from tadp_ray.config.table import Side
from tadp_ray.layout import PER_IMAGE
from tadp_ray.reporting.results import file_name, fill_table
from tadp_ray.reporting.table import Table
from tadp_ray.sweep.plan import Plan
from tadp_ray.tasks.per_image import write_per_image
from tadp_ray.tracking.query import finished, per_image
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.tracking.sender import replay
from tadp_ray.tracking.sweep_run import parent, record_plan, show_table
from tests.fixtures.cells import make_plan
from tests.fixtures.cli import invoke

IMAGES = 40


def trained(plan: Plan, journals) -> None:
    """Cells as a training leaves them: the more a caption names, the more is found; the first kept nothing by image."""
    for number, cell in enumerate(plan.cells):
        rng = np.random.default_rng(number)
        recall = np.clip(cell.axes["caption.recall"] + rng.integers(-2, 3, IMAGES) / 4, 0, 1)
        found = (40 * recall + rng.integers(0, 40, IMAGES)).astype(int).tolist()
        lines = [
            {"id": str(i), "prompt": "sky", "precision": 1.0, "recall": own, "pixels": 200}
            | {"classes": [0], "intersection": [hit], "union": [100], "truth": [90]}
            for i, (own, hit) in enumerate(zip(recall.tolist(), found, strict=True))
        ]
        journals.start(cell)
        if number:
            write_per_image(cell.folder / PER_IMAGE, cell.fingerprint, "segmentation", ["sky"], lines)
        journals.finish(cell, miou=sum(found) / IMAGES)


def test_a_cell_that_is_trained_again_and_fails_shows_no_number_of_other_code(
    experiment: Path, tmp_path: Path, store, swept, journals
) -> None:
    """As after --strict-code: the run of other code is finished, and the newer one failed."""
    swept(experiment)
    plan = make_plan(experiment, "pocket", overrides=[f"compute.storage={tmp_path}/runs"])
    cell, other, *_ = plan.cells
    (cell.folder / "journal.jsonl").rename(tmp_path / "journal of other code")
    journals.start(cell)
    journals.write(cell, type="failed", error="CUDA out of memory")
    replay(store, cell_run_spec(parent(store, plan.name, plan.scale, plan.key), cell))

    table, done = fill_table(store, plan.table, plan.cells)
    assert {cell.fingerprint, other.fingerprint} <= done.keys() and "CUDA out of memory" not in " ".join(table.notes)
    table, done = fill_table(store, plan.table, plan.cells, strict=True)
    assert not done and any("failed: CUDA out of memory" in note for note in table.notes)
    first, second, *_ = read_plan(plan, store, strict=True).to_dict("records")
    assert (first["state"], first["error"]) == ("failed", "CUDA out of memory") and "miou" not in first
    assert second["state"] == "not started", "another cell, which was not trained again"
    assert read_plan(plan, store)["miou"].tolist()[:3] == [10, 20, 30]


def test_comparisons_with_rows_of_like_names_have_files_of_their_own(spec) -> None:
    rows = Side(("words",), (("a (b)",), ("a b",), ("///",)))
    names = [file_name(Table(replace(spec, rows=rows), (), (), baseline=row)) for row in (None, 0, 1, 2)]
    assert names == ["table", "table-against-a-b-1", "table-against-a-b-2", "table-against--3"]


def test_table_and_figure_come_from_mlflow_alone(experiment: Path, tmp_path: Path, store, journals) -> None:
    with experiment.open("a") as file:
        file.write("figure: {title: Named and found, kind: recall, published: {source: Figure S5, r: 0.28}}\n")
    plan = make_plan(experiment, "pocket", overrides=[f"compute.storage={tmp_path}/runs"])
    trained(plan, journals)
    sweep = parent(store, plan.name, plan.scale, plan.key)
    record_plan(store, sweep, plan.settings, plan.cells, plan.layout)
    show_table(store, sweep)
    for cell in plan.cells:
        replay(store, cell_run_spec(sweep, cell))
    shutil.rmtree(tmp_path / "runs")

    (tmp_path / "answers/tiny/pocket").mkdir(parents=True)
    stale = tmp_path / "answers/tiny/pocket/curves.png"
    stale.write_bytes(b"of another answer")
    words = ["table", experiment, "--tracking-uri", store.uri, "--storage", tmp_path / "answers"]
    assert invoke(*words).exit_code == 0
    assert not stale.exists()
    folder = tmp_path / "answers/tiny/pocket"
    plain = {path.name: path.read_bytes() for path in folder.glob("table.*")}
    assert set(plain) == {f"table.{ending}" for ending in ("md", "tex", "html", "csv", "png")}
    result = invoke(*words, "--against", "precision=1")
    assert result.exit_code == 0, result.output
    # The plain table stays, on disk and in MLflow, beside the comparison.
    assert {path.name: path.read_bytes() for path in folder.glob("table.*")} == plain
    kept = Path(store.client.download_artifacts(sweep, "table.md", str(tmp_path)))
    assert kept.read_bytes() == plain["table.md"] and b"difference" not in plain["table.md"]
    assert {path.name for path in folder.glob("table-*")} == {
        f"table-against-precision-1.0.{ending}" for ending in ("md", "tex", "html", "csv", "png")
    }
    said = (folder / "table-against-precision-1.0.md").read_text()
    assert "Figure, published: r = 0.28 (Figure S5)" in said and "Figure, precision 1.0: r = 0." in said
    assert "80 points" in said and "no interval for 1 entry: cells without per-image results" in said
    assert "| recall 0.5 (difference) |" in said and "| baseline |" in said
    shown = {file.path for file in store.client.list_artifacts(sweep)}
    assert {"figure.png", "table.png", "table-against-precision-1.0.md", "plan.json"} <= shown
    assert "curves.png" not in shown  # of cells that were scored once
    assert (folder / "figure.png").read_bytes()[:4] == b"\x89PNG"
    first, last = (finished(store, [plan.cells[i].fingerprint])[plan.cells[i].fingerprint] for i in (0, 3))
    assert per_image(store, first) is None and len(per_image(store, last).ids) == IMAGES

    result = invoke(*words, "--against", "precision=0.7")
    assert result.exit_code == 2 and "did you mean 'caption.precision=0.5'" in result.stderr


def test_claims_are_told_in_the_terminal_on_disk_and_in_mlflow(experiment: Path, tmp_path: Path, store, swept) -> None:
    """Cells of mIoU 10, 20 and 30; the last one is missing. The other experiment is beside this one, and was not run."""
    (tmp_path / "other.yaml").write_text(experiment.read_text())
    with experiment.open("a") as file:
        file.write(
            "claims:\n"
            "- {kind: difference, text: more is more, better: {caption.precision: 1.0, caption.recall: 0.5},"
            " than: {caption.precision: 0.5, caption.recall: 0.5}}\n"
            "- {kind: rising, text: always, along: [caption.precision]}\n"
            "- {kind: difference, text: than elsewhere, better: {caption.recall: 0.5}, than: {experiment: other.yaml}}\n"
        )
    swept(experiment)
    words = ["table", experiment, "--tracking-uri", store.uri, "--storage", tmp_path / "answers"]
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "more is more (20.00 points of mIoU (1 seed); at least 0): not decided: run --seeds 0,1,2" in said
    for text in ("always", "than elsewhere"):
        assert f"{text} (–; at least 0): not decided: not measured" in said
    (run,) = store.client.search_runs([store.experiment_id("tiny")], "tags.`tadp.sweep` != ''")
    kept = Path(store.client.download_artifacts(run.info.run_id, "claims.md", str(tmp_path))).read_text()
    assert kept == (tmp_path / "answers/tiny/pocket/claims.md").read_text()
    assert "| more is more | 20.00 points of mIoU (1 seed) | at least 0 | not decided: run --seeds 0,1,2 |" in kept
    (tmp_path / "asked").mkdir()
    for name in ("tiny", "other"):
        text = (tmp_path / f"{name}.yaml").read_text()
        text = text.replace("recipe.yaml", "../recipe.yaml").replace("sweep.yaml", "../sweep.yaml")
        (tmp_path / f"asked/{name}.yaml").write_text(text)
    report = invoke("report", tmp_path / "out", "--experiments", tmp_path / "asked", "--tracking-uri", store.uri)
    assert report.exit_code == 0, report.output
    assert kept in (tmp_path / "out/report.md").read_text()

    experiment.write_text(experiment.read_text().partition("claims:")[0])
    assert invoke(*words).exit_code == 0
    assert not (tmp_path / "answers/tiny/pocket/claims.md").exists(), "verdicts of an earlier table"
