"""What a reader explores: intervals over seeds, importance of axes, heights on parallel axes."""

import itertools
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tadp_ray.config.table import Side, TableSpec
from tadp_ray.reporting import explorer
from tadp_ray.reporting.charts import (
    compared_rows,
    curve_records,
    entry_curve,
    learning_curves,
)
from tadp_ray.reporting.explorer import compared, searched
from tadp_ray.reporting.importance import MIN_RUNS, encoded, importance
from tadp_ray.reporting.search_charts import parallel_coordinates, scaled
from tadp_ray.reporting.seeds import gap_of, paired_gap
from tadp_ray.reporting.summary import sentences
from tadp_ray.reporting.table import Table, TableEntry, build_table

RUNS = itertools.count()


def entry(*values: float, seeds: tuple[int, ...] = (0, 1, 2)) -> TableEntry:
    """An entry of some seeds, each with a run of its own."""
    runs = tuple(f"run {next(RUNS)}" for _ in values)
    return TableEntry("r", "c", "miou", values, len(values), None, runs, seeds=seeds)


def test_three_seeds_tell_apart_what_lies_beyond_students_interval() -> None:
    gap = gap_of([1.0, 2.0, 3.0])
    # The mean, and 4.3027 standard errors of 1 / sqrt(3) on both sides.
    assert gap is not None and (gap.mean, gap.n) == (2.0, 3)
    assert (gap.low, gap.high) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4) and not gap.told_apart
    above, below = gap_of([9.0, 10.0, 11.0]), gap_of([-9.0, -10.0, -11.0])
    assert above is not None and above.told_apart and below is not None and below.told_apart
    assert gap_of([1.0, 2.0]) is None and gap_of([1.0, 2.0, math.nan]) is None
    same = gap_of([2.0, 2.0, 2.0])
    assert same is not None and (same.low, same.high) == (2.0, 2.0)


def test_only_seeds_of_both_are_paired() -> None:
    gap = paired_gap(entry(11.0, 12.0, 13.0, 99.0, seeds=(0, 1, 2, 7)), entry(3.0, 2.0, 1.0, seeds=(2, 1, 0)))
    assert gap is not None and (gap.mean, gap.low, gap.high, gap.n) == (10.0, 10.0, 10.0, 3)
    assert paired_gap(entry(1.0, 2.0, seeds=(0, 1)), entry(1.0, 2.0, 3.0)) is None


def test_what_seeds_tell_apart_is_said_and_what_they_do_not(spec) -> None:
    spec = replace(spec, published=None)

    def table(*rows: tuple[tuple[float, ...], ...]) -> Table:
        entries = tuple(tuple(entry(*values) for values in row) for row in rows)
        return Table(spec, entries, ())

    low, high, near = (1.0, 2.0, 3.0), (20.0, 21.0, 22.5), (19.5, 21.5, 22.0)
    said = list(sentences(table((low, near), (low, low), (low, high))))
    assert "The best entry cannot be told apart (95 %, paired over 3 seeds) from precision 0.5, recall 1.0." in said
    # Rows in the mean over two columns: (2 + 21.17) / 2 against 2; columns over three rows.
    assert any(text.startswith("From precision 0.75 to precision 1.0: 9.58 [") for text in said)
    assert any(text.startswith("From recall 0.5 to recall 1.0: ") and "averaged over 3 rows" in text for text in said)
    said = list(sentences(table((low, low), (low, low), (low, high))))
    assert "The best entry can be told apart from every other complete entry (95 %, paired over 3 seeds)." in said
    twin = replace(entry(*high), run_ids=("a", "b", "c"))
    rows = ((entry(*low), twin), (entry(*low), entry(*low)), (entry(*low), twin))
    assert "The best entry can be told apart from every other training run (95 %, paired over 3 seeds)." in [
        *sentences(Table(spec, rows, ()))
    ]
    one = Table(spec, ((entry(1.0, seeds=(0,)), entry(2.0, seeds=(0,))),) * 3, ())
    few = "With one seed, there are no verdicts, since differences may be chance; run at least 3 seeds."
    assert few in list(sentences(one))


