"""Text to context: prompts through the frozen CLIP text encoder, each distinct prompt once."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer


def count_tokens(tokenizer: CLIPTokenizer, prompt: str) -> int:
    """Tokens of a prompt without the start and end marks."""
    return len(tokenizer(prompt, add_special_tokens=False, truncation=False, verbose=False).input_ids)


def encode_prompts(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, prompts: Sequence[str]) -> Tensor:
    """Last hidden states after the final layer norm, (B, L, D), with L the encoder's full length (77 in SD 1.5).

    Prompts are padded to the full length and cut to it; padding is attended to, as in Stable Diffusion.
    """
    length = text_encoder.config.max_position_embeddings
    tokens = tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return text_encoder(tokens.input_ids.to(text_encoder.device)).last_hidden_state


class ContextCache:
    """Contexts by prompt, kept on the CPU. The text encoder is frozen, so that a prompt never changes its context."""

    def __init__(self, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel) -> None:
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._contexts: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Contexts (B, L, D) of prompts."""
        # One prompt at a time: in a batch the last bits would depend on what else is new in it.
        for prompt in dict.fromkeys(prompts):
            if prompt not in self._contexts:
                self._contexts[prompt] = encode_prompts(self._tokenizer, self._text_encoder, [prompt])[0].cpu()
        return torch.stack([self._contexts[prompt] for prompt in prompts])
