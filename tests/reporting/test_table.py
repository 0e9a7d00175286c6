"""A table says what its numbers are made of, and never hides what is missing."""

import csv
import io
import math
from dataclasses import replace

import pytest
from PIL import Image
from rich.console import Console

from tadp_ray.config import table as config_table
from tadp_ray.config.data import CaptionConfig
from tadp_ray.config.experiment import Experiment
from tadp_ray.config.metrics import metric_title
from tadp_ray.config.sweep import Sweep
from tadp_ray.config.table import Side, TableSpec
from tadp_ray.errors import UserError
from tadp_ray.reporting import figure
from tadp_ray.reporting.charts import heat_maps
from tadp_ray.reporting.figure import draw_curves, draw_table
from tadp_ray.reporting.render import html, latex, markdown, terminal, to_csv, write_table
from tadp_ray.reporting.summary import sentences
from tadp_ray.reporting.table import Table, TableEntry, build_table
from tadp_ray.training.provenance import THEN

STORE = CaptionConfig(source="store", store="captions.jsonl")
MEANS = {(0.5, 0.5): 30.0, (0.5, 1.0): 33.0, (0.75, 0.5): 31.0, (0.75, 1.0): 35.0, (1.0, 0.5): 32.0, (1.0, 1.0): 40.0}


@pytest.fixture
def cells(make_cell):
    """Six places of three seeds."""
    return [make_cell(*place, seed) for place in MEANS for seed in (0, 1, 2)]


@pytest.fixture
def rows(cells, row_of):
    """All finished: seeds differ from the place's mean by -1, 0 and 1."""
    return {
        cell.fingerprint: row_of(
            cell, MEANS[cell.axes["caption.precision"], cell.axes["caption.recall"]] + cell.seed - 1
        )
        for cell in cells
    }


def test_mean_spread_best_and_agreement(spec, cells, rows):
    table = build_table(spec, cells, rows)
    assert [[entry.text for entry in row] for row in table.entries] == [
        ["30.00 ± 1.00", "33.00 ± 1.00"],
        ["31.00 ± 1.00", "35.00 ± 1.00"],
        ["32.00 ± 1.00", "40.00 ± 1.00"],
    ]
    assert [entry.best for row in table.entries for entry in row] == [False] * 5 + [True]
    # Ranks 1 3 2 4 5 against 2 3 1 4 5.
    assert table.notes == ("Spearman rank correlation of ours with the published numbers: 0.90 over 5 entries",)
    assert "Published: TADP supplement, Table S2" in table.caption and "over 3 seeds" in table.caption


def test_brackets_in_titles_and_names_are_no_markup(spec):
    """Not even those that would close what nobody opened: the table comes after everything is trained."""
    words = ("[/style] of [red]birds", "[/bold]label", "[/a] :car:")
    side = Side((words[1],), ((words[2],),))
    entry = TableEntry(words[2], words[2], "miou", (40.0,), 1, None, ())
    table = Table(replace(spec, title=words[0], rows=side, columns=side), ((entry,),), ())
    console = Console(record=True, width=200, emoji=False, file=io.StringIO())
    console.print(terminal(table))
    said = console.export_text()
    assert words[0] in said and f"{words[1]} \\ {words[1]}" in said and said.count(words[2]) == 2


def test_what_is_missing_failed_or_not_finite_is_said_and_never_averaged(spec, cells, rows, row_of):
    rows |= {cells[0].fingerprint: row_of(cells[0], math.inf), cells[9].fingerprint: row_of(cells[9], 90, "b" * 40)}
    del (
        rows[cells[4].fingerprint],
        rows[cells[15].fingerprint],
        rows[cells[16].fingerprint],
        rows[cells[17].fingerprint],
    )
    failed = {cells[4].fingerprint: "ValueError: no data"}
    table = build_table(spec, cells, rows, failed)
    assert table.entries[0][0].text == "not finite" and math.isnan(table.entries[0][0].mean)
    assert table.entries[0][1].text == "33.00 ± 1.41 (2/3)"
    assert table.entries[2][1].text == "–"
    # An incomplete entry is never the best one.
    assert table.entries[1][1].best and not table.entries[0][1].best
    said = "\n".join(table.notes)
    assert f"{cells[4].name} failed: ValueError: no data" in said
    assert f"{cells[0].name} ended with miou = inf" in said
    assert "3 of 18 cells are not finished" in said
    assert "code: aaaaaaaaa (13 cells), bbbbbbbbb (1 cell)" in said


