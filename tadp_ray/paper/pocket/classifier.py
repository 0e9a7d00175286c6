"""A small convolutional network that says where in a picture of the pocket world which thing stands, and so which do."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadp_ray.data.scenes import CLASSES, THINGS, WORLD

STRIDE = 4
"""Pixels to a cell, along each side."""
NOTHING = len(THINGS)
"""The label of cells without a thing."""


def build_classifier(widths: tuple[int, int, int] = (24, 48, 96)) -> nn.Module:
    """An untrained classifier from pictures (B, 3, H, W) in [-1, 1] to logits (B, 25, H/4, W/4): each thing, and none."""
    layers: list[nn.Module] = []
    before = 3
    for place, width in enumerate(widths):
        layers += [nn.Conv2d(before, width, 3, stride=1 + (place > 0), padding=1), nn.GroupNorm(8, width), nn.SiLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU()]
        before = width
    # Dilated, so that a cell sees enough of its surroundings to know an outline.
    layers += [nn.Conv2d(before, before, 3, padding=2, dilation=2), nn.GroupNorm(8, before), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv2d(before, NOTHING + 1, 1))


def classifier_loss(classifier: nn.Module, pixels: Tensor, masks: Tensor, rng: torch.Generator) -> Tensor:
    """Cross-entropy of every cell with the class in its middle, masks (B, H, W) holding class indices.

    The pictures get some noise, since drawn ones are not as clean as rendered ones.
    """
    noise = torch.randn(pixels.shape, generator=rng) * 0.1 * torch.rand(len(pixels), 1, 1, 1, generator=rng)
    middle = masks[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].long()
    labels = torch.where(middle < len(CLASSES) - len(THINGS), NOTHING, middle - (len(CLASSES) - len(THINGS)))
    return F.cross_entropy(classifier(pixels + noise.to(pixels.device)), labels)


@torch.no_grad()
def shown(classifier: nn.Module, pixels: Tensor) -> Tensor:
    """Which things pictures (B, 3, H, W) show, bool (B, 24): those in as many cells as the smallest thing of the world."""
    cells = F.one_hot(classifier(pixels).argmax(1), NOTHING + 1)[..., :NOTHING]
    return (cells.float().mean(dim=(1, 2)) >= WORLD.min_visible).cpu()


def presence(names: Sequence[Sequence[str]]) -> Tensor:
    """Which things are among each scene's names, bool (N, 24)."""
    return torch.tensor([[thing in named for thing in THINGS] for named in names])
