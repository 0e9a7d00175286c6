"""Prompts become contexts as Stable Diffusion makes them."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.captions.templates import SINGLE, TEMPLATES
from tadp_ray.conditioning import text_encoder
from tadp_ray.conditioning.text_encoder import (
    BATCH,
    class_embedding,
    count_tokens,
    encode_prompts,
    make_text_encoder,
    read_class_embeddings,
    write_class_embeddings,
)
from tadp_ray.config.data import CaptionConfig
from tadp_ray.errors import UserError
from tadp_ray.training.context_cache import ContextCache

LENGTH = 13
CLASSES = ("ox", "cow", "cat")


def contexts(diffusion: Diffusion, **caption: object) -> ContextCache:
    config = CaptionConfig(source="class_names", **caption)
    return ContextCache(make_text_encoder(diffusion.tokenizer, diffusion.text_encoder, config, CLASSES))


def test_contexts_are_padded_states_after_the_last_norm_without_a_mask(tiny_diffusion: Diffusion) -> None:
    """Source: Stable Diffusion's text embedder; padding is the EOS token, and is attended to."""
    encoder = tiny_diffusion.text_encoder
    vocabulary = tiny_diffusion.tokenizer.get_vocab()
    start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    ids = [start, vocabulary["o"], vocabulary["x</w>"], *[end] * (LENGTH - 3)]
    with torch.no_grad():
        expected = encoder(torch.tensor([ids])).last_hidden_state
    found = encode_prompts(tiny_diffusion.tokenizer, encoder, ["ox"])
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
    # A layer norm with the initial gain 1 and shift 0 leaves every state with mean 0 and variance 1.
    torch.testing.assert_close(found.mean(-1), torch.zeros(1, LENGTH), atol=1e-5, rtol=0)


def test_long_prompts_are_cut_and_still_end(tiny_diffusion: Diffusion) -> None:
    long, cut = "a" * 40, "a" * (LENGTH - 2)
    assert count_tokens(tiny_diffusion.tokenizer, long) == 40
    ids = tiny_diffusion.tokenizer(long, truncation=True, max_length=LENGTH).input_ids
    assert ids[-1] == tiny_diffusion.tokenizer.eos_token_id
    assert encode_prompts(tiny_diffusion.tokenizer, tiny_diffusion.text_encoder, [long, cut]).shape == (2, LENGTH, 20)


@pytest.mark.parametrize(("prompt", "tokens"), [("", 0), ("ox", 2), ("a red ox", 6)])
def test_tokens_are_counted_without_marks(tiny_diffusion: Diffusion, prompt: str, tokens: int) -> None:
    assert count_tokens(tiny_diffusion.tokenizer, prompt) == tokens


def test_each_distinct_prompt_is_encoded_once_and_alike(tiny_diffusion: Diffusion) -> None:
    calls = []
    hook = tiny_diffusion.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        cache = contexts(tiny_diffusion)
        first = cache(["ox", "cow", "ox"])
        second = cache(["cow", "cat"])
    finally:
        hook.remove()
    assert len(calls) == 3
    assert torch.equal(first[0], first[2]) and torch.equal(first[1], second[0])
    assert not torch.equal(first[0], first[1])
    # What else is new in a batch must not change a context's last bits: cells would depend on the order of their images.
    alone = contexts(tiny_diffusion)(["cat"])
    assert torch.equal(alone[0], second[1])