def test_a_side_goes_from_its_highest_to_its_lowest_where_less_is_better(spec) -> None:
    def row(mean: float) -> tuple[TableEntry, ...]:
        return (replace(entry(mean - 0.1, mean, mean + 0.1), metric="rmse"),) * 2

    table = Table(replace(spec, metrics=("rmse",), published=None), (row(0.8), row(0.6), row(0.5)), ())
    said = list(sentences(table))
    assert any(text.startswith("From precision 0.5 to precision 1.0: -0.300 [") for text in said), said


def test_rows_are_told_apart_in_a_table_of_several_metrics(spec) -> None:
    """Each metric has places of its own, of which the first metric's are whole."""
    metrics = ("miou", "miou/night")
    spec = replace(spec, metrics=metrics, columns=Side.of(["metric"], {"metric": metrics}), published=None)
    low, high = entry(1.0, 2.0, 3.0), entry(20.0, 21.0, 22.5)
    rows = ((low, high), (low, high), (high, low))
    entries = tuple((one, replace(other, metric="miou/night")) for one, other in rows)
    said = list(sentences(Table(spec, entries, ())))
    assert any(text.startswith("From precision 0.5 to precision 1.0: 19.17 [") for text in said), said
    gap = tuple((one, replace(other, metric="miou/night")) for one, other in (rows[0], (entry(), high), rows[2]))
    assert not any(text.startswith("From ") for text in sentences(Table(spec, gap, ())))


