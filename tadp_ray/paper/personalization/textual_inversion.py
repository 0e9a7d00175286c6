"""Textual inversion: learns the embedding of one new token from a few images; the model is frozen."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from tadp_ray.backbones.stable_diffusion.learned_tokens import LearnedToken, add_token, write_learned
from tadp_ray.conditioning.text_encoder import encode_prompts
from tadp_ray.config.personalization import TOKEN, TextualInversion
from tadp_ray.errors import UserError
from tadp_ray.layout import LEARNED
from tadp_ray.paper.personalization.finetuner import Finetuner

STYLE_TEMPLATES: tuple[str, ...] = tuple(
    f"{work} in the style of {{token}}"
    for work in (
        *("a painting", "the painting", "a picture", "a rendering", "a rendition"),
        # Two templates are twice in the published list, and so are drawn twice as often.
        *(f"a {look} painting" for look in ("cropped", "cropped", "close-up", "close-up", "clean", "dirty", "dark")),
        *(f"a {look} painting" for look in ("bright", "cool", "good", "nice", "small", "large", "weird")),
    )
)
"""The 19 templates of textual inversion for a style."""


def training_prompts(method: TextualInversion) -> list[str]:
    """Return the prompts to train with, which say the token."""
    return [prompt.replace(TOKEN, method.token) for prompt in method.prompts or STYLE_TEMPLATES]


def initial_id(tokenizer: CLIPTokenizer, word: str) -> int:
    """Return the id of a word that is a single token.

    Raises:
        UserError: the word has several tokens.
    """
    ids = tokenizer(word, add_special_tokens=False).input_ids
    if len(ids) != 1:
        raise UserError(
            f"method.initializer_token={word!r}: {len(ids)} tokens in this model's tokenizer, but one is needed to start from; "
            "name a plainer word"
        )
    return ids[0]


def invert(finetuner: Finetuner, method: TextualInversion) -> dict[str, float]:
    """Learn the token, write it to `LEARNED`, keep it in the finetuner's model, and return the final metrics.

    Its `seconds` are those of earlier sessions.
    """
    diffusion = finetuner.diffusion
    known = diffusion.text_encoder.get_input_embeddings().weight
    start = LearnedToken(method.token, known[initial_id(diffusion.tokenizer, method.initializer_token)])
    table = add_token(diffusion.tokenizer, diffusion.text_encoder, start, "method.token")
    prompts = training_prompts(method)

    def loss_at(number: int, count: int) -> Tensor:
        def context(indices: Sequence[int]) -> Tensor:
            return encode_prompts(
                diffusion.tokenizer, diffusion.text_encoder, finetuner.draw_prompts(prompts, number, indices)
            )

        return finetuner.loss(number, count, 0, finetuner.latents, context)

    state = finetuner.learn(nn.ParameterList([table.vector]), loss_at)
    table.requires_grad_(False)
    write_learned(finetuner.job.folder / LEARNED, LearnedToken(method.token, table.vector))
    moved = torch.linalg.vector_norm(table.vector - start.vector)
    return {
        "loss": state.loss,
        "seconds": state.earlier,
        "vector_norm": table.vector.norm().item(),
        "vector_moved": moved.item(),
    }
