"""Writes figures to files."""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text

from tadp_ray.files import drafted


def write_both(figure: Figure, path: Path) -> list[str]:
    """Write a figure as PNG (web pages) and as PDF (LaTeX), at `path` with each suffix. Return the file names."""
    paths = [path.with_suffix(ending) for ending in (".png", ".pdf")]
    write_figure(figure, *paths)
    return [written.name for written in paths]


def write_figure(figure: Figure, *paths: Path) -> None:
    """Write a figure as PNG or PDF, by the suffix of each path, atomically. Text in a PDF stays text.

    Dollar signs are literal, since mathematical text is turned off.
    """
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = path.suffix.removeprefix(".")
        # Without a date, the same figure gives the same bytes.
        with rc_context({"pdf.fonttype": 42}), drafted(path) as draft:
            figure.savefig(draft, format=kind, metadata={"CreationDate": None} if kind == "pdf" else None)
