"""How MLflow's page lists the cells of a sweep: which columns, and the addresses that lead there.

MLflow 3.17 keeps a shared view as a tag of the experiment, and opens it by the tag's key in the address. The start page and an
experiment without `workflowType` open on traces of language models, so every address names the training workflow.
"""

import json
import logging
from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import urlencode

from tadp_ray.config.cell import Cell
from tadp_ray.config.metrics import lower_is_better, main_metric
from tadp_ray.tracking.client import StoreError, first_line
from tadp_ray.tracking.names import encode
from tadp_ray.tracking.query import pages, search_all
from tadp_ray.tracking.run_spec import AXIS, PARENT
from tadp_ray.tracking.store import Store
from tadp_ray.tracking.sweep_run import ASKED
from tadp_ray.wording import pluralized

log = logging.getLogger(__name__)

SHARED = "mlflow.sharedViewState."
"""Prefix of MLflow's tag for a shared view."""
SWEEPS = "sweeps"
"""Key of the view of all sweeps, each with its cells below it."""
TRAINING = {"workflowType": "machine_learning"}


def keep_views(store: Store, run_id: str, cells: Sequence[Cell]) -> None:
    """Keep the views of a sweep as tags of its MLflow experiment; a failure is only a warning."""
    try:
        experiment = store.client.get_run(run_id).info.experiment_id
        for key, view in views(run_id, cells).items():
            store.client.set_experiment_tag(experiment, SHARED + key, json.dumps(view))
    except StoreError as error:
        log.warning("MLflow at %s did not keep the views of its page (%s)", store.safe_uri, first_line(error))


def views(run_id: str, cells: Sequence[Cell]) -> dict[str, dict[str, Any]]:
    """Return MLflow's state of its page for each view: the axes and the main metric as columns.

    A sweep's cells alone are a list without a tree, best cell first, and all of them are drawn. Grouped, they are means over
    seeds.
    """
    metric = main_metric(cells[0].recipe.task)
    # A variant is no key of the recipe, and so no parameter.
    axes = [("param", encode(axis)) if "." in axis else ("tag", encode(AXIS + axis)) for axis in cells[0].axes]
    columns = {"selectedColumns": [*(f"{kind}s.`{name}`" for kind, name in axes), f"metrics.`{metric}`"]}
    alone = {
        **columns,
        "searchFilter": f"tags.`{PARENT}` = '{run_id}'",
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": lower_is_better(metric),
        "runsHiddenMode": "SHOW_ALL",
    }
    groups = [{"mode": kind, "groupByData": name} for kind, name in axes]
    means = {**alone, "groupBy": {"aggregateFunction": "average", "groupByKeys": groups}}
    return {SWEEPS: columns, cells_key(run_id): alone, means_key(run_id): means}


def cells_key(run_id: str) -> str:
    """Return the key of the view of a sweep's cells."""
    return f"cells-{run_id[:8]}"


def means_key(run_id: str) -> str:
    """Return the key of the view of a sweep's means over seeds."""
    return f"means-{run_id[:8]}"


def page(experiment_id: str, view: str | None = None, *, charts: bool = False) -> str:
    """Return the path of an experiment's page, in the training workflow: a list of its runs, or charts."""
    words = {
        **TRAINING,
        **({"viewStateShareKey": view} if view else {}),
        **({"compareRunsMode": "CHART"} if charts else {}),
    }
    return f"/#/experiments/{experiment_id}/runs?{urlencode(words)}"


def links(store: Store, run_id: str, seeds: int, shown: Collection[str]) -> list[str]:
    """Return Markdown links from a sweep's note to its cells side by side, or what they lack.

    Args:
        store: MLflow.
        run_id: of the sweep.
        seeds: their number; with several there is a list of means.
        shown: the runs in its table. Those that another sweep has trained are on that sweep's pages only.
    """
    experiment = store.client.get_run(run_id).info.experiment_id
    trained = pages(store.client.search_runs, [experiment], f"tags.`{PARENT}` = '{run_id}'")
    elsewhere = {*shown} - {run.info.run_id for run in trained}
    told = f"not listed: {len(elsewhere)} of {pluralized(len({*shown}), 'cells')} of the table, trained by other sweeps"
    if elsewhere and elsewhere == {*shown}:
        return [told]
    cells, means = cells_key(run_id), means_key(run_id)
    wanted = {
        "charts of the cells": page(experiment, cells, charts=True),
        "list, best first": page(experiment, cells),
        **({"means over seeds": page(experiment, means)} if seeds > 1 else {}),
    }
    return [*(f"[{text}]({path[1:]})" for text, path in wanted.items()), *([told] if elsewhere else [])]


def sweep_page(store: Store, run_id: str) -> str:
    """Return the path of the page of a sweep's experiment."""
    found = store.client.get_experiment(store.client.get_run(run_id).info.experiment_id)
    return page(found.experiment_id, SWEEPS if SHARED + SWEEPS in found.tags else None)


def newest_page(store: Store) -> tuple[str, str]:
    """Return the path of the page of the experiment whose sweep was started last, and its name.

    Without any sweep they are those of the list of experiments.
    """
    newest = next(search_all(store, "tags.`tadp.sweep` != ''", f"tags.`{ASKED}` DESC", size=1), None)
    if newest is None:
        return f"/#/experiments?{urlencode(TRAINING)}", "no sweep yet"
    found = store.client.get_experiment(newest.info.experiment_id)
    return sweep_page(store, newest.info.run_id), found.name
