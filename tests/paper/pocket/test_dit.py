"""A pretraining makes a PixArt with the VAE and the text encoder of another pocket model, which the gate measures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import PixArtSigmaPipeline
from pydantic import ValidationError
from safetensors.torch import load_file

from tadp_ray.backbones.families import generator_family, load_generator
from tadp_ray.backbones.latent.weights import locate
from tadp_ray.backbones.pixart.family import PixArtFamily
from tadp_ray.backbones.pixart.load import load_pixart
from tadp_ray.config.claims import Measured
from tadp_ray.config.pretraining import Pretraining
from tadp_ray.layout import CLASSIFIER, PRETRAINING_FOLDER
from tadp_ray.paper.pocket import gate
from tadp_ray.paper.pocket import pretrain as pretrain_module
from tadp_ray.paper.pocket.autoencoder import build_vae
from tadp_ray.paper.pocket.card import write_card
from tadp_ray.paper.pocket.denoiser import build_dit
from tadp_ray.paper.pocket.pretrain import pretrain
from tadp_ray.paper.pocket.report import AIMS
from tadp_ray.reporting.claims import judge_measures
from tadp_ray.training.journal import final_metrics, read_journal

TINY = {"backbone": "dit", "images": 24, "vae_steps": 1, "unet_steps": 6, "unet_batch": 4, "classifier_steps": 1}
TINY |= {"width": 24, "blocks": 3, "heads": 2, "gate_every": 4}


@pytest.fixture(scope="module")
def plan() -> Pretraining:
    return Pretraining(**TINY, start=generator_family("pocket").digest("pocket"))


@pytest.fixture(scope="module")
def pretrained(plan: Pretraining, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pretraining of six steps from the shipped model; the gate measures few scenes."""
    folder = tmp_path_factory.mktemp("dit")
    held_out = gate.held_out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "DRAWING_STEPS", 1)
        patch.setattr(gate, "held_out", lambda size: held_out(size, 16))
        patch.setattr(pretrain_module, "draw_words", lambda *_: None)
        pretrain(plan, folder, processes=1, device="cpu", start=Path("pocket"))
    return folder


@pytest.mark.slow
def test_vae_text_encoder_and_judge_are_those_of_the_start(pretrained: Path, plan: Pretraining) -> None:
    shipped = locate("pocket")
    for part in ("vae", "text_encoder"):
        (file,) = (shipped / part).glob("*.safetensors")
        left, right = load_file(file), load_file(pretrained / part / file.name)
        assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    reported = {name for record in read_journal(pretrained / PRETRAINING_FOLDER) for name in record.get("metrics", {})}
    stages = {name.removesuffix("/loss") for name in reported if name.endswith("/loss")}
    assert stages == {"dit"}
    left, right = (load_file(folder / CLASSIFIER) for folder in (shipped, pretrained))
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    figures = final_metrics(pretrained / PRETRAINING_FOLDER, plan.fingerprint)
    assert {"caption/look-alike t=500", "attention/pointing", "drawing/found", "psnr"} <= figures.keys()


@pytest.mark.slow
def test_the_folder_is_one_that_diffusers_and_recipes_read(pretrained: Path) -> None:
    pixart = load_pixart(str(pretrained))
    assert (pixart.tokens, pixart.strides, pixart.side) == (77, (4, 8, 16, 32), 64)
    assert pixart.schedule.sampler.config.prediction_type == "v_prediction"
    pipeline = PixArtSigmaPipeline.from_pretrained(pretrained, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 3, "guidance_scale": 3.0, "output_type": "np"}
    pixart_options = {"use_resolution_binning": False, "max_sequence_length": 77, "clean_caption": False}
    rng = lambda: torch.Generator().manual_seed(3)
    expected = pipeline("a photo of a bus", generator=rng(), **options, **pixart_options).images[0]
    (drawn,) = load_generator(str(pretrained)).draw(
        ["a photo of a bus"], [rng()], num_inference_steps=3, guidance_scale=3.0
    )
    np.testing.assert_allclose(drawn / 255, expected, atol=1.01 / 255)


@pytest.mark.slow
def test_a_finished_pretraining_is_not_begun_again_and_its_card_says_what_it_is(
    pretrained: Path, plan: Pretraining
) -> None:
    before = PixArtFamily.digest(str(pretrained))
    pretrain(plan, pretrained, processes=1, device="cpu", start=Path("pocket"))
    assert PixArtFamily.digest(str(pretrained)) == before
    figures = final_metrics(pretrained / PRETRAINING_FOLDER, plan.fingerprint)
    verdicts = judge_measures(AIMS, {name: Measured(value) for name, value in figures.items()})
    write_card(pretrained, pretrained / PRETRAINING_FOLDER, plan, figures, verdicts, {})
    card = (pretrained / "README.md").read_text()
    assert "# Pocket PixArt" in card and "| DiT | PixArtTransformer2DModel | width 24, 3 blocks of 2 heads" in card
    assert "24 drawn for the DiT" in card and "frozen if that has a U-Net" in card and "$" not in card


def test_an_untrained_transformer_predicts_nothing_and_does_not_read() -> None:
    torch.manual_seed(0)
    model = build_dit(build_vae(32), 32, 192, 8, 6).diffusion
    assert 5e6 < sum(p.numel() for p in model.transformer.parameters()) < 6e6
    latents, times = torch.randn(2, 4, 8, 8), torch.tensor([3, 500])
    contexts = torch.randn(2, 2, 77, 64)
    assert not model.predict(latents, times, contexts[0]).any()
    torch.nn.init.normal_(model.transformer.proj_out.weight)
    one, other = (model.predict(latents, times, context) for context in contexts)
    assert one.any() and torch.equal(one, other)


def test_settings_of_another_backbone_are_refused_and_the_default_is_the_unet() -> None:
    assert (
        Pretraining().fingerprint == Pretraining(backbone="unet").fingerprint != Pretraining(backbone="dit").fingerprint
    )
    for keys, said in (
        ({"width": 96}, "width: 96 is of another backbone than unet"),
        ({"backbone": "dit", "channels": (8, 8, 8, 8)}, "channels: .* is of another backbone than dit"),
        ({"backbone": "dit", "heads": 5}, "width: 192 does not divide among heads: 5"),
    ):
        with pytest.raises(ValidationError, match=said):
            Pretraining(**keys)
