"""A cell with a PixArt trains, goes on after a stop, and predicts again; the real one is planned."""

from pathlib import Path

import pytest
import torch

from tadp_ray.layout import MODEL
from tadp_ray.training.predict import predict_cell

CPU = torch.device("cpu")


def test_a_cell_trains_stops_goes_on_and_predicts(
    trained_with_a_stop, tiny_pixart_alpha_folder: Path, tmp_path: Path
) -> None:
    """With noise and a text adapter; the weights are those of a training that was never stopped."""
    model = {"backbone": "pixart", "weights": str(tiny_pixart_alpha_folder), "noise_samples": 1, "adapter": True}
    whole, metrics = trained_with_a_stop(model=model, caption={"source": "class_names"})
    assert metrics["caption/train_truncated"] == 10  # the names of all classes are longer than 120 letters
    assert predict_cell(whole, whole.folder / MODEL, tmp_path / "predicted", CPU) == 5


@pytest.mark.slow
def test_pixart_sigma_is_planned_without_files(planned, parameters, tmp_path: Path) -> None:
    """610.9 M parameters of the transformer without its output layers; 4762.3 M of T5's encoder."""
    said = planned(backbone="pixart", weights=str(tmp_path / "none"))
    assert "none is missing; using the sizes of PixArt-Sigma XL/2" in said
    assert (parameters("backbone", said), parameters("text encoder", said)) == ("610,816,896", "4,762,310,656")
    assert "GFLOP" in said and "MiB of activations" in said


def test_configurations_without_weights_suffice_for_a_plan(
    planned, parameters, tiny_pixart_folder: Path, tmp_path: Path
) -> None:
    for file in tiny_pixart_folder.rglob("*.json"):
        copy = tmp_path / file.relative_to(tiny_pixart_folder)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(file.read_bytes())
    said = planned(backbone="pixart", weights=str(tmp_path))
    assert f"weights: {tmp_path} holds configurations alone; using their sizes" in said
    whole = planned(backbone="pixart", weights=str(tiny_pixart_folder))
    for network in ("VAE encoder", "text encoder", "backbone", "head"):
        assert parameters(network, said) == parameters(network, whole)
