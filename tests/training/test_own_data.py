"""A cell is trained on photographs with depth, and on photographs with boxes of which one has none."""

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tadp_ray.config.cell import Cell
from tadp_ray.config.load import load_recipe
from tadp_ray.data.images import read_image
from tadp_ray.errors import UserError
from tadp_ray.sweep.plan import Plan
from tadp_ray.training.check import check_augment, check_setup
from tadp_ray.training.digests import digests_of
from tadp_ray.training.run import train_cell
from tadp_ray.training.setup import TrainSetup

RECIPES = Path(__file__).parents[2] / "experiments/recipes"
SHORT = ["schedule.iterations=2", "schedule.warmup_iterations=1", "schedule.batch_size=2", "evaluation.interval=2"]


@pytest.fixture
def cell(tmp_path: Path) -> Callable[..., Cell]:
    """The cell of a shipped recipe on four photographs of 40 x 48 pixels in this test's folder."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for name in "abcd":
            Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(tmp_path / split / f"{name}.png")

    def make(recipe: str, *changes: str) -> Cell:
        own = [*SHORT, *changes, f"data.root={tmp_path}", f"compute.storage={tmp_path}/runs"]
        made = load_recipe(RECIPES / f"{recipe}.yaml", own)
        return Cell(experiment="own", seed=0, axes={}, recipe=made, digests=digests_of(made))

    return make


def finite(metrics: dict[str, Any]) -> bool:
    """Whether all metrics are numbers."""
    return all(np.isfinite(value) for value in metrics.values())


def put_depth(folder: Path, metres: float) -> None:
    """Depth of the photographs of both splits, the same everywhere."""
    for split in ("train", "val"):
        (folder / f"{split}_depth").mkdir(exist_ok=True)
        for photo in (folder / split).iterdir():
            size = read_image(photo).shape[:2]
            np.save(folder / f"{split}_depth/{photo.stem}.npy", np.full(size, metres, np.float32))


VIEWS = "augment={resize: 32, crop: 32}"


def test_depth_of_which_all_is_too_far_away_is_refused(cell: Callable[..., Cell], tmp_path: Path) -> None:
    put_depth(tmp_path, 30.0)
    check_setup(TrainSetup(cell("folder_depth", VIEWS, "model.head.max_depth=30.1").recipe, 0))
    with pytest.raises(UserError, match=r"max_depth=30: scored images are 30 m away and more, .* nothing to score"):
        check_setup(TrainSetup(cell("folder_depth", VIEWS, "model.head.max_depth=30").recipe, 0))


def test_eigen_s_crop_is_refused_of_images_without_its_size_or_without_depth(
    cell: Callable[..., Cell], tmp_path: Path
) -> None:
    changes, told = (VIEWS, "evaluation.eigen_crop=true"), r"belongs to images of \(480, 640\), but a is scored at "
    put_depth(tmp_path, 3.0)
    with pytest.raises(
        UserError, match=told + r"\(40, 48\) \(height, width; evaluation.score_at=image\); leave it out"
    ):
        check_setup(TrainSetup(cell("folder_depth", *changes).recipe, 0))
    for name in "abcd":
        Image.new("RGB", (640, 480)).save(tmp_path / f"val/{name}.png")
    put_depth(tmp_path, 3.0)
    check_setup(TrainSetup(cell("folder_depth", *changes).recipe, 0))
    with pytest.raises(UserError, match=told + r"\(32, 43\) .*score_at=view"):
        check_setup(TrainSetup(cell("folder_depth", *changes, "evaluation.score_at=view").recipe, 0))
    boxed = load_recipe(RECIPES / "pocket_detection.yaml", ["evaluation.eigen_crop=true"])
    with pytest.raises(UserError, match="crops depth, but the ground truth of this task is its boxes; leave it out"):
        check_setup(TrainSetup(boxed, 0))


@pytest.mark.parametrize(
    ("augment", "said"),
    [
        (
            "{resize: null, crop: null}",
            r"image c \(40, 48\) .* view of \(40, 48\) .* multiples of 32; set augment.crop",
        ),
        ("{resize: 64, crop: null}", r"image c \(40, 48\) .* view of \(64, 77\) .* multiples of 32"),
        ("{scale: [0.5, 1], resize: null, crop: null}", "augment.scale=0.5,1: gives views of many sizes, but .* of 32"),
        ("{scale: [2, 2], resize: null, crop: null}", r"image c .* view of \(80, 96\)"),
        (
            "{resize: 64, crop: null, pad_to: 96}",
            r"augment.pad_to=96: image a \(32, 64\) .* \(64, 128\) .* pad to more",
        ),
        ("{resize: null, crop: null, pad_to: 64}", None),
        ("{resize: 32, crop: 32}", None),
    ],
)
def test_views_of_whole_photographs_have_sizes_that_the_backbone_halves(
    cell: Callable[..., Cell], tmp_path: Path, augment: str, said: str | None
) -> None:
    for name in "abd":
        Image.new("RGB", (64, 32)).save(tmp_path / f"train/{name}.png")
    put_depth(tmp_path, 3.0)
    setup = TrainSetup(cell("folder_depth", f"augment={augment}", "schedule.batch_size=1").recipe, 0)
    with nullcontext() if said is None else pytest.raises(UserError, match=said):
        check_augment(setup)


def test_a_model_of_square_views_and_texts_is_built_without_its_photographs(
    cell: Callable[..., Cell], tmp_path: Path
) -> None:
    """A trained one predicts other pictures after they were moved away."""
    put_depth(tmp_path, 3.0)
    setup = TrainSetup(cell("folder_depth", VIEWS).recipe, 0)
    shutil.rmtree(tmp_path / "train")
    assert (setup.tokens, setup.view) == (77, (32, 32))


def test_own_depth_is_learned(cell: Callable[..., Cell], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "val"):
        (tmp_path / f"{split}_depth").mkdir()
        for name in "abc":
            depth = np.linspace(0, 4000, 40 * 48).reshape(40, 48).astype(np.uint16)
            Image.fromarray(depth).save(tmp_path / f"{split}_depth/{name}.png")
        np.save(tmp_path / f"{split}_depth/d.npy", np.full((40, 48), 3.5, np.float32))
    small = [
        "augment={resize: 32, crop: 32}",
        "model.head.fused=16",
        "model.head.deconvolved=8",
        "model.head.channels=8",
    ]
    metrics = train_cell(cell("folder_depth", *small), torch.device("cpu"))
    assert finite(metrics) and 0 < metrics["rmse"] < 10
    for limit, told in (
        (4.5, []),
        (
            3.9,
            [
                f"model.head.max_depth=3.9: data.{split} has depths of 4 m, and what is beyond 3.9 m is {effect}"
                for split, effect in (
                    ("train", "trained on, but cannot be predicted"),
                    ("val", "neither predicted nor scored"),
                )
            ],
        ),
    ):
        caplog.clear()
        one = cell("folder_depth", f"model.head.max_depth={limit}")
        Plan("mine", "", "paper", "", (one,), (one,)).warn()
        warned = [record.message for record in caplog.records if "max_depth" in record.message]
        assert [line.partition("; ")[0] for line in warned] == told
    with pytest.raises(UserError, match=r"task: segmentation needs mask, which data.kind: folder with these files"):
        changes = ["task=segmentation", "model.head={kind: semantic_fpn}"]
        check_setup(TrainSetup(cell("folder_depth", *small, *changes).recipe, 0))


def test_own_boxes_are_learned(cell: Callable[..., Cell], tmp_path: Path) -> None:
    for split in ("train", "val"):
        images = [{"id": n, "file_name": f"{name}.png"} for n, name in enumerate("abcd")]
        objects = [{"image_id": n, "category_id": 1, "bbox": [4 * n, 4, 20, 20]} for n in range(3)]
        objects.append({"image_id": 0, "category_id": 1, "bbox": [0, 0, 48, 40], "iscrowd": 1})
        file = {"images": images, "categories": [{"id": 1, "name": "thing"}], "annotations": objects}
        (tmp_path / f"{split}.json").write_text(json.dumps(file))
    small = ["augment.stretch=64", "model.head.channels=16", "model.head.representation=16"]
    metrics = train_cell(cell("folder_detection", *small), torch.device("cpu"))
    assert finite(metrics) and 0 <= metrics["ap50"] <= 100
