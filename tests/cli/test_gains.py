"""Two rows of a table image by image: which images are shown, under which captions, and what is refused."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from tadp_ray.api import gains as api_gains
from tadp_ray.api.gains import compared_runs
from tadp_ray.config.cell import Cell
from tadp_ray.config.table import Side, TableSpec
from tadp_ray.config.yaml12 import parse_yaml
from tadp_ray.errors import UserError
from tadp_ray.layout import MODEL, PER_IMAGE
from tadp_ray.reporting.table import Table, TableEntry
from tadp_ray.tasks.per_image import read_per_image, write_per_image
from tadp_ray.tracking import query
from tadp_ray.tracking.findings import finding_name, findings
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.tracking.sender import replay
from tadp_ray.tracking.sweep_run import parent, record_plan, show_table
from tadp_ray.training import predict
from tadp_ray.training.checkpoint import write_tensors
from tadp_ray.training.run import build_model, train_cell
from tadp_ray.training.setup import TrainSetup
from tests.fixtures.cells import make_plan
from tests.fixtures.cli import invoke

HITS = {0.5: (10, 50, 30, 40, 20), 1.0: (90, 55, 30, 5, 10)}
"""Correct pixels of a hundred in each of five images, by precision: two images gain, one is a draw, two lose."""


@pytest.fixture
def trained(experiment: Path, store, journals, tmp_path: Path) -> Path:
    """An experiment whose cells have chance's weights, and results by image as above."""
    plan = make_plan(experiment, "pocket", overrides=[f"compute.storage={tmp_path}/runs"])
    run = parent(store, plan.name, plan.scale, plan.key)
    record_plan(store, run, plan.settings, plan.cells, plan.layout)
    show_table(store, run)
    for number, cell in enumerate(plan.cells):
        setup = TrainSetup(cell.recipe, cell.seed)
        journals.start(cell)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            model = build_model(setup, torch.device("cpu"))
        write_tensors(cell.folder / MODEL, model.state_dict(), {"fingerprint": cell.fingerprint})
        lines = [
            {"id": name, "prompt": f"caption {number} of {name}", "precision": 1.0, "recall": 1.0, "pixels": 100}
            | {"classes": [0], "intersection": [hits], "union": [100], "truth": [100]}
            for name, hits in zip(setup.val.ids, HITS[cell.axes["caption.precision"]], strict=True)
        ]
        write_per_image(cell.folder / PER_IMAGE, cell.fingerprint, "segmentation", setup.val.classes, lines)
        journals.finish(cell, miou=30.0)
        replay(store, cell_run_spec(run, cell))
    return experiment


def gains(experiment: Path | str, store, out: Path, *words: str):
    """Run the command."""
    own = ["picture", "gains", experiment, out, "--tracking-uri", store.uri, "--storage", out.parent / "runs", *words]
    return invoke(*own)


