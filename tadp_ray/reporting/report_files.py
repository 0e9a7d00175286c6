"""The report as one page of HTML that needs no other file, and as Markdown with its pictures beside it."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tadp_ray.files import write_text
from tadp_ray.reporting.literal import fenced, md
from tadp_ray.reporting.page import page
from tadp_ray.reporting.render import claims_table, html_table, markdown
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
    body = []
    for i, (chapter, parts) in enumerate(chapters.items()):
        lines = "".join(
            f'<li><a href="#{anchor(i, j)}">{escape(part.title)}</a> '
            f'<em class="{"" if part.state == "whole" else "open"}">{escape(part.state)}</em></li>'
            for j, part in enumerate(parts)
        )
        body.append(
            f'<nav class="contents" aria-label="{escape(chapter)}"><h3>{escape(chapter)}</h3><ul>{lines}</ul></nav>'
        )
    for i, (chapter, parts) in enumerate(chapters.items()):
        body.append(f"<h2>{escape(chapter)}</h2>")
        body += [html_part(part, anchor(i, j)) for j, part in enumerate(parts)] or ['<p class="missing">none yet</p>']
    return page(title, "\n".join(body))


def anchor(chapter: int, part: int) -> str:
    """Where a link leads."""
    return f"part-{chapter}-{part}"


def html_part(part: ReportSection, place: str) -> str:
    """One part of the page."""
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in part.facts.items())
    missing = f'<p class="missing">Missing: {escape(part.missing)}. This fills it:</p>' if part.missing else ""
    runs = "".join(f"<li>{escape(name)}: {escape(', '.join(ids))}</li>" for name, ids in part.runs)
    pieces = [
        f'<section id="{place}"><h3>{escape(part.title)}</h3>',
        f'<p class="question">{escape(part.question)}</p>',
        missing,
        f"<pre>{escape(part.command)}</pre>",
        *(f'<p class="said">{escape(said)}</p>' for said in part.said if not part.missing),
        html_table(part.table) if part.table else "",
        html_claims(part),
        html_numbers(part),
        *(html_picture(words, path) for words, path in part.pictures.items()),
        f"<dl>{facts}</dl>" if facts else "",
        f"<details><summary>MLflow runs</summary><ul>{runs}</ul></details>" if runs else "",
        "</section>",
    ]
    return "\n".join(piece for piece in pieces if piece)


def html_claims(part: ReportSection) -> str:
    """Claims as a table."""
    if not part.claims:
        return ""
    rows = "".join(
        f"<tr><td>{escape(claim.text)}</td><td>{escape(claim.shown)}</td><td>{escape(claim.aim)}</td>"
        f'<td class="{"" if claim.holds else "fails"}"><span>{escape(claim.verdict)}</span></td></tr>'
        for claim in part.claims
    )
    head = "<tr><th scope=col>claim</th><th scope=col>value</th><th scope=col>aim</th><th scope=col></th></tr>"
    return framed(part.title, f"<thead>{head}</thead><tbody>{rows}</tbody>")


def html_numbers(part: ReportSection) -> str:
    """An analysis's numbers as a table."""
    if not part.numbers:
        return ""
    listed = list(part.numbers.items())[:LISTED]
    rows = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td>{escape(shown(value))}</td></tr>" for name, value in listed
    )
    more = len(part.numbers) - len(listed)
    return framed(f"{part.title}: numbers", f"<tbody>{rows}</tbody>") + (f"<p>and {more} more</p>" if more else "")


def framed(label: str, rows: str) -> str:
    """A table of words that scrolls by itself."""
    frame = f'<div class="frame words" role="region" aria-label="{escape(label)}" tabindex="0">'
    return f"{frame}<table>{rows}</table></div>"


def html_picture(words: str, path: Path) -> str:
    """A picture within the page."""
    data = b64encode(path.read_bytes()).decode()
    image = f'<img alt="{escape(words)}" src="data:image/png;base64,{data}">'
    frame = f'<div class="frame" role="region" aria-label="{escape(words)}" tabindex="0">{image}</div>'
    return f"<figure>{frame}<figcaption>{escape(words)}</figcaption></figure>"


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