def test_prompts_that_were_cut_are_told(spec, cells, rows):
    (one, first), (other, second) = list(rows.items())[:2]
    own = {
        one: replace(first, metrics={**first.metrics, "caption/train_truncated": 7.0, "caption/val_truncated": 2.0}),
        other: replace(second, metrics={**second.metrics, "caption/train_truncated": 0.0}),
    }
    (note,) = (line for line in build_table(spec, cells[:2], own).notes if line.startswith("captions: "))
    assert "in 1 of 2 training runs, the text encoder truncated the prompts of up to 7 images of a split" in note


def test_numbers_of_other_libraries_and_other_machines_are_told(spec, cells, rows):
    for cell, code, hardware in zip(cells, ({"torch": "2.9"}, {"torch": "2.10"}), ("EPYC", "Xeon"), strict=False):
        rows[cell.fingerprint] = replace(rows[cell.fingerprint], code={"code": "x", **code}, hardware=hardware)
    rows = {cell.fingerprint: rows[cell.fingerprint] for cell in cells[:2]}
    notes = build_table(spec, cells[:2], rows).notes
    assert notes == ("torch: 2.9 (1 cell), 2.10 (1 cell)", "hardware: EPYC (1 cell), Xeon (1 cell)")


@pytest.mark.parametrize(
    ("commits", "told"),
    [
        (("a" * 40, "a" * 40), ()),
        (("a" * 40, "b" * 40), ("code: aaaaaaaaa (1 cell), bbbbbbbbb (1 cell)",)),
        (
            ("a" * 40 + "+dirty", "a" * 40 + "+dirty"),
            ("code: aaaaaaaaa+dirty (2 cells); +dirty means uncommitted changes",),
        ),
        (("a" * 40 + THEN + "b" * 40,) * 2, ("code: aaaaaaaaa, then bbbbbbbbb (2 cells)",)),
    ],
)
def test_numbers_of_several_commits_or_of_uncommitted_code_are_told(spec, cells, row_of, commits, told):
    rows = {cell.fingerprint: row_of(cell, 10.0, commit) for cell, commit in zip(cells, commits, strict=False)}
    assert build_table(spec, cells[:2], rows).notes == told


def test_one_seed_has_no_spread(spec, cells, rows):
    table = build_table(spec, [cell for cell in cells if cell.seed == 1], rows)
    assert table.entries[2][1].text == "40.00" and table.entries[2][1].sd is None
    assert "one seed" in table.caption


def test_every_form_shows_ours_beside_published(spec, cells, rows, tmp_path):
    table = build_table(spec, cells, rows)
    assert "| 1.0 | 32.00 ± 1.00 | *–* | **40.00 ± 1.00** | *63.29* |" in markdown(table)
    assert r"1.0 & 32.00 $\pm$ 1.00 & \textit{--} & \textbf{40.00 $\pm$ 1.00} & \textit{63.29} \\" in latex(table)
    assert r"(ADE20K \& others)" in latex(table)
    assert '<span class="value">40.00 ± 1.00</span><small>published 63.29</small>' in html(
        table
    ) and "ADE20K &amp;" in html(table)
    console = Console(width=100, record=True, file=(tmp_path / "terminal").open("w"))
    console.print(terminal(table))
    console.file.close()
    assert "published 63.29" in console.export_text()

    assert [path.name for path in write_table(table, tmp_path)] == ["table.md", "table.tex", "table.html", "table.csv"]
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8-sig") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == [
        "row",
        "column",
        "metric",
        "mean",
        "sd",
        "n",
        "published",
        "source",
        "oracle",
        "tied",
        "run_ids",
    ]
    last = lines[-1]
    assert (last["row"], last["column"], last["mean"], last["n"], last["published"]) == (
        "1.0",
        "1.0",
        "40.0",
        "3",
        "63.29",
    )
    assert last["run_ids"].split() == [rows[cell.fingerprint].run_id for cell in cells[-3:]]
    assert lines[4]["published"] == lines[4]["source"] == ""
    assert not list(tmp_path.glob("*.part"))
    # Spreadsheets know UTF-8 by its first bytes.
    assert (tmp_path / "table.csv").read_bytes()[:6] == b"\xef\xbb\xbfrow"


