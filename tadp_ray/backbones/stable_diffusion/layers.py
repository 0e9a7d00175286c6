"""The layers of a U-Net by name, and which of them are read as features and for attention maps.

A layer is a residual block with the transformer behind it, if there is one; mid.0 is the whole middle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, get_args

from diffusers import UNet2DConditionModel
from torch import nn

from tadp_ray.backbones.stable_diffusion.config import Half, Layers
from tadp_ray.config.errors import nearest
from tadp_ray.config.vocabulary import Maps
from tadp_ray.errors import UserError

MAP_LEVELS = (1, 2)
"""The two middle levels, whose maps VPD concatenates: 32 x 32 and 16 x 16 for a 512 x 512 image."""


def named_blocks(unet: UNet2DConditionModel) -> dict[str, Any]:
    """Return the blocks of a U-Net in the order of the forward pass: down0 to down3, mid, up3 to up0; level 0 is the largest."""
    top = len(unet.config.block_out_channels) - 1
    blocks = {f"down{level}": block for level, block in enumerate(unet.down_blocks)}
    middle = {} if unet.mid_block is None else {"mid": unet.mid_block}
    return blocks | middle | {f"up{top - place}": block for place, block in enumerate(unet.up_blocks)}


def named_layers(unet: UNet2DConditionModel) -> dict[str, nn.Module]:
    """Return the modules whose outputs are those of the layers, in the order of the forward pass: down0.0 to up0.2."""
    found = {}
    for name, block in named_blocks(unet).items():
        layers = [block] if name == "mid" else getattr(block, "attentions", block.resnets)
        found |= {f"{name}.{place}": layer for place, layer in enumerate(layers)}
    return found


def level_of(name: str, unet: UNet2DConditionModel) -> int:
    """Return the level of a layer or block; the middle is of the smallest one."""
    block = name.partition(".")[0]
    return (
        len(unet.config.block_out_channels) - 1
        if block == "mid"
        else int(block.removeprefix("down").removeprefix("up"))
    )


@dataclass(frozen=True)
class Reading:
    """What is read of a U-Net's pass."""

    features: dict[int, tuple[str, ...]]
    """Names of layers by level, largest level first; the outputs of several layers of a level are concatenated."""
    maps: dict[int, tuple[str, ...]]
    """Names of layers by level, over which attention maps are averaged; they are appended to the features of the level."""
    last: str
    """The last of these layers in the forward pass."""


def choose(
    unet: UNet2DConditionModel,
    layers: Layers = "decoder",
    maps: Maps = "cross",
    map_layers: Layers = "encoder+decoder",
) -> Reading:
    """Return what recipes choose by `model.layers`, `model.attention_maps` and `model.map_layers`.

    Raises:
        UserError: the U-Net has no such layer, or one whose maps are to be read has no attention, runs after the last features
            or is of a level without features.
    """
    known = list(named_layers(unet))
    names = feature_names(known)[layers] if isinstance(layers, str) else layers
    check_known("model.layers", names, known)
    features = by_level(names, unet)
    last = max(names, key=known.index)
    if maps == "none":
        return Reading(features, {}, last)
    usable = [
        name
        for name in known[: known.index(last) + 1]
        if level_of(name, unet) in features and hasattr(named_blocks(unet)[name.partition(".")[0]], "attentions")
    ]
    if isinstance(map_layers, str):
        chosen = [name for name in usable if of_half(name, map_layers) and level_of(name, unet) in MAP_LEVELS]
    else:
        check_known("model.map_layers", map_layers, known)
        chosen = list(map_layers)
    unread = sorted({*chosen} - {*usable}, key=known.index)
    if unread or not chosen:
        shown = map_layers if isinstance(map_layers, str) else unread[0]
        raise UserError(
            f"model.map_layers={shown!r}: no attention maps can be appended to the features of model.layers={layers!r}; those "
            f"of {', '.join(usable) or 'no layer'} can, so name some of them, or set attention_maps: none"
        )
    return Reading(features, by_level(chosen, unet), last)


def feature_names(known: Sequence[str]) -> dict[Half, tuple[str, ...]]:
    """Return the layers of the named choices, largest level first.

    Those of the decoder are output blocks 11, 7, 4 and 1 of the published code. There, the third layer of a level and the
    up-sampling after it are one block, so the last output before the up-sampling is the second layer's.
    """
    blocks = {block: list(names) for block, names in groupby(known, lambda name: name.partition(".")[0])}
    levels = sum(block.startswith("down") for block in blocks)
    encoder = tuple(blocks[f"down{level}"][-1] for level in range(levels))
    decoder = (blocks["up0"][-1], *(blocks[f"up{level}"][-2] for level in range(1, levels)))
    return {"decoder": decoder, "encoder": encoder, "encoder+decoder": encoder + decoder}


def of_half(name: str, half: Half) -> bool:
    """Return whether a layer is of the encoder (down), of the decoder (up), or of either."""
    return name.startswith({"encoder": "down", "decoder": "up", "encoder+decoder": ("down", "up")}[half])


def by_level(names: Sequence[str], unet: UNet2DConditionModel) -> dict[int, tuple[str, ...]]:
    """Return names by their level, largest level first, else in their order."""
    ordered = sorted(names, key=lambda name: level_of(name, unet))
    return {level: tuple(group) for level, group in groupby(ordered, lambda name: level_of(name, unet))}


def check_known(key: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Check that a U-Net has the layers that a key names.

    Raises:
        UserError: it lacks one.
    """
    for name in names:
        if name not in known:
            raise UserError(f"{key}={name!r}: this U-Net has no such layer; {nearest(name, [*get_args(Half), *known])}")


def cut_after(unet: UNet2DConditionModel, last: str) -> None:
    """Remove everything that runs after a layer.

    It would waste computation, and its parameters would have no gradients, for which DistributedDataParallel waits.
    """
    unet.conv_norm_out, unet.conv_out = None, nn.Identity()
    block, _, place = last.partition(".")
    if block.startswith("up"):
        unet.up_blocks = unet.up_blocks[: len(unet.up_blocks) - level_of(block, unet)]
        keep_layers(unet.up_blocks[-1], int(place) + 1)
        return
    unet.up_blocks = unet.up_blocks[:0]
    if block.startswith("down"):
        unet.mid_block = None
        unet.down_blocks = unet.down_blocks[: level_of(block, unet) + 1]
        keep_layers(unet.down_blocks[-1], int(place) + 1)


def keep_layers(block: Any, count: int) -> None:
    """Remove the layers of a block but the first ones, and what is behind them."""
    block.resnets = block.resnets[:count]
    if hasattr(block, "attentions"):
        block.attentions = block.attentions[:count]
    for sampler in ("downsamplers", "upsamplers"):
        if hasattr(block, sampler):
            setattr(block, sampler, None)
