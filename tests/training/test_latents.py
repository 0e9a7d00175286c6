"""Latents of training views are looked up, and are those that the encoder would return."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from tadp_ray.backbones.base import Posterior
from tadp_ray.backbones.latent import backbone
from tadp_ray.config.cell import Cell
from tadp_ray.config.data import AugmentConfig
from tadp_ray.config.model import ModelConfig
from tadp_ray.training import latents, setup
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.latents import ViewLatents
from tadp_ray.training.provenance import provenance
from tadp_ray.training.run import train_cell
from tadp_ray.training.windows import View
from tests.fixtures.cells import losses

CPU = torch.device("cpu")


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


ONE_LATENT_OF_AN_IMAGE = [
    {"model": {"pixel_normalization": "imagenet"}},
    {"model": {"latent": {"draw": "mode"}}},
    {"model": {"latent": {"scale": "raw"}}},
    {"augment": {"resize": 64}},
    {"augment": {"stretch": 64}},
    {"evaluation": {"resize": 64}},
    {"evaluation": {"flip": True}},
    {"evaluation": {"mode": "slide", "crop": 32, "stride": 16}},
    {"schedule": {"precision": "bfloat16"}},
]
"""Settings on which latents of evaluation views depend, beside data and weights."""


@pytest.mark.parametrize("change", ONE_LATENT_OF_AN_IMAGE)
def test_cells_whose_latents_differ_share_none(
    tiny_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch, change: dict
) -> None:
    made = counting_latents(monkeypatch)
    for cell in (tiny_cell(), tiny_cell(**change)):
        made(cell, cell.digests)
    assert made.count == 2


def test_cells_with_other_data_or_weights_share_no_latents(
    tiny_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, cell = counting_latents(monkeypatch), tiny_cell()
    others = [{**cell.digests, name: "another"} for name in ("weights", "val", "train", "schedule")]
    for digests in (cell.digests, *others):
        made(cell, digests)
    assert made.count == 3, "of other weights and of other evaluation images"
    # A plug-in's hash may be of its files alone.
    made(tiny_cell(data={"style": "night"}), cell.digests)
    assert made.count == 4


def test_cells_that_differ_otherwise_share_their_latents(
    tiny_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = counting_latents(monkeypatch)
    for change in (
        {},
        {"schedule": {"learning_rate": 0.5}},
        {"caption": {"source": "null"}},
        {"augment": {"flip": 0.0}},
        {"evaluation": {"interval": 6, "multi_scale": (1.0, 1.5), "captions": {"none": {"source": "null"}}}},
    ):
        cell = tiny_cell(**change)
        made(cell, cell.digests)
    other = tiny_cell(seed=1)
    made(other, other.digests)
    assert made.count == 1


def test_boxes_and_label_maps_whose_images_are_stretched_otherwise_share_no_latents(
    tiny_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, boxes = counting_latents(monkeypatch), {"task": "detection", "model": {"head": {"kind": "faster_rcnn"}}}
    for change, count in (({}, 1), ({"augment": {"stretch": 64}}, 3)):
        for task in ({}, boxes):
            cell = tiny_cell(**change, **task)
            made(cell, cell.digests)
        assert made.count == count


def test_latents_of_training_views_are_shared_by_what_decides_them_alone(
    tiny_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []
    monkeypatch.setattr(latents, "sided_views", lambda setup, indices, sides: asked.append(sides) or [])
    model = SimpleNamespace(backbone=SimpleNamespace(encode_image=None))

    def made(digests: dict[str, str], **changes: dict) -> int:
        cell = tiny_cell(**changes)
        own = setup.TrainSetup(cell.recipe, cell.seed)
        latents.training_latents({**cell.digests, **digests}, own, model, CPU, ProcessGroup())
        return len(asked)

    assert made({}) == made({"val": "another"}) == made({}, schedule={"learning_rate": 0.5}) == 1
    assert made({"train": "another"}) == 2 and made({"weights": "another"}) == 3
    assert made({}, schedule={"precision": "bfloat16"}) == 4
    assert made({}, augment={"flip": 0.0}) == 5 and asked[-1] == [1] and made({}, augment={"flip": 1.0}) == 6
    assert asked[-1] == [-1] and asked[0] == [1, -1]
    # Ten images are seen from two sides: fewer views than these are not encoded beforehand.
    assert made({}, schedule={"iterations": 4}) == 6 and made({"train": "third"}, schedule={"iterations": 5}) == 7


def test_windows_of_an_image_have_noise_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    views = [View(f"{image}/{number}", image, number, torch.zeros(3, 8, 8)) for image in "ab" for number in (0, 1)]
    monkeypatch.setattr(latents, "evaluation_views", lambda *_: iter(views))
    posterior = lambda images: Posterior(torch.zeros(len(images), 4, 2, 2), torch.ones(len(images), 4, 2, 2))
    model = SimpleNamespace(backbone=SimpleNamespace(latent_shape=lambda _: (4, 2, 2), encode_image=posterior))
    schedule = SimpleNamespace(images_per_pass=2, precision="float32")
    own = SimpleNamespace(recipe=SimpleNamespace(schedule=schedule))
    found, again = (latents.view_latents(own, model, CPU, [0, 1]) for _ in range(2))
    assert len({noise.numpy().tobytes() for noise in found.values()}) == 4
    assert all(torch.equal(noise, again[key]) for key, noise in found.items())


class counting_latents:
    """Opens the evaluation latents of cells, and counts how often they are made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0

        def make(*_: object) -> dict[str, torch.Tensor]:
            self.count += 1
            return {"0/0/0": torch.zeros(4, 4, 4)}

        monkeypatch.setattr(latents, "view_latents", make)

    def __call__(self, cell: Cell, digests: dict[str, str]) -> None:
        own = setup.TrainSetup(cell.recipe, cell.seed)
        latents.evaluation_latents(digests, own, torch.nn.Module(), CPU, ProcessGroup())


@pytest.mark.parametrize(
    "change",
    [{"scale": (0.5, 1)}, {"crop": 32}, {"colour": "hsv"}, {"cut_depth": 0.25}, {"stretch": 64}, {"resize": 64}],
)
def test_an_image_has_more_views_if_anything_but_flips_changes_it(change: dict) -> None:
    assert AugmentConfig().only_flips and AugmentConfig(flip=0).only_flips
    assert not AugmentConfig.model_validate(change).only_flips


def test_a_backbones_own_keys_encode_images_and_texts_if_it_names_none() -> None:
    class Own(ModelConfig):
        levels: int = 4

    assert Own(backbone="own", levels=2).encoding_of_images == {"levels": 2}
    assert Own(backbone="own", adapter=True).encoding_of_images == Own(backbone="own").encoding_of_images
    assert Own(backbone="own", levels=2).encoding_of_texts == {"levels": 2}
