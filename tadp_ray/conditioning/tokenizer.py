"""Stable Diffusion's tokenizer, and the places of words in what it reads."""

import json
import re
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path

from transformers import CLIPTokenizer

from tadp_ray.backbones.latent.weights import LAYOUT, locate
from tadp_ray.conditioning.text_encoder import count_tokens, leading_tokens
from tadp_ray.errors import UserError

CLIP_LENGTH = 77
"""Sequence length of Stable Diffusion's text encoder, with bos and eos tokens."""


def load_tokenizer(weights: str) -> tuple[CLIPTokenizer, int]:
    """Load a tokenizer, and the maximum number of tokens of a prompt without bos and eos.

    Args:
        weights: as for `backbones.latent.weights.locate`, or a folder with only a tokenizer (then 77 - 2).

    Raises:
        UserError: see `locate`; or the weights are a single file, which has no tokenizer.
    """
    folder, length = Path(weights), CLIP_LENGTH
    if not (folder / "vocab.json").is_file():
        place = locate(weights)
        if place.is_file():
            raise UserError(
                f"model.weights={weights!r}: a single file holds no tokenizer; name a diffusers folder, or a folder with "
                "vocab.json and merges.txt"
            )
        folder = place / "tokenizer"
        config = place / "text_encoder/config.json"
        try:
            length = int(json.loads(config.read_bytes())["max_position_embeddings"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"model.weights={weights!r}: {config} tells no max_position_embeddings ({error!r}); {LAYOUT}"
            ) from None
    try:
        return CLIPTokenizer.from_pretrained(folder), length - 2
    except (OSError, ValueError) as error:
        raise UserError(f"model.weights={weights!r}: the tokenizer in {folder} cannot be loaded ({error})") from None


def check_length(tokenizer: CLIPTokenizer, prompt: str) -> None:
    """Check that a prompt is not too long for the text encoder.

    Raises:
        UserError: it has more tokens than the text encoder reads beside its special ones.
    """
    budget = tokenizer.max_len_single_sentence
    spans = token_spans(tokenizer, prompt)
    if len(spans) > budget:
        read = " ".join(prompt[: spans[budget - 1][1]].split()[-4:])
        raise UserError(
            f"the prompt has {len(spans)} tokens, and the text encoder reads {budget}: it would be cut behind {read!r}; "
            "shorten it"
        )


def token_spans(tokenizer: CLIPTokenizer, prompt: str) -> list[tuple[int, int]]:
    """Return the start and the end of each token in a prompt, without special tokens."""
    return tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False).offset_mapping


def words_in(prompt: str) -> list[str]:
    """Return the distinct words of a prompt in order, without punctuation."""
    return list(dict.fromkeys(re.findall(r"[\w'-]+", prompt)))


def word_places(tokenizer: CLIPTokenizer, prompt: str, word: str) -> tuple[int, ...]:
    """Return the token positions of a word or phrase in a prompt's context, at its first occurrence.

    The bos token, if there is one, has position 0. Case is ignored.

    Raises:
        UserError: the prompt does not contain it.
    """
    match = re.search(rf"(?<![\w]){re.escape(word)}(?![\w])", prompt, re.IGNORECASE) if word.strip() else None
    if match is None:
        raise UserError(f"{word!r} is not in the prompt; its words are {', '.join(words_in(prompt)) or 'none'}")
    spans = enumerate(token_spans(tokenizer, prompt), leading_tokens(tokenizer))
    return tuple(place for place, (start, end) in spans if start < match.end() and end > match.start())


def name_places(tokenizer: CLIPTokenizer, names: Sequence[str]) -> list[range]:
    """Return the token positions of each name in the context of names that are joined by spaces, or encoded one by one.

    A search would find `bear` in `teddy bear`.
    """
    ends = accumulate((count_tokens(tokenizer, name) for name in names), initial=leading_tokens(tokenizer))
    return [range(*ends_of_name) for ends_of_name in pairwise(ends)]
