"""PixArt as a backbone: a frozen VAE encodes images, and a transformer gives features."""

import copy

from torch import nn

from tadp_ray.backbones.latent.backbone import LatentBackbone
from tadp_ray.backbones.latent.trainable import set_trained
from tadp_ray.backbones.pixart.config import PixArtKeys
from tadp_ray.backbones.pixart.features import MAP_LEVELS, BlockReader, choose_blocks, cut_after
from tadp_ray.backbones.pixart.load import PixArt

ATTENTION = (".attn1.", ".attn2.")
"""In the names of all that is in an attention layer, of patches to patches and to the context."""


class PixArtBackbone(LatentBackbone):
    """A diffusion transformer as a `tadp_ray.backbones.base.Backbone`.

    Args:
        diffusion: frozen; its transformer is copied, so that several cells can share one loaded model.
        config: the recipe's `model`.
        tokens: length of a context.
    """

    def __init__(self, diffusion: PixArt, config: PixArtKeys, tokens: int) -> None:
        super().__init__(diffusion, config)
        self.transformer = copy.deepcopy(diffusion.transformer)
        blocks, maps = choose_blocks(self.transformer, config.layers), config.attention_maps == "cross"
        cut_after(self.transformer, max(blocks))
        set_trained(self.transformer, config.trainable, ATTENTION)
        self._read = BlockReader(self.transformer, blocks, maps, config.detach_attention, diffusion.condition)
        width, added = self.transformer.inner_dim, tokens if maps else 0
        self.channels = tuple(
            self._passes.channel_factor * (width + added * (level in MAP_LEVELS)) for level in range(len(blocks))
        )
        self.strides = diffusion.strides
        self.multiple = diffusion.multiple
        self.context_width = diffusion.text_encoder.config.hidden_size

    def attention_norms(self) -> list[nn.Parameter]:
        """Return the parameters of the norms of the blocks, of which PixArt's have none."""
        norms = (part for part in self.transformer.transformer_blocks.modules() if isinstance(part, nn.LayerNorm))
        return [parameter for norm in norms for parameter in norm.parameters()]

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations in the backward pass instead of storing them."""
        self.transformer.enable_gradient_checkpointing()
