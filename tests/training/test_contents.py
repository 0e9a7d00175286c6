"""What is edited while a cell waits or trains is never stored under the fingerprint of what was planned."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tadp_ray.captions.store import CaptionStore
from tadp_ray.config.cell import Cell
from tadp_ray.config.recipe import Recipe
from tadp_ray.data import files, images
from tadp_ray.data.datasets import Datasets
from tadp_ray.errors import UserError
from tadp_ray.files import file_digest
from tadp_ray.layout import MODEL
from tadp_ray.training.check import check_setup
from tadp_ray.training.digests import check_contents, digests_of
from tadp_ray.training.evaluate import truth
from tadp_ray.training.journal import failure, final_metrics
from tadp_ray.training.perception import PerceptionTraining
from tadp_ray.training.run import train_cell
from tadp_ray.training.setup import TrainSetup
from tadp_ray.training.state import TrainState

CPU = torch.device("cpu")


@pytest.fixture
def photographs(tmp_path: Path) -> Callable[[], Cell]:
    """A cell on four photographs of noise with label maps and captions in a store."""
    rng = np.random.default_rng(0)
    for name in "abcd":
        for folder, array in (
            ("images", rng.integers(0, 256, (32, 32, 3), np.uint8)),
            ("masks", rng.choice(np.array([0, 1], np.uint8), (32, 32))),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / folder / f"{name}.png")
    CaptionStore({name: ("a cat",) for name in "abcd"}, {}).write(tmp_path / "captions.jsonl")
    split = {"images": "images/*.png", "masks": "masks/*.png"}
    data = {"kind": "folder", "root": tmp_path, "train": split, "val": split, "classes": ("cat", "dog", "sky")}
    recipe = {
        "data": data,
        "caption": {"source": "store", "store": tmp_path / "captions.jsonl"},
        "model": {"weights": "pocket", "head": {"channels": 16}},
        "schedule": {"iterations": 6, "batch_size": 2, "learning_rate": 1e-3},
        "augment": {"crop": 32},
        "compute": {"storage": str(tmp_path / "runs")},
    }

    def make() -> Cell:
        made = Recipe.model_validate(recipe)
        facts = {"experiment": "tiny", "seed": 0, "axes": {}}
        return Cell(recipe=made, digests=digests_of(made), **facts)

    return make


def test_one_store_for_two_splits_that_call_images_alike_is_refused(
    photographs: Callable[[], Cell], tmp_path: Path
) -> None:
    recipe = photographs().recipe
    check_setup(TrainSetup(recipe, 0))
    for folder in ("images", "masks"):
        shutil.copytree(tmp_path / folder, tmp_path / "other" / folder)
    other = recipe.data.val.model_copy(update={"images": "other/images/*.png", "masks": "other/masks/*.png"})
    apart = recipe.model_copy(update={"data": recipe.data.model_copy(update={"val": other})})
    with pytest.raises(UserError, match=r"has one entry 'a' for .*images/a.png and .*other/images/a.png.*target_store"):
        check_setup(TrainSetup(apart, 0))
    shutil.copy(tmp_path / "captions.jsonl", tmp_path / "of_other.jsonl")
    told = apart.caption.model_copy(update={"target_store": tmp_path / "of_other.jsonl"})
    check_setup(TrainSetup(apart.model_copy(update={"caption": told}), 0))


def test_a_caption_of_another_image_with_the_same_name_is_refused(
    photographs: Callable[[], Cell], tmp_path: Path
) -> None:
    """As when the other split was captioned into the same store, or a photograph was replaced."""
    recipe, store = photographs().recipe, tmp_path / "captions.jsonl"
    hashes = {file.stem: file_digest(file) for file in (tmp_path / "images").iterdir()}
    captions = {name: ("a cat",) for name in "abcd"}
    CaptionStore(captions, {"images_sha256": hashes}).write(store)
    check_setup(TrainSetup(recipe, 0))
    CaptionStore(captions, {"images_sha256": {**hashes, "b": "0" * 64}}).write(store)
    with pytest.raises(
        UserError, match=r"captions.jsonl: its caption of 'b' was made of another image than .*images/b.png"
    ):
        check_setup(TrainSetup(recipe, 0))
    # An import may have given the captions other ids.
    CaptionStore(captions, {"images_sha256": {**hashes, "b": "0" * 64}, "imported_from": "x"}).write(store)
    check_setup(TrainSetup(recipe, 0))


def test_scoring_reads_no_photograph(photographs: Callable[[], Cell], monkeypatch: pytest.MonkeyPatch) -> None:
    setup = TrainSetup(photographs().recipe, 0)
    whole, read, decode = setup.task.target(setup.val[1]), [], images._decode
    monkeypatch.setattr(images, "_decode", lambda path: read.append(path.parent.name) or decode(path))
    assert torch.equal(truth(setup, 1)[0], whole)
    assert read == ["masks"]


def edit(path: Path) -> None:
    """Turn a label map upside down: the same size, other contents."""
    Image.fromarray(np.asarray(Image.open(path))[::-1].copy()).save(path)


def test_what_changed_since_the_plan_is_named(photographs: Callable[[], Cell], tmp_path: Path) -> None:
    cell = photographs()
    check_contents(cell, Datasets())
    edit(tmp_path / "masks/b.png")
    with pytest.raises(UserError, match=f"^train, val changed since this cell was planned \\({tmp_path}\\): .* again"):
        check_contents(cell, Datasets())
    edit(tmp_path / "masks/b.png")
    CaptionStore({name: ("a dog",) for name in "abcd"}, {}).write(tmp_path / "captions.jsonl")
    with pytest.raises(UserError, match=f"^captions changed since .*{tmp_path}/captions.jsonl"):
        train_cell(cell, CPU)
    assert failure(cell.folder).traceback is None and final_metrics(cell.folder, cell.fingerprint) is None


def test_an_edit_while_it_trains_keeps_a_cell_from_finishing(
    photographs: Callable[[], Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = photographs()

    def fit(training: PerceptionTraining) -> TrainState:
        edit(tmp_path / "masks/b.png")
        return TrainState(step=6, best_step=6)

    monkeypatch.setattr(PerceptionTraining, "fit", fit)
    with pytest.raises(UserError, match="^train, val changed since this cell was planned"):
        train_cell(cell, CPU)
    assert final_metrics(cell.folder, cell.fingerprint) is None and not (cell.folder / MODEL).exists()


def test_a_second_look_reads_only_what_changed(
    photographs: Callable[[], Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, read = photographs(), []
    digest = files.hashlib.file_digest
    monkeypatch.setattr(files.hashlib, "file_digest", lambda file, kind: read.append(file.name) or digest(file, kind))
    assert digests_of(cell.recipe) == cell.digests and read == []
    edit(tmp_path / "masks/b.png")
    assert digests_of(cell.recipe) != cell.digests and read == [str(tmp_path / "masks/b.png")]
