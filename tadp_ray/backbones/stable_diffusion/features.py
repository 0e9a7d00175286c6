"""The U-Net as a feature pyramid: four levels from one pass, with attention maps at the middle two (VPD, TADP)."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from tadp_ray.backbones.stable_diffusion.attention import Kind, reading_maps
from tadp_ray.config.vocabulary import Maps
from tadp_ray.errors import UserError

MAP_LEVELS = (1, 2)
"""The two middle levels, whose maps VPD concatenates: 32 x 32 and 16 x 16 for a 512 x 512 image."""

KINDS: dict[Maps, tuple[Kind, ...]] = {"none": (), "cross": ("cross",), "cross+self": ("cross", "self")}


def feature_layers(unet: UNet2DConditionModel) -> list[nn.Module]:
    """Return the layers whose outputs are the features, largest level first.

    They are output blocks 11, 7, 4 and 1 of the published code. There, the third layer of a level and the up-sampling after
    it are one block, so the last output before the up-sampling is the second layer's.
    """
    last, *others = (getattr(block, "attentions", block.resnets) for block in reversed(unet.up_blocks))
    return [last[-1], *(layers[-2] for layers in others)]


def feature_channels(
    unet: UNet2DConditionModel, tokens: int, maps: Maps = "cross", latent: tuple[int, int] = (64, 64)
) -> list[int]:
    """Return the channels of the four levels, largest first.

    Cross-attention maps add one channel per token to the middle two levels, self-attention maps one per pixel of the level.

    Args:
        unet: a four-level U-Net.
        tokens: length of a context.
        maps: attention maps to append.
        latent: (h, w); used only for self-attention maps, which restrict a model to one size.
    """
    channels = list(unet.config.block_out_channels)
    for level in MAP_LEVELS:
        added = {"cross": tokens, "self": (latent[0] >> level) * (latent[1] >> level)}
        channels[level] += sum(added[kind] for kind in KINDS[maps])
    return channels


class FeatureReader:
    """Reads the features of a U-Net's passes, by hooks and attention processors that stay in it until `remove`.

    As in VPD's published feature extractor, features are taken before each up-sampling. At the two middle levels, maps are
    averaged over heads, two down layers and three up layers, and are appended to the channels.

    Args:
        unet: a four-level text-conditioned U-Net.
        maps: attention maps to append; self-attention maps follow those of cross-attention.
        detach_attention: detach the maps from the gradient, as in the published code.
    """

    def __init__(self, unet: UNet2DConditionModel, maps: Maps = "cross", detach_attention: bool = True) -> None:
        self._unet = unet
        self._features: list[Tensor] = []
        # Registered once: torch.compile can trace the pass, but not a change of the hooks.
        self._hooks = [layer.register_forward_hook(self._keep) for layer in feature_layers(unet)]
        self._processors = ExitStack()
        self._maps = self._processors.enter_context(reading_maps(unet, MAP_LEVELS, detach_attention, KINDS[maps]))

    def _keep(self, _layer: nn.Module, _inputs: object, output: Tensor | Sequence[Tensor]) -> None:
        # A transformer stack returns a tuple or a named output, a residual block a tensor.
        self._features.append(first_tensor(output))

    def __call__(
        self,
        latents: Float[Tensor, "batch c h w"],
        timesteps: Shaped[Tensor, "*batch"],
        context: Float[Tensor, "batch tokens width"],
    ) -> tuple[Float[Tensor, "batch _ _ _"], ...]:
        """Return the features of latents under a context, from one pass through the U-Net.

        Args:
            latents: (B, 4, h, w); h and w must be halvable three times.
            timesteps: (B,) or a scalar.
            context: (B, T, D).

        Returns:
            One tensor per level, largest first: (B, C, h, w), (B, C + T, h/2, w/2), (B, C + T, h/4, w/4), (B, C, h/8, w/8).
            Self-attention maps add a channel per pixel of the level.

        Raises:
            UserError: the latents cannot be halved.
        """
        multiple = 2 ** (len(self._unet.up_blocks) - 1)
        height, width = latents.shape[-2:]
        if height % multiple or width % multiple:
            raise UserError(
                f"latents of {height} x {width} cannot be halved by this U-Net; use multiples of {multiple}"
            )
        self._forget()
        self._unet(latents, timesteps, context, return_dict=False)
        features = self._features[::-1]
        for (level, _), layer_maps in self._maps.items():
            average = torch.stack(layer_maps).mean(0)  # (B, N, T)
            size = features[level].shape[-2:]
            features[level] = torch.cat([features[level], average.transpose(1, 2).unflatten(2, size)], 1)
        self._forget()
        return tuple(features)

    def _forget(self) -> None:
        """Release what a pass has left: a pass that failed, or gradient checkpointing, which repeats parts of it."""
        for kept in (self._features, *self._maps.values()):
            kept.clear()

    def remove(self) -> None:
        """Leave the U-Net as it was."""
        for hook in self._hooks:
            hook.remove()
        self._processors.close()


def unet_features(
    unet: UNet2DConditionModel, latents: Tensor, timesteps: Tensor, context: Tensor, maps: Maps = "cross"
) -> tuple[Tensor, ...]:
    """Return the features of one pass, as a `FeatureReader` does, and leave the U-Net as it was."""
    reader = FeatureReader(unet, maps)
    try:
        return reader(latents, timesteps, context)
    finally:
        reader.remove()


def first_tensor(output: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the tensor in a layer's output."""
    return output if isinstance(output, Tensor) else output[0]
