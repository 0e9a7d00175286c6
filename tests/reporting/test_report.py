"""The report holds all that a store holds, says what the numbers say, and shows what is missing with what fills it."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from tadp_ray.reporting.report import other_section
from tadp_ray.reporting.summary import sentences
from tadp_ray.reporting.table import Table, TableEntry
from tadp_ray.tracking.sweep_run import SweepRun
from tests.fixtures.cli import invoke

FACTS = {
    "name": "copy_paste",
    "question": "Does a word's map <move> to the thing?",
    "figure_of_paper": "Figure S2",
    "command": "tadp-ray analyze run copy_paste.yaml",
    "settings": "100 cases",
    "run_id": "r1",
    "commit": "c" * 40,
    "numbers": {"before": {"thing": 0.25}, "after": 0.875},
    "claims": [
        {"text": "the map moves", "value": 87.5, "aim": "at least 80", "holds": True},
        {"text": "it moves wholly", "value": 20.0, "aim": "at least 50", "holds": False},
        {"text": "so it does with a photograph", "value": None, "aim": "at least 80", "holds": None},
        {"text": "so it does twice", "value": 7.4, "aim": "above 0", "holds": None, "undecided": "needs 3 seeds"},
    ],
    "notes": ["photographs are not here"],
    "pictures": ["maps.png", "maps.pdf"],
}


def report(store, experiments: Path, folder: Path):
    """Make the report of a store."""
    return invoke("report", folder, "--experiments", experiments, "--tracking-uri", store.uri)


@pytest.fixture
def asked(experiment: Path) -> Path:
    """A folder of one experiment and of two analyses."""
    folder = experiment.parent / "asked"
    folder.mkdir()
    text = experiment.read_text().replace("recipe.yaml", "../recipe.yaml").replace("sweep.yaml", "../sweep.yaml")
    (folder / "tiny.yaml").write_text(text.replace("recipes: {", "recipes: {paper: ../recipe.yaml, "))
    (folder / "analyses").mkdir()
    # Of an editor with a file that was changed, and of macOS.
    (folder / ".#tiny.yaml").symlink_to("somebody@somewhere")
    (folder / "analyses/._one.yaml").write_bytes(b"\0\5\26\7")
    for name in ("copy_paste", "off_target"):
        (folder / f"analyses/{name}.yaml").write_text(f"question: What of {name}?\nfigure: Figure S4\n")
    return folder


def test_a_folder_that_holds_schemas_alone_hides_no_shipped_experiment(
    store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiments/schemas").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    result = invoke("report", tmp_path / "out", "--tracking-uri", store.uri)
    assert result.exit_code == 0 and "Oracle captions of reduced precision and recall" in result.stdout, result.output


def test_a_store_without_runs_is_told_in_full(store, asked: Path, tmp_path: Path) -> None:
    result = report(store, asked, tmp_path / "out")
    assert result.exit_code == 0, result.output
    page, words = ((tmp_path / f"out/report.{kind}").read_text() for kind in ("html", "md"))
    for command in (f"sweep {asked}/tiny.yaml", f"sweep {asked}/tiny.yaml --scale paper"):
        assert f"<pre>tadp-ray {command}</pre>" in page and f"```\ntadp-ray {command}\n```" in words
    assert f"tadp-ray analyze run {asked}/analyses/off_target.yaml" in page and "What of copy_paste?" in words
    assert page.count("<p>Missing: ") == 4 and "Table S2" in page and result.stdout.count("not run") == 4
    # What is missing is folded away, and no chart needs a library.
    assert page.count('<details class="missing"') == 3 and "0 of 4 questions have results so far" in page
    assert "<img" not in page and "http:" not in page and "https:" not in page
    # The script that opens the contents and sorts is there nevertheless.
    assert page.count("<script>") == 1 and "contents.open = beside.matches" in page and len(page) < 40_000


@pytest.mark.slow
def test_table_curves_and_findings_come_from_mlflow(store, asked: Path, tmp_path: Path, swept, kept) -> None:
    swept(asked / "tiny.yaml")
    kept({**FACTS, "claims": []}, "maps.png", "maps.pdf")
    kept(FACTS, "maps.png", "maps.pdf")
    result = report(store, asked, tmp_path / "out")
    assert result.exit_code == 0, result.output
    page, words = ((tmp_path / f"out/report.{kind}").read_text() for kind in ("html", "md"))
    # three of four cells are finished: (0.5, 0.5) 10, (0.5, 1.0) 20, (1.0, 0.5) 30
    said = (
        "mIoU (%): the best entry is precision 1.0, recall 0.5 (30.00), the worst is precision 0.5, recall 0.5 (10.00), and the "
        "difference is 20.00."
    )
    assert said in page and said in words and "3 of 4 entries" in page
    assert "1 of 4 cells is not finished: precision=1.0 recall=1.0 seed=0" in page
    assert "published 63.29" in page and "*63.29*" in words and "recipe ../recipe" not in page
    assert f"<pre>tadp-ray sweep {asked}/tiny.yaml --set compute.storage={tmp_path}/runs</pre>" in page, "as it was run"
    runs = [
        run.info.run_id for run in store.client.search_runs([store.experiment_id("tiny")], "tags.`tadp.seed` = '0'")
    ]
    assert len(runs) == 3 and all(run in page and run in words for run in runs)
    # the newest finding, its numbers by dotted names, its picture within the page and beside the Markdown
    assert "Does a word&#39;s map &lt;move&gt; to the thing?" in page and "before.thing" in page
    assert (
        "1 of 2 decided claims hold; not: it moves wholly; 1 not decided: not measured; 1 not decided: needs 3 seeds."
        in page
        and "photographs are not here" in page
    )
    assert "<td>7.4</td><td>above 0</td>" in page and '<span class="value">not decided: needs 3 seeds</span>' in page
    assert "| so it does twice | 7.4 | above 0 | not decided: needs 3 seeds |" in words
    assert "2 of 4 claims; 1 not decided: needs 3 seeds" in result.stdout
    # Curves are drawn by the page itself, and are a picture in Markdown.
    assert page.count('src="data:image/png;base64,') == 1 and "](copy_paste/maps.png)" in words
    assert "](tiny/pocket/curves.png)" in words and page.count("function vegaEmbed") <= 1
    assert (
        page.index("What of off_target?")
        > page.index("Does a word&#39;s map")
        > page.index("the best entry is precision 1.0")
    )
    few = "With one seed, there are no verdicts"
    assert few in page and few in words
    assert (tmp_path / "out/copy_paste/maps.png").is_file() and "What of copy_paste?" not in page


def test_a_sweep_without_a_file_has_its_runs_listed_the_best_first(store, asked: Path, tmp_path: Path, swept) -> None:
    """As a hyperparameter search has; and a single training, of which nothing varied, is not listed."""
    (asked / "tiny.yaml").rename(asked / "known.yaml")
    swept(asked.parent / "tiny.yaml", fills_table=False)
    result = report(store, asked, tmp_path / "out")
    assert result.exit_code == 0, result.output
    page, words = ((tmp_path / f"out/report.{kind}").read_text() for kind in ("html", "md"))
    assert "from 3 finished runs" in page
    assert "3 of 4 runs" in result.stdout and "Which precision and recall suit?" in page
    assert "mIoU (%): best 30.00 with precision 1, recall 0.5." in page and "## Searches and other sweeps" in words
    listed = [line for line in words.splitlines() if line.startswith(("| 0.5 |", "| 1 |"))]
    assert [line.split(" | ")[:3] for line in listed] == [
        ["| 1", "0.5", "30.00"],
        ["| 0.5", "1", "20.00"],
        ["| 0.5", "0.5", "10.00"],
    ]


@pytest.mark.parametrize(
    ("task", "metric", "values", "listed", "best"),
    [
        ("segmentation", "miou", (30.0, 20.0, 50.0), ["50.00", "30.00", "20.00", "nan"], "mIoU (%): best 50.00"),
        ("depth", "rmse", (0.3, 0.2, 0.5), ["0.200", "0.300", "0.500", "nan"], "RMSE (m): best 0.200"),
    ],
)
@pytest.mark.parametrize("place", range(4))
def test_of_a_search_the_best_run_is_listed_first_and_one_that_ended_in_no_number_last(
    make_cell, row_of, task: str, metric: str, values: tuple[float, ...], listed: list[str], best: str, place: int
) -> None:
    """Wherever that one is in the search."""
    reached = [*values[:place], math.nan, *values[place:]]
    cells = [make_cell(precision) for precision in (0.25, 0.5, 0.75, 1.0)]
    cells = [cell.model_copy(update={"recipe": cell.recipe.model_copy(update={"task": task})}) for cell in cells]
    found = {
        cell.fingerprint: replace(row_of(cell, 0.0), metrics={metric: value})
        for cell, value in zip(cells, reached, strict=True)
    }
    section = other_section("lr", "pocket", SweepRun("r", "", tuple(cells)), found)
    assert [row[2] for row in section.listed.rows] == listed
    assert section.summary[0].startswith(f"{best} with precision ")


def test_candidates_of_a_search_that_are_equal_are_one_run(make_cell, row_of) -> None:
    cells = (make_cell(0.5), make_cell(1.0), make_cell(0.5))
    found = {cell.fingerprint: row_of(cell, 10 * cell.axes["caption.precision"]) for cell in cells}
    section = other_section("lr", "pocket", SweepRun("r", "", cells), found)
    assert [row[2] for row in section.listed.rows] == ["10.00", "5.00"]
    assert section.summary[1].startswith("2 of 2 runs were trained to the end.")


def test_a_sweep_of_other_files_is_told_apart_from_none(store, asked: Path, tmp_path: Path, swept) -> None:
    swept(asked / "tiny.yaml")
    (tmp_path / "sweep.yaml").write_text("axes: {caption.precision: [0.25, 1.0], caption.recall: [0.5, 1.0]}\n")
    result = report(store, asked, tmp_path / "out")
    assert result.exit_code == 0, result.output
    said = "Missing: the sweep that was run has cells of caption.precision=0.5, which the files no longer name."
    assert said in (tmp_path / "out/report.md").read_text()


def test_cells_of_an_axis_that_a_file_has_lost_are_no_seeds_of_one_entry(
    store, asked: Path, tmp_path: Path, swept
) -> None:
    swept(asked / "tiny.yaml")
    (tmp_path / "sweep.yaml").write_text("axes: {caption.recall: [0.5, 1.0]}\n")
    text = (asked / "tiny.yaml").read_text().replace("rows: [caption.precision]", "rows: [metric]")
    (asked / "tiny.yaml").write_text("".join(line for line in text.splitlines(True) if "published" not in line))
    result = invoke("table", asked / "tiny.yaml", "--tracking-uri", store.uri, "--storage", tmp_path / "out")
    assert result.exit_code == 2
    assert "and the files do not have the same axes (caption.precision); run it again" in result.stderr


def test_a_sweep_whose_plan_is_not_whole_is_told(store, asked: Path, tmp_path: Path, swept) -> None:
    """A command that was killed before it kept its plan, a plan that was cut, and one of no cells."""
    swept(asked / "tiny.yaml")
    (run,) = store.client.search_runs([store.experiment_id("tiny")], "tags.`tadp.sweep` != ''")
    for text, said in (
        ('{"settings": ', "is incomplete (Expecting value"),
        ('{"settings": "", "cells": []}', "is incomplete (no cells)"),
    ):
        store.client.log_text(run.info.run_id, text, "plan.json")
        result = report(store, asked, tmp_path / "out")
        assert result.exit_code == 0, result.output
        assert said in " ".join((tmp_path / "out/report.md").read_text().split())
    empty = store.client.create_run(store.experiment_id("tiny"), tags={**run.data.tags, "tadp.asked": "9999"})
    result = report(store, asked, tmp_path / "out")
    assert result.exit_code == 0 and empty.info.run_id in (tmp_path / "out/report.md").read_text()


def test_what_is_not_whole_is_named(store, asked: Path, tmp_path: Path, kept) -> None:
    kept(FACTS, "maps.png")
    result = report(store, asked, tmp_path / "out")
    assert (
        result.exit_code == 2
        and "the finding 'copy_paste' is incomplete (maps.pdf: named in finding.json" in result.stderr
    )
    kept({key: FACTS[key] for key in FACTS if key != "command"}, "maps.png", "maps.pdf")
    result = report(store, asked, tmp_path / "out")
    assert result.exit_code == 2 and "incomplete (command: Field required)" in result.stderr
    result = report(store, tmp_path / "nowhere", tmp_path / "out")
    assert result.exit_code == 2 and "no experiments (*.yaml)" in result.stderr


@pytest.mark.parametrize("name", ["../../outside", "/outside", "..", ".", "a/b", "a\\b", "nul\0", "x" * 300])
def test_a_name_that_leads_elsewhere_is_passed_over(store, asked: Path, tmp_path: Path, kept, name: str) -> None:
    """Whoever writes into the store must not choose where the report writes."""
    kept(FACTS, "maps.png", "maps.pdf")
    run = store.client.create_run(store.experiment_id("analyses"), tags={"tadp.finding": name}).info.run_id
    store.client.log_dict(run, FACTS, "finding.json")
    before = {path for path in tmp_path.rglob("*") if "mlartifacts" not in path.parts}
    result = report(store, asked, tmp_path / "deep" / "er" / "out")
    assert result.exit_code == 0, result.output
    assert (
        f"run {run}: skipped, its tag tadp.finding=" in result.stderr
        and "](copy_paste/maps.png)" in (tmp_path / "deep/er/out/report.md").read_text()
    )
    after = {path for path in tmp_path.rglob("*") if "mlartifacts" not in path.parts}
    assert all((tmp_path / "deep") in (path, *path.parents) for path in after - before)


@pytest.mark.parametrize("name", ["../maps.png", "/etc/passwd", ".."])
def test_a_picture_that_lies_elsewhere_is_refused(store, asked: Path, tmp_path: Path, kept, name: str) -> None:
    kept({**FACTS, "pictures": [name]})
    result = report(store, asked, tmp_path / "out")
    assert result.exit_code == 2 and f"{name!r}: named in finding.json, but not a plain file name" in result.stderr


def test_sentences_are_of_complete_places_and_of_every_metric(spec) -> None:
    def table(metric: str, *rows: tuple[tuple[float, ...], ...]) -> Table:
        entries = tuple(
            tuple(
                TableEntry(row, column, metric, values, 2, None, ())
                for column, values in zip(spec.columns.names, own, strict=True)
            )
            for row, own in zip(spec.rows.names, rows, strict=True)
        )
        return Table(replace(spec, metrics=(metric,)), entries, ())

    whole = table("rmse", ((1.0, 3.0), (4.0, 4.0)), ((5.0, 5.0), (6.0, 6.0)), ((7.0, 7.0), (8.0, 8.0)))
    assert list(sentences(whole)) == [
        "RMSE (m): the best entry is precision 0.5, recall 0.5 (2.000 ± 1.414), the worst is precision 1.0, recall 1.0 (8.000 ± "
        "0.000), and the difference is 6.000; the standard deviation over seeds is at most 1.414.",
        "With 2 seeds, there are no verdicts, since differences may be chance; run at least 3 seeds.",
        "RMSE (m), mean of each precision: 0.5 3.000, 0.75 5.500, 1.0 7.500.",
        "RMSE (m), mean of each recall: 0.5 4.667, 1.0 6.000.",
    ]
    same = table("rmse", ((2.0, 2.0), (1.9999, 2.0)), ((2.0, 2.0), (2.0, 2.0)), ((2.0,), ()))
    assert list(sentences(same)) == ["RMSE (m): all 4 complete entries are 2.000."]
    torn = table("miou", ((1.0, 3.0), (4.0,)), ((), ()), ((), ()))
    assert list(sentences(torn)) == ["mIoU (%): 2.00 ± 1.41 at precision 0.5, recall 0.5, the only complete entry."]
    assert list(sentences(table("miou", ((), ()), ((), ()), ((), ())))) == ["mIoU (%): no entry is complete yet."]
    column = table("miou", ((1.0, 3.0), ()), ((4.0, 5.0), ()), ((6.0, 7.0), ()))
    assert not any("mean of each" in line for line in sentences(column))