def test_a_gpu_encodes_texts_in_full_batches(tiny_diffusion: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, sizes = ["a" * length for length in range(BATCH + 3)], []
    alone, encode = contexts(tiny_diffusion)(texts), text_encoder.encode_prompts

    def noted(tokenizer: object, network: object, prompts: list[str]) -> torch.Tensor:
        sizes.append(len(prompts))
        return encode(tiny_diffusion.tokenizer, tiny_diffusion.text_encoder, prompts)

    monkeypatch.setattr(text_encoder, "encode_prompts", noted)
    on_gpu = SimpleNamespace(device=torch.device("cuda"))
    several = list(make_text_encoder(tiny_diffusion.tokenizer, on_gpu, CaptionConfig(source="null"), CLASSES)(texts))
    assert sizes == [BATCH, BATCH] and len(several) == BATCH + 3
    torch.testing.assert_close(torch.stack(several).detach(), alone)


def test_names_are_encoded_each_by_itself(tiny_diffusion: Diffusion) -> None:
    """A start mark and 2 + 3 + 3 letters, no name knowing of another (source: TADP's Pascal code)."""
    (found,) = contexts(tiny_diffusion, encoding="names")([CLASSES])
    assert found.shape == (1 + 8, 20)
    alone = contexts(tiny_diffusion)(["ox", "cow"])
    assert torch.equal(found[:3], alone[0, :3]) and torch.equal(found[3:6], alone[1, 1:4])


def test_a_class_embedding_is_the_mean_of_80_eos_tokens(tiny_diffusion: Diffusion) -> None:
    assert len(TEMPLATES) == len(set(TEMPLATES)) == 80 and SINGLE in TEMPLATES
    (found,) = contexts(tiny_diffusion, encoding="class_embeddings")([CLASSES])
    assert found.shape == (3, 20)
    own = [class_embedding(tiny_diffusion.tokenizer, tiny_diffusion.text_encoder, "ox", [t]) for t in TEMPLATES]
    torch.testing.assert_close(found[0], torch.stack(own).mean(0))
    (single,) = contexts(tiny_diffusion, encoding="class_embeddings", templates="single")([CLASSES])
    torch.testing.assert_close(single[0], own[TEMPLATES.index(SINGLE)])


def test_class_embeddings_come_from_a_file_of_this_many_classes(tiny_diffusion: Diffusion, tmp_path: Path) -> None:
    vectors, ours, published = torch.randn(3, 20), tmp_path / "ours.safetensors", tmp_path / "published.pth"
    write_class_embeddings(ours, CLASSES, list(vectors))
    torch.save(vectors, published)
    for file in (ours, published):
        (found,) = contexts(tiny_diffusion, encoding="class_embeddings", embeddings=file)([CLASSES])
        assert torch.equal(found, vectors)
    # Ours names its classes, whose order is another data set's own matter.
    found = read_class_embeddings(ours, CLASSES[::-1], 20)
    assert tuple(found) == CLASSES[::-1] and all(
        torch.equal(found[n], v) for n, v in zip(CLASSES, vectors, strict=True)
    )
    with pytest.raises(UserError, match=r"ours.safetensors'.*: names other classes than this data set \(.*gnu"):
        read_class_embeddings(ours, [*CLASSES[:2], "gnu"], 20)
    torch.save(vectors[:2], published)
    with pytest.raises(UserError, match=r"published.pth'.*holds \(2, 20\), but this data set has 3 classes"):
        contexts(tiny_diffusion, encoding="class_embeddings", embeddings=published)
    torch.save(vectors / 0, published)
    with pytest.raises(UserError, match=r"published.pth': holds NaN or infinity; make it"):
        contexts(tiny_diffusion, encoding="class_embeddings", embeddings=published)
    published.write_bytes(b"not a file of tensors")
    with pytest.raises(
        UserError, match="caption.embeddings: .*published.pth: damaged, or contains .* class-embeddings"
    ):
        contexts(tiny_diffusion, encoding="class_embeddings", embeddings=published)


def test_the_published_class_embeddings_are_read(shared: Path) -> None:
    """VOC's 21 vectors of 768 channels, as TADP publishes them."""
    (file,) = (shared / "data/tadp").rglob("TADP/vpd/pascal_class_embeddings.pth")
    classes = [str(index) for index in range(21)]
    found = read_class_embeddings(file, classes, 768)
    assert len(found) == 21 and 20 < torch.stack(list(found.values())).norm(dim=1).mean() < 25
