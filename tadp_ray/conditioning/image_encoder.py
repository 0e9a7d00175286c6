"""Frozen image encoders of transformers: an embedding, or the logits of a classifier, of each view of an image."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    CLIPVisionModelWithProjection,
)

from tadp_ray.conditioning.encoder_files import KEY, LAYOUT, locate_encoder
from tadp_ray.errors import UserError
from tadp_ray.hub import quiet_transformers
from tadp_ray.tensors import not_finite

Output = Literal["embedding", "logits"]
FILTERS = {2: "bilinear", 3: "bicubic"}
"""torch's names of Pillow's filters."""


@dataclass(frozen=True)
class TransformersEncoder:
    """A `tadp_ray.conditioning.base.ImageEncoder`: a vision model of transformers in float32.

    A view is resized to the encoder's own size by its processor's filter, without a crop, so that all of it is seen and its
    aspect ratio may change; then its pixels are normalized as the processor says.
    """

    network: nn.Module
    output: Output
    size: tuple[int, int]
    """(height, width) that the encoder takes."""
    mean: tuple[float, ...]
    """Of pixels in [0, 1], by channel."""
    std: tuple[float, ...]
    filter: str
    """Filter of the resizing, as torch calls it."""
    width: int = 0
    """Channels of the output."""

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch width"]:
        """Return the embedding or the logits (B, E) of views (B, 3, H, W) in [0, 1]."""
        if images.shape[-2:] != self.size:
            images = F.interpolate(images, self.size, mode=self.filter, antialias=True).clamp(0, 1)
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return embedding_in(self.network(pixel_values=(images - mean) / std), self.output)

    def to(self, device: torch.device) -> Self:
        """Move the weights to a device."""
        self.network.to(device)
        return self

    def to_meta(self) -> Self:
        """Return the same architecture on the meta device."""
        return replace(self, network=copy.deepcopy(self.network).to("meta"))


def embedding_in(output: Any, wanted: Output) -> Tensor:
    """Return the embedding or the logits in a model's output.

    Raises:
        LookupError: it has none.
    """
    names = ("logits",) if wanted == "logits" else ("image_embeds", "pooler_output")
    for name in names:
        found = getattr(output, name, None)
        if isinstance(found, Tensor) and found.ndim == 2:
            return found
    raise LookupError(f"no {' or '.join(names)}")


def load_image_encoder(encoder: str, output: Output) -> TransformersEncoder:
    """Load a frozen image encoder, in float32 on the CPU.

    Args:
        encoder: as for `locate_encoder`.
        output: whether to return embeddings or logits.

    Raises:
        UserError: files are missing or damaged, or do not make an image encoder with this output.
    """
    folder = locate_encoder(encoder)
    quiet_transformers()
    try:
        network = load_network(folder, output)
        processor = AutoImageProcessor.from_pretrained(folder)
        made = TransformersEncoder(network, output, *preprocessing(processor))
        with torch.no_grad():
            width = made(torch.zeros(1, 3, *made.size)).shape[1]
    except LookupError as error:
        other = "logits" if output == "embedding" else "embedding"
        raise UserError(
            f"{KEY}={encoder!r}: {folder} gives {error.args[0]} for output: {output}; use output: {other}, or another encoder"
        ) from None
    except (OSError, RuntimeError, ValueError, TypeError, AttributeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{KEY}={encoder!r}: {folder} cannot be loaded as an image encoder with output: {output} ({reason}); {LAYOUT}"
        ) from None
    return replace(made, width=width)


def load_network(folder: Path, output: Output) -> nn.Module:
    """Load a vision model whose every weight is in the folder: others would be random.

    Raises:
        LookupError: the folder lacks weights of this output.
        ValueError: a weight has another shape than the configuration says, or is not finite.
    """
    kind = AutoConfig.from_pretrained(folder).model_type
    loader: Any = AutoModelForImageClassification if output == "logits" else AutoModel
    if kind in ("clip", "clip_vision_model") and output == "embedding":
        loader = CLIPVisionModelWithProjection
    network, info = loader.from_pretrained(
        folder, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True
    )
    if differing := sorted(name for name, *_ in info["mismatched_keys"]):
        raise ValueError(f"{differing[0]} has another shape than config.json says")
    if missing := sorted(info["missing_keys"]):
        raise LookupError(f"no trained {missing[0]}")
    if name := not_finite(network.state_dict()):
        raise ValueError(f"{name} holds NaN or infinity")
    return network.float().eval().requires_grad_(False)


def preprocessing(processor: Any) -> tuple[tuple[int, int], tuple[float, ...], tuple[float, ...], str]:
    """Return the size (height, width), the mean and the standard deviation of an image processor, and its filter.

    Raises:
        ValueError: it changes pixels in another way, too.
    """
    filter = FILTERS.get(int(processor.resample))
    if filter is None:
        raise ValueError(f"preprocessor_config.json resizes by resample: {int(processor.resample)}; known are 2 and 3")
    if not processor.do_rescale or abs(255 * processor.rescale_factor - 1) > 1e-6:
        raise ValueError("preprocessor_config.json does not rescale pixels by 1/255")
    if getattr(processor, "do_flip_channel_order", False):
        raise ValueError("preprocessor_config.json flips the order of the channels")
    size = (processor.crop_size if processor.do_center_crop else None) or processor.size
    height, width = (size.get(side) or size.get("shortest_edge") for side in ("height", "width"))
    if not (height and width):
        raise ValueError("preprocessor_config.json tells neither height and width nor a shortest edge")
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else ([0.0] * 3, [1.0] * 3)
    return (height, width), tuple(mean), tuple(std), filter