def test_a_column_without_published_numbers_shows_ours_alone(spec, cells, rows):
    spec = replace(spec, published=tuple((None, right) for _, right in spec.published))
    table = build_table(spec, cells, rows)
    lines = markdown(table).splitlines()
    assert "| precision | recall 0.5 | recall 1.0 | recall 1.0 (published) |" in lines
    assert "| 1.0 | 32.00 ± 1.00 | **40.00 ± 1.00** | *63.29* |" in lines
    lines = latex(table).splitlines()
    assert r"1.0 & 32.00 $\pm$ 1.00 & \textbf{40.00 $\pm$ 1.00} & \textit{63.29} \\" in lines
    assert r"\cmidrule(lr){2-2}\cmidrule(lr){3-4}" in "".join(lines) and r"\begin{tabular}{lrrr}" in lines
    assert html(table).count("<small>published") == 3
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(terminal(table))
    assert console.export_text().count("published") == 3


def test_what_seeds_do_not_tell_apart_from_the_best_is_marked(spec, cells, rows, row_of):
    """(1.0, 0.5) of 39.5, whose seeds go the other way than those of the best, 40; and 35, which lies farther below."""
    for cell in cells:
        if cell.axes == {"caption.precision": 1.0, "caption.recall": 0.5}:
            rows[cell.fingerprint] = row_of(cell, 39.5 - (cell.seed - 1))
    table = build_table(spec, cells, rows)
    assert [entry.tied for row in table.entries for entry in row] == [False] * 4 + [True, False]
    assert "\N{DAGGER}: not told apart from it at 95 %, paired over seeds." in table.caption
    marked = "39.50 ± 1.00 \N{DAGGER}"
    assert f"| 1.0 | {marked} | *–* | **40.00 ± 1.00** |" in markdown(table) and f">{marked}</span>" in html(table)
    assert r"39.50 $\pm$ 1.00 $^\dagger$" in latex(table)
    assert [line["tied"] for line in csv.DictReader(io.StringIO(to_csv(table)))] == ["False"] * 4 + ["True", "False"]
    # One seed tells nothing apart, and so marks nothing.
    one = build_table(spec, [cell for cell in cells if cell.seed == 1], rows)
    assert not any(entry.tied for row in one.entries for entry in row) and "\N{DAGGER}" not in one.caption


def test_a_table_of_latex_is_no_wider_than_its_column(spec, cells, rows):
    lines = latex(build_table(spec, cells, rows)).splitlines()
    inside = lines.index(r"\begin{adjustbox}{max width=\columnwidth}"), lines.index(r"\end{adjustbox}")
    assert lines[inside[0] + 1].startswith(r"\begin{tabular}") and lines[inside[1] - 1] == r"\end{tabular}"
    assert "booktabs" in lines[0] and "adjustbox" in lines[0]


