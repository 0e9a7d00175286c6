"""The pocket image encoder: its training resumes, its loss is CLIP's, and the shipped one tells captions from each other."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tadp_ray.backbones.latent.weights import locate, weights_digest
from tadp_ray.backbones.stable_diffusion.load import load_diffusion
from tadp_ray.captions.describe import class_list
from tadp_ray.conditioning.encoder_files import locate_encoder
from tadp_ray.conditioning.image_encoder import load_image_encoder
from tadp_ray.conditioning.similarity import end_states
from tadp_ray.config.pretraining import ImageEncoderTraining
from tadp_ray.data.scenes import THINGS, Scenes
from tadp_ray.errors import UserError
from tadp_ray.layout import PRETRAINING_FOLDER
from tadp_ray.paper.pocket import image_encoder
from tadp_ray.paper.pocket.image_encoder import Contrast, train_image_encoder
from tests.fixtures.cli import invoke

TINY = {"images": 12, "steps": 6, "batch": 4, "size": 32}


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> ImageEncoderTraining:
    monkeypatch.setattr(image_encoder, "JUDGED", 8)
    monkeypatch.setattr("tadp_ray.paper.pocket.pretrain.CHECKPOINT_EVERY", 2)
    return ImageEncoderTraining(text=weights_digest("pocket"), **TINY)


def test_the_loss_is_that_of_matching_both_ways() -> None:
    torch.manual_seed(0)
    contrast = Contrast(32, 6)
    images = torch.randint(256, (3, 32, 32, 3), dtype=torch.uint8)
    states = torch.randn(3, 6)
    logits = contrast.similarities(images, states) * contrast.scale.exp()
    assert logits.abs().max() <= contrast.scale.exp()
    rows = -logits.log_softmax(1).diagonal().mean()
    columns = -logits.log_softmax(0).diagonal().mean()
    torch.testing.assert_close(contrast.loss(images, states), (rows + columns) / 2)


@pytest.mark.slow
def test_an_interrupted_training_ends_with_the_same_weights(
    plan: ImageEncoderTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    metrics = train_image_encoder(plan, whole, "pocket")
    assert metrics.keys() == {"top1", "top5", "chance"} and metrics["top5"] >= metrics["top1"]

    loss, calls = Contrast.loss, iter(range(100))

    def failing(self: Contrast, images: Tensor, states: Tensor) -> Tensor:
        if next(calls) == 5:
            raise InterruptedError
        return loss(self, images, states)

    with monkeypatch.context() as patch:
        patch.setattr(Contrast, "loss", failing)
        with pytest.raises(InterruptedError):
            train_image_encoder(plan, broken, "pocket")
    train_image_encoder(plan, broken, "pocket")
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert not list((broken / PRETRAINING_FOLDER).glob("*.safetensors"))
    assert load_image_encoder(str(broken), "embedding").size == (32, 32)
    other = ImageEncoderTraining(text=plan.text, **{**TINY, "steps": 7})
    with pytest.raises(UserError, match="of another training .* give the settings that it was begun with"):
        train_image_encoder(other, broken, "pocket")


@pytest.mark.parametrize(
    ("weights", "said"), [("pocket", "--seed 0\n"), ("my model", "--seed 0 --weights 'my model'\n")]
)
def test_the_section_names_the_model_whose_text_encoder_was_used(tmp_path: Path, weights: str, said: str) -> None:
    image_encoder.save(tmp_path, Contrast(32, 6).vision)
    plan = ImageEncoderTraining(text="a", **TINY)
    image_encoder.write_section(tmp_path, plan, weights, {"top1": 1.0, "top5": 2.0, "chance": 0.5})
    assert f"FOLDER --images 12 --steps 6 --batch 4 {said}```" in (tmp_path / "README.md").read_text()


@pytest.mark.slow
def test_the_command_writes_the_section_of_the_card_and_mlflow_hears_of_it(
    tmp_path: Path, store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_encoder, "JUDGED", 8)
    words = ["pocket", "image-encoder", str(tmp_path), "--images", "8", "--steps", "2", "--batch", "4"]
    done = invoke(*words, "--tracking-uri", store.uri)
    assert done.exit_code == 0, done.output
    card = (tmp_path / "README.md").read_text()
    assert "8 scenes like those" in card and "image-encoder FOLDER --images 8 --steps 2 --batch 4 --seed 1" in card
    (run,) = store.client.search_runs([store.experiment_id("pocket_pretraining")])
    assert run.info.status == "FINISHED" and run.info.run_name == "image encoder, seed 1, 8 images"
    assert 0 <= run.data.metrics["top1"] <= 100 and run.data.params["steps"] == "2"


def test_the_shipped_encoder_is_small_and_is_told_of_in_the_model_card() -> None:
    folder = locate_encoder("pocket")
    assert folder.parent == locate("pocket")
    assert (folder / "model.safetensors").stat().st_size < 3e6
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["CLIPVisionModelWithProjection"]
    assert (folder / "README.md").read_text().strip() in (folder.parent / "README.md").read_text()


@pytest.mark.slow
def test_the_shipped_encoder_s_embedding_says_which_things_are_in_an_image() -> None:
    """A linear map of it, fitted on 400 scenes, scores things of other scenes above absent ones in two cases of three."""
    encoder, diffusion = load_image_encoder("pocket", "embedding"), load_diffusion("pocket")
    scenes = Scenes("train", 500)
    images = torch.stack([torch.from_numpy(scene.image) for scene in scenes]).permute(0, 3, 1, 2) / 255
    present = torch.tensor([[thing in scenes.present(index) for thing in THINGS] for index in range(500)]).float()
    embedded = nn.functional.normalize(encoder(images), dim=1)
    assert embedded.shape == (500, diffusion.text_encoder.config.hidden_size)
    design = torch.cat([embedded, torch.ones(500, 1)], 1)
    weights = torch.linalg.solve(design[:400].T @ design[:400] + 0.1 * torch.eye(65), design[:400].T @ present[:400])
    scores = design[400:] @ weights
    inside, outside = scores[present[400:] == 1], scores[present[400:] == 0]
    assert (inside[:, None] > outside).float().mean() > 0.62
    assert end_states(diffusion.tokenizer, diffusion.text_encoder, [class_list(["cow"])]).shape == (1, 64)
