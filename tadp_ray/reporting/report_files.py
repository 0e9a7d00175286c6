"""Writes the report as one standalone HTML page, and as Markdown with its pictures in files."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from tadp_ray.files import write_text
from tadp_ray.reporting.charts import library
from tadp_ray.reporting.escape import fenced, md
from tadp_ray.reporting.html import render_page
from tadp_ray.reporting.render import claims_table, markdown
from tadp_ray.reporting.report import ReportSection
from tadp_ray.wording import shown

Chapters = Mapping[str, Sequence[ReportSection]]
MAX_NUMBERS = 24
"""Of an analysis that are shown; its finding.json holds all."""


def write_report(chapters: Chapters, title: str, folder: Path) -> list[Path]:
    """Write report.html and report.md, each atomically; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    page, text = folder / "report.html", folder / "report.md"
    write_text(page, html_report(chapters, title))
    write_text(text, md_report(chapters, title, folder))
    return [page, text]


def parted(chapters: Chapters) -> tuple[dict[str, list[ReportSection]], dict[str, list[ReportSection]]]:
    """Return the sections with results and those without, by chapter; chapters without sections are left out."""
    parts: tuple[dict[str, list[ReportSection]], ...] = ({}, {})
    for chapter, sections in chapters.items():
        for section in sections:
            parts[section.missing is not None].setdefault(chapter, []).append(section)
    return parts[0], parts[1]


def standfirst(chapters: Chapters) -> str:
    """Return in one sentence how much the store holds."""
    sections = [section for own in chapters.values() for section in own if section.name != "claims"]
    runs = {run for section in sections for _, ids in section.runs for run in ids}
    runs |= {row[-1] for section in sections if section.listed for row in section.listed.rows}
    done = sum(section.missing is None for section in sections)
    return f"{done} of {len(sections)} questions have results so far, from {len(runs)} finished runs."


def html_report(chapters: Chapters, title: str) -> str:
    """Return the HTML page: contents with each section's state, the results, and what is missing with its commands.

    Vega is on the page only if there is a chart.
    """
    results, missing = parted(chapters)
    explorers = [section.explorer for sections in results.values() for section in sections]
    return render_page(
        "report.html",
        title=title,
        standfirst=standfirst(chapters),
        results=results,
        missing=missing,
        charts=any(own.heat_maps or own.charts for own in explorers),
        library=library,
        shown=shown,
        data_url=data_url,
        max_numbers=MAX_NUMBERS,
    )


def data_url(path: Path) -> str:
    """Return a picture, PNG or WebP, as a data URL."""
    return f"data:image/{path.suffix.removeprefix('.')};base64,{b64encode(path.read_bytes()).decode()}"


def md_report(chapters: Chapters, title: str, folder: Path) -> str:
    """Return the report as Markdown: results first, then what is missing."""
    results, missing = parted(chapters)
    lines = [f"# {md(title)}", "", standfirst(chapters)]
    for chapter, sections in results.items():
        lines += ["", f"{chapter}:", "", *(f"- {md(section.title)}: {md(section.state)}" for section in sections)]
    for chapter, sections in [*results.items(), *((f"Not run yet: {name}", own) for name, own in missing.items())]:
        lines += ["", f"## {chapter}"]
        for section in sections:
            lines += ["", md_section(section, folder)]
    return "\n".join(lines) + "\n"


def md_section(section: ReportSection, folder: Path) -> str:
    """Return one section as Markdown."""
    pieces = [f"### {md(section.title)}", f"{md(section.name)}: {md(section.question)}"]
    pieces += [f"Missing: {md(section.missing)}. Command to run:"] if section.missing else [*map(md, section.summary)]
    pieces += [fenced(section.command)] if section.command else []
    pieces += [markdown(section.table).strip()] if section.table else []
    if section.listed:
        head, *rows = (section.listed.columns, *section.listed.rows)
        lines = ["| " + " | ".join(map(md, row)) + " |" for row in (head, *rows)]
        pieces.append("\n".join([lines[0], "|--:" * len(head) + "|", *lines[1:]]))
    if section.claims:
        pieces.append(claims_table(section.claims))
    if section.numbers:
        listed = [f"| {md(name)} | {md(shown(value))} |" for name, value in list(section.numbers.items())[:MAX_NUMBERS]]
        pieces.append("\n".join(["| number | value |", "|:--|:--|", *listed]))
    pieces += [
        f"![{md(title)}]({quote(path.relative_to(folder).as_posix())})" for title, path in section.pictures.items()
    ]
    if section.facts:
        pieces.append("\n".join(f"- {md(name)}: {md(value)}" for name, value in section.facts.items()))
    if section.runs:
        pieces.append("\n".join(f"- runs of {md(name)}: {', '.join(ids)}" for name, ids in section.runs))
    return "\n\n".join(pieces)
