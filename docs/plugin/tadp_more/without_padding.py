"""An encoding: the prompt as one text, without the padding behind it, which Stable Diffusion attends to."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from tadp_ray.conditioning.text_encoder import count_tokens, encode_prompts, leading_tokens


def without_padding(tokenizer: Any, text_encoder: Any, caption: Any, classes: Sequence[str]) -> Callable[[str], Tensor]:
    """Return a function from a prompt to its context (L, D), in which rows behind the eos token are zeros."""
    length, first = text_encoder.config.max_position_embeddings, leading_tokens(tokenizer)

    def encode(prompt: str) -> Tensor:
        states = encode_prompts(tokenizer, text_encoder, [prompt])[0]
        states[first + count_tokens(tokenizer, prompt) + 1 : length] = 0
        return states

    return encode
