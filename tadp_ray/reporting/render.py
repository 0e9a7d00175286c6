"""Renders a table for the terminal and as Markdown, LaTeX, HTML and CSV."""

import csv
import io
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any

import rich.table
from rich.text import Text

from tadp_ray.config.claims import Verdict
from tadp_ray.files import write_text
from tadp_ray.reporting.escape import md, tex
from tadp_ray.reporting.html import render_page
from tadp_ray.reporting.table import Table, TableEntry

CSV_COLUMNS = ("row", "column", "metric", "mean", "sd", "n", "published", "source", "oracle", "tied", "run_ids")
BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Starts of texts that spreadsheets compute."""
COMPARED_COLUMNS = ("difference", "difference_sd", "difference_low", "difference_high", "against")
"""The extra CSV columns of a table with differences."""


def write_table(table: Table, folder: Path, name: str = "table") -> list[Path]:
    """Write a table as NAME.md, .tex, .html and .csv, each atomically; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    # Spreadsheets take a file for UTF-8 only if it begins with this mark.
    texts = {"md": markdown(table), "tex": latex(table), "html": html(table), "csv": BYTE_ORDER_MARK + to_csv(table)}
    files = {folder / f"{name}.{extension}": text for extension, text in texts.items()}
    for path, text in files.items():
        write_text(path, text)
    return list(files)


def terminal(table: Table) -> rich.table.Table:
    """Return a table for a rich console, published numbers dim below ours; what does not fit is wrapped and never cut."""
    spec, published = table.spec, table.published_columns
    # As Text, since rich would read brackets in a title or a name as markup.
    shown = rich.table.Table(title=Text(spec.title, style="table.title"), title_justify="left")
    shown.add_column(Text(f"{spec.rows.label} \\ {spec.columns.label}"), style="bold", overflow="fold")
    for value in spec.columns.names:
        shown.add_column(Text(value), justify="right", overflow="fold")
    for value, entries in zip(spec.rows.names, table.entries, strict=True):
        texts = (terminal_entry(*own) for own in zip(entries, published, strict=True))
        shown.add_row(Text(value), *texts, end_section=True)
    return shown


def terminal_entry(entry: TableEntry, published: bool) -> Text:
    """Return one entry for the terminal, with the published number or a dash if its column has published numbers."""
    style = "bold green" if entry.best else "" if entry.complete else "yellow"
    text = Text(entry.marked_text, style=style)
    if entry.difference:
        lines = entry.difference.text.replace(" [", "\n[")
        text.append(f"\n{lines}", style="not bold" if entry.difference.significant else "not bold dim")
    return text.append(f"\npublished {entry.published_text}", style="not bold dim") if published else text


def entry_parts(table: Table) -> list[tuple[str, ...]]:
    """Return into what each column is divided: ours, the difference to the baseline row, published numbers if it has any."""
    ours = ("ours",) if table.baseline is None else ("ours", "difference")
    return [(*ours, "published") if published else ours for published in table.published_columns]


def difference_text(table: Table, entry: TableEntry) -> str:
    """Return the difference to the baseline row, `baseline` in that row itself, or a dash."""
    if entry.difference:
        return entry.difference.text
    return "baseline" if entry.row == table.baseline_name else "–"


