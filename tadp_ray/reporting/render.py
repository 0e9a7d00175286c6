"""A table as terminal text, Markdown, LaTeX, HTML and CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rich.table
from rich.text import Text

from tadp_ray.config.claims import Verdict
from tadp_ray.files import write_text
from tadp_ray.reporting.literal import md, tex
from tadp_ray.reporting.page import page
from tadp_ray.reporting.table import Table, TableEntry

CSV_COLUMNS = ("row", "column", "metric", "mean", "sd", "n", "published", "source", "oracle", "run_ids")
COMPARED_COLUMNS = ("difference", "difference_sd", "difference_low", "difference_high", "against")
"""What a table that was compared has besides."""


def write_table(table: Table, folder: Path, name: str = "table") -> list[Path]:
    """Write a table as NAME.md, .tex, .html and .csv, each whole or not at all; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Callable[[Table], str]] = {"md": markdown, "tex": latex, "html": html, "csv": to_csv}
    paths = []
    for ending, render in writers.items():
        path = folder / f"{name}.{ending}"
        write_text(path, render(table))
        paths.append(path)
    return paths


def terminal(table: Table) -> rich.table.Table:
    """For a rich console: ours, the published number dim beneath."""
    spec = table.spec
    # As text: what stands in brackets in a title or a name is no markup.
    shown = rich.table.Table(title=Text(spec.title, style="table.title"), title_justify="left")
    shown.add_column(Text(f"{spec.rows.label} \\ {spec.columns.label}"), style="bold")
    for value in spec.columns.names:
        shown.add_column(Text(value), justify="right")
    for value, entries in zip(spec.rows.names, table.entries, strict=True):
        shown.add_row(Text(value), *(terminal_entry(table, entry) for entry in entries), end_section=True)
    return shown


def terminal_entry(table: Table, entry: TableEntry) -> Text:
    """One place of the terminal's table."""
    style = "bold green" if entry.best else "" if entry.complete else "yellow"
    text = Text(entry.text, style=style)
    if entry.difference:
        lines = entry.difference.text.replace(" [", "\n[")
        text.append(f"\n{lines}", style="not bold" if entry.difference.clear else "not bold dim")
    return text.append(f"\npublished {entry.published_text}", style="not bold dim") if table.spec.published else text


def parts_of(table: Table) -> tuple[str, ...]:
    """What stands side by side at every place: ours, how far it is from the baseline row, the published number."""
    compared = ("difference",) if table.baseline is not None else ()
    return ("ours", *compared, *(("published",) if table.spec.published else ()))


def difference_text(table: Table, entry: TableEntry) -> str:
    """The difference to the baseline row; what stands there instead where there is none."""
    if entry.difference:
        return entry.difference.text
    return "baseline" if entry.row == table.spec.rows.names[table.baseline] else "–"


def markdown(table: Table) -> str:
    """For a README: published numbers in columns of their own."""
    spec, parts = table.spec, parts_of(table)
    columns = [name + ("" if part == "ours" else f" ({part})") for name in spec.columns.headings for part in parts]
    lines = [f"**{md(spec.title)}**", ""]
    lines.append("| " + " | ".join(map(md, [spec.rows.label, *columns])) + " |")
    lines.append("|:--|" + "--:|" * len(columns))
    for value, entries in zip(spec.rows.names, table.entries, strict=True):
        texts = [md(value)]
        for entry in entries:
            texts.append(f"**{entry.text}**" if entry.best else entry.text)
            texts += [difference_text(table, entry).replace("*", r"\*")] if "difference" in parts else []
            texts += [f"*{entry.published_text}*"] if spec.published else []
        lines.append("| " + " | ".join(texts) + " |")
    # A list needs an empty line before it.
    lines += ["", md(table.caption), *([""] if table.notes else []), *(f"- {md(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def claims_table(verdicts: Sequence[Verdict]) -> str:
    """What is said of some claims, in Markdown."""
    rows = [f"| {md(own.text)} | {md(own.shown)} | {md(own.aim)} | {md(own.verdict)} |" for own in verdicts]
    return "\n".join(["| claim | value | aim | |", "|:--|:--|:--|:--|", *rows])


def latex(table: Table) -> str:
    """For a paper: a table environment that needs the booktabs package."""
    spec, parts = table.spec, parts_of(table)
    width = len(parts)
    heads = [rf"\multicolumn{{{width}}}{{c}}{{{tex(value)}}}" for value in spec.columns.names]
    spans = [rf"\cmidrule(lr){{{2 + width * i}-{1 + width * (i + 1)}}}" for i in range(len(heads))]
    row_label, column_label = tex(spec.rows.label), tex(spec.columns.label)
    body = [rf"{column_label} & {' & '.join(heads)} \\", "".join(spans)]
    body.append(rf"{row_label} & {' & '.join(parts * len(heads))} \\")
    body.append(r"\midrule")
    for value, entries in zip(spec.rows.names, table.entries, strict=True):
        texts = [tex(value)]
        for entry in entries:
            text = tex(entry.text)
            texts.append(rf"\textbf{{{text}}}" if entry.best else text)
            texts += [tex(difference_text(table, entry))] if "difference" in parts else []
            texts += [rf"\textit{{{tex(entry.published_text)}}}"] if spec.published else []
        body.append(" & ".join(texts) + r" \\")
    notes = tex(" ".join(f"{note}." for note in (table.caption.rstrip("."), *table.notes)))
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{tex(spec.title)}. {notes}}}",
            rf"\begin{{tabular}}{{l{'r' * width * len(heads)}}}",
            r"\toprule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def html(table: Table) -> str:
    """A page of its own that loads nothing."""
    return page("table.html", title=table.spec.title, table=table)


def places(table: Table) -> list[dict[str, Any]]:
    """Every place of the table by the names of the CSV's columns, numbers unrounded, None where there is none."""
    return [
        {
            "row": entry.row,
            "column": entry.column,
            "metric": entry.metric,
            "mean": entry.mean,
            "sd": entry.sd,
            "n": entry.n,
            "published": entry.published,
            "source": table.spec.source if entry.published is not None else None,
            "oracle": entry.oracle,
            "run_ids": " ".join(entry.run_ids),
            **(compared(table, entry) if table.baseline is not None else {}),
        }
        for row in table.entries
        for entry in row
    ]


def compared(table: Table, entry: TableEntry) -> dict[str, Any]:
    """A place's difference to the baseline row by the names of `COMPARED_COLUMNS`."""
    own, against = entry.difference, table.spec.rows.names[table.baseline]
    return dict(
        zip(COMPARED_COLUMNS, (own.mean, own.sd, own.low, own.high, against) if own else (None,) * 5, strict=True)
    )


def to_csv(table: Table) -> str:
    """One line per place, empty where there is no number, run ids apart by spaces."""
    out = io.StringIO()
    columns = CSV_COLUMNS + (COMPARED_COLUMNS if table.baseline is not None else ())
    lines = csv.DictWriter(out, columns, lineterminator="\n")
    lines.writeheader()
    lines.writerows(places(table))
    return out.getvalue()
