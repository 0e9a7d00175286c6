"""The transformer as a feature pyramid: states of its blocks at four strides, with cross-attention maps at the middle two."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import PixArtTransformer2DModel
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from tadp_ray.backbones.latent.attention import Condition, reading, reading_layers
from tadp_ray.backbones.pixart.config import LEVELS, Layers
from tadp_ray.config.errors import nearest
from tadp_ray.errors import UserError

MAP_LEVELS = (1, 2)
"""The middle two levels, to which maps are appended, as of a U-Net; those of level 1 have a pixel for each patch."""


def choose_blocks(transformer: PixArtTransformer2DModel, layers: Layers) -> tuple[int, ...]:
    """Return the index of the block that each level reads, largest level first, as recipes choose it by `model.layers`.

    As in segmentation with a plain ViT (BEiT), earlier blocks give larger levels.

    Raises:
        UserError: the transformer has no such block.
    """
    count = len(transformer.transformer_blocks)
    if isinstance(layers, str):
        return tuple(-(-(level + 1) * count // LEVELS) - 1 for level in range(LEVELS))
    known = [f"block{index}" for index in range(count)]
    for name in layers:
        if name not in known:
            raise UserError(
                f"model.layers={name!r}: this transformer has no such block; {nearest(name, ['spread', *known])}"
            )
    found = tuple(map(known.index, layers))
    return found * LEVELS if len(found) == 1 else found


def cut_after(transformer: PixArtTransformer2DModel, last: int) -> None:
    """Remove everything that runs after a block.

    It would waste computation, and its parameters would have no gradients, for which DistributedDataParallel waits.
    """
    transformer.transformer_blocks = transformer.transformer_blocks[: last + 1]
    transformer.norm_out, transformer.proj_out, transformer.scale_shift_table = None, nn.Identity(), None


def block_states(
    transformer: PixArtTransformer2DModel,
    latents: Float[Tensor, "batch c h w"],
    timesteps: Shaped[Tensor, " batch"],
    condition: Mapping[str, Any],
) -> list[Float[Tensor, "batch patches width"]]:
    """Return the states (B, N, C) behind every block: `PixArtTransformer2DModel.forward` without its output layers.

    Args:
        transformer: with or without output layers.
        latents: (B, C, h, w).
        timesteps: (B,).
        condition: its further arguments, see `PixArt.condition`.
    """
    states = [transformer.pos_embed(latents)]
    modulation, _ = transformer.adaln_single(
        timesteps, condition["added_cond_kwargs"], batch_size=len(latents), hidden_dtype=states[0].dtype
    )
    context = transformer.caption_projection(condition["encoder_hidden_states"])
    bias = (1 - condition["encoder_attention_mask"].to(states[0].dtype))[:, None] * -10000.0
    run = transformer._gradient_checkpointing_func if transformer.gradient_checkpointing else None
    for block in transformer.transformer_blocks:
        arguments = (states[-1], None, context, bias, modulation, None, None)
        states.append(run(block, *arguments) if run and torch.is_grad_enabled() else block(*arguments))
    return states[1:]


@torch.no_grad()
def cross_maps(
    transformer: PixArtTransformer2DModel, latents: Tensor, timestep: int, condition: Mapping[str, Any]
) -> dict[str, Float[Tensor, "batch heads tokens height width"]]:
    """Return the cross-attention maps (B, heads, T, H, W) of every block by name, with a pixel for each patch.

    Arguments are as for `block_states`, with one timestep for all latents.
    """
    times = torch.full((len(latents),), timestep, device=latents.device)
    layers = {f"block{index}": block.attn2 for index, block in enumerate(transformer.transformer_blocks)}
    with reading_layers(layers) as read:
        block_states(transformer, latents, times, condition)
    size = patches(transformer, latents)
    return {name: maps.transpose(2, 3).unflatten(3, size) for name, maps in read.items()}


def patches(transformer: PixArtTransformer2DModel, latents: Tensor) -> tuple[int, int]:
    """Return (H, W), the patches along the sides of latents (B, C, h, w)."""
    height, width = (side // transformer.config.patch_size for side in latents.shape[-2:])
    return height, width


class BlockReader:
    """Reads the features of a transformer's passes; attention processors stay in it.

    Each level reads the states of one block. They have the stride of a patch, and are resized without parameters where ViTDet's
    simple feature pyramid (Li et al., 2022) has convolutions: bilinearly to half the stride, by their means to 2 and 4 times
    the stride.

    Args:
        transformer: with at least the blocks that are read.
        blocks: index of the block for each level, largest level first.
        maps: whether to append the cross-attention maps, averaged over heads and all blocks.
        detach_attention: detach the maps from the gradient.
        condition: how the transformer is given a context.
    """

    def __init__(
        self,
        transformer: PixArtTransformer2DModel,
        blocks: Sequence[int],
        maps: bool,
        detach_attention: bool,
        condition: Condition,
    ) -> None:
        self._transformer, self._blocks, self._condition, self._has_maps = transformer, blocks, condition, maps
        self._maps: list[Tensor] = []
        keep = lambda scores: self._maps.append((scores.detach() if detach_attention else scores).mean(1))
        read = [(block.attn2, keep) for block in transformer.transformer_blocks] if maps else []
        self._processors = ExitStack()
        self._processors.enter_context(reading(read))

    def __call__(
        self,
        latents: Float[Tensor, "batch c h w"],
        timesteps: Shaped[Tensor, " batch"],
        context: Float[Tensor, "batch tokens width"],
    ) -> tuple[Float[Tensor, "batch _ _ _"], ...]:
        """Return the features of latents under a context, from one pass through the blocks.

        Args:
            latents: (B, C, h, w); sides are multiples of four patches.
            timesteps: (B,).
            context: (B, T, D).

        Returns:
            Four levels, largest first, with H and W the patches along the sides: (B, C, 2H, 2W), (B, C + T, H, W),
            (B, C + T, H/2, W/2), (B, C, H/4, W/4).

        Raises:
            UserError: the latents do not consist of so many patches.
        """
        patch = self._transformer.config.patch_size
        height, width = latents.shape[-2:]
        if height % (LEVELS * patch) or width % (LEVELS * patch):
            raise UserError(
                f"latents of {height} x {width} are no whole patches at every level; use multiples of {LEVELS * patch}"
            )
        self._maps.clear()  # a pass that failed, or gradient checkpointing, which repeats parts of it, has left some
        states = block_states(self._transformer, latents, timesteps, self._condition(latents, context))
        size = patches(self._transformer, latents)
        levels = [resized(as_image(states[block], size), level) for level, block in enumerate(self._blocks)]
        if self._has_maps:
            maps = as_image(torch.stack(self._maps).mean(0), size)
            for level in MAP_LEVELS:
                levels[level] = torch.cat([levels[level], resized(maps, level)], 1)
        self._maps.clear()
        return tuple(levels)

    def close(self) -> None:
        """Leave the transformer as it was."""
        self._processors.close()


def as_image(states: Float[Tensor, "batch patches c"], size: tuple[int, int]) -> Float[Tensor, "batch c height width"]:
    """Return the states of patches as an image (B, C, H, W)."""
    return states.transpose(1, 2).unflatten(2, size)


def resized(image: Float[Tensor, "batch c _ _"], level: int) -> Float[Tensor, "batch c _ _"]:
    """Return states or maps (B, C, H, W) in the size of a level: twice as large in level 0, and halved from level to level."""
    if level == 0:
        return F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)
    return F.avg_pool2d(image, 2 ** (level - 1)) if level > 1 else image


def block_features(
    transformer: PixArtTransformer2DModel,
    latents: Tensor,
    timesteps: Tensor,
    context: Tensor,
    layers: Layers,
    maps: bool,
    condition: Condition,
) -> tuple[Tensor, ...]:
    """Return the features of one pass, as a `BlockReader` does, and leave the transformer as it was.

    Raises:
        UserError: see `choose_blocks`.
    """
    with closing(BlockReader(transformer, choose_blocks(transformer, layers), maps, True, condition)) as read:
        return read(latents, timesteps, context)
