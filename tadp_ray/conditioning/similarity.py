"""Similarity of texts by Stable Diffusion's text encoder."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPTextModel, CLIPTokenizer

from tadp_ray.backbones.latent.load import check_finite, explained, frozen, load_part
from tadp_ray.backbones.latent.weights import LAYOUT, locate
from tadp_ray.backbones.stable_diffusion.load import load_diffusion
from tadp_ray.captions.alignment import Similarity
from tadp_ray.conditioning.tokenizer import load_tokenizer

BATCH = 256


def text_similarity(weights: str) -> Similarity:
    """Return a similarity of texts: the cosine of the text encoder's states at their eos tokens.

    The states are taken after the final layer norm and not projected, since Stable Diffusion has no projection.

    Raises:
        UserError: see `backbones.stable_diffusion.load.load_diffusion`.
    """
    place = locate(weights)
    if place.is_file():
        diffusion = load_diffusion(weights)
        tokenizer, encoder = diffusion.tokenizer, diffusion.text_encoder
    else:
        tokenizer = load_tokenizer(weights)[0]
        with explained(weights, place, LAYOUT):
            encoder = frozen(load_part(CLIPTextModel, place, "text_encoder"))
            check_finite(place, {"text_encoder": encoder})

    def similarity(texts: Sequence[str], names: Sequence[str]) -> np.ndarray:
        states, wanted = (normalize(end_states(tokenizer, encoder, each), dim=-1) for each in (texts, names))
        return (states @ wanted.T).numpy()

    return similarity


@torch.no_grad()
def end_states(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, texts: Sequence[str]) -> Tensor:
    """Return the states (N, D) at the eos tokens of short texts, on the CPU."""
    states = []
    for start in range(0, len(texts), BATCH):
        # The encoder is causal, so padding after the eos token does not change its state.
        tokens = tokenizer(
            list(texts[start : start + BATCH]),
            padding=True,
            max_length=text_encoder.config.max_position_embeddings,
            truncation=True,
            return_tensors="pt",
        )
        states.append(text_encoder(tokens.input_ids.to(text_encoder.device)).pooler_output.cpu())
    return torch.cat(states)