def test_several_axes_lie_along_one_side(make_cell, rows, cells):
    table = {"title": "T", "rows": ["caption.recall"], "columns": ["caption.precision", "schedule.power"]}
    values = {"question": "?", "recipes": {"pocket": "r.yaml"}, "sweep": "s.yaml", "table": table}
    axes = {"caption.precision": [0.5, 1.0], "schedule.power": [1.0, 0.9], "caption.recall": [0.5, 1.0]}
    made = TableSpec.of(Experiment.model_validate(values), Sweep.model_validate({"axes": axes}), "pocket")
    assert made.columns.label == "precision, power"
    assert made.columns.names == ("0.5, 1.0", "0.5, 0.9", "1.0, 1.0", "1.0, 0.9")
    powers = {
        cell.fingerprint: cell.model_copy(update={"axes": {**cell.axes, "schedule.power": 0.9}}) for cell in cells
    }
    kept = [cell for cell in powers.values() if cell.axes["caption.precision"] != 0.75]
    filled = build_table(made, kept, {cell.fingerprint: rows[key] for key, cell in powers.items()})
    assert [entry.text for entry in filled.entries[1]] == ["–", "33.00 ± 1.00", "–", "40.00 ± 1.00"]
    assert "| recall | 0.5, 1.0 | 0.5, 0.9 |" in markdown(filled)


def filled(metrics: tuple[str, ...], *values: tuple[float, ...], torn: tuple[int, int] = (-1, -1)) -> Table:
    """A table whose columns are metrics; the entry at `torn` lacks a seed."""
    columns = Side.of(["metric"], {"metric": metrics})
    spec = TableSpec("", metrics, Side.of(["text"], {"text": "abc"[: len(values)]}), columns)
    entries = (
        tuple(
            TableEntry("", "", metric, (own,), 1 + ((i, j) == torn), None, ())
            for j, (metric, own) in enumerate(zip(metrics, row, strict=True))
        )
        for i, row in enumerate(values)
    )
    return Table(spec, tuple(entries), ())


def test_metrics_of_other_units_have_colours_and_titles_of_their_own() -> None:
    """Of both errors, which share a range, the smallest is brightest."""
    table = filled(("rmse", "best_rmse", "delta1"), (8.0, 4.0, 0.6), (6.0, math.nan, 0.7), (7.0, 4.0, 0.8))
    (chart,) = heat_maps(table, "t")
    assert [own["shade"] for own in chart.spec["data"]["values"]] == pytest.approx(
        [0, 1, 0, 0.5, None, 0.5, 0.25, 1, 1]
    )
    assert "RMSE (m), delta1 at the last step and best RMSE (m) at the best evaluation, one seed." in table.caption
    assert chart.note == "Colours: bright is better. Each metric has a range of its own."


def test_colours_of_a_metric_in_several_evaluations_can_be_compared() -> None:
    (chart,) = heat_maps(filled(("miou/none", "miou/oracle"), (20.0, 40.0), (30.0, 60.0)), "t")
    assert [own["shade"] for own in chart.spec["data"]["values"]] == [0, 0.5, 0.25, 1] and chart.note == ""
    (chart,) = heat_maps(filled(("rmse",), (4.0,), (2.0,)), "t")
    assert chart.note == "Colours: bright is better, so lower values are brighter."
    # Figures of captions are no evaluations of one metric; equal values are neither good nor bad.
    (chart,) = heat_maps(filled(("caption/val_truncated", "caption/val_recall"), (1.0, 9.0), (0.0, 9.0)), "t")
    assert [own["shade"] for own in chart.spec["data"]["values"]] == [0, 0.5, 1, 0.5]


def test_what_lacks_seeds_does_not_set_the_range_of_colours() -> None:
    table = filled(("miou",), (90.0,), (20.0,), (30.0,), torn=(0, 0))
    assert [own["shade"] for own in heat_maps(table, "t")[0].spec["data"]["values"]] == [1, 0, 1]
    alone = filled(("miou",), (math.nan,), (20.0,), torn=(1, 0))
    assert [own["shade"] for own in heat_maps(alone, "t")[0].spec["data"]["values"]] == [None, 0.5]