@pytest.mark.slow
def test_the_images_that_gain_and_lose_most_are_predicted_under_both_captions(
    trained, store, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_cell, predicted = predict.predict_cell, []

    def noted(cell, weights, folder: Path, *arguments, **options) -> int:
        count = predict_cell(cell, weights, folder, *arguments, **options)
        predicted.append(sorted(path.stem[-1] for path in (folder / "predictions").iterdir()))
        return count

    monkeypatch.setattr(predict, "predict_cell", noted)
    rows = ("--row", "precision=1", "--against", "precision=0.5")
    result = gains(trained, store, tmp_path / "helped", *rows, "--column", "recall 1.0", "--count", "1")
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "images: 5" in said and "images better with precision 1.0: 2" in said
    assert "images worse with precision 1.0: 2" in said and "mean difference of an image: 8" in said
    # Only the image that gains 80 points and the one that loses 35 are predicted and drawn.
    assert predicted == [["0", "3"]] * 2
    choice = json.loads((tmp_path / "helped/choice.json").read_text())
    assert choice["systems"] == ["precision 1.0", "precision 0.5"]
    assert [own["id"][-1] for own in choice["images"]] == ["0", "3"]
    # Kept for the report, with the captions below the predictions.
    kept = findings(store, tmp_path / "report")["helped"]
    assert kept.numbers["images"] == 5 and "recall 1.0, seed 0" in str(kept.settings)
    drawn = [name for name in kept.pictures if name.endswith(".png")]
    assert drawn and all((tmp_path / "report/helped" / name).is_file() for name in kept.pictures)
    for name in drawn:
        with Image.open(tmp_path / "helped" / name) as picture:
            assert picture.width > 500
    # What was predicted is not there to be mixed with what a later call predicts.
    assert not [path for path in (tmp_path / "helped").iterdir() if path.is_dir()]


def test_a_run_is_predicted_anew_while_its_data_are_those_of_its_training(
    trained, store, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = query.rows(store, "tiny")[0].run_id
    own = ["predict", run, str(tmp_path / "out"), "--tracking-uri", store.uri, "--storage", str(tmp_path / "runs")]
    result = invoke(*own)
    assert result.exit_code == 0, result.output
    command = result.stdout.rpartition("to score them: ")[2]
    assert command.startswith(f"tadp-ray score segmentation --predictions {tmp_path}/out/predictions --targets ")
    scored = invoke(*shlex.split(command)[1:], "--json")
    assert json.loads(scored.stdout)["images"] == 5
    read = query.trained_cell

    def of_other_images(*arguments):
        cell, weights = read(*arguments)
        return cell.model_copy(update={"digests": {**cell.digests, "val": "a"}}), weights

    monkeypatch.setattr(query, "trained_cell", of_other_images)
    own[2] = str(tmp_path / "other")
    result = invoke(*own)
    assert result.exit_code == 2 and f"run {run}: its val changed since it was trained" in " ".join(
        result.stderr.split()
    )
    assert not (tmp_path / "other").exists()


DEPTH = {"kind": "vpd_depth", "fused": 16, "channels": 8, "deconvolved": 8, "max_depth": 80}
BOXES = {"kind": "faster_rcnn", "channels": 16, "representation": 32, "anchors": [8, 16, 32, 48]}


@pytest.fixture
def swept_anew(experiment: Path, store, tmp_path: Path):
    """Trains two cells of another task, which differ in precision, for some steps; returns the sweep's run and the cells."""

    def sweep(task: str, metric: str, **model: object) -> tuple[str, list[Cell]]:
        recipe = parse_yaml((experiment.parent / "recipe.yaml").read_text(), "recipe.yaml")
        recipe |= {"task": task, "model": {**recipe["model"], **model}}
        (experiment.parent / "recipe.yaml").write_text(json.dumps(recipe))
        text = experiment.read_text().partition("  published")[0]
        experiment.write_text(f"{text}  metrics: [{metric}]\n")
        storage, half = f"compute.storage={tmp_path}/runs", ["caption.recall=1.0"]
        plan = make_plan(experiment, "pocket", overrides=[storage], only=half)
        run = parent(store, plan.name, plan.scale, plan.key)
        record_plan(store, run, plan.settings, plan.cells, plan.layout)
        show_table(store, run)
        for cell in plan.selected:
            train_cell(cell, torch.device("cpu"))
        return run, list(plan.selected)

    return sweep


ROWS = ("--row", "precision=1", "--against", "precision=0.5", "--column", "recall 1.0")


@pytest.mark.slow
def test_depth_is_drawn_with_the_scores_that_mlflow_holds(experiment: Path, store, swept_anew, tmp_path: Path) -> None:
    run, cells = swept_anew("depth", "rmse", head=DEPTH, attention_maps="none", weights="pocket")
    for cell in cells:
        replay(store, cell_run_spec(run, cell))
    found = {f"precision {own.axes['caption.precision']}": of_images(own) for own in cells}
    result = gains(experiment, store, tmp_path / "out", *ROWS)
    assert result.exit_code == 0, result.output
    images = json.loads((tmp_path / "out/choice.json").read_text())["images"]
    assert images
    for image in images:
        assert image["scores"] == pytest.approx({name: own[image["id"]] for name, own in found.items()}, rel=1e-4)


def of_images(cell: Cell) -> dict[str, float]:
    """The score of each image by its id."""
    found = read_per_image(cell.folder / PER_IMAGE, cell.fingerprint)
    return dict(zip(found.ids, found.image_scores, strict=True))


@pytest.mark.slow
def test_detections_are_drawn_with_the_scores_that_chose_them(
    experiment: Path, store, swept_anew, tmp_path: Path
) -> None:
    """They count false boxes of all classes, and the picture is of those that the chosen images show."""
    run, cells = swept_anew("detection", "ap50", head=BOXES)
    better = cells[-1]
    found = read_per_image(better.folder / PER_IMAGE, better.fingerprint)
    lines = [dict(line) for line in found.images]
    lines[0] |= {"labels": [0], "scores": [0.9], "right": [1]}
    write_per_image(better.folder / PER_IMAGE, better.fingerprint, "detection", found.classes, lines)
    for cell in cells:
        replay(store, cell_run_spec(run, cell))
    result = gains(experiment, store, tmp_path / "out", *ROWS)
    assert result.exit_code == 0, result.output
    (image,) = json.loads((tmp_path / "out/choice.json").read_text())["images"]
    assert image["scores"] == pytest.approx({"precision 1.0": of_images(better)[image["id"]], "precision 0.5": 0.0})
    assert image["scores"]["precision 1.0"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("which", ["images", "classes"])
def test_rows_that_were_scored_otherwise_are_refused(
    trained, store, tmp_path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    read = api_gains.per_image_results

    def otherwise(*arguments):
        (run, first), *others = read(*arguments).items()
        changed = {"images": first.images[1:]} if which == "images" else {"classes": first.classes[::-1]}
        return {run: replace(first, **changed), **dict(others)}

    monkeypatch.setattr(api_gains, "per_image_results", otherwise)
    result = gains(trained, store, tmp_path / "out", *ROWS)
    assert result.exit_code == 2 and "scored on other images or other classes" in " ".join(result.stderr.split())


def test_other_images_of_the_same_ids_are_refused(trained, store, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, digests = api_gains.trained_cell, iter("ab")

    def of_other_images(*arguments):
        cell, weights = read(*arguments)
        return cell.model_copy(update={"digests": {**cell.digests, "val": next(digests)}}), weights

    monkeypatch.setattr(api_gains, "trained_cell", of_other_images)
    result = gains(trained, store, tmp_path / "out", *ROWS)
    assert result.exit_code == 2 and "scored on other images, so they" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--row", "precision=1", "--against", "precision=0.5"), "--column: choose one of recall 0.5; recall 1.0"),
        (("--row", "1.0", "--against", "1.0", "--column", "0.5"), "the same row as --row 1.0"),
        (("--row", "0.9", "--against", "1.0", "--column", "0.5"), "--row 0.9: no such row"),
        (("--row", "1.0", "--against", "0.5", "--column", "0.9"), "--column 0.9: no such column"),
        (("--row", "1.0", "--against", "0.5", "--column", "1.0"), "no seed of both is finished"),
    ],
)
def test_what_cannot_be_compared_is_refused(experiment, store, swept, tmp_path, words, said) -> None:
    swept(experiment)  # The last cell is missing, and none has results by image.
    for file in (experiment, "tiny"):
        result = gains(file, store, tmp_path / "out", *words)
        assert result.exit_code == 2 and said in " ".join(result.stderr.split())


def test_of_several_metrics_the_one_that_images_are_scored_by_is_taken() -> None:
    columns = Side.of(["metric"], {"metric": ("miou/night", "miou")})
    spec = TableSpec("", ("miou", "miou/night"), Side.of(["text"], {"text": ("a", "b")}), columns)
    none = tuple(TableEntry("", "", metric, (), 1, None, ()) for metric in ("miou/night", "miou"))
    table = Table(spec, (none, none), ())
    for column in (None, "miou"):
        with pytest.raises(UserError, match="no seed of both is finished"):
            compared_runs(None, table, {}, "a", "b", column)
    with pytest.raises(UserError, match=r"--column miou/night: images have no score .* choose one of miou$"):
        compared_runs(None, table, {}, "a", "b", "miou/night")


def test_a_table_without_the_metric_of_images_is_refused() -> None:
    columns = Side.of(["metric"], {"metric": ("miou/night", "miou/comic")})
    spec = TableSpec("", ("miou/night", "miou/comic"), Side.of(["text"], {"text": ("a", "b")}), columns)
    for column in (None, "miou/night"):
        with pytest.raises(UserError, match="this table has no column of it"):
            compared_runs(None, Table(spec, (), ()), {}, "a", "b", column)


@pytest.mark.parametrize("metric", ["best_miou", "miou/night"])
def test_the_scores_of_images_are_not_taken_for_another_evaluation_s(metric: str) -> None:
    """That the table's only metric is of, so that no column is named by it."""
    columns, rows = Side.of(["size"], {"size": (1, 2)}), Side.of(["text"], {"text": ("a", "b")})
    with pytest.raises(
        UserError, match=f"^{metric}: results by image are of the main evaluation at the last step alone"
    ):
        compared_runs(None, Table(TableSpec("", (metric,), rows, columns), (), ()), {}, "a", "b", "1")


def test_what_is_kept_has_the_name_of_its_folder_which_a_report_takes(
    experiment, store, swept, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept(experiment)
    rows = ("--row", "1.0", "--against", "0.5")
    for folder in ("out[1]", "a&b", "/"):
        result = gains(experiment, store, tmp_path / folder, *rows)
        assert result.exit_code == 2 and "what is kept in MLflow has the name of its folder" in result.stderr
    (tmp_path / "helped").mkdir()
    monkeypatch.chdir(tmp_path / "helped")
    assert [finding_name(Path(folder)) for folder in (".", "../helped", "sub/..")] == ["helped"] * 3
