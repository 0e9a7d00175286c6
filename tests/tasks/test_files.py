"""What a task writes, `score` reads, whatever the task: by the options that the task names."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tadp_ray.cli.retype import score_command
from tadp_ray.config.metrics import lower_is_better
from tadp_ray.config.recipe import Recipe
from tadp_ray.data.datasets import open_dataset
from tadp_ray.files import write_text
from tadp_ray.layout import CLASSES, PREDICTIONS
from tadp_ray.registry import HEADS, TASKS
from tadp_ray.tasks.base import Task
from tadp_ray.tasks.build import task_of
from tadp_ray.tasks.depth.files import write_metres
from tadp_ray.tasks.detection.coco import write_boxes
from tadp_ray.tasks.segmentation.files import write_labels
from tests.fixtures.cli import invoke

DATA = {"kind": "scenes", "train": 2, "val": 3, "size": 64}


def recipe_of(task: str) -> Recipe:
    """A recipe of a task, with the first of its heads."""
    head = next(kind for kind, entry in HEADS.items() if entry.task == task)
    return Recipe.model_validate(
        {
            "task": task,
            "data": DATA,
            "caption": {"source": "null"},
            "model": {"head": {"kind": head}, "attention_maps": "none"},
            "schedule": {"iterations": 1, "learning_rate": 1e-3},
        }
    )


def perfect(task: Task, target: object) -> object:
    """The truth as a prediction."""
    return {**target, "scores": torch.ones(len(target["labels"]))} if task.truth == "boxes" else target


@pytest.mark.parametrize("name", TASKS)
def test_a_task_s_own_command_scores_what_the_task_wrote(name: str, tmp_path: Path) -> None:
    recipe = recipe_of(name)
    task, scenes = task_of(recipe), open_dataset(recipe.data, "val")
    files = task.files(scenes.classes)
    for scene in scenes:
        target = task.target(scene)
        files.add(tmp_path, f"{scene.id}.0", scene.image.shape[:2], target, perfect(task, target))
    files.end(tmp_path)
    write_text(tmp_path / CLASSES, "".join(f"{own}\n" for own in files.classes))
    program, *words = shlex.split(score_command(name, task.score_options(tmp_path)))
    done = invoke(*words, "--json")
    assert program == "tadp-ray" and done.exit_code == 0, done.output
    scores = json.loads(done.stdout)
    assert scores["images"] == 3
    assert scores[task.main] == (0 if lower_is_better(task.main) else pytest.approx(100))


@pytest.mark.parametrize("name", TASKS)
def test_one_prediction_is_written_as_it_is_in_a_split_and_given_as_arrays(name: str, tmp_path: Path) -> None:
    recipe = recipe_of(name)
    task, scene = task_of(recipe), open_dataset(recipe.data, "val")[0]
    found = perfect(task, task.target(scene))
    path = task.write(tmp_path / PREDICTIONS / "a.b", found)
    assert path.parent == tmp_path / PREDICTIONS and path.name.startswith("a.b.")
    files = task.files(("a",) * 99)
    files.add(tmp_path / "split", "a.b", scene.image.shape[:2], task.target(scene), found)
    files.end(tmp_path / "split")
    (same,) = (
        (tmp_path / "split").glob(f"{PREDICTIONS}*/a.b.*")
        if path.suffix != ".json"
        else [tmp_path / "split" / f"{PREDICTIONS}.json"]
    )
    assert same.read_bytes() == path.read_bytes()
    for field, values in task.arrays(found).items():
        np.testing.assert_array_equal(values, getattr(scene, field, 1.0))
        assert field == "scores" or values.dtype == getattr(scene, field).dtype


def test_files_hold_labels_metres_and_edges(tmp_path: Path) -> None:
    labels = torch.tensor([[0, 1], [255, 2]])
    assert np.asarray(Image.open(write_labels(tmp_path / "a", labels))).tolist() == labels.tolist()
    metres = torch.tensor([[0.5, 80.0]])
    assert np.load(write_metres(tmp_path / "a", metres)).tolist() == metres.tolist()
    boxes = {"boxes": torch.tensor([[1.0, 2.0, 4.0, 8.0]]), "labels": torch.tensor([3]), "scores": torch.tensor([0.5])}
    (written,) = json.loads(write_boxes(tmp_path / "a", boxes).read_text())
    assert written == {"image_id": "a", "category_id": 4, "bbox": [1, 2, 3, 6], "score": 0.5}


def test_the_command_that_scores_gives_lists_option_by_option_and_flags_alone() -> None:
    options = {
        "predictions": Path("a b"),
        "prediction_scale": [1.0, 2.0],
        "eigen_crop": True,
        "reduce_zero_label": False,
    }
    said = "tadp-ray score depth --predictions 'a b' --prediction-scale 1.0 --prediction-scale 2.0 --eigen-crop"
    assert score_command("depth", options) == said
