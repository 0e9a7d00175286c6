"""The last words on a sweep: they claim no more than its seeds bear out, and name the command that would tell more."""

from dataclasses import replace

import pytest

from tadp_ray.config.table import Side
from tadp_ray.reporting.closing import NextCommands, closing_lines
from tadp_ray.reporting.table import build_table

PLACES = [(0.5, 0.5), (0.5, 1.0), (0.75, 0.5), (0.75, 1.0), (1.0, 0.5), (1.0, 1.0)]
AGAIN = "tadp-ray sweep x.yaml --seeds 0,1,2"
COMMANDS = NextCommands(AGAIN, "tadp-ray sweep x.yaml", "tadp-ray table x.yaml", "tadp-ray report")


@pytest.fixture
def said(spec, make_cell, row_of):
    """`said(range(3), value_at)`: the last words on a table with these seeds and values; None: a cell did not finish."""

    def say(seeds, value_at, spec=spec):
        cells = [make_cell(*place, seed) for place in PLACES for seed in seeds]
        values = {cell.fingerprint: value_at(*cell.axes.values(), cell.seed) for cell in cells}
        rows = {
            cell.fingerprint: row_of(cell, value) for cell in cells if (value := values[cell.fingerprint]) is not None
        }
        return closing_lines(build_table(spec, cells, rows), COMMANDS)

    return say


def test_one_seed_has_no_verdict_and_names_the_seeds_that_would_give_one(said) -> None:
    assert said(range(1), lambda precision, recall, seed: 40 * precision + 10 * recall) == [
        "The highest of 6 entries is precision 1.0, recall 1.0 with 50.00; the next is precision 1.0, recall 0.5 with 45.00. "
        "With one seed, there is no ± and no verdict.",
        "next, run more seeds: tadp-ray sweep x.yaml --seeds 0,1,2",
    ]


def test_two_seeds_have_a_spread_and_no_verdict(said) -> None:
    first, second = said(range(2), lambda precision, recall, seed: 40 * precision + 10 * recall * (1 + seed))
    # 10 x 0.5 of the first seed, 20 x 0.5 of the second: 7.5 ± 3.54
    assert first.endswith("The difference is 7.50 ± 3.54 points of mIoU; 2 seeds are too few for a verdict.")
    assert second == "next, run more seeds: tadp-ray sweep x.yaml --seeds 0,1,2"


def test_seeds_that_were_run_are_among_those_to_run(said) -> None:
    _, step = said([5, 1], lambda precision, recall, seed: recall)
    assert step.endswith("--seeds 0,1,5")


def test_three_seeds_have_the_interval_of_their_paired_differences(said) -> None:
    """Seeds move all entries alike by 50 points, which a pair does not feel."""
    first, second = said(range(3), lambda precision, recall, seed: 40 * precision + recall * (10 + seed) + 50 * seed)
    # Differences of 5, 5.5 and 6: 5.5 ± 0.5, and t(0.975, 2) = 4.3027 times 0.5 / sqrt(3) is 1.24.
    assert first.endswith(
        "The difference is 5.50 ± 0.50 points of mIoU, with a 95 % interval of 4.26 to 6.74 over 3 seeds; seeds alone do not "
        "explain it."
    )
    # The best entry of another row is 0.75, 1.0.
    assert (
        second
        == "next, show the differences to a row, image by image: tadp-ray table x.yaml --against 'precision 0.75'"
    )


def test_what_seeds_may_explain_is_said_to_be_so(said) -> None:
    wild = [0.0, 9.0, -9.0]
    first, _ = said(range(3), lambda precision, recall, seed: 40 * precision + recall * (2 + wild[seed]))
    # 1 ± 4.5, ± 11.18
    assert "1.00 ± 4.50 points of mIoU, with a 95 % interval of -10.18 to 12.18 over 3 seeds" in first
    assert first.endswith("seeds alone may explain it.")


