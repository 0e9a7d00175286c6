"""Addresses lead to the newest sweep, in the training view, and each sweep has a view of its cells."""

import json
import math
from urllib.parse import parse_qs

from tadp_ray.tracking.sweep_run import describe, parent
from tadp_ray.tracking.view import keep_views, links, newest_page, views


def query(path: str) -> dict[str, list[str]]:
    """The parameters of a path."""
    return parse_qs(path.partition("?")[2])


def test_the_page_of_the_sweep_that_was_started_last(store, make_cell) -> None:
    assert newest_page(store) == ("/#/experiments?workflowType=machine_learning", "no sweep yet")
    first = parent(store, "first", "pocket", "a")
    parent(store, "second", "pocket", "b")
    number = store.client.get_experiment_by_name("second").experiment_id
    assert newest_page(store) == (f"/#/experiments/{number}/runs?workflowType=machine_learning", "second")
    # asked for again
    assert parent(store, "first", "pocket", "a") == first
    keep_views(store, first, [make_cell()])
    path, name = newest_page(store)
    assert name == "first" and query(path) == {"workflowType": ["machine_learning"], "viewStateShareKey": ["sweeps"]}


def test_views_have_a_column_for_each_axis_and_the_metric(store, make_cell) -> None:
    """An axis of variants is a tag, since it is no key of the recipe."""
    cell = make_cell().model_copy(update={"axes": {"text": "none", "caption.recall": 1.0}})
    found = views("0123456789", [cell])
    columns = ["tags.`tadp.axis.text`", "params.`caption.recall`", "metrics.`miou`"]
    assert [view["selectedColumns"] for view in found.values()] == [columns] * 3
    assert found["cells-01234567"]["searchFilter"] == "tags.`mlflow.parentRunId` = '0123456789'"
    assert (found["cells-01234567"]["orderByKey"], found["cells-01234567"]["orderByAsc"]) == ("metrics.`miou`", False)
    groups = [{"mode": "tag", "groupByData": "tadp.axis.text"}, {"mode": "param", "groupByData": "caption.recall"}]
    assert found["means-01234567"]["groupBy"] == {"aggregateFunction": "average", "groupByKeys": groups}


def test_links_name_views_that_are_kept(store, make_cell) -> None:
    run = parent(store, "tiny", "pocket", "a")
    keep_views(store, run, [make_cell()])
    tags = store.client.get_experiment_by_name("tiny").tags
    keys = [query(link.rstrip(")"))["viewStateShareKey"][0] for link in links(store, run, seeds=3, shown=())]
    assert keys == [f"cells-{run[:8]}", f"cells-{run[:8]}", f"means-{run[:8]}"]
    assert all(json.loads(tags[f"mlflow.sharedViewState.{key}"])["selectedColumns"] for key in keys)
    assert len(links(store, run, seeds=1, shown=())) == 2


def test_cells_that_another_sweep_trained_are_no_cells_of_a_sweeps_list(store, make_cell) -> None:
    first, second = parent(store, "first", "pocket", "a"), parent(store, "second", "pocket", "b")
    experiment = store.client.get_run(second).info.experiment_id
    own = store.client.create_run(experiment, tags={"mlflow.parentRunId": second}).info.run_id
    assert len(links(store, second, seeds=1, shown=[own])) == 2
    told = links(store, second, seeds=1, shown=[own, "another"])
    assert len(told) == 3 and told[2] == "not listed: 1 of 2 cells of the table, trained by other sweeps"
    assert links(store, first, seeds=1, shown=[own]) == [
        "not listed: 1 of 1 cell of the table, trained by other sweeps"
    ]


def test_numbers_and_note_of_a_sweep_are_kept_and_not_logged_twice(store) -> None:
    run = parent(store, "tiny", "pocket", "a")
    for value in (1.0, 1.0, 0.5):
        describe(store, run, {"miou/precision 0.5": value, "x" * 300: 1.0}, f"found {value}")
    data = store.client.get_run(run).data
    assert data.metrics == {"miou/precision 0.5": 0.5} and data.tags["mlflow.note.content"] == "found 0.5"
    assert [point.value for point in store.client.get_metric_history(run, "miou/precision 0.5")] == [1.0, 0.5]


def test_a_number_that_the_table_has_no_longer_is_none(store) -> None:
    """The same sweep with one seed has no standard deviation; MLflow deletes no metric."""
    run, several = parent(store, "tiny", "pocket", "a"), {"miou/a": 50.0, "miou sd/a": 2.0, "rmse/a": math.inf}
    for numbers in (several, {"miou/a": 47.0, "rmse/a": math.inf}, {"miou/a": 47.0, "rmse/a": math.inf}):
        describe(store, run, numbers, "note")
    found = store.client.get_run(run).data.metrics
    assert found["miou/a"] == 47.0 and math.isnan(found["miou sd/a"])
    histories = [store.client.get_metric_history(run, key) for key in several]
    assert [len(history) for history in histories] == [2, 2, 1]
    describe(store, run, several, "note")
    assert store.client.get_run(run).data.metrics["miou sd/a"] == 2.0
