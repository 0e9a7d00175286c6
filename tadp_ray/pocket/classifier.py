"""A small convolutional network that says which things a picture of the pocket world shows."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadp_ray.data.scenes import THINGS


def build_classifier(widths: tuple[int, ...] = (24, 48, 96, 128)) -> nn.Module:
    """An untrained classifier from pictures (B, 3, H, W) in [-1, 1] to one logit per thing (B, 24)."""
    layers: list[nn.Module] = []
    before = 3
    for place, width in enumerate(widths):
        layers += [nn.Conv2d(before, width, 3, stride=1 + (place > 0), padding=1), nn.GroupNorm(8, width), nn.SiLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU()]
        before = width
    # A thing is there if it is anywhere.
    return nn.Sequential(*layers, nn.Conv2d(before, len(THINGS), 1), nn.AdaptiveMaxPool2d(1), nn.Flatten())


def presence(names: Sequence[Sequence[str]]) -> Tensor:
    """Which things are among each scene's names: float (N, 24) of zeros and ones."""
    return torch.tensor([[float(thing in shown) for thing in THINGS] for shown in names])


def classifier_loss(classifier: nn.Module, pixels: Tensor, present: Tensor, chance: torch.Generator) -> Tensor:
    """Binary cross-entropy on pictures with some noise, since drawn ones are not as clean as rendered ones."""
    noise = torch.randn(pixels.shape, generator=chance) * 0.1 * torch.rand(len(pixels), 1, 1, 1, generator=chance)
    return F.binary_cross_entropy_with_logits(classifier(pixels + noise.to(pixels.device)), present)
