"""The text half of a Stable Diffusion by itself: its tokenizer to count with, its encoder to compare words with."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from tadp_ray.captions.alignment import Similarity
from tadp_ray.models.diffusion import frozen, load_diffusion, load_part
from tadp_ray.models.weights import locate

CLIP_LENGTH = 77
"""Tokens that Stable Diffusion's text encoder reads, start and end marks included."""
BATCH = 256


def load_tokenizer(weights: str) -> tuple[CLIPTokenizer, int]:
    """A tokenizer, and how many tokens of a prompt its text encoder reads, without start and end marks.

    Args:
        weights: as for `models.weights.locate`, or a folder that holds a tokenizer alone (then 77 less the two marks).

    Raises:
        ValueError: see `locate`; or the weights are a single file, which holds no tokenizer.
    """
    folder, length = Path(weights), CLIP_LENGTH
    if not (folder / "vocab.json").is_file():
        place = locate(weights)
        if place.is_file():
            raise ValueError(
                f"--weights {weights}: a single file holds no tokenizer; name a diffusers folder, or a folder with "
                "vocab.json and merges.txt"
            )
        folder = place / "tokenizer"
        length = json.loads((place / "text_encoder/config.json").read_text())["max_position_embeddings"]
    try:
        return CLIPTokenizer.from_pretrained(folder), length - 2
    except (OSError, ValueError) as error:
        raise ValueError(f"--weights {weights}: the tokenizer in {folder} cannot be loaded ({error})") from None


def text_similarity(weights: str) -> Similarity:
    """What tells how near two texts are: the cosine of the text encoder's states at their end marks.

    The states are those after the final layer norm, not projected, as Stable Diffusion has no projection.

    Raises:
        ValueError: see `models.diffusion.load_diffusion`.
    """
    place = locate(weights)
    if place.is_file():
        diffusion = load_diffusion(weights)
        tokenizer, encoder = diffusion.tokenizer, diffusion.text_encoder
    else:
        transformers_logging.disable_progress_bar()
        tokenizer, encoder = load_tokenizer(weights)[0], frozen(load_part(CLIPTextModel, place, "text_encoder"))

    def similarity(texts: Sequence[str], names: Sequence[str]) -> np.ndarray:
        return (end_states(tokenizer, encoder, texts) @ end_states(tokenizer, encoder, names).T).numpy()

    return similarity


@torch.no_grad()
def end_states(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, texts: Sequence[str]) -> Tensor:
    """States at the end marks of short texts, of length 1, (N, D) on the CPU."""
    states = []
    for start in range(0, len(texts), BATCH):
        # The encoder looks back only: what pads a text behind its end mark does not change the state there.
        tokens = tokenizer(
            list(texts[start : start + BATCH]),
            padding=True,
            max_length=text_encoder.config.max_position_embeddings,
            truncation=True,
            return_tensors="pt",
        )
        states.append(text_encoder(tokens.input_ids.to(text_encoder.device)).pooler_output.cpu())
    return normalize(torch.cat(states), dim=-1)
