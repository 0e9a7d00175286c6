"""Latents of training views are looked up, and are those that the encoder would return."""

from collections.abc import Callable

import pytest
import torch

from tadp_ray.backbones.latent import backbone
from tadp_ray.config.cell import Cell
from tadp_ray.config.data import AugmentConfig
from tadp_ray.config.model import ModelConfig
from tadp_ray.training import setup
from tadp_ray.training.journal import read_journal
from tadp_ray.training.latents import ViewLatents
from tadp_ray.training.provenance import provenance
from tadp_ray.training.run import train_cell

CPU = torch.device("cpu")


def losses(cell: Cell) -> list[float]:
    return [record["metrics"]["loss"] for record in read_journal(cell.folder) if "loss" in record.get("metrics", {})]


@pytest.mark.slow
def test_each_view_is_encoded_once_for_all_cells(
    tiny_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten images and their mirror images, and five that are scored; a second cell encodes none."""
    encoded, posterior_of = [], backbone.posterior_of

    def counted(vae: torch.nn.Module, images: torch.Tensor) -> object:
        encoded.append(len(images))
        return posterior_of(vae, images)

    monkeypatch.setattr(backbone, "posterior_of", counted)
    train_cell(tiny_cell(), CPU)
    assert sum(encoded) == 2 * 10 + 5
    train_cell(tiny_cell(seed=1), CPU)
    assert sum(encoded) == 2 * 10 + 5
    # Other code encodes in its own way, and so does another version.
    known = provenance()
    monkeypatch.setattr(setup, "provenance", lambda: {**known, "tadp.code": "of tomorrow"})
    train_cell(tiny_cell(seed=2), CPU)
    assert sum(encoded) == 2 * (2 * 10 + 5)


def test_known_latents_are_those_of_the_encoder(
    tiny_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up, encoded = tiny_cell("a"), tiny_cell("b")
    train_cell(looked_up, CPU)
    init = ViewLatents.__init__
    monkeypatch.setattr(ViewLatents, "__init__", lambda self, model, pixels, known: init(self, model, pixels, {}))
    train_cell(encoded, CPU)
    # Encoded in other batches, they differ in the last digits.
    assert losses(looked_up) == pytest.approx(losses(encoded), rel=1e-4)


@pytest.mark.parametrize(
    "change",
    [{"scale": (0.5, 1)}, {"crop": 32}, {"colour": "hsv"}, {"cut_depth": 0.25}, {"stretch": 64}, {"resize": 64}],
)
def test_an_image_has_more_views_if_anything_but_flips_changes_it(change: dict) -> None:
    assert AugmentConfig().only_flips and AugmentConfig(flip=0).only_flips
    assert not AugmentConfig.model_validate(change).only_flips


def test_a_backbones_own_keys_encode_images_if_it_names_none() -> None:
    class Own(ModelConfig):
        levels: int = 4

    assert Own(backbone="own", levels=2).encoding_of_images == {"levels": 2}
    assert Own(backbone="own", adapter=True).encoding_of_images == Own(backbone="own").encoding_of_images
