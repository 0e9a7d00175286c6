"""What a command does now is one line that changes in a terminal, and a line for each phase elsewhere."""

import io

import pytest
from rich.console import Console

from tadp_ray.cli import phases_shown
from tadp_ray.cli.phases_shown import show_phases
from tadp_ray.phases import counted, phase


def run(console: Console) -> str:
    """What is shown of three phases, one of which is told by its share; nothing of what comes after them."""
    with show_phases(console):
        phase("checking [x]")
        assert list(counted(range(400), 400, "hashing data")) == list(range(400))
        assert list(counted("abc", 3, "few")) == ["a", "b", "c"]
        phase("")
        console.print("training")
    phase("later")
    return console.file.getvalue()


def test_lines_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=False, markup=False)
    assert run(console).splitlines() == ["checking [x]", "hashing data: 1%", "training"]
    monkeypatch.setattr(phases_shown, "SECONDS", 0.0)
    console.file = io.StringIO()
    assert run(console).splitlines()[1:-1] == [f"hashing data: {share}%" for share in range(1, 101)]


def test_one_line_in_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, markup=False, width=60, color_system=None)
    shown = run(console)
    # Of what changes faster than a terminal shows, the end is seen; the line is gone before the next one.
    assert "hashing data: 100%\n" in shown and shown.endswith("\x1b[2Ktraining\n")
