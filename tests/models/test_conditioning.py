"""Prompts become contexts as Stable Diffusion makes them."""

import pytest
import torch

from tadp_ray.models.conditioning import ContextCache, count_tokens, encode_prompts
from tadp_ray.models.diffusion import Diffusion

LENGTH = 13


def test_contexts_are_padded_states_after_the_last_norm_without_a_mask(tiny_diffusion: Diffusion) -> None:
    """Source: Stable Diffusion's text embedder; padding is the end mark, and is attended to."""
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
        cache = ContextCache(tiny_diffusion.tokenizer, tiny_diffusion.text_encoder)
        first = cache(["ox", "cow", "ox"])
        second = cache(["cow", "cat"])
    finally:
        hook.remove()
    assert len(calls) == 3
    assert torch.equal(first[0], first[2]) and torch.equal(first[1], second[0])
    assert not torch.equal(first[0], first[1])
    # What else is new in a batch must not change a context's last bits: cells would depend on the order of their images.
    alone = ContextCache(tiny_diffusion.tokenizer, tiny_diffusion.text_encoder)(["cat"])
    assert torch.equal(alone[0], second[1])
