"""A text encoder of transformers whose padding is not read."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

from tadp_ray.errors import UserError


@dataclass(frozen=True)
class TextEncoderConfig:
    """The architecture of a text encoder."""

    network: PreTrainedConfig
    max_position_embeddings: int
    """Tokens of a text, with special tokens."""
    end: int = 1
    """Id of the token that ends a text; what is behind it is padding."""

    @property
    def hidden_size(self) -> int:
        """Channels D of a context."""
        return self.network.hidden_size


class TextEncoder(nn.Module):
    """Maps token ids to contexts, in which the rows of padding are zeros.

    PixArt's pipelines give the transformer states and a mask of padding, to which it pays no attention. So nothing is lost if
    the states of padding are zeros, by which `read_rows` knows them: a context needs no mask beside it.

    Args:
        config: its architecture.
        network: of transformers; None: with random weights.
    """

    def __init__(self, config: TextEncoderConfig, network: PreTrainedModel | None = None) -> None:
        super().__init__()
        self.config = config
        self.network = encoder_class(config.network)(config.network) if network is None else network

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.network.device

    def forward(self, ids: Int[Tensor, "batch tokens"]) -> BaseModelOutputWithPooling:
        """Return contexts (B, L, D) of token ids (B, L) as `last_hidden_state`, states at the end (B, D) as `pooler_output`."""
        ends = (ids == self.config.end).int()
        behind = ends.cumsum(1) > ends
        states = self.network(ids, attention_mask=(~behind).long()).last_hidden_state
        pooled = states[torch.arange(len(ids), device=ids.device), ends.argmax(1)]
        return BaseModelOutputWithPooling(
            last_hidden_state=states.masked_fill(behind[..., None], 0), pooler_output=pooled
        )


def read_rows(context: Float[Tensor, "batch tokens width"]) -> Bool[Tensor, "batch tokens"]:
    """Return which rows of contexts are read (B, L): all but the rows of zeros, which are padding."""
    return context.any(-1)


def encoder_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the class of a text encoder: `T5EncoderModel` for T5, `CLIPTextModel` for CLIP.

    Raises:
        UserError: transformers has none of this kind.
    """
    kind = MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(config), None)
    if kind is None:
        raise UserError(
            f"text_encoder/ is a {config.model_type}, which is no text encoder of transformers; put PixArt's T5 there"
        )
    return kind
