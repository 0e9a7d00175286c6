"""The report in a real browser, on a desktop and on a phone, by day and by night."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tadp_ray.cli import app

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
TOO_WIDE = """[...document.querySelectorAll("main *")].filter(own => !own.closest(".frame > *")
    && own.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(own => own.outerHTML.slice(0, 80))"""
LOADED = "[...document.images].map(own => own.complete && own.naturalWidth > 100 && own.alt.length > 5)"
CONTRAST = """() => { const light = text => { const [r, g, b] = text.match(/\\d+/g).slice(0, 3).map(value => {
    value /= 255; return value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4 });
    return .2126 * r + .7152 * g + .0722 * b + .05 };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  return Math.min(...[...document.querySelectorAll("h1, h3, p, li, dd, summary, td span, figcaption")].map(own => {
    const ink = light(getComputedStyle(own).color); return Math.max(ink, ground) / Math.min(ink, ground) })) }"""


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_the_report_is_read_on_any_screen(
    width: int, scheme: str, store, experiment: Path, swept, kept, page, tmp_path: Path
) -> None:
    folder = experiment.parent / "asked"
    (folder / "analyses").mkdir(parents=True)
    text = experiment.read_text().replace("recipe.yaml", "../recipe.yaml").replace("sweep.yaml", "../sweep.yaml")
    (folder / "tiny.yaml").write_text(text.replace("recipes: {", "recipes: {paper: ../recipe.yaml, "))
    (folder / "analyses/off_target.yaml").write_text("question: What of the others?\n")
    swept(folder / "tiny.yaml")
    kept(FINDING, "maps.png")
    words = ["report", tmp_path / "out", "--experiments", folder, "--tracking-uri", store.uri]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output

    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.goto((tmp_path / "out/report.html").as_uri())
    assert [url for url in asked if not url.startswith("data:")] == [(tmp_path / "out/report.html").as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == width and page.evaluate(TOO_WIDE) == []
    assert page.evaluate(LOADED) == [True, True]  # curves, and the finding's picture
    assert page.evaluate(CONTRAST) > 4.5
    for frame in page.locator(".frame").all():
        assert frame.evaluate("own => own.scrollWidth <= own.clientWidth || getComputedStyle(own).overflowX === 'auto'")

    # what is missing, with what fills it, one step from the top
    page.get_by_role("link", name="Off target").click()
    missing = page.locator("section", has_text="What of the others?")
    assert missing.get_by_text("Missing:").is_visible()
    assert missing.get_by_text(f"tadp-ray analyze run {folder}/analyses/off_target.yaml").is_visible()
    assert -1 < missing.bounding_box()["y"] < 800
    table = page.get_by_role("table").filter(has_text="published 63.29")
    assert table.get_by_text("30.00").is_visible()
    page.screenshot(path=tmp_path / f"report_{width}.png", full_page=True)
