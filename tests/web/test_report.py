"""The report in a real browser, on a desktop and on a phone, by day and by night."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tadp_ray.config.table import Side, TableSpec
from tadp_ray.reporting.charts import Chart, compared_rows, entry_curve, heat_maps, learning_curves
from tadp_ray.reporting.explorer import Explorer
from tadp_ray.reporting.report import ReportSection
from tadp_ray.reporting.report_files import html_report
from tadp_ray.reporting.table import Table, TableEntry
from tests.fixtures.cli import invoke

pytestmark = pytest.mark.web
FINDING = {
    "name": "copy_paste",
    "question": "Does a word's map move to the thing?",
    "command": "tadp-ray analyze run copy_paste.yaml",
    "run_id": "r1",
    "numbers": {"after": 0.875},
    "claims": [{"text": "the map moves " * 8, "value": 87.5, "aim": "at least 80", "holds": True}],
    "pictures": ["maps.png"],
}
# Nothing may be wider than the page but what scrolls inside a frame of its own.
TOO_WIDE = """[...document.querySelectorAll("main *")].filter(own => !own.closest(".frame > *, .chart > *")
    && own.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(own => own.outerHTML.slice(0, 80))"""
LOADED = "[...document.images].map(own => own.complete && own.naturalWidth > 100 && own.alt.length > 5)"
# The least contrast of any text with the page; text of a chart is filled with its colour.
CONTRAST = """() => { const light = text => { const [r, g, b] = text.match(/\\d+/g).slice(0, 3).map(value => {
    value /= 255; return value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4 });
    return .2126 * r + .7152 * g + .0722 * b + .05 };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  const words = "h1, h2, h3, h4, p, li, dd, em, code, td .value, small, figcaption, .role-axis-label text, .role-axis-title text";
  return Math.min(...[...document.querySelectorAll(words)].filter(own => own.getClientRects().length).map(own => {
    const style = getComputedStyle(own), ink = light(own.closest("svg") ? style.fill : style.color);
    return Math.max(ink, ground) / Math.min(ink, ground) })) }"""
PREDICTED = "predictions.png"


@pytest.fixture
def written(store, experiment: Path, swept, kept, tmp_path: Path) -> Path:
    """The report of a sweep with three seeds, whose last cell is missing, of a finding, and of an analysis not run."""
    folder = experiment.parent / "asked"
    (folder / "analyses").mkdir(parents=True)
    text = experiment.read_text().replace("recipe.yaml", "../recipe.yaml").replace("sweep.yaml", "../sweep.yaml")
    text = text.replace("recipes: {", "recipes: {paper: ../recipe.yaml, ")
    (folder / "tiny.yaml").write_text(text + "seeds: [0, 1, 2]\n")
    (folder / "analyses/off_target.yaml").write_text("question: What of the others?\n")
    swept(folder / "tiny.yaml")
    for run in store.client.search_runs([store.experiment_id("tiny")], "tags.`tadp.seed` = '0'"):
        Image.new("RGB", (900, 1200), "teal").save(tmp_path / PREDICTED)
        store.client.log_artifact(run.info.run_id, str(tmp_path / PREDICTED))
    kept(FINDING, "maps.png")
    words = ["report", tmp_path / "out", "--experiments", folder, "--tracking-uri", store.uri]
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    return tmp_path / "out/report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_is_read_on_any_screen(width: int, scheme: str, written: Path, page, tmp_path: Path) -> None:
    asked, wrong = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.goto(written.as_uri())
    section = page.locator("section[id='tiny-pocket']")
    # Charts are drawn as they come into sight.
    for chart in section.locator(".chart").all():
        chart.scroll_into_view_if_needed()
        chart.locator("svg").wait_for()
    assert section.locator(".chart").count() == 5  # ours, published, rows compared, two rows of curves
    assert page.evaluate("document.documentElement.scrollWidth") == width and page.evaluate(TOO_WIDE) == []
    assert page.evaluate(LOADED) == [True]
    assert page.evaluate(CONTRAST) > 4.5
    for frame in page.locator(".frame, .chart").all():
        assert frame.evaluate("own => own.scrollWidth <= own.clientWidth || getComputedStyle(own).overflowX === 'auto'")
    page.screenshot(path=tmp_path / f"report_{width}_{scheme}.png", full_page=True)

    # An entry of the heat map opens its seeds, runs, curve and picture.
    section.locator(".chart svg text", has_text="20.00").first.click()
    entry = page.get_by_role("dialog")
    entry.wait_for()
    assert entry.get_by_role("heading", name="precision 0.5, recall 0.5").is_visible()
    assert [cell.inner_text() for cell in entry.locator("tbody td:nth-child(2)").all()] == ["10.00", "20.00", "30.00"]
    entry.locator("svg .mark-line path").first.wait_for()
    assert entry.locator("svg .mark-line path").count() == 3
    assert entry.get_by_role("img", name="Predictions").evaluate("own => own.naturalWidth") == 720
    page.screenshot(path=tmp_path / f"entry_{width}_{scheme}.png")
    entry.get_by_role("button", name="Close").click()
    assert not entry.is_visible()

    # The same entry in the table opens from the keyboard, too; a column sorts its rows, and what is missing stays below.
    table = section.get_by_role("table").filter(has_text="published 63.29")
    table.get_by_role("button", name="20.00 ± 10.00").press("Enter")
    assert entry.is_visible()
    page.keyboard.press("Escape")
    rows = table.locator("tbody th")
    assert rows.all_inner_texts() == ["0.5", "1.0"]
    table.get_by_role("button", name="0.5", exact=True).click()
    assert rows.all_inner_texts() == ["1.0", "0.5"] and table.locator("th[aria-sort=descending]").count() == 1
    table.get_by_role("button", name="0.5", exact=True).click()
    assert rows.all_inner_texts() == ["0.5", "1.0"]

    # Another row to compare with.
    section.get_by_role("combobox", name="compared with").select_option("precision 1.0")
    section.locator("svg .role-axis-label", has_text="precision 0.5").first.wait_for()
    # It is named on paper, too, where nothing can be chosen.
    page.emulate_media(media="print")
    assert not section.get_by_role("combobox", name="compared with").is_visible()
    assert section.locator("svg .role-title", has_text="compared with precision 1.0").first.is_visible()
    page.emulate_media(media="screen")

    # What is missing is folded, with what makes it.
    command = page.get_by_text("tadp-ray analyze run")
    assert not page.get_by_text("What of the others?").is_visible()
    page.locator("summary", has_text="Analyses: 1 without results").click()
    assert page.get_by_text("What of the others?").is_visible() and command.last.is_visible()
    assert wrong == [] and {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert [url for url in asked if url.startswith("file:")] == [written.as_uri()]


@pytest.mark.parametrize("width", [390, 1600])
def test_links_land_in_their_section_although_charts_above_it_were_not_drawn(width: int, page, tmp_path: Path) -> None:
    """Of the contents and of the address, and once more after the reader has scrolled away."""
    chart = Chart("C", "", {**entry_curve("mIoU (%)", 2), "height": 600})
    parts = [
        ReportSection("name", f"part-{number}", f"Part {number}", "?", "echo", explorer=Explorer(charts=(chart,) * 4))
        for number in range(6)
    ]
    (tmp_path / "report.html").write_text(html_report({"All": parts}, "T"))
    page.set_viewport_size({"width": width, "height": 800})
    top = "document.getElementById('part-5').getBoundingClientRect().top"

    def lands() -> bool:
        """Whether the section is above once nothing moves any more."""
        before, now = None, (0.0, 0.0)
        while now != before:
            page.wait_for_timeout(1500)
            before, now = now, tuple(page.evaluate(f"[{top}, document.body.scrollHeight]"))
        return abs(now[0]) < 60

    page.goto((tmp_path / "report.html").as_uri())
    if width < 1312:
        page.locator(".contents summary").click()
    link = page.locator(".contents a[href='#part-5']")
    link.click()
    assert lands()
    page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
    link.click()
    assert lands()
    page.goto("about:blank")
    page.goto((tmp_path / "report.html").as_uri() + "#part-5")
    assert lands()


@pytest.mark.parametrize("width", [390, 1280])
def test_charts_show_long_names_in_full(width: int, page, tmp_path: Path) -> None:
    """Nothing is cut or leaves its picture, and the names of columns stand above their squares."""
    names = ("averaged EOS of all captions", "counts, places and distances", "none")
    metrics = ("miou/averaged EOS of captions", "miou/watercolor", "miou/none")
    spec = TableSpec("", metrics, Side.of(["text"], {"text": names}), Side.of(["metric"], {"metric": metrics}))
    entries = tuple(tuple(TableEntry("", "", own, (40.0,), 1, None, ()) for own in metrics) for _ in names)
    gaps = [
        {"row": row, "against": other, "column": column, "difference": 1.0, "low": 0.5, "high": 1.5, "apart": True}
        for row in names
        for other in names
        for column in metrics
    ]
    lines = replace(spec, columns=Side.of(["look"], {"look": names}))
    curves = learning_curves(lines, {(0, j): {0: [(1, 2.0), (2, 3.0)]} for j in range(3)}, "mIoU (%)", 2)
    shown = (*heat_maps(Table(spec, entries, ()), "t"), compared_rows(spec, "miou", gaps, ""), *curves)
    part = ReportSection("name", "part", "T", "?", "echo", explorer=Explorer(heat_maps=shown))
    (tmp_path / "report.html").write_text(html_report({"All": [part]}, "T"))
    page.set_viewport_size({"width": width, "height": 900})
    page.goto((tmp_path / "report.html").as_uri() + "#part")
    page.wait_for_function("document.querySelectorAll('.chart svg').length === 3")
    page.screenshot(path=tmp_path / f"names_{width}.png", full_page=True)
    outside = """() => [...document.querySelectorAll(".chart svg")].flatMap(svg => {
        const frame = svg.getBoundingClientRect();
        return [...svg.querySelectorAll("text")].filter(own => { const box = own.getBoundingClientRect();
          return own.textContent.includes("\u2026") || box.left < frame.left - 1 || box.right > frame.right + 1
            || box.top < frame.top - 1 || box.bottom > frame.bottom + 1 }).map(own => own.textContent) })"""
    assert page.evaluate(outside) == []
    edges = """() => { const svg = document.querySelector(".chart svg"), box = own => own.getBoundingClientRect();
      const [names] = svg.querySelectorAll(".role-axis-label");
      return [Math.max(...[...names.querySelectorAll("text")].map(own => box(own).bottom)),
              Math.min(...[...svg.querySelectorAll(".mark-rect path")].map(own => box(own).top))] }"""
    lowest, squares = page.evaluate(edges)
    assert lowest <= squares + 1
