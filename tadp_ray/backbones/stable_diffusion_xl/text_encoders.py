"""The two text encoders of a Stable Diffusion XL as one."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from transformers.modeling_outputs import BaseModelOutput


@dataclass(frozen=True)
class TextEncodersConfig:
    """The architecture of both encoders."""

    first: CLIPTextConfig
    second: CLIPTextConfig
    end: int = 49407
    """Id of the token that ends a text."""
    padding: int = 0
    """Id of the tokens behind it that the second encoder reads; the first one reads what its tokenizer gives."""

    @property
    def max_position_embeddings(self) -> int:
        """Tokens of a text, with special tokens."""
        return self.first.max_position_embeddings

    @property
    def hidden_size(self) -> int:
        """Channels D of a context: those of both encoders."""
        return self.first.hidden_size + self.second.hidden_size

    @property
    def pooled(self) -> int:
        """Channels of the pooled vector."""
        return self.second.projection_dim


class TextEncoders(nn.Module):
    """Maps the tokens of the first tokenizer to contexts, as `StableDiffusionXLPipeline.encode_prompt` does.

    The second tokenizer has the same tokens and pads with another one. diffusers takes every "!" in a text for that padding;
    here it is a token like any other, as in OpenCLIP's tokenizer, with which the model was trained.

    Args:
        config: of both encoders.
        first: CLIP's; None: with random weights.
        second: OpenCLIP's with its projection; None: with random weights.
    """

    def __init__(
        self,
        config: TextEncodersConfig,
        first: CLIPTextModel | None = None,
        second: CLIPTextModelWithProjection | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.first = first or CLIPTextModel(config.first)
        self.second = second or CLIPTextModelWithProjection(config.second)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.first.device

    def forward(self, ids: Int[Tensor, "batch tokens"]) -> BaseModelOutput:
        """Return contexts (B, L + 1, D) of token ids (B, L) as `last_hidden_state`.

        The first L rows are the hidden states before the last layer of both encoders, concatenated; the last row is the pooled
        vector, the second encoder's projected state at the end of the text, padded with zeros.
        """
        is_end = (ids == self.config.end).int()
        behind = is_end.cumsum(1) > is_end
        first = self.first(ids, output_hidden_states=True)
        second = self.second(ids.masked_fill(behind, self.config.padding), output_hidden_states=True)
        states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
        return BaseModelOutput(last_hidden_state=with_pooled(states, second.text_embeds))


def with_pooled(
    states: Float[Tensor, "batch tokens width"], pooled: Float[Tensor, "batch pooled"]
) -> Float[Tensor, "batch rows width"]:
    """Append a pooled vector to the states of tokens, as a row that is filled up with zeros."""
    row = pad(pooled, (0, states.shape[-1] - pooled.shape[-1]))
    return torch.cat([states, row[:, None]], 1)


def split_pooled(context: Float[Tensor, "batch rows width"], channels: int) -> tuple[Tensor, Tensor]:
    """Return the states of tokens (B, L, D) and the pooled vector (B, channels) of contexts (B, L + 1, D)."""
    return context[:, :-1], context[:, -1, :channels]
