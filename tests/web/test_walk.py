"""The way a person goes: from the address that the command prints, to the sweep, its table, and its cells side by side."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.cli import invoke

pytestmark = pytest.mark.web


@pytest.fixture
def printed(store, experiment: Path, swept, free_port: int, tmp_path: Path) -> Iterator[str]:
    """What `tadp-ray dashboard` prints on a sweep of four cells, one of which is not finished, while it serves."""
    swept(experiment)
    words = ["table", experiment, "--tracking-uri", store.uri, "--storage", tmp_path / "runs"]
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    words = [sys.executable, "-m", "tadp_ray", "dashboard", "--tracking-uri", store.uri, "--port", str(free_port)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
    yield process.stdout.readline()
    process.terminate()
    process.communicate(timeout=900)


def test_from_the_printed_address_to_the_table_and_the_cells(printed: str, page, tmp_path: Path) -> None:
    assert printed.startswith("open http://127.0.0.1:") and "(tiny; stop with Ctrl-C)" in printed
    page.set_viewport_size({"width": 1280, "height": 900})
    page.set_default_timeout(300_000)
    page.goto(printed.split()[1])

    # the sweep, with its cells under it and their values beside them
    page.locator("[role=gridcell]", has_text="tiny (pocket)").get_by_role("button").first.click()
    page.get_by_text("0.5, 1.0, seed 0").first.wait_for()
    for name in ("caption.precision", "miou"):
        assert page.get_by_role("columnheader").get_by_text(name).first.is_visible()
    assert page.get_by_role("gridcell").get_by_text("20", exact=True).is_visible()
    page.screenshot(path=tmp_path / "cells.png")

    # its page, with the table and what it says
    page.get_by_role("link", name="tiny (pocket)").first.click()
    page.get_by_text("The highest of 3 entries is precision 1.0, recall 0.5 with 30.00").wait_for()
    page.get_by_role("link", name="miou/precision 1.0 recall 0.5").wait_for()
    page.get_by_text("Show more").click()
    page.get_by_role("cell", name="63.29").wait_for()
    page.screenshot(path=tmp_path / "sweep.png")

    # its cells side by side, the best one first
    with page.expect_popup() as opened:
        page.get_by_role("link", name="charts of the cells").click()
    charts = opened.value
    charts.set_default_timeout(300_000)
    charts.locator(".js-plotly-plot").first.wait_for()
    charts.screenshot(path=tmp_path / "charts.png")
    names = charts.get_by_role("gridcell").get_by_text(re.compile(r"^\d\.\d, \d\.\d, seed 0$")).all_inner_texts()
    assert names == ["1.0, 0.5, seed 0", "0.5, 1.0, seed 0", "0.5, 0.5, seed 0"]