def test_the_bar_of_a_figure_tells_its_colours(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Whether less is better or not, an entry has the colour that the bar has at its value."""

    def drawn(table: Table):
        """The axes of a table's figure."""
        kept = []
        monkeypatch.setattr(figure, "write_figure", lambda own, path: kept.append(own))
        draw_table(table, tmp_path / "table.png")
        return kept[0].axes

    for metric, values in {"rmse": (4.0, 2.0, 3.0), "miou": (20.0, 80.0, 35.0)}.items():
        shown, bar = drawn(filled((metric,), *((own,) for own in values)))
        image, scale = shown.get_images()[0], bar._colorbar.mappable
        assert scale.get_clim() == (min(values), max(values)) and bar.get_ylabel() == metric_title(metric)
        assert image.to_rgba(image.get_array()).ravel() == pytest.approx(scale.to_rgba(values).ravel(), abs=0.01)
    (shown,) = drawn(filled(("rmse", "delta1"), (8.0, 0.6), (6.0, 0.7)))
    assert "bright is better" in shown.get_title()
    _, bar = drawn(filled(("miou/none", "miou/oracle"), (20.0, 40.0), (30.0, 60.0)))
    assert bar.get_ylabel() == "mIoU (%)"


def test_several_metrics_are_an_axis(make_cell, row_of):
    table = {"title": "T", "metrics": ["miou", "miou/night"], "rows": ["metric"], "columns": ["caption.recall"]}
    values = {"question": "?", "recipes": {"pocket": "r.yaml"}, "sweep": "s.yaml", "table": table}
    axes = {"caption.recall": [0.5, 1.0]}
    made = TableSpec.of(Experiment.model_validate(values), Sweep.model_validate({"axes": axes}), "pocket")
    cell = make_cell(1.0, 1.0)
    row = row_of(cell, 50.0)
    row.metrics["miou/night"] = 20.0
    filled = build_table(made, [cell], {cell.fingerprint: row})
    assert [[entry.text for entry in side] for side in filled.entries] == [["–", "50.00"], ["–", "20.00"]]
    del row.metrics["miou/night"]
    with pytest.raises(UserError, match="table: metrics: run .* has no 'miou/night'; it has miou"):
        build_table(made, [cell], {cell.fingerprint: row})


def test_of_equal_bests_the_first_is_what_others_are_compared_with(spec, make_cell, row_of) -> None:
    """By the marks as by the sentences: the last entry moves with the seeds of the first, and against those of the second."""
    one = replace(spec, columns=Side.of(["metric"], {"metric": ("miou",)}), published=None)
    values = {0.5: (1.0, 2.0, 3.0), 0.75: (3.0, 2.0, 1.0), 1.0: (0.9, 1.9, 2.9)}
    cells = [make_cell(precision, 0.5, seed) for precision in values for seed in range(3)]
    rows = {cell.fingerprint: row_of(cell, values[cell.axes["caption.precision"]][cell.seed]) for cell in cells}
    table = build_table(one, cells, rows)
    assert [(entry.best, entry.tied) for (entry,) in table.entries] == [(True, False), (True, False), (False, False)]
    assert "The best entry cannot be told apart (95 %, paired over 3 seeds) from precision 0.75." in list(
        sentences(table)
    )


def test_figures_are_drawn_even_while_cells_are_missing(spec, cells, rows, tmp_path):
    del rows[cells[0].fingerprint]
    draw_table(build_table(spec, cells, rows), tmp_path / "table.png")
    draw_curves(spec, cells, {cells[-1].fingerprint: [(50, 20.0), (100, 40.0)]}, tmp_path / "curves.png")
    for name in ("table.png", "curves.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"


def test_one_published_number_is_no_pattern_to_draw(spec, cells, rows, tmp_path):
    def drawn(published) -> tuple[int, int]:
        """How many heat maps a page has, and the width of the figure."""
        table = build_table(replace(spec, published=published), cells, rows)
        draw_table(table, tmp_path / "table.png")
        with Image.open(tmp_path / "table.png") as image:
            return len(heat_maps(table, "t")), image.width

    (ours, one), (both, several) = drawn(((None, None), (None, None), (None, 63.29))), drawn(spec.published)
    assert (ours, both) == (1, 2) and several > 1.5 * one


def test_places_told_ground_truth_names_are_called_an_oracles(spec, cells, rows):
    def told(changes) -> str:
        """What the caption says where the cells of some places have other captions."""
        made = []
        for cell in cells:
            caption = cell.recipe.caption.model_copy(update=changes(cell.axes))
            made.append(cell.model_copy(update={"recipe": cell.recipe.model_copy(update={"caption": caption})}))
        return build_table(spec, made, rows).caption.partition(" Oracle captions ")[2].partition(". ")[0]

    everywhere = "(made from the ground truth) are used in all entries"
    assert told(lambda axes: {}) == everywhere
    for source in ("template", "shuffled", "wrong"):
        assert told(lambda axes, source=source: {"source": source}) == everywhere
    for source in ("null", "class_names", "sentence", "store"):
        assert told(lambda axes, source=source: {"source": source}) == ""
    null = {"source": "null"}
    some = "(made from the ground truth) are used in"
    assert told(lambda axes: null if axes["caption.precision"] < 1 else {}) == f"{some} row 1.0"
    assert told(lambda axes: null if axes["caption.recall"] < 1 else {}) == f"{some} column 1.0"
    assert (
        told(lambda axes: {} if axes == {"caption.precision": 0.5, "caption.recall": 1.0} else null)
        == f"{some} row 0.5, column 1.0"
    )
    stores = [
        cell.model_copy(
            update={"stores_of_ground_truth": True, "recipe": cell.recipe.model_copy(update={"caption": STORE})}
        )
        for cell in cells
    ]
    table = build_table(spec, stores, rows)
    assert everywhere in table.caption and {entry.oracle for row in table.entries for entry in row} == {True}


def test_an_evaluation_with_an_oracles_captions_is_marked_alone(spec, cells, rows):
    """Rows trained with an oracle are one's in every column, other rows in the columns that are evaluated with one."""
    scored = {"none": CaptionConfig(source="null"), "names": CaptionConfig(source="oracle")}
    made = []
    for cell in cells:
        null = {"caption": CaptionConfig(source="null")} if cell.axes["caption.precision"] < 1 else {}
        evaluation = cell.recipe.evaluation.model_copy(update={"captions": scored})
        made.append(
            cell.model_copy(update={"recipe": cell.recipe.model_copy(update={**null, "evaluation": evaluation})})
        )
    metrics = ("miou/none", "miou/names")
    columns = Side.of(["metric"], {"metric": metrics})
    found = {key: replace(row, metrics=dict.fromkeys(metrics, 9.0)) for key, row in rows.items()}
    table = build_table(replace(spec, metrics=metrics, columns=columns, published=None), made, found)
    assert [[entry.oracle for entry in row] for row in table.entries] == [[False, True], [False, True], [True, True]]
    assert "Oracle captions (made from the ground truth) are used in row 1.0; column miou/names." in table.caption


def test_the_work_on_a_table_is_proportional_to_its_cells(make_cell, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[object] = []
    whole = config_table.hashable
    monkeypatch.setattr(config_table, "hashable", lambda value: looked_up.append(value) or whole(value))
    for count in (10, 40):
        precisions = [(number + 1) / count for number in range(count)]
        axes = {"caption.precision": precisions, "caption.recall": [0.75]}
        sides = (Side.of([key], axes) for key in axes)
        spec = TableSpec("Growth", ("miou",), *sides)
        cells = [make_cell(precision=precision, seed=seed) for precision in precisions for seed in (0, 1)]
        looked_up.clear()
        table = build_table(spec, cells, {})
        assert [row[0].num_seeds for row in table.entries] == [2] * count
        # Every heading once, and the row and the column of every cell; values within a tuple are looked at beside these.
        assert sum(isinstance(value, tuple) for value in looked_up) == count + 1 + 2 * len(cells)
        assert spec.rows.names is spec.rows.names and spec.rows.headings is spec.rows.headings


def test_a_narrow_terminal_cuts_no_number(spec, cells, rows, tmp_path):
    console = Console(width=40, record=True, file=(tmp_path / "terminal").open("w"))
    console.print(terminal(build_table(spec, cells, rows)))
    console.file.close()
    said = console.export_text()
    assert "…" not in said and all(text in said for text in ("40.00", "63.29"))
