"""Writes the report as one standalone HTML page, and as Markdown with its pictures in files."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tadp_ray.files import write_text
from tadp_ray.reporting.escape import fenced, md
from tadp_ray.reporting.html import render_page
from tadp_ray.reporting.render import claims_table, markdown
from tadp_ray.reporting.report import ReportSection

Chapters = Mapping[str, Sequence[ReportSection]]
MAX_NUMBERS = 24
"""Of an analysis that are shown; its finding.json holds all."""


def write_report(chapters: Chapters, title: str, folder: Path) -> list[Path]:
    """Write report.html and report.md, each atomically; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in (
        ("report.html", html_report(chapters, title)),
        ("report.md", md_report(chapters, title, folder)),
    ):
        write_text(folder / name, text)
        written.append(folder / name)
    return written


def format_value(value: Any) -> str:
    """Return a value as text."""
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def html_report(chapters: Chapters, title: str) -> str:
    """Return the HTML page: a list of contents with each section's state, then the sections."""
    return render_page(
        "report.html",
        title=title,
        chapters=chapters,
        format_value=format_value,
        data_url=data_url,
        max_numbers=MAX_NUMBERS,
    )


def data_url(path: Path) -> str:
    """Return a PNG file as a data URL."""
    return f"data:image/png;base64,{b64encode(path.read_bytes()).decode()}"


def md_report(chapters: Chapters, title: str, folder: Path) -> str:
    """Return the report as Markdown."""
    lines = [f"# {md(title)}"]
    for chapter, sections in chapters.items():
        lines += ["", f"{chapter}:", "", *(f"- {md(section.title)}: {md(section.state)}" for section in sections)]
    for chapter, sections in chapters.items():
        lines += ["", f"## {chapter}"] + ([] if sections else ["", "none yet"])
        for section in sections:
            lines += ["", md_section(section, folder)]
    return "\n".join(lines) + "\n"


def md_section(section: ReportSection, folder: Path) -> str:
    """Return one section as Markdown."""
    pieces = [f"### {md(section.title)}", md(section.question)]
    pieces += [f"Missing: {md(section.missing)}. Command to run:"] if section.missing else []
    pieces.append(fenced(section.command))
    pieces += [*map(md, section.summary)] if not section.missing else []
    pieces += [markdown(section.table).strip()] if section.table else []
    if section.claims:
        pieces.append(claims_table(section.claims))
    if section.numbers:
        listed = [
            f"| {md(name)} | {md(format_value(value))} |" for name, value in list(section.numbers.items())[:MAX_NUMBERS]
        ]
        pieces.append("\n".join(["| number | value |", "|:--|:--|", *listed]))
    pieces += [
        f"![{md(title)}]({quote(path.relative_to(folder).as_posix())})" for title, path in section.pictures.items()
    ]
    pieces += (
        ["\n".join(f"- {md(name)}: {md(value)}" for name, value in section.facts.items())] if section.facts else []
    )
    pieces += (
        ["\n".join(f"- runs of {md(name)}: {', '.join(ids)}" for name, ids in section.runs)] if section.runs else []
    )
    return "\n\n".join(pieces)
