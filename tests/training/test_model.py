"""The whole model: what is trained, what is random, and that the number of processes changes nothing."""

from pathlib import Path

import jaxtyping
import pytest
import torch
from torch import Tensor

from tadp_ray.backbones.latent.autoencoder import posterior_in_bfloat16, posterior_of
from tadp_ray.backbones.stable_diffusion.backbone import StableDiffusionBackbone
from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.config.model import MODELS
from tadp_ray.tasks.norms import FeatureNorms
from tadp_ray.tasks.segmentation.config import SemanticFPNConfig
from tadp_ray.training.model import TADP

CLASSES, CHANNELS = 5, 16


def make_model(diffusion: Diffusion, **settings: object) -> TADP:
    torch.manual_seed(3)
    config = MODELS["stable_diffusion"](head=SemanticFPNConfig(channels=CHANNELS), **settings)
    backbone = StableDiffusionBackbone(diffusion, config, tokens=13, latent=(16, 24))
    return TADP(backbone, CLASSES, config).train()


@pytest.mark.parametrize("maps", ["cross", "none", "cross+self"])
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("trainable", ["full", "frozen", "attention_only", "lora"])
def test_every_trained_parameter_gets_a_gradient(
    tiny_diffusion: Diffusion, latents: Tensor, text: Tensor, maps: str, detach: bool, trainable: str
) -> None:
    """Otherwise DistributedDataParallel would wait for gradients that never come."""
    chosen = {"attention_maps": maps, "detach_attention": detach, "trainable": trainable}
    model = make_model(tiny_diffusion, **chosen, adapter=True)
    logits = model(latents, text)
    assert logits.shape == (2, CLASSES, 16, 24)
    logits.square().mean().backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert all(p.requires_grad for p in model.parameters()) == (trainable == "full")
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    assert all(p.grad is None for p in tiny_diffusion.unet.parameters())


def test_the_state_holds_backbone_and_head_only(tiny_diffusion: Diffusion) -> None:
    assert {name.partition(".")[0] for name in make_model(tiny_diffusion).state_dict()} == {"backbone", "head"}


def test_an_adapter_changes_the_text_a_little_at_first(
    tiny_diffusion: Diffusion, latents: Tensor, text: Tensor
) -> None:
    """Its gamma starts at 1e-4, and goes the head's rate: it is no part of the U-Net."""
    model = make_model(tiny_diffusion, adapter=True)
    assert model.adapter.gamma.tolist() == [pytest.approx(1e-4)] * 20
    change = (model.adapter(text) - text).abs()
    assert 0 < change.max() < 1e-3
    plain = make_model(tiny_diffusion)
    model.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(model(latents, text), plain(latents, text), atol=1e-2, rtol=1e-2)


def test_models_share_no_weights(tiny_diffusion: Diffusion) -> None:
    first, second = make_model(tiny_diffusion), make_model(tiny_diffusion)
    with torch.no_grad():
        first.backbone.unet.conv_in.weight.add_(1)
    assert torch.equal(second.backbone.unet.conv_in.weight, tiny_diffusion.unet.conv_in.weight)


def test_latents_are_sampled_or_not_and_scaled_or_not(tiny_diffusion: Diffusion) -> None:
    """TADP: a sample of the posterior times the scaling factor; VPD: its mode, as it is."""
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(4)) * 2 - 1
    noise = torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        mean, log_variance = tiny_diffusion.vae.encode(images).latent_dist.parameters.chunk(2, 1)
    sample, factor = mean + torch.exp(log_variance / 2) * noise, tiny_diffusion.vae.config.scaling_factor
    assert factor == 0.18215
    for latent, scale, expected in (
        ("sample", "scaled", sample * factor),
        ("sample", "raw", sample),
        ("mode", "scaled", mean * factor),
        ("mode", "raw", mean),
    ):
        model = make_model(tiny_diffusion, latent={"draw": latent, "scale": scale})
        assert model.backbone.latent_shape(images) == (4, 16, 24)
        found = model.backbone.encode_image(images).sample(noise)
        torch.testing.assert_close(found, expected)
        assert not found.requires_grad


def test_the_unet_is_read_at_the_timestep_that_the_recipe_names(
    tiny_diffusion: Diffusion, latents: Tensor, text: Tensor
) -> None:
    seen = []
    for timestep in (1, 500):
        model = make_model(tiny_diffusion, timestep=timestep)
        model.backbone.unet.time_proj.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].tolist()))
        model(latents, text)
    assert seen == [[1, 1], [500, 500]]


