"""Families of latent diffusion models are found by name or folder, whoever registers them."""

from pathlib import Path

import pytest

from tadp_ray.backbones.families import generator_family, latent_families, load_generator, open_frozen
from tadp_ray.backbones.pixart.family import PixArtFamily
from tadp_ray.backbones.stable_diffusion.family import StableDiffusion
from tadp_ray.errors import UserError
from tadp_ray.registry import BACKBONES, BackboneEntry


def test_a_folder_is_drawn_with_by_the_family_of_its_denoiser(
    tiny_folder: Path, tiny_xl_folder: Path, tiny_pixart_folder: Path
) -> None:
    assert [generator_family(weights) for weights in ("pocket", "some/hub-id", tiny_folder)] == [StableDiffusion] * 3
    assert generator_family(tiny_pixart_folder) is PixArtFamily
    for folder in ("pocket", tiny_pixart_folder):
        assert load_generator(str(folder)).diffusion.weights == str(folder)
    with pytest.raises(UserError, match=r"holds a Stable Diffusion XL, not a Stable Diffusion 1\.x"):
        load_generator(str(tiny_xl_folder))


def test_a_family_that_draws_no_images_is_refused_where_a_generator_is_needed(
    monkeypatch: pytest.MonkeyPatch, tiny_pixart_folder: Path
) -> None:
    monkeypatch.setattr(PixArtFamily, "load_generator", None)
    with pytest.raises(
        UserError, match="pixart reads this model, but draws no images: .* name a model of stable_diffusion$"
    ):
        generator_family(tiny_pixart_folder)


def test_only_families_of_latent_diffusion_models_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [*latent_families()] == ["stable_diffusion", "stable_diffusion_xl", "pixart"]
    monkeypatch.setitem(BACKBONES._entries, "plain_conv", BackboneEntry(object, object()))
    with pytest.raises(
        UserError, match="backbone='plain_conv': no family of latent diffusion models; valid names: stable_"
    ):
        open_frozen("plain_conv", "any")
