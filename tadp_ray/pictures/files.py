"""Figures as files."""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text

from tadp_ray.files import drafted


def write_both(figure: Figure, path: Path) -> list[str]:
    """Write a figure as PNG for the page and as PDF for LaTeX, `path` giving the name of both; returns the files' names."""
    paths = [path.with_suffix(ending) for ending in (".png", ".pdf")]
    write_figure(figure, *paths)
    return [written.name for written in paths]


def write_figure(figure: Figure, *paths: Path) -> None:
    """Write a figure as PNG or PDF, as each path ends, every file whole or not at all; PDF keeps its text as text.

    A dollar sign in a name or a title is one: nothing is taken for mathematics.
    """
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = path.suffix.removeprefix(".")
        # Without a date the same figure is the same file.
        with rc_context({"pdf.fonttype": 42}), drafted(path) as draft:
            figure.savefig(draft, format=kind, metadata={"CreationDate": None} if kind == "pdf" else None)
