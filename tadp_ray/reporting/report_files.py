"""The report as one page of HTML that needs no other file, and as Markdown with its pictures beside it."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tadp_ray.files import write_text
from tadp_ray.reporting.literal import fenced, md
from tadp_ray.reporting.page import page
from tadp_ray.reporting.render import claims_table, markdown
from tadp_ray.reporting.report import ReportSection

Chapters = Mapping[str, Sequence[ReportSection]]
LISTED = 24
"""Numbers of an analysis that are shown; its finding.json holds all."""


def write_report(chapters: Chapters, title: str, folder: Path) -> list[Path]:
    """Write report.html and report.md, each whole or not at all; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in (
        ("report.html", html_report(chapters, title)),
        ("report.md", md_report(chapters, title, folder)),
    ):
        write_text(folder / name, text)
        written.append(folder / name)
    return written


def shown(value: Any) -> str:
    """A value to read."""
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def html_report(chapters: Chapters, title: str) -> str:
    """The page: what there is and what is missing, then part by part."""
    return page("report.html", title=title, chapters=chapters, shown=shown, data_address=data_address, listed=LISTED)


def data_address(path: Path) -> str:
    """A PNG as an address that holds it."""
    return f"data:image/png;base64,{b64encode(path.read_bytes()).decode()}"


def md_report(chapters: Chapters, title: str, folder: Path) -> str:
    """The same for a README or a review."""
    lines = [f"# {md(title)}"]
    for chapter, parts in chapters.items():
        lines += ["", f"{chapter}:", "", *(f"- {md(part.title)}: {md(part.state)}" for part in parts)]
    for chapter, parts in chapters.items():
        lines += ["", f"## {chapter}"] + ([] if parts else ["", "none yet"])
        for part in parts:
            lines += ["", md_part(part, folder)]
    return "\n".join(lines) + "\n"


def md_part(part: ReportSection, folder: Path) -> str:
    """One part of the Markdown."""
    pieces = [f"### {md(part.title)}", md(part.question)]
    pieces += [f"Missing: {md(part.missing)}. This fills it:"] if part.missing else []
    pieces.append(fenced(part.command))
    pieces += [*map(md, part.said)] if not part.missing else []
    pieces += [markdown(part.table).strip()] if part.table else []
    if part.claims:
        pieces.append(claims_table(part.claims))
    if part.numbers:
        listed = [f"| {md(name)} | {md(shown(value))} |" for name, value in list(part.numbers.items())[:LISTED]]
        pieces.append("\n".join(["| number | value |", "|:--|:--|", *listed]))
    pieces += [f"![{md(words)}]({quote(path.relative_to(folder).as_posix())})" for words, path in part.pictures.items()]
    pieces += ["\n".join(f"- {md(name)}: {md(value)}" for name, value in part.facts.items())] if part.facts else []
    pieces += ["\n".join(f"- runs of {md(name)}: {', '.join(ids)}" for name, ids in part.runs)] if part.runs else []
    return "\n\n".join(pieces)