def test_the_seeds_that_both_have_may_tell_for_the_second_best(spec, make_cell, row_of) -> None:
    """The best has its mean from a seed that the second one lacks."""
    values = {(1.0, 1.0): {0: 10, 1: 11, 2: 12, 3: 99}, (0.5, 0.5): {0: 20, 1: 21, 2: 22.5, 4: 0}}
    cells = [make_cell(*place, seed) for place, own in values.items() for seed in own]
    rows = {cell.fingerprint: row_of(cell, values[tuple(cell.axes.values())][cell.seed]) for cell in cells}
    first, _ = closing_lines(build_table(spec, cells, rows), COMMANDS)
    assert first.startswith("The highest of 2 entries is precision 1.0, recall 1.0 with 33.00")
    assert "-10.88 to -9.45" in first and first.endswith("seeds alone do not explain it.")


def test_lower_is_better_where_it_is(said, spec, make_cell, row_of) -> None:
    depth = replace(spec, metrics=("rmse",), published=None)
    cells = [make_cell(*place) for place in PLACES]
    rows = {cell.fingerprint: replace(row_of(cell, 0), metrics={"rmse": cell.axes["caption.recall"]}) for cell in cells}
    first, _ = closing_lines(build_table(depth, cells, rows), COMMANDS)
    assert first.startswith("The lowest of 6 entries is precision 0.5, recall 0.5 with 0.500; ")


def test_missing_cells_come_first(said) -> None:
    first, second = said(
        range(3), lambda precision, recall, seed: None if precision == recall == 1.0 and seed else precision
    )
    assert first.startswith("The highest of 5 entries is precision 1.0, recall 0.5 with 1.00 ± 0.00; ")
    assert second == "next, train the 2 cells that are not finished: tadp-ray sweep x.yaml --seeds 0,1,2"
    assert said(range(1), lambda *_: None)[0] == "No entry of the table is complete yet."


def test_entries_of_one_training_lack_one_cell(spec, make_cell) -> None:
    cell = make_cell(0.5, 0.5)
    cells = [cell, cell.model_copy(update={"axes": {**cell.axes, "caption.recall": 1.0}})]
    _, second = closing_lines(build_table(spec, cells, {}), COMMANDS)
    assert second == "next, train the 1 cell that is not finished: tadp-ray sweep x.yaml --seeds 0,1,2"


def test_metrics_in_rows_are_not_subtracted(spec, make_cell, row_of) -> None:
    """Nor is one metric's best entry sought among those of another."""
    both = replace(
        spec, metrics=("miou", "loss"), rows=Side.of(["metric"], {"metric": ("miou", "loss")}), published=None
    )
    both = replace(both, columns=spec.columns)
    cells = [make_cell(0.5, recall, seed) for recall in (0.5, 1.0) for seed in range(3)]
    rows = {
        cell.fingerprint: replace(row_of(cell, 0), metrics={"miou": cell.axes["caption.recall"], "loss": 9.0})
        for cell in cells
    }
    first, second = closing_lines(build_table(both, cells, rows), COMMANDS)
    assert first.startswith(
        "The highest of 2 entries is miou, recall 1.0 with 1.00 ± 0.00; the next is miou, recall 0.5"
    )
    assert second == "next, write all tables on one page: tadp-ray report"


def test_an_entry_of_a_table_with_one_axis_is_named_by_its_row_alone(spec, make_cell, row_of) -> None:
    one = replace(spec, columns=Side.of(["metric"], {"metric": ("miou",)}), published=None)
    cells = [make_cell(precision, 0.5) for precision in (0.5, 0.75, 1.0)]
    rows = {cell.fingerprint: row_of(cell, 32 * cell.axes["caption.precision"]) for cell in cells}
    first, _ = closing_lines(build_table(one, cells, rows), COMMANDS)
    assert first.startswith(
        "The highest of 3 entries is precision 1.0 with 32.00; the next is precision 0.75 with 24.00. "
    )
