"""Titles, names and notes stand in every form as they are, whatever commands their characters would be there."""

import csv
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from tadp_ray.config.claims import Verdict
from tadp_ray.config.table import Side, TableSpec
from tadp_ray.reporting.charts import heat_maps, learning_curves
from tadp_ray.reporting.escape import fenced, md, tex
from tadp_ray.reporting.explorer import Explorer
from tadp_ray.reporting.figure import draw_curves, draw_table
from tadp_ray.reporting.html import unbroken
from tadp_ray.reporting.render import html, latex, markdown, to_csv
from tadp_ray.reporting.report import ReportSection
from tadp_ray.reporting.report_files import html_report, md_report
from tadp_ray.reporting.table import build_table

NASTY = (
    "[/style] of *stars* and **more**",
    "a | b || c",
    r"C:\runs\new & 100 % of #1",
    "<b>bold</b> &amp; <script>alert(1)</script>",
    "$x_1$ costs 5$ and {braces}",
    "`code` ~~gone~~ __init__ _leading",
    "[link](place) ![picture](x) [a][b]",
    "# no heading",
    "- no item",
    "1. no number",
    "[x] no box",
    '"quoted" -- dashed --- ^up~',
)


class Words(HTMLParser):
    """The words of a page, and its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        # Neither programs nor their data are read.
        if self.lasttag not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def rendered(text: str) -> Words:
    """What Markdown makes of a text."""
    return Words(MarkdownIt("gfm-like", {"linkify": False}).render(text))


@pytest.mark.parametrize("text", NASTY)
def test_markdown_shows_a_text_as_it_is(text: str) -> None:
    """Alone, in a cell, in a list and in a heading."""
    for before, tags in (("", {"p"}), ("- ", {"ul", "li"}), ("### ", {"h3"})):
        found = rendered(before + md(text))
        assert (found.text, found.tags) == (text, tags)
    table = rendered(f"| {md(text)} | 1 |\n|:--|--:|\n| {md(text)} | 2 |")
    assert table.text.split(" 1 ")[0].strip() == text and table.tags == {"table", "thead", "tbody", "tr", "th", "td"}


def test_a_text_of_several_lines_is_one_and_code_ends_where_it_ends() -> None:
    assert md("a\n\n| b\r\nc") == r"a \| b c" and tex("a\n\nb") == "a b"
    assert rendered(fenced("echo ```\n# a")).text == "echo ``` # a"


def test_options_of_commands_are_kept_on_one_line_of_a_page_and_all_else_is_escaped() -> None:
    shown = unbroken("run --seeds 0,1,2 & <b>more</b> - x--y")
    assert shown == 'run <span class="option">--seeds 0,1,2</span> &amp; &lt;b&gt;more&lt;/b&gt; - x--y'


def test_latex_sets_a_text_as_it_is() -> None:
    for text, said in (
        ("50 % & #1 of $x_1$ {a}", r"50 \% \& \#1 of \$x\_1\$ \{a\}"),
        (r"C:\new~^", r"C:\textbackslash{}new\textasciitilde{}\textasciicircum{}"),
        ("a -- b --- c", "a -{}- b -{}-{}- c"),
        ("<a|b>`", r"\textless{}a\textbar{}b\textgreater{}\textasciigrave{}"),
        # After the end of a row these would be its argument, or its star.
        ("[/style]", "{}[/style]"),
        ("*", "{}*"),
    ):
        assert tex(text) == said


@pytest.fixture
def nasty(make_cell, row_of) -> tuple[TableSpec, list, dict]:
    """A table whose title, names and source are nasty, its cells, and their rows."""
    spec = TableSpec(
        title=NASTY[0] + "\n" + NASTY[4],
        metrics=("miou",),
        rows=Side(("caption.source",), tuple((text,) for text in NASTY)),
        columns=Side(("text",), (("a|b",), ("_x $y",))),
        published=((1.0, 2.0),) * len(NASTY),
        source=NASTY[3],
        settings=NASTY[1],
    )
    cell = make_cell(0.5, 0.5)
    cells = [
        cell.model_copy(update={"axes": {"caption.source": row, "text": column}, "fingerprint": f"{i:02d}{j}" * 5})
        for i, row in enumerate(NASTY)
        for j, column in enumerate(("a|b", "_x $y"))
    ]
    return spec, cells, {own.fingerprint: row_of(own, 10.0 + place) for place, own in enumerate(cells)}


def test_every_form_of_a_table_holds_its_words(nasty, tmp_path) -> None:
    spec, cells, rows = nasty
    failed = {cells[-1].fingerprint: NASTY[3]}
    del rows[cells[-1].fingerprint]
    table = build_table(spec, cells, rows, failed)
    title = " ".join(spec.title.split())
    for found in (rendered(markdown(table)), Words(html(table))):
        assert [text for text in (title, *NASTY, "a|b", "_x $y") if text not in found.text] == []
        assert not found.tags & {"b", "script", "a", "img", "code", "s", "del", "input"}
    assert rendered(markdown(table)).text.count("published") >= 2
    lines = latex(table).splitlines()
    assert [line for line in lines if line.startswith("[")] == [] and sum(
        line.endswith(r" \\") for line in lines
    ) == 2 + len(NASTY)
    assert lines[3].startswith(rf"\caption{{{tex(title)}. Ours")
    read = list(csv.DictReader(io.StringIO(to_csv(table))))
    # A spreadsheet would compute the one that begins as a formula does.
    assert [line["row"] for line in read[::2]] == [f"'{text}" if text[0] == "-" else text for text in NASTY]
    assert {line["source"] for line in read} == {NASTY[3]}

    draw_table(table, tmp_path / "table.png")
    curves = {cell.fingerprint: [(1, 2.0), (2, 3.0)] for cell in cells[:8]}
    draw_curves(replace(spec, title="$\\broken{"), cells, curves, tmp_path / "curves.pdf")
    assert (tmp_path / "table.png").stat().st_size and (tmp_path / "curves.pdf").stat().st_size


def test_the_report_holds_its_words(nasty, tmp_path) -> None:
    spec, cells, rows = nasty
    claims = [Verdict(text=text, value=None, figure=text, aim=text, holds=None, undecided=text) for text in NASTY]
    part = ReportSection(
        "name", "key", NASTY[0], NASTY[3], "echo `a`", {NASTY[1]: NASTY[4]}, (NASTY[6],), build_table(spec, cells, rows)
    )
    part = replace(part, claims=tuple(claims), numbers=dict.fromkeys(NASTY, 1.0), runs=((NASTY[9], ("r1",)),))
    missing = ReportSection("other", "other-key", NASTY[5], NASTY[7], "echo", missing=NASTY[8])
    chapters = {"All": [part, missing]}
    page, plain = Words(html_report(chapters, NASTY[2])), rendered(md_report(chapters, NASTY[2], tmp_path))
    for found in (page, plain):
        assert [text for text in NASTY if text not in found.text] == []
        assert not found.tags & {"b", "img", "s", "del", "input"}
    # The page has a script of its own. One of a text's would not be among the words.
    assert "script" not in plain.tags


@pytest.mark.slow
def test_the_charts_of_a_report_hold_its_words(nasty, tmp_path) -> None:
    """As data, from which no tag breaks out, and as names of axes, which are parsed as an expression."""
    spec, cells, rows = nasty
    table = build_table(spec, cells, rows)
    curves = {(0, 0): {0: [(1, 2.0), (2, math.nan)]}, (1, 1): {0: [(1, 3.0)]}}
    charts = (*heat_maps(table, "nasty"), *learning_curves(spec, curves, "mIoU", 2))
    part = ReportSection("name", "nasty", "T", "?", "echo", table=table, explorer=Explorer(heat_maps=charts))
    page = html_report({"All": [part]}, "T")
    # The library, the page's own program, and one for each chart: two maps and two rows of curves.
    assert page.count("<script") == page.count("</script>") == 2 + 4
    specs = [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', page)]
    names = specs[0]["layer"][0]["encoding"]["y"]["axis"]["labelExpr"]
    lines = json.loads(names.removesuffix("[datum.value]"))
    assert ["".join("".join(own).split()) for own in lines] == ["".join(own.split()) for own in NASTY]
    assert {own["rows"] for own in specs[0]["data"]["values"]} == {*NASTY}
    assert [own["value"] for own in specs[2]["data"]["values"]] == [2.0, None]
