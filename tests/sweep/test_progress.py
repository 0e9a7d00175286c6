"""The live view of a sweep fits every terminal, leads with what runs, and its times include evaluations."""

import io

import pytest
from rich.console import Console

from tadp_ray.sweep import progress
from tadp_ray.sweep.cell_state import CellState
from tadp_ray.sweep.progress import SweepProgress


@pytest.fixture
def write(journals):
    """`write(cell, *records)`: a journal whose records have times of their own; a number is the loss at that step and time."""

    def add(cell, *records):
        for record in records:
            journals.write(cell, **record)

    return add


def started(time):
    return {"type": "started", "time": time}


def loss(step, time, value=0.5, speed=2.0):
    return {"type": "metrics", "time": time, "step": step, "metrics": {"loss": value, "seconds_per_step": speed}}


def score(step, time, value):
    return {"type": "metrics", "time": time, "step": step, "metrics": {"miou": value}}


@pytest.fixture
def cells(make_cell):
    """Six cells of 100 steps, of which every 40th is evaluated."""
    made = [make_cell(0.5, recall, seed) for recall in (0.5, 0.75, 1.0) for seed in (0, 1)]
    recipe = made[0].recipe
    evaluation = recipe.evaluation.model_copy(update={"interval": 40})
    return [
        cell.model_copy(update={"recipe": cell.recipe.model_copy(update={"evaluation": evaluation})}) for cell in made
    ]


@pytest.fixture
def busy(cells, write):
    """One cell finished, one failed, one trains, one evaluates, one loads, one waits."""
    done, failed, training, evaluating, loading, _ = cells
    write(done, started(0), loss(40, 80), score(40, 87, 20), loss(80, 170), score(80, 177, 30), loss(100, 220))
    write(done, score(100, 227, 44.375), {"type": "finished", "time": 250, "step": 100, "metrics": {"miou": 44.375}})
    write(
        failed, started(0), loss(10, 20), {"type": "failed", "time": 21, "error": "UserError: the loss is nan\nsecond"}
    )
    write(training, started(260), loss(40, 340), score(40, 347, 21.5), loss(50, 370, 0.25))
    write(evaluating, started(260), loss(80, 420, 0.125))
    write(loading, started(400))
    return cells


def shown(cells, width, height=25, at_once=2):
    """The live view as a terminal of this size shows it, and the plain line."""
    console = Console(width=width, height=height, record=True, file=io.StringIO(), force_terminal=True)
    view, states = SweepProgress(cells, at_once, console), [CellState.read(cell, 0) for cell in cells]
    console.print(view.view(states))
    return console.export_text().rstrip("\n").splitlines(), view.line(states)


def test_times_left_hold_evaluations(busy):
    """7 s each between steps, and 30 s from the last step to the end: evaluation, pictures, weights."""
    states = [CellState.read(cell, 0) for cell in busy]
    assert [state.status for state in states] == ["finished", "failed", "training", "training", "training", None]
    assert [state.phase for state in states] == [None, None, None, "evaluating", "loading", None]
    assert (states[0].evaluation_seconds, states[0].final_seconds) == (7.0, 30.0)
    # 50 steps of 2 s, the evaluation at step 80, the end; 20 steps and the end; 100 steps, two evaluations, the end.
    assert [state.seconds_left(2.0, 7.0, 30.0) for state in states] == [0, 0, 137, 70, 244, 244]
    lines, plain = shown(busy, 120)
    # (137 + 70 + 244 + 244) / 2 = 347.5
    assert lines[0].endswith("1/6 finished, 1 failed, 3 training, 1 waiting; about 0:05:48 left")
    assert plain.startswith(lines[0])
    line = next(line for line in lines if "recall=0.75 seed=0" in line)
    assert line.split()[-4:] == ["50/100", "0.250", "21.5", "0:02:17"]


def test_an_evaluation_that_was_never_measured_is_named(cells, write):
    write(cells[0], started(0), loss(10, 20))
    lines, _ = shown(cells[:2], 80, at_once=1)
    # 90 + 100 steps of 2 s
    assert lines[0].endswith("about 0:06:20 left + evaluation") and lines[2].endswith("0:03:00 + eval")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_view_fits_the_terminal(busy, width):
    lines, _ = shown(busy, width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    names = "0.5, " if width == 60 else "precision=0.5"
    rows = [line for line in lines if line.startswith(names)]
    # one line each, running cells alone, with all numbers
    assert [row.split()[-1] for row in rows] == ["0:02:17", "evaluating", "loading"]
    assert "50/100" in rows[0] and "0.250" in rows[0] and "21.5" in rows[0] and "80/100" in rows[1]
    # no two look alike
    assert len({row.partition("/")[0].rsplit(" ", 1)[0].strip() for row in rows}) == 3
    assert "failed precision=0.5 recall=0.5 seed=1" in text and "second" not in text
    assert lines.index(rows[0]) < next(place for place, line in enumerate(lines) if line.startswith("failed "))


def test_a_low_terminal_shows_some_and_counts_the_others(make_cell, write):
    cells = [make_cell(0.5, 0.5, seed) for seed in range(30)]
    for cell in cells:
        write(cell, started(0), loss(10, 20))
    lines, _ = shown(cells, 80, height=12, at_once=30)
    assert len(lines) <= 11 and "30 training" in lines[0] and lines[-1] == "and 24 more cells in training"


def test_without_a_terminal_lines_say_what_ended_and_what_runs(busy, monkeypatch):
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    view, states = SweepProgress(busy, 2, Console(file=io.StringIO())), [CellState.read(cell, 0) for cell in busy]
    said = [*view.news(states), *view.news(states)]
    assert said[0] == "finished precision=0.5 recall=0.5 seed=0: miou 44.38"
    assert said[1] == "failed precision=0.5 recall=0.5 seed=1: UserError: the loss is nan"
    assert len(said) == 4  # each end once, the line twice
    assert said[2].endswith(
        "| precision=0.5 recall=0.75 seed=0: step 50/100 loss 0.250 miou 21.5; "
        "precision=0.5 recall=0.75 seed=1: step 80/100 loss 0.125, evaluating; precision=0.5 recall=1.0 seed=0: loading"
    )


def test_records_of_an_earlier_command_count_for_steps_alone(cells, write):
    """A machine that was slower yesterday, and a failure that was mended."""
    write(cells[0], started(0), loss(80, 4000, speed=50.0), {"type": "failed", "time": 4001, "error": "no disk"})
    state = CellState.read(cells[0], 3)
    assert (state.status, state.step, state.seconds_per_step, state.error) == (None, 80, None, None)
    write(cells[0], started(5000))
    assert CellState.read(cells[0], 3).phase == "loading"
