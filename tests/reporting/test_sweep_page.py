"""MLflow's page of a sweep has the numbers of its table, and a note that fits."""

from dataclasses import replace

import pytest

from tadp_ray.config.table import Side
from tadp_ray.reporting.sweep_page import note, numbers
from tadp_ray.reporting.table import build_table
from tadp_ray.tracking.run_spec import TAG_LENGTH

PLACES = [(0.5, 0.5), (0.5, 1.0), (0.75, 0.5), (0.75, 1.0), (1.0, 0.5), (1.0, 1.0)]


@pytest.fixture
def filled(spec, make_cell, row_of):
    """`filled(seeds)`: all but the last cell, with the mIoU 10, 20, 30 ... by place, and a point more for each seed."""

    def fill(seeds, spec=spec):
        cells = [make_cell(*place, seed) for place in PLACES for seed in range(seeds)]
        rows = {
            cell.fingerprint: row_of(cell, 10 * PLACES.index(tuple(cell.axes.values())) + 10 + cell.seed)
            for cell in cells[:-1]
        }
        return build_table(replace(spec, question="Do words matter?"), cells, rows)

    return fill


def test_complete_entries_are_metrics_and_have_a_spread_if_there_are_seeds(filled):
    assert numbers(filled(1)) == {
        "miou/precision 0.5 recall 0.5": 10.0,
        "miou/precision 0.5 recall 1.0": 20.0,
        "miou/precision 0.75 recall 0.5": 30.0,
        "miou/precision 0.75 recall 1.0": 40.0,
        "miou/precision 1.0 recall 0.5": 50.0,
    }
    three = numbers(filled(3))
    assert len(three) == 10  # not the entry that lacks a seed
    assert (three["miou/precision 0.5 recall 0.5"], three["miou sd/precision 0.5 recall 0.5"]) == (11.0, 1.0)


def test_metrics_and_variants_are_named_once(spec, make_cell, row_of):
    cells = [make_cell().model_copy(update={"axes": {"text": "a word"}})]
    sides = {
        "rows": Side.of(["text"], {"text": ("a word",)}),
        "columns": Side.of(["metric"], {"metric": ("miou", "loss")}),
    }
    both = replace(spec, metrics=("miou", "loss"), published=None, **sides)
    rows = {cells[0].fingerprint: replace(row_of(cells[0], 0), metrics={"miou": 1.0, "loss": 2.0})}
    assert numbers(build_table(both, cells, rows)) == {"miou/a word": 1.0, "loss/a word": 2.0}


def test_the_note_leads_with_links_and_what_was_found(filled):
    text = note(filled(1), [], ["[charts](#/x)", "[list](#/y)"])
    parts = text.split("\n\n")
    assert parts[0] == "[charts](#/x) · [list](#/y)"
    assert parts[1].startswith("**The highest of 5 entries is precision 1.0, recall 0.5 with 50.00; ")
    assert parts[2] == "Do words matter?"
    assert "| 0.75 | 30.00 | *49.17* | 40.00 | *58.62* |" in text and "1 of 6 cells is not finished" in text


def test_a_note_that_is_too_long_leaves_out_the_table_and_says_where_it_is(filled, spec):
    text = note(filled(1, replace(spec, title="x" * TAG_LENGTH)), [])
    assert len(text) <= TAG_LENGTH and "x" * 20 not in text
    assert text.endswith("table.md, table.html and claims.md.") and "Do words matter?" in text
