"""Every name reaches MLflow and comes back; distinct names stay distinct."""

import random
from collections.abc import Iterator

import pytest
from mlflow.utils.validation import _validate_metric

from tadp_ray.data.config import FolderData
from tadp_ray.errors import UserError
from tadp_ray.sweep.plan import Plan
from tadp_ray.tracking.names import check_classes, decode, encode
from tadp_ray.tracking.query import finished, history
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.tracking.sender import replay
from tadp_ray.tracking.store import Store, open_store
from tadp_ray.tracking.sweep_run import parent

ORDINARY = ["miou", "iou/fire truck", "miou/multi_scale", "iou/a-b.c_2", "caption/val_recall", "iou/кошка", "iou/a/b"]
STRANGE = {
    "iou//m/01yrx": "iou/:2Fm:2F01yrx",
    "iou/bed (double)": "iou/bed :28double:29",
    "iou/..": "iou/:2E:2E",
    "iou/../../x": "iou/:2E:2E:2F:2E:2E:2Fx",
    "iou/a/": "iou/a:2F",
    "iou/": "iou:2F",
    "iou/a:2Fb": "iou/a:3A2Fb",
    "iou/y\u0306": "iou/y:CC:86",
    "iou/\n": "iou/:0A",
    "/": ":2F",
    "..": ":2E:2E",
}
HARD = [
    "/m/01yrx",
    "_m_01yrx",
    "кошка",
    "крыса",
    "y\u0306",
    "\u0439",
    "a\0b",
    "a(b",
    "a:28b",
    "\ud800",
    "100 % [x] 'y'",
]


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_names_are_keys_as_they_stand(name: str) -> None:
    assert encode(name) == name == decode(name)


@pytest.mark.parametrize(("name", "key"), STRANGE.items())
def test_strange_names_are_escaped_and_come_back(name: str, key: str) -> None:
    assert encode(name) == key and decode(key) == name


def names() -> Iterator[str]:
    """Two thousand names, the same ones every time."""
    rng = random.Random(0)
    letters = "ab./:_- 0123456789ABCDEF()[]%\\\"'\0\n\u0439й\u0306字😀\ud800\udc00"
    for _ in range(2000):
        yield rng.choice(["iou/", ""]) + "".join(rng.choices(letters, k=rng.randint(1, 8)))


def test_all_names_are_taken_by_mlflow_come_back_and_stay_distinct() -> None:
    found = set(names())
    keys = {encode(name) for name in found}
    assert len(keys) == len(found) > 1800
    assert all(decode(encode(name)) == name for name in found)
    for key in keys:
        _validate_metric(key, 1.0, 1, 1)


def test_a_key_that_is_no_encoding_stays() -> None:
    assert decode("CLIP: mean") == "CLIP: mean" and decode("a:FFb") == "a:FFb"


def test_a_class_that_no_key_holds_is_refused_before_training(make_cell) -> None:
    cell = make_cell()

    def check(*classes: str) -> None:
        split = {"images": "images", "masks": "masks"}
        data = FolderData.model_validate(
            {"kind": "folder", "root": "photographs", "train": split, "val": split, "classes": classes}
        )
        own = cell.model_copy(update={"recipe": cell.recipe.model_copy(update={"data": data})})
        Plan("mine", "", "pocket", "", (own,), (own,)).check([own])

    with pytest.raises(UserError, match="cell precision.*the class 'xxx.* makes an MLflow key of 251 characters"):
        check("sky", "x" * 246)
    with pytest.raises(UserError, match="the class '\\(\\(.* makes an MLflow key of 305 characters"):
        check("sky", "(" * 100)
    check_classes(["x" * 245, "и" * 245, "(" * 81])


def told(store: Store, make_cell, journals) -> None:
    """A cell's metrics of strange names go in and come out of a store."""
    cell = make_cell()
    metrics = {f"iou/{name}": float(number) for number, name in enumerate(HARD)}
    journals.start(cell)
    journals.write(cell, type="metrics", step=3, metrics=metrics)
    journals.finish(cell, miou=41.5, **metrics)
    replay(store, cell_run_spec(parent(store, cell.experiment, cell.scale, "key"), cell))
    row = finished(store, [cell.fingerprint])[cell.fingerprint]
    assert row.metrics == {"miou": 41.5, **metrics}
    for name, value in metrics.items():
        assert history(store, row.run_id, name) == [(3, value), (100, value)]


def test_names_come_back_from_a_file(store, make_cell, journals) -> None:
    told(store, make_cell, journals)


@pytest.mark.cluster
def test_names_come_back_from_a_server(store, make_cell, journals, free_port) -> None:
    from tadp_ray.tracking.dashboard import serve

    with serve(store, "127.0.0.1", free_port) as (address, _):
        told(open_store(address), make_cell, journals)


@pytest.mark.cluster
def test_names_come_back_from_postgresql(free_ports, make_cell, journals, tmp_path, monkeypatch) -> None:
    from local_postgresql import PostgreSQL

    monkeypatch.chdir(tmp_path)  # where MLflow keeps files without a server
    try:
        server = PostgreSQL(*free_ports(1))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    try:
        told(open_store(server.uri), make_cell, journals)
    finally:
        server.remove()
