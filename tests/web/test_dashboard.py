"""The dashboard in a real browser: what a person sees of a sweep on MLflow's page."""

import math
import socket
from pathlib import Path

import pytest
from PIL import Image

from tadp_ray.errors import UserError
from tadp_ray.tracking.dashboard import dashboard, serve
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.tracking.sender import Sender
from tadp_ray.tracking.store import Store
from tadp_ray.tracking.sweep_run import attach, end_parent, parent

pytestmark = pytest.mark.web


@pytest.fixture
def sweep(store, make_cell, journals, tmp_path: Path) -> str:
    """The run of a sweep with two finished cells and one that failed."""
    cells = [make_cell(recall=0.5), make_cell(recall=1.0), make_cell(recall=0.75)]
    run = parent(store, "prec_recall", "pocket", "key", "How do precision and recall change segmentation?")
    for cell in cells[:2]:
        journals.start(cell)
        for step in range(1, 100):
            metrics = {"loss": 2 * math.exp(-step / 30), "miou": 50 * (1 - math.exp(-step / 40))}
            journals.write(cell, type="metrics", step=step, metrics=metrics)
        journals.finish(cell, miou=46.5 + cell.axes["caption.recall"])
        Image.new("RGB", (320, 200), "teal").save(cell.folder / "predictions.png")
    journals.start(cells[2])
    journals.write(cells[2], type="failed", error="ValueError: the data set is empty")
    assert Sender(store, [cell_run_spec(run, cell) for cell in cells], period=0.1).close(timeout=900) == 0
    (tmp_path / "table.md").write_text("| ours |")
    attach(store, run, [tmp_path / "table.md"])
    end_parent(store, run, "FINISHED")
    return run


def child(store: Store, run: str) -> tuple[str, str]:
    """(MLflow experiment, run) of the first finished cell."""
    experiment = store.client.get_run(run).info.experiment_id
    found = store.client.search_runs([experiment], "tags.`tadp.axes` LIKE '%recall\": 0.5%'")
    return experiment, found[0].info.run_id


def test_a_sweep_is_seen_with_its_cells_parameters_curves_and_pictures(store, sweep, page, free_port, tmp_path):
    experiment, run = child(store, sweep)
    with serve(store, "127.0.0.1", free_port) as (address, _):
        # the cells under their sweep
        page.goto(f"{address}/#/experiments/{experiment}/runs")
        page.get_by_text("prec_recall (pocket)").first.wait_for()
        page.locator("[role=gridcell]", has_text="prec_recall (pocket)").get_by_role("button").first.click()
        for recall in (0.5, 1.0, 0.75):
            page.get_by_text(f"0.5, {recall}, seed 0").first.wait_for()
        page.screenshot(path=tmp_path / "runs.png")

        # what one cell was trained with, and how good it is
        page.goto(f"{address}/#/experiments/{experiment}/runs/{run}")
        page.get_by_text("caption.precision").first.wait_for()
        page.get_by_text("prec_recall (pocket)").first.wait_for()
        page.locator("[role=row], tr", has_text="miou").get_by_text("47").first.wait_for()
        page.screenshot(path=tmp_path / "run.png")

        # its curves
        page.goto(f"{address}/#/experiments/{experiment}/runs/{run}/model-metrics")
        page.locator(".js-plotly-plot .scatterlayer .trace").nth(1).wait_for()
        page.screenshot(path=tmp_path / "curves.png")

        # its pictures
        page.goto(f"{address}/#/experiments/{experiment}/runs/{run}/artifacts/predictions.png")
        page.get_by_text("cell.json").first.wait_for()
        picture = page.locator("img[src*='predictions.png'], img[src^='blob:'], img[src^='data:image/png']").first
        picture.wait_for()
        assert picture.evaluate("image => image.naturalWidth") > 100
        page.screenshot(path=tmp_path / "artifacts.png")


def test_a_taken_port_is_named(store):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1:{port} cannot be used .*choose another --port"):
            dashboard(store, port=port)


def test_a_server_is_only_pointed_at(store):
    said: list[str] = []
    dashboard(Store("http://me:secret@mlflow:5000", store.client), echo=said.append)
    path = "/#/experiments?workflowType=machine_learning"
    assert said == [f"the MLflow server is already running: open http://me:***@mlflow:5000{path} (no sweep yet)"]
