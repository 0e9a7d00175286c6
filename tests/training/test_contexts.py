"""Cells whose backbone is told by learned vectors or by an image, beside a caption or without one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tadp_ray.config.cell import Cell
from tadp_ray.config.recipe import Recipe
from tadp_ray.data.sample import Sample
from tadp_ray.errors import UserError
from tadp_ray.training import embeddings
from tadp_ray.training.any_image import given_prompt, predict_image
from tadp_ray.training.check import check_setup
from tadp_ray.training.checkpoint import read_tensors
from tadp_ray.training.cost import step_cost
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.embeddings import training_embeddings
from tadp_ray.training.optim import parameter_groups
from tadp_ray.training.predict import load_cell
from tadp_ray.training.run import build_model, evaluation_inputs, train_cell
from tadp_ray.training.setup import TrainSetup

CPU = torch.device("cpu")
NULL: dict[str, Any] = {"source": "null"}
CROPPED: dict[str, Any] = {"resize": 48, "crop": 32}
LEARNED = {"kind": "learned", "count": 3, "lr_mult": 5.0}


@pytest.fixture
def image(tiny_vision: Path) -> dict[str, Any]:
    return {"kind": "image", "encoder": str(tiny_vision / "clip"), "count": 2}


def test_learned_vectors_beside_a_caption_are_trained_and_kept(tiny_cell: Callable[..., Cell]) -> None:
    cell = tiny_cell(model={"weights": "pocket", "context": {"sources": ["text", LEARNED]}})
    setup = TrainSetup(cell.recipe, 0)
    assert (setup.prompt_tokens, setup.tokens) == (77, 80)
    model = build_model(setup, CPU)
    assert model.backbone.channels[1] == 64 + 80
    first = model.context.sources["learned"].vectors.detach()
    train_cell(cell, CPU)
    tensors, _ = read_tensors(cell.folder / "model.safetensors")
    assert (tensors["context.sources.learned.vectors"] - first).abs().max() > 1e-4


@pytest.mark.slow
def test_a_model_that_reads_no_captions_stops_and_resumes_with_the_same_weights(
    tiny_cell: Callable[..., Cell], image: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"context": {"sources": [LEARNED, image]}}
    whole, broken = (tiny_cell(n, caption=NULL, model=model, compute={"checkpoint_every": 2}) for n in ("a", "b"))
    train_cell(whole, CPU)

    calls = iter(range(100))
    embed = embeddings.ViewEmbeddings.__call__

    def failing(self: Any, images: Tensor, device: torch.device) -> list[Tensor]:
        if next(calls) == 4:
            raise InterruptedError
        return embed(self, images, device)

    with monkeypatch.context() as patch:
        patch.setattr(embeddings.ViewEmbeddings, "__call__", failing)
        with pytest.raises(InterruptedError):
            train_cell(broken, CPU)
    train_cell(broken, CPU)
    found, expected = (read_tensors(cell.folder / "model.safetensors")[0] for cell in (broken, whole))
    assert {name for name in expected if name.startswith("context.")} == {
        "context.sources.learned.vectors",
        *(f"context.sources.image.{part}.{kind}" for part in ("linear", "norm") for kind in ("weight", "bias")),
    }
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_an_image_changes_what_a_model_sees(tiny_cell: Callable[..., Cell], image: dict) -> None:
    setup = TrainSetup(tiny_cell(caption=NULL, model={"context": {"sources": [image]}}).recipe, 0)
    model = build_model(setup, CPU).eval()
    latents, text = torch.randn(2, 4, 8, 8), torch.zeros(2, 0, 0)
    with torch.no_grad():
        one, other = (model(latents, text, embeddings=[torch.randn(2, 12)]) for _ in range(2))
    assert setup.tokens == 2 and not torch.allclose(one, other)


@pytest.mark.parametrize("augment", [{}, CROPPED])
def test_a_view_s_embedding_is_the_encoder_s_whether_it_was_known_or_not(
    tiny_cell: Callable[..., Cell], image: dict, augment: dict
) -> None:
    recipe = {"caption": NULL, "model": {"context": {"sources": [image]}}, "augment": augment}
    cell = tiny_cell(**recipe)
    setup = TrainSetup(cell.recipe, 0)
    known = training_embeddings(cell.digests, setup, CPU, ProcessGroup())
    images = torch.stack([torch.from_numpy(setup.train[i].image[:, ::-1].copy()) for i in (3, 1)]).permute(0, 3, 1, 2)
    found = known(images, CPU)
    expected = setup.encoders[0](images / 255)
    torch.testing.assert_close(found, [expected], atol=1e-5, rtol=1e-4)
    assert bool(known._known) is (augment == {})


def test_evaluation_shows_the_encoder_each_window_and_its_mirror_image(
    tiny_cell: Callable[..., Cell], image: dict
) -> None:
    slide = {"mode": "slide", "crop": 32, "stride": 16, "flip": True}
    cell = tiny_cell(
        caption=NULL, model={"context": {"sources": [image]}}, evaluation=slide, data={"size": 64, "val": 2}
    )
    setup = TrainSetup(cell.recipe, 0)
    model = build_model(setup, CPU)
    inputs = evaluation_inputs(cell.digests, setup, model, CPU, ProcessGroup())
    windows = torch.stack([inputs[f"1/1{mirror}/{number}/image"] for mirror in ("", "m") for number in range(9)])
    assert len({*inputs}) == 2 * 2 * 9 * 2
    pixels = torch.from_numpy(setup.val[1].image).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(windows[4], setup.encoders[0](pixels[..., 16:48, 16:48])[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(windows[9], setup.encoders[0](pixels.flip(3)[..., :32, :32])[0], atol=1e-5, rtol=1e-4)


def test_a_trained_cell_predicts_any_image_without_a_prompt(tiny_cell: Callable[..., Cell], image: dict) -> None:
    cell = tiny_cell(caption=NULL, model={"context": {"sources": [image]}})
    train_cell(cell, CPU)
    model, setup, inputs = load_cell(cell, cell.folder / "model.safetensors", CPU)
    assert {key.count("/") for key in inputs} == {2, 3}
    sample = setup.val[0]
    found = predict_image(model, setup, Sample(sample.id, sample.image), given_prompt(setup, ""), CPU)
    assert found.shape == sample.image.shape[:2]
    with pytest.raises(
        UserError, match=r"prompt 'a cat': this model reads no text \(model.context=image\); give an emp"
    ):
        given_prompt(setup, "a cat")


def test_rates_of_the_context_are_the_head_s_times_their_multiplier(
    tiny_cell: Callable[..., Cell], image: dict
) -> None:
    sources = ["text", LEARNED, {**image, "count": None, "map": "cide", "mixture": 100, "lr_mult": 10.0}]
    cell = tiny_cell(model={"context": {"sources": sources}}, schedule={"backbone_lr_mult": 0.1})
    groups = parameter_groups(build_model(TrainSetup(cell.recipe, 0), CPU), cell.recipe.schedule)
    rates = {(group["name"].partition(",")[0], round(group["lr"], 9)) for group in groups}
    assert rates == {("backbone", 1e-4), ("head", 1e-3), ("context", 1e-3), ("context", 5e-3), ("context", 1e-2)}


@pytest.mark.slow
def test_the_cost_counts_the_image_encoder_and_the_vectors(tiny_cell: Callable[..., Cell], image: dict) -> None:
    def cost(context: object, caption: dict) -> Any:
        setup = TrainSetup(tiny_cell(caption=caption, model={"context": context}).recipe, 0)
        view = setup.view
        return step_cost(setup.recipe, setup.pretrained, 3, setup.prompt_tokens, view, setup.encoders)

    plain, other = cost("text", {}), cost({"sources": ["text", LEARNED, image]}, {})
    assert [part.name for part in plain.parts] == ["VAE encoder", "text encoder", "backbone", "head"]
    (encoder,) = (part for part in other.parts if part.name == "context encoder")
    assert encoder.parameters > 1000 and encoder.forward > 10_000
    assert other.frozen_bytes - plain.frozen_bytes == 4 * encoder.parameters
    assert {name for name, *_ in other.groups} - {name for name, *_ in plain.groups} == {
        "context",
        "context, not decayed",
    }
    (vectors,) = (count for name, count, rate in other.groups if rate == pytest.approx(5e-3))
    assert vectors == 3 * 64


def test_what_the_encoder_is_belongs_to_the_fingerprint_and_where_it_lies_does_not(
    tiny_cell: Callable[..., Cell], image: dict, tiny_vision: Path, tmp_path: Path
) -> None:
    def fingerprint(**keys: object) -> str:
        return tiny_cell(caption=NULL, model={"context": {"sources": [image | keys]}}).fingerprint

    moved = tmp_path / "moved"
    moved.symlink_to(tiny_vision / "clip")
    assert fingerprint() == fingerprint(encoder=str(moved))
    assert len({fingerprint(), fingerprint(encoder=str(tiny_vision / "dino")), fingerprint(count=3)}) == 3
    assert tiny_cell().fingerprint == tiny_cell(model={"context": "text"}).fingerprint
    assert "image_encoder" not in tiny_cell().digests


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"caption": {"source": "oracle"}},
            "model.context: learned reads no captions, but caption.source is oracle; set cap",
        ),
        ({"caption": {**NULL, "modifiers": ("a {caption}",)}}, "learned reads no captions"),
        (
            {"evaluation": {"captions": {"exact": {"source": "oracle"}}}},
            "learned reads no captions, but evaluation.captions",
        ),
        ({"model": {"adapter": True}}, "model.context: learned reads no text, which model.adapter adapts"),
    ],
)
def test_what_nobody_reads_is_refused(changes: dict, said: str) -> None:
    recipe = {"caption": NULL, "schedule": {"iterations": 1, "learning_rate": 1e-3}}
    recipe |= changes | {"model": {"context": "learned", **changes.get("model", {})}}
    with pytest.raises(ValueError, match=said):
        Recipe.model_validate(recipe)


def test_sources_that_cannot_be_summed_and_encoders_that_are_missing_are_refused_before_training(
    tiny_cell: Callable[..., Cell], tmp_path: Path
) -> None:
    summed = {"sources": ["text", {"kind": "learned", "count": 5}], "join": "sum"}
    with pytest.raises(UserError, match=r"different numbers of vectors \(text 77, learned 5\)"):
        check_setup(TrainSetup(tiny_cell(model={"context": summed}).recipe, 0))
    lost = {"sources": [{"kind": "image", "encoder": str(tmp_path / "none")}]}
    with pytest.raises(UserError, match="model.context.sources.encoder='.*none': there is no such folder, and no hub"):
        tiny_cell(caption=NULL, model={"context": lost})
