"""A cell with a PixArt trains, goes on after a stop, and predicts again; the real one is planned."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tadp_ray.config.schema import Recipe
from tadp_ray.layout import MODEL
from tadp_ray.sweep.preview import recipe_preview
from tadp_ray.training.loop import Trainer
from tadp_ray.training.predict import predict_cell
from tadp_ray.training.run import train_cell

CPU = torch.device("cpu")
STEPS = {"iterations": 3, "warmup_iterations": 0}


def test_a_cell_trains_stops_goes_on_and_predicts(
    tiny_cell, tiny_pixart_alpha_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With noise and a text adapter; the weights are those of a training that was never stopped."""
    model = {"backbone": "pixart", "weights": str(tiny_pixart_alpha_folder), "noise_samples": 1, "adapter": True}
    changes = {"model": model, "schedule": STEPS, "caption": {"source": "class_names"}}
    whole, cut = tiny_cell("whole", **changes), tiny_cell("cut", compute={"checkpoint_every": 1}, **changes)
    assert whole.fingerprint == cut.fingerprint and {"weights", "schedule"} <= whole.digests.keys()
    metrics = train_cell(whole, CPU)
    assert metrics["caption/train_truncated"] == 10  # the names of all classes are longer than 120 letters

    step_once = Trainer._train_step

    def dying(self: Trainer, *args: object) -> torch.Tensor:
        if args[-1] == 2:
            raise RuntimeError
        return step_once(self, *args)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(Trainer, "_train_step", dying)
        train_cell(cut, CPU)
    train_cell(cut, CPU)
    left, right = load_file(whole.folder / MODEL), load_file(cut.folder / MODEL)
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    assert predict_cell(whole, whole.folder / MODEL, tmp_path / "predicted", CPU) == 5


def planned(**model: Any) -> str:
    """What `train --dry-run` prints of a recipe with this model."""
    groups = {"caption": {"source": "null"}, "schedule": {"iterations": 1, "batch_size": 2, "learning_rate": 1e-3}}
    return "\n".join(recipe_preview(Recipe.model_validate({**groups, "model": model})))


def parameters(network: str, said: str) -> str:
    """The number of a network's parameters in a plan."""
    (line, *_) = (line for line in said.splitlines() if line.startswith(f"{network:<24}"))
    return line[24:].split()[0]


@pytest.mark.slow
def test_pixart_sigma_is_planned_without_files(tmp_path: Path) -> None:
    """610.9 M parameters of the transformer without its output layers; 4762.3 M of T5's encoder."""
    said = planned(backbone="pixart", weights=str(tmp_path / "none"))
    assert "none is missing; using the sizes of PixArt-Sigma XL/2" in said
    assert (parameters("backbone", said), parameters("text encoder", said)) == ("610,816,896", "4,762,310,656")
    assert "GFLOP" in said and "MiB of activations" in said


def test_configurations_without_weights_suffice_for_a_plan(tiny_pixart_folder: Path, tmp_path: Path) -> None:
    for file in tiny_pixart_folder.rglob("*.json"):
        copy = tmp_path / file.relative_to(tiny_pixart_folder)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(file.read_bytes())
    said = planned(backbone="pixart", weights=str(tmp_path))
    assert f"weights: {tmp_path} holds configurations alone; using their sizes" in said
    whole = planned(backbone="pixart", weights=str(tiny_pixart_folder))
    for network in ("image encoder", "text encoder", "backbone", "head"):
        assert parameters(network, said) == parameters(network, whole)
