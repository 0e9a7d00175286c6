"""The U-Net as a feature pyramid: levels from one pass, as published four, with attention maps at the middle two (VPD, TADP)."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from tadp_ray.backbones.latent.attention import Condition
from tadp_ray.backbones.stable_diffusion.attention import Kind, reading_maps, text_alone
from tadp_ray.backbones.stable_diffusion.config import Layers
from tadp_ray.backbones.stable_diffusion.layers import Reading, choose, named_layers
from tadp_ray.config.vocabulary import Maps
from tadp_ray.errors import UserError

KINDS: dict[Maps, tuple[Kind, ...]] = {"none": (), "cross": ("cross",), "cross+self": ("cross", "self")}


def feature_channels(
    unet: UNet2DConditionModel, tokens: int, reading: Reading, maps: Maps = "cross", latent: tuple[int, int] = (64, 64)
) -> list[int]:
    """Return the channels of each level, largest first.

    Cross-attention maps add one channel per token, self-attention maps one per pixel of the level.

    Args:
        unet: a U-Net.
        tokens: length of a context.
        reading: what is read of it.
        maps: attention maps to append.
        latent: (h, w); used only for self-attention maps, which restrict a model to one size.
    """
    channels = []
    for level, names in reading.features.items():
        added = {"cross": tokens, "self": (latent[0] >> level) * (latent[1] >> level)}
        of_maps = sum(added[kind] for kind in KINDS[maps]) if level in reading.maps else 0
        channels.append(len(names) * unet.config.block_out_channels[level] + of_maps)
    return channels


class FeatureReader:
    """Reads the features of a U-Net's passes, by hooks and attention processors that stay in it until `close`.

    As in VPD's published feature extractor, features are taken before each up-sampling, and maps are averaged over heads and
    layers and appended to the channels; there, over two down layers and three up layers of the two middle levels.

    Args:
        unet: a text-conditioned U-Net.
        reading: what is read of it.
        maps: attention maps to append; self-attention maps follow those of cross-attention.
        detach_attention: detach the maps from the gradient, as in the published code.
        condition: how the U-Net is given a context.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        reading: Reading,
        maps: Maps = "cross",
        detach_attention: bool = True,
        condition: Condition = text_alone,
    ) -> None:
        self._unet, self._reading, self._condition = unet, reading, condition
        self._multiple = 2 ** (len(unet.config.block_out_channels) - 1)
        self._features: dict[str, Tensor] = {}
        layers = named_layers(unet)
        # Registered once: torch.compile can trace the pass, but not a change of the hooks.
        self._hooks = [
            layers[name].register_forward_hook(partial(self._keep, name))
            for names in reading.features.values()
            for name in names
        ]
        self._processors = ExitStack()
        reader = reading_maps(unet, reading.maps, detach_attention, KINDS[maps])
        self._maps = self._processors.enter_context(reader)

    def _keep(self, name: str, _layer: nn.Module, _inputs: object, output: Tensor | Sequence[Tensor]) -> None:
        # A transformer stack returns a tuple or a named output, a residual block a tensor.
        self._features[name] = output if isinstance(output, Tensor) else output[0]

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
            One tensor per level, largest first, with the published choice of layers: (B, C, h, w), (B, C + T, h/2, w/2),
            (B, C + T, h/4, w/4), (B, C, h/8, w/8). Self-attention maps add a channel per pixel of the level.

        Raises:
            UserError: the latents cannot be halved.
        """
        height, width = latents.shape[-2:]
        if height % self._multiple or width % self._multiple:
            raise UserError(
                f"latents of {height} x {width} cannot be halved by this U-Net; use multiples of {self._multiple}"
            )
        self._forget()
        self._unet(latents, timesteps, return_dict=False, **self._condition(latents, context))
        features = {
            level: self._features[names[0]]
            if len(names) == 1
            else torch.cat([self._features[name] for name in names], 1)
            for level, names in self._reading.features.items()
        }
        for (level, _), layer_maps in self._maps.items():
            average = torch.stack(layer_maps).mean(0)  # (B, N, T)
            size = features[level].shape[-2:]
            features[level] = torch.cat([features[level], average.transpose(1, 2).unflatten(2, size)], 1)
        self._forget()
        return tuple(features.values())

    def _forget(self) -> None:
        """Release what a pass has left: a pass that failed, or gradient checkpointing, which repeats parts of it."""
        for kept in (self._features, *self._maps.values()):
            kept.clear()

    def close(self) -> None:
        """Leave the U-Net as it was."""
        for hook in self._hooks:
            hook.remove()
        self._processors.close()


def unet_features(
    unet: UNet2DConditionModel,
    latents: Tensor,
    timesteps: Tensor,
    context: Tensor,
    maps: Maps = "cross",
    layers: Layers = "decoder",
    map_layers: Layers = "encoder+decoder",
    condition: Condition = text_alone,
) -> tuple[Tensor, ...]:
    """Return the features of one pass, as a `FeatureReader` does, and leave the U-Net as it was.

    Raises:
        UserError: see `choose`.
    """
    with closing(FeatureReader(unet, choose(unet, layers, maps, map_layers), maps, condition=condition)) as read:
        return read(latents, timesteps, context)