def test_prompts_and_pictures_are_of_the_main_evaluation_alone(spec, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = ("miou", "miou/oracle", "miou/night", "iou/car")
    spec = replace(spec, metrics=metrics, columns=Side.of(["metric"], {"metric": metrics}), published=None)
    evaluation = SimpleNamespace(multi_scale=(), captions={"oracle": None})
    recipe = SimpleNamespace(task="segmentation", data=SimpleNamespace(extra_styles=("night",)), evaluation=evaluation)
    cell, row = SimpleNamespace(group="g", recipe=recipe), SimpleNamespace(run_id="r")
    entries = (tuple(replace(entry(1.0, seeds=(0,)), metric=metric, run_ids=("r",)) for metric in metrics), (), ())
    monkeypatch.setattr(explorer, "copy_picture", lambda *_: Path("picture"))
    monkeypatch.setattr(explorer, "prompts_of", lambda *_: (("id", "a car"),))
    opened = list(explorer.open_entries(None, Table(spec, entries, ()), [cell], {"f": row}, "t", Path()))
    assert [(own.picture is not None, bool(own.prompts)) for own in opened] == [
        (own, own) for own in (True, False, False, True)
    ]


def test_a_value_that_is_no_number_leaves_the_curves_readable() -> None:
    found = curve_records({0: ((1, 2.0), (2, math.nan), (3, math.inf))})
    assert [point["value"] for point in found] == [2.0, None, None] and json.dumps(found, allow_nan=False)


def test_values_of_an_axis_are_numbers_or_places_of_their_first_appearance() -> None:
    assert encoded([True, 2, 0.5]) == [1, 2, 0.5] and encoded([8, None, "auto", 8]) == [0, 1, 2, 0]


def test_importance_is_that_of_the_axis_that_matters() -> None:
    rng = np.random.default_rng(0)
    runs = [
        ((rate, text, seed), 10.0 * rate + float(rng.normal()) / 10)
        for rate in (0.1, 0.5, 0.9)
        for text in ("null", "oracle", "template")
        for seed in (0, 1)
    ]
    found = importance(("rate", "source", "seed"), runs)
    assert found is not None and found.axes[0][0] == "rate" and found.axes[0][1] > 1 and found.fit > 0.9
    assert all(abs(mean) < 0.05 for _, mean, _ in found.axes[1:]) and "18 runs" in found.note("mIoU (%)")
    # Too few runs, nothing that varies, and noise, of which a forest learns nothing.
    assert importance(("rate",), [((own[0],), value) for own, value in runs][: MIN_RUNS - 1]) is None
    assert importance(("rate",), [((own[0],), 1.0) for own, _ in runs]) is None
    noise = [((float(number % 3),), float(rng.normal())) for number in range(24)]
    assert importance(("rate",), noise) is None


def test_values_lie_on_an_axis_by_order_size_or_factor() -> None:
    assert scaled([0.5, 1.0, 0.75, 0.5]) == ([0.0, 1.0, 0.5, 0.0], [("0.5", 0.0), ("0.75", 0.5), ("1", 1.0)])
    assert scaled(["b", "a"]) == ([0.0, 1.0], [("b", 0.0), ("a", 1.0)])
    heights, ends = scaled([float(value) for value in range(10, 21)])
    assert heights[5] == 0.5 and ends == [("10", 0.0), ("20", 1.0)]
    heights, ends = scaled([10.0**-power for power in range(7)])
    assert heights[:3] == pytest.approx([1.0, 5 / 6, 4 / 6]) and ends == [("1e-06", 0.0), ("1", 1.0)]


def test_rows_are_compared_with_each_other_by_seeds_or_not_judged(
    spec, make_cell, row_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Precision 0.5, 0.75 and 1.0 reach 10, 11 and 20, and their seeds differ by one."""
    reached = {0.5: 10.0, 0.75: 11.0, 1.0: 20.0}
    cells = [make_cell(precision, 0.5, seed) for precision in reached for seed in (0, 1, 2)]
    values = {0.5: (0, 1, 2), 0.75: (2, 1, 0), 1.0: (0, 1, 2)}
    done = {
        cell.fingerprint: row_of(
            cell, reached[cell.axes["caption.precision"]] + values[cell.axes["caption.precision"]][cell.seed]
        )
        for cell in cells
    }
    (chart,) = compared(None, build_table(spec, cells, done), done, {})
    found = {(own["row"], own["against"]): own for own in chart.spec["data"]["values"]}
    assert len(found) == 6 and {own["column"] for own in found.values()} == {"recall 0.5"}
    whole, near = found["precision 1.0", "precision 0.5"], found["precision 0.75", "precision 0.5"]
    assert (whole["difference"], whole["low"], whole["high"], whole["apart"]) == (10.0, 10.0, 10.0, True)
    # Differences of 3, 1 and -1 within the seeds: 4.3027 standard errors of 2 / sqrt(3) around 1.
    assert near["difference"] == 1.0 and not near["apart"]
    assert (near["low"], near["high"]) == pytest.approx((1 - 4.96828, 1 + 4.96828), abs=1e-4)
    assert "Student's 95 % interval" in chart.note

    monkeypatch.setattr(explorer, "read_images", lambda store, done: {})
    first = [cell for cell in cells if cell.seed == 0]
    one = {cell.fingerprint: done[cell.fingerprint] for cell in first}
    (chart,) = compared(None, build_table(spec, first, one), one, {})
    assert chart.note == "One seed, so there are no intervals and no verdicts."
    assert {own["apart"] for own in chart.spec["data"]["values"]} == {False}


def test_each_quantity_has_compared_rows_of_its_own_that_say_what_is_better() -> None:
    metrics = ("rmse", "delta1", "best_rmse")
    spec = TableSpec("", metrics, Side.of(["text"], {"text": "ab"}), Side.of(["metric"], {"metric": metrics}))
    rows = [[replace(entry(*(value + k for k in range(3))), metric=own) for own in metrics] for value in (1.0, 2.0)]
    errors, shares = compared(None, Table(spec, tuple(map(tuple, rows)), ()), {}, {})
    assert (errors.title, shares.title) == ("Rows compared: RMSE (m)", "Rows compared: delta1")
    assert {own["column"] for own in errors.spec["data"]["values"]} == {"rmse", "best_rmse"}
    assert "difference of RMSE (m): left is better" in errors.spec["title"]["text"]["expr"]
    assert "difference of delta1: right is better" in shares.spec["title"]["text"]["expr"]


def test_tooltips_have_the_decimals_of_their_metric() -> None:
    """Metres have one digit more than percentages."""
    columns = Side.of(["look"], {"look": ("day",)})
    curves = {(0, 0): {0: [(1, 0.341), (2, 0.301)]}}
    records = [{"row": "none", "against": "oracle", "column": "day", "difference": 0.04, "low": None, "high": None}]
    for metric, decimals in (("rmse", 3), ("miou", 2)):
        spec = TableSpec("", (metric,), Side.of(["text"], {"text": ("none", "oracle")}), columns)
        (curve,) = learning_curves(spec, curves, metric, decimals)
        rows = compared_rows(spec, metric, [{**records[0], "apart": False}], "")
        lines = parallel_coordinates(["rate"], [((0.1,), 0.341), ((0.2,), 0.301)], metric, decimals)
        assert formats(curve.spec) == formats(entry_curve(metric, decimals)) == {f".{decimals}f"}
        assert formats(rows.spec) == {f"+.{decimals}f"} and formats(lines.spec) == {f".{decimals}f"}


def test_lines_are_named_by_what_was_trained_and_not_by_the_metric_whose_column_they_stand_in() -> None:
    """One column of metrics has lines, so that none needs a name; of several trainings each has one."""
    metrics, text = ("rmse", "delta1"), Side.of(["text"], {"text": ("none", "oracle")})
    points = {0: [(1, 8.0), (2, 6.0)]}

    def drawn(rows: Side, columns: Side, *places: tuple[int, int]) -> tuple[str, dict, dict]:
        """The first panel's title, the colour of its lines, and the tooltip's names."""
        spec = TableSpec("", metrics, rows, columns)
        chart = learning_curves(spec, dict.fromkeys(places, points), "training loss", 2)[0]
        encoding = chart.spec["layer"][0]["encoding"]
        return chart.title, encoding["color"], [own.get("title", own["field"]) for own in encoding["tooltip"]]

    title, colour, told = drawn(text, Side.of(["metric"], {"metric": metrics}), (0, 0), (1, 0))
    assert title == "none" and colour["legend"] is None and told == ["seed", "step", "value"]
    title, colour, told = drawn(Side.of(["metric"], {"metric": metrics}), text, (0, 0), (0, 1))
    assert title == "training loss" and colour["scale"]["domain"] == ["none", "oracle"] and told[0] == "text"
    both = Side.of(["metric", "look"], {"metric": metrics, "look": ("day", "night")})
    _, colour, told = drawn(text, both, (0, 0), (0, 1))
    assert colour["scale"]["domain"] == ["day", "night"] and colour["title"] == told[0] == "look"


def formats(spec: object) -> set[str]:
    """The formats of numbers in a chart's tooltips."""
    return set(re.findall(r'"format": "(\+?\.\df)"', json.dumps(spec)))


def test_a_damaged_picture_of_predictions_costs_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(whole)
    for name, content in (("cut", whole.read_bytes()[:400]), ("other", b"no picture"), ("whole", whole.read_bytes())):
        stored = tmp_path / f"{name}.png"
        stored.write_bytes(content)
        monkeypatch.setattr(explorer, "stored_file", lambda *_, stored=stored: stored)
        made = explorer.copy_picture(None, "run", tmp_path / f"{name}.webp")
        assert (made is not None) == (name == "whole") == (tmp_path / f"{name}.webp").exists()


def test_a_run_without_a_finite_metric_takes_no_other_off_the_axes() -> None:
    runs = [((0.1 * number, "a"), 10.0 * number) for number in range(1, MIN_RUNS + 1)]
    (every,) = searched(("rate", "source"), [((9.0, "a"), math.nan), *runs, ((8.0, "b"), math.inf)], "mIoU (%)", 2)
    reached = [own["height"] for own in every.spec["data"]["values"] if own["axis"] == "mIoU (%)"]
    assert reached == pytest.approx([number / (MIN_RUNS - 1) for number in range(MIN_RUNS)])


def test_runs_are_drawn_along_what_varied_if_they_are_enough() -> None:
    runs = [((rate, text, 0), 10 * rate) for rate in (0.1, 0.2, 0.3, 0.4) for text in ("a", "b", "c")]
    every, matters = searched(("rate", "source", "seed"), runs, "mIoU (%)", 2)
    assert (every.title, matters.title) == ("Every run", "What matters")
    points = [own for own in every.spec["data"]["values"] if own["run"] == 11]
    # The last run: the largest rate, the last text, the best score. A seed is no axis of the lines.
    assert [(own["axis"], own["value"], own["height"]) for own in points] == [
        ("rate", "0.4", 1.0),
        ("source", "c", 1.0),
        ("mIoU (%)", "4.0", 1.0),
    ]
    assert list(searched(("rate", "source"), runs[: MIN_RUNS - 1], "mIoU", 2)) == []
    assert list(searched(("rate", "seed"), [((rate, 0), value) for (rate, *_), value in runs], "mIoU", 2)) == []
