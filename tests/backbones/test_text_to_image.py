"""What is drawn and varied is what diffusers' own pipelines draw, and noise is added as the model's scheduler adds it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image
from torch import Tensor

from tadp_ray.backbones.latent.denoising import NoiseSchedule, build_schedule
from tadp_ray.backbones.latent.weights import locate, weights_digest
from tadp_ray.backbones.stable_diffusion.text_to_image import TextToImage, alike, load_text_to_image

PROMPTS = ["a bus and sand", "a cow"]


@pytest.fixture(scope="module")
def pocket() -> TextToImage:
    """The pocket model."""
    return load_text_to_image("pocket")


def rngs() -> list[torch.Generator]:
    """A generator for each prompt, as it was at first."""
    return [torch.Generator().manual_seed(seed) for seed in (3, 4)]


def library(kind: type, folder: Path) -> object:
    """A pipeline that diffusers has loaded itself, in float32."""
    pipeline = kind.from_pretrained(folder, safety_checker=None, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_pictures_are_those_of_the_library_whatever_the_batch(pocket: TextToImage) -> None:
    options = {"num_inference_steps": 3, "guidance_scale": 3.0, "output_type": "np"}
    pipeline = library(StableDiffusionPipeline, locate("pocket"))
    expected = [pipeline(PROMPTS[i], generator=rngs()[i], **options).images[0] for i in range(2)]
    drawn = pocket.draw(PROMPTS, rngs(), num_inference_steps=3, guidance_scale=3.0)
    assert [picture.dtype for picture in drawn] == [np.uint8] * 2
    for batch in (drawn, pocket.draw(PROMPTS, rngs(), num_inference_steps=3, guidance_scale=3.0, batch=1)):
        for picture, own in zip(batch, expected, strict=True):
            # Sums over another batch may round to the next of 255 values.
            np.testing.assert_allclose(picture / 255, own, atol=1.01 / 255)
    assert not np.array_equal(*drawn)


def test_variations_are_those_of_the_library_and_keep_their_sizes(pocket: TextToImage) -> None:
    images = [np.random.default_rng(1).integers(0, 256, (64, width, 3), dtype=np.uint8) for width in (64, 96)]
    varied = pocket.vary(images, PROMPTS, rngs(), steps=2, num_inference_steps=5, guidance_scale=3.0)
    assert [picture.shape for picture in varied] == [(64, 64, 3), (64, 96, 3)]
    pipeline = library(StableDiffusionImg2ImgPipeline, locate("pocket"))
    options = {"strength": 0.4001, "num_inference_steps": 5, "guidance_scale": 3.0, "output_type": "np"}
    for image, prompt, rng, own in zip(images, PROMPTS, rngs(), varied, strict=True):
        expected = pipeline(prompt, image=Image.fromarray(image), generator=rng, **options).images[0]
        np.testing.assert_allclose(own / 255, expected, atol=1.01 / 255)


def test_images_of_one_size_in_a_row_are_varied_together() -> None:
    sides = [8, 8, 8, 4, 8, 8]
    images = [np.zeros((side, side, 3), np.uint8) for side in sides]
    assert list(alike(images, most=2)) == [slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 6)]
    assert list(alike([], most=2)) == []


def test_noise_is_that_of_the_schedule(pocket: TextToImage) -> None:
    """The schedule that is built is the pocket model's own; noise has the shares that its betas mean."""
    own, built = pocket.schedule, build_schedule("v_prediction")
    public = lambda schedule: {key: value for key, value in schedule.sampler.config.items() if key[0] != "_"}
    assert public(own) == public(built)
    clean, noise = torch.ones(2, 1, 2, 2), torch.full((2, 1, 2, 2), 3.0)
    share = torch.linspace(0.00085**0.5, 0.012**0.5, 1000).square().neg().add(1).cumprod(0)[[10, 900], None, None, None]
    times = torch.tensor([10, 900])
    torch.testing.assert_close(own.add_noise(clean, noise, times), share.sqrt() * clean + (1 - share).sqrt() * noise)
    assert own.steps == 1000


def test_values_that_a_file_leaves_to_its_class_are_those_of_that_class() -> None:
    sampler = LCMScheduler.from_config({"num_train_timesteps": 1000})
    schedule = NoiseSchedule(sampler)
    assert schedule.scales(300)[0] ** 2 == pytest.approx(float(sampler.alphas_cumprod[300]))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_errors_are_between_what_the_unet_says_and_what_it_should(pocket: TextToImage, kind: str) -> None:
    schedule = NoiseSchedule(DDIMScheduler.from_config(pocket.schedule.sampler.config, prediction_type=kind))
    model = TextToImage(pocket.diffusion, schedule)
    clean, noise, context = torch.randn(3, 4, 16, 16), torch.randn(3, 4, 16, 16), torch.randn(3, 77, 64)
    times = torch.tensor([1, 500, 999])
    noisy = schedule.sampler.add_noise(clean, noise, times)
    wanted: dict[str, Tensor] = {
        "epsilon": noise,
        "v_prediction": schedule.sampler.get_velocity(clean, noise, times),
        "sample": clean,
    }
    with torch.no_grad():
        said = pocket.diffusion.unet(noisy, times, context).sample
        expected = (said - wanted[kind]).square().flatten(1).mean(1)
        torch.testing.assert_close(model.errors(clean, noise, times, context), expected)


def test_a_saved_half_holds_the_same_text_encoder(pocket: TextToImage, tmp_path: Path) -> None:
    """The pocket weights are half-precision numbers, so that nothing is lost; the model itself stays in float32."""
    pocket.half().save(tmp_path, tokenizer=locate("pocket") / "tokenizer")
    assert pocket.diffusion.unet.dtype == torch.float32
    assert (tmp_path / "tokenizer/vocab.json").read_bytes() == (locate("pocket") / "tokenizer/vocab.json").read_bytes()
    read = load_text_to_image(str(tmp_path))
    for part in ("vae", "unet", "text_encoder"):
        for name, weight in getattr(pocket.diffusion, part).state_dict().items():
            assert torch.equal(weight, getattr(read.diffusion, part).state_dict()[name]), name


def test_saved_weights_have_the_same_digest_wherever_they_were_loaded_from(pocket: TextToImage, tmp_path: Path) -> None:
    tokenizer = locate("pocket") / "tokenizer"
    pocket.save(tmp_path / "one", tokenizer=tokenizer)
    load_text_to_image(str(tmp_path / "one")).save(tmp_path / "two", tokenizer=tokenizer)
    assert weights_digest(str(tmp_path / "one")) == weights_digest(str(tmp_path / "two"))