def markdown(table: Table) -> str:
    """Return Markdown, with published numbers in separate columns."""
    spec, divided = table.spec, entry_parts(table)
    columns = [
        name + ("" if part == "ours" else f" ({part})")
        for name, parts in zip(spec.columns.headings, divided, strict=True)
        for part in parts
    ]
    lines = [f"**{md(spec.title)}**", ""]
    lines.append("| " + " | ".join(map(md, [spec.rows.label, *columns])) + " |")
    lines.append("|:--|" + "--:|" * len(columns))
    for value, entries in zip(spec.rows.names, table.entries, strict=True):
        texts = [md(value)]
        for entry, parts in zip(entries, divided, strict=True):
            texts.append(f"**{entry.text}**" if entry.best else entry.marked_text)
            texts += [difference_text(table, entry).replace("*", r"\*")] if "difference" in parts else []
            texts += [f"*{entry.published_text}*"] if "published" in parts else []
        lines.append("| " + " | ".join(texts) + " |")
    # A list needs a blank line before it.
    lines += ["", md(table.caption), *([""] if table.notes else []), *(f"- {md(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def claims_table(verdicts: Sequence[Verdict]) -> str:
    """Return a Markdown table of claims and verdicts."""
    rows = [f"| {md(own.text)} | {md(own.shown)} | {md(own.aim)} | {md(own.verdict)} |" for own in verdicts]
    return "\n".join(["| claim | value | aim | |", "|:--|:--|:--|:--|", *rows])


def latex(table: Table) -> str:
    """Return a LaTeX table environment that is shrunk to the column's width if it is wider; its first line names packages."""
    spec, divided = table.spec, entry_parts(table)
    widths = list(map(len, divided))
    ends = list(accumulate(widths, initial=1))
    heads = [
        rf"\multicolumn{{{width}}}{{c}}{{{tex(value)}}}"
        for value, width in zip(spec.columns.names, widths, strict=True)
    ]
    spans = [rf"\cmidrule(lr){{{left + 1}-{right}}}" for left, right in pairwise(ends)]
    row_label, column_label = tex(spec.rows.label), tex(spec.columns.label)
    body = [rf"{column_label} & {' & '.join(heads)} \\", "".join(spans)]
    body.append(rf"{row_label} & {' & '.join(chain.from_iterable(divided))} \\")
    body.append(r"\midrule")
    for value, entries in zip(spec.rows.names, table.entries, strict=True):
        texts = [tex(value)]
        for entry, parts in zip(entries, divided, strict=True):
            text = tex(entry.marked_text)
            texts.append(rf"\textbf{{{text}}}" if entry.best else text)
            texts += [tex(difference_text(table, entry))] if "difference" in parts else []
            texts += [rf"\textit{{{tex(entry.published_text)}}}"] if "published" in parts else []
        body.append(" & ".join(texts) + r" \\")
    notes = tex(" ".join(f"{note}." for note in (table.caption.rstrip("."), *table.notes)))
    return "\n".join(
        [
            r"% needs \usepackage{booktabs,adjustbox}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{tex(spec.title)}. {notes}}}",
            r"\begin{adjustbox}{max width=\columnwidth}",
            rf"\begin{{tabular}}{{l{'r' * sum(widths)}}}",
            r"\toprule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{adjustbox}",
            r"\end{table}",
            "",
        ]
    )


def html(table: Table) -> str:
    """Return a standalone HTML page that loads no other file."""
    return render_page("table.html", title=table.spec.title, table=table)


def table_record(table: Table, verdicts: Sequence[Verdict], files: Sequence[Path]) -> dict[str, Any]:
    """Return a table with the verdicts on its claims and the files that were written, as JSON values."""
    spec = table.spec
    return {
        "title": spec.title,
        "scale": spec.scale,
        "settings": spec.settings,
        "rows": list(spec.rows.keys),
        "columns": list(spec.columns.keys),
        "entries": [{**own, "run_ids": own["run_ids"].split()} for own in records(table)],
        "notes": list(table.notes),
        "claims": [{"text": own.text, "verdict": own.verdict, "value": own.value} for own in verdicts],
        "files": list(map(str, files)),
    }


def records(table: Table) -> list[dict[str, Any]]:
    """Return every entry as a dict with the CSV's columns as keys; numbers are unrounded, None if missing."""
    return [
        {
            "row": entry.row,
            "column": entry.column,
            "metric": entry.metric,
            "mean": entry.mean if entry.finite else None,
            "sd": entry.sd,
            "n": entry.n,
            "published": entry.published,
            "source": table.spec.source if entry.published is not None else None,
            "oracle": entry.oracle,
            "tied": entry.tied,
            "run_ids": " ".join(entry.run_ids),
            **(difference_record(table, entry) if table.baseline is not None else {}),
        }
        for row in table.entries
        for entry in row
    ]


def difference_record(table: Table, entry: TableEntry) -> dict[str, Any]:
    """Return an entry's difference to the baseline row, with `COMPARED_COLUMNS` as keys."""
    own = entry.difference
    values = (own.mean, own.sd, *(own.interval or (None, None)), table.baseline_name) if own else (None,) * 5
    return dict(zip(COMPARED_COLUMNS, values, strict=True))


def to_csv(table: Table) -> str:
    """Return CSV with one line per entry; missing numbers are empty, run ids are separated by spaces.

    Numbers have a decimal point and all their digits. A text that a spreadsheet would compute as a formula begins with an
    apostrophe.
    """
    out = io.StringIO()
    columns = CSV_COLUMNS + (COMPARED_COLUMNS if table.baseline is not None else ())
    lines = csv.DictWriter(out, columns, lineterminator="\n")
    lines.writeheader()
    lines.writerows({key: literal(value) for key, value in own.items()} for own in records(table))
    return out.getvalue()


def literal(value: Any) -> Any:
    """Return a value of a CSV; a text that would be a formula begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