def test_dropout_is_the_given_mask_and_no_other(tiny_diffusion: Diffusion, latents: Tensor, text: Tensor) -> None:
    model = make_model(tiny_diffusion)
    plain = model(latents, text)
    assert torch.equal(plain, model(latents, text))
    torch.testing.assert_close(plain, model(latents, text, torch.ones(2, CHANNELS)))
    dropped = model(latents, text, torch.tensor([[0.0] * CHANNELS, [1.0] * CHANNELS]))
    bias = model.head.classifier.conv_seg.bias[:, None, None]
    torch.testing.assert_close(dropped[0], bias.expand_as(dropped[0]))
    torch.testing.assert_close(dropped[1], plain[1])
    assert torch.equal(plain, model(latents, text))  # the mask is gone


def test_normalized_features_do_not_show_how_a_channel_is_scaled(
    tiny_diffusion: Diffusion, latents: Tensor, text: Tensor
) -> None:
    channels, rng = [8, 12, 12, 8], torch.Generator().manual_seed(6)
    features = [torch.randn(4, count, 16 >> k, 16 >> k, generator=rng) for k, count in enumerate(channels)]
    scaled = [f * torch.logspace(-1, 3, f.shape[1])[:, None, None] + 7 for f in features]
    norms = FeatureNorms(channels)
    for found, expected in zip(norms(scaled), norms(features), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-2, rtol=0)

    plain, normal = (make_model(tiny_diffusion, feature_norm=normalize) for normalize in (False, True))
    seen = []
    normal.head.register_forward_hook(lambda _, inputs, __: seen.extend(inputs[0]))
    normal(latents, text)
    assert len(seen) == 4 and all(abs(level.mean()) < 1e-3 and 0.5 < level.std() < 1.1 for level in seen)
    names = {name for name, _ in normal.named_parameters()} - {name for name, _ in plain.named_parameters()}
    assert names == {f"norms.{level}.{part}" for level in range(4) for part in ("weight", "bias")}


def test_a_vae_in_bfloat16_encodes_nearly_alike_and_leaves_the_one_in_float32(tiny_diffusion: Diffusion) -> None:
    """As on a GPU: outside of autocast, with mean and standard deviation in float32."""
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(4)) * 2 - 1
    with torch.no_grad():
        expected = posterior_of(tiny_diffusion.vae, images)
        with torch.autocast("cpu", torch.bfloat16):
            found = posterior_in_bfloat16(tiny_diffusion.vae_in_bfloat16, images)
    assert found.mean.dtype == found.std.dtype == torch.float32
    assert not torch.equal(found.mean, expected.mean)
    torch.testing.assert_close(found.mean, expected.mean, atol=0.03, rtol=0.03)
    torch.testing.assert_close(found.std, expected.std, atol=0.03, rtol=0.03)
    assert tiny_diffusion.vae_in_bfloat16 is tiny_diffusion.vae_in_bfloat16
    assert {p.dtype for p in tiny_diffusion.vae.parameters()} == {torch.float32}


@pytest.mark.slow
def test_two_processes_train_like_one(tiny_pocket: Path, one_and_two) -> None:
    """Loss, gradients, running statistics and scores of a batch do not depend on how many processes share it.

    Whatever the precision: running statistics are in float32 under bfloat16, too. And so does a compiled step, which is one
    graph. Whatever is trained: nobody waits for the gradient of what is not.
    """
    program = Path(__file__).with_name("one_step.py")
    one, two = one_and_two(program, tiny_pocket)
    for name, tensor in one.items():
        if name.startswith("bfloat16.gradient"):
            continue
        # Gradients add up thousands of terms in another order.
        tolerance = {"atol": 2e-6, "rtol": 1e-3} if ".gradient." in name else {"atol": 1e-6, "rtol": 1e-6}
        torch.testing.assert_close(two[name], tensor, **tolerance, msg=lambda text, n=name: f"{n}: {text}")
    # A sum that differs in its last bit may be rounded to another bfloat16, so these are compared as one vector.
    alone, shared = (
        torch.cat([tensor.flatten() for name, tensor in found.items() if name.startswith("bfloat16.gradient")])
        for found in (one, two)
    )
    assert (alone - shared).norm() < 0.01 * alone.norm()
    torch.testing.assert_close(two["compiled.loss"], two["float32.loss"])
    assert one["compiled.graphs"] == two["compiled.graphs"] == 1


def test_building_a_head_prints_nothing(tiny_diffusion: Diffusion, capfd: pytest.CaptureFixture[str]) -> None:
    """mmengine would log a page for each model that a sweep builds."""
    make_model(tiny_diffusion)
    assert capfd.readouterr() == ("", "")


def test_shapes_that_signatures_state_are_checked(tiny_diffusion: Diffusion) -> None:
    model = make_model(tiny_diffusion)
    latents, context = torch.zeros(2, 4, 8, 8), torch.zeros(3, 77, 16)
    with pytest.raises(jaxtyping.TypeCheckError, match="batch"):
        model(latents, context)
