"""Contexts of a backbone: learned vectors, maps from an image's embedding to vectors, and their join with a caption."""

import pytest
import torch
from torch import Tensor, nn

from tadp_ray.conditioning.context import (
    Context,
    DetailEmbedding,
    ImplicitCaptioner,
    LearnedVectors,
    Projection,
)
from tadp_ray.conditioning.sources import context_length
from tadp_ray.config.context import ContextConfig
from tadp_ray.errors import UserError

WIDTH = 6


class Encoder:
    """An image encoder whose embeddings have five channels."""

    width, network = 5, None

    def __call__(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))

    def to(self, device: torch.device) -> "Encoder":
        return self

    def to_meta(self) -> "Encoder":
        return self


@pytest.fixture
def text() -> Tensor:
    return torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def embedding() -> Tensor:
    return torch.randn(2, 5, generator=torch.Generator().manual_seed(1))


def context(value: object) -> Context:
    torch.manual_seed(2)
    config = ContextConfig.model_validate(value)
    return Context(config, WIDTH, [Encoder()] * len(config.readers_of_images))


def test_a_text_alone_is_passed_on_as_it_is(text: Tensor) -> None:
    assert context("text")(text) is text
    assert not [*context("text").state_dict()]


def test_learned_vectors_are_the_same_for_every_image_and_stand_behind_the_text(text: Tensor) -> None:
    told = context({"sources": ["text", {"kind": "learned", "count": 4}]})
    vectors = told.sources["learned"].vectors
    assert vectors.shape == (4, WIDTH) and 0.5 < vectors.std() < 1.5
    found = told(text)
    assert torch.equal(found[:, :3], text) and torch.equal(found[:, 3:], vectors.expand(2, 4, WIDTH))
    alone = context({"sources": [{"kind": "learned", "count": 4}]})(torch.zeros(2, 0, 0))
    assert torch.equal(alone, vectors.expand(2, 4, WIDTH))


def test_sources_are_joined_in_the_order_of_the_recipe_and_summed_place_by_place(
    text: Tensor, embedding: Tensor
) -> None:
    image = {"kind": "image", "map": "projection", "count": 3}
    told = context({"sources": [image, "text"]})
    assert torch.equal(told(text, [embedding])[:, 3:], text)
    summed = context({"sources": ["text", image, {"kind": "learned", "count": 3}], "join": "sum"})
    parts = [summed.sources[kind](text, given) for kind, given in (("image", embedding), ("learned", None))]
    torch.testing.assert_close(summed(text, [embedding]), text + parts[0] + parts[1])


def test_the_length_of_a_context_counts_every_source() -> None:
    config = ContextConfig.model_validate({"sources": ["text", {"kind": "learned", "count": 4}, "image"]})
    assert context_length(config, 77) == 77 + 4 + 4
    assert context_length(ContextConfig.model_validate("cide"), 77) == 1
    assert context_length(ContextConfig.model_validate("odise"), 77) == 77
    assert context_length(ContextConfig.model_validate("metaprompts"), 0) == 150
    with pytest.raises(
        UserError, match=r"join=sum: .*\(text 12, image 77\); give them a count of 12, or use join: conc"
    ):
        context_length(ContextConfig.model_validate("odise"), 12)


def test_a_projection_s_vectors_are_normalized(embedding: Tensor) -> None:
    found = Projection(5, 3, WIDTH)(torch.zeros(2, 0, 0), embedding)
    assert found.shape == (2, 3, WIDTH)
    torch.testing.assert_close(found.mean(2), torch.zeros(2, 3), atol=1e-6, rtol=0)
    assert not torch.allclose(found[0], found[1])


def test_cide_mixes_its_embeddings_by_shares_that_sum_to_one(embedding: Tensor) -> None:
    """As ECoDepth's published module: softmax of an MLP of the logits, embeddings, then the adapter of VPD."""
    cide = DetailEmbedding(5, 7, WIDTH, lr_mult=10.0)
    inner, outer = cide.shares[0], cide.shares[2]
    assert isinstance(inner, nn.Linear) and isinstance(outer, nn.Linear)
    assert (inner.out_features, outer.out_features) == (400, 7) and cide.mixed.lr_mult == 10.0
    hidden = nn.functional.gelu(embedding @ inner.weight.T + inner.bias)
    logits = (hidden @ outer.weight.T + outer.bias).exp()
    mixed = logits / logits.sum(1, keepdim=True) @ cide.mixed.vectors
    expected = mixed + cide.adapter.gamma * cide.adapter.layers(mixed)
    torch.testing.assert_close(cide(torch.zeros(2, 0, 0), embedding), expected[:, None])
    with torch.no_grad():
        outer.weight.zero_()
        outer.bias.zero_()
        cide.adapter.gamma.zero_()
    found = cide(torch.zeros(2, 0, 0), embedding)[:, 0]
    torch.testing.assert_close(found, cide.mixed.vectors.mean(0).expand(2, WIDTH))


def test_an_implicit_captioner_says_nothing_at_first_and_learns_to(text: Tensor, embedding: Tensor) -> None:
    captioner = ImplicitCaptioner(5, 3, WIDTH)
    found = captioner(text, embedding)
    assert found.shape == (2, 3, WIDTH) and not found.any()
    found.sum().backward()
    assert captioner.gate.grad is not None and captioner.gate.grad.abs().min() > 0
    with torch.no_grad():
        captioner.gate += 0.5
    expected = torch.tensor(0.5).tanh() * (captioner.linear(embedding)[1] + captioner.positions[2])
    torch.testing.assert_close(captioner(text, embedding)[1, 2], expected)


def test_a_learning_rate_multiplier_stands_where_the_vectors_are() -> None:
    told = context(
        {"sources": [{"kind": "learned", "lr_mult": 3.0}, {"kind": "image", "map": "cide", "lr_mult": 10.0}]}
    )
    rates = {name: part.lr_mult for name, part in told.named_modules() if isinstance(part, LearnedVectors)}
    assert rates == {"sources.learned": 3.0, "sources.image.mixed": 10.0}
