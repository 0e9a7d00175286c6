"""A small convolutional network that classifies the objects in images of the pocket world, cell by cell."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadp_ray.data.scenes import CLASSES, THINGS, WORLD

STRIDE = 4
"""Side of a cell in pixels."""
BACKGROUND = len(THINGS)
"""The label of cells without an object."""


def build_classifier() -> nn.Module:
    """Return an untrained classifier of images (B, 3, H, W) in [-1, 1]: logits (B, 49, H/4, W/4) of objects and background."""
    layers: list[nn.Module] = []
    before = 3
    for place, width in enumerate((32, 64, 128)):
        layers += [nn.Conv2d(before, width, 3, stride=1 + (place > 0), padding=1), nn.GroupNorm(8, width), nn.SiLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU()]
        before = width
    # Dilated, so that the receptive field of a cell covers the outline of an object.
    layers += [nn.Conv2d(before, before, 3, padding=2, dilation=2), nn.GroupNorm(8, before), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv2d(before, BACKGROUND + 1, 1))


def image_noise(batch: int, size: int, rng: torch.Generator) -> Tensor:
    """Return noise (B, 3, H, W) for the images of a batch, since generated images are not as clean as rendered ones."""
    return torch.randn(batch, 3, size, size, generator=rng) * 0.1 * torch.rand(batch, 1, 1, 1, generator=rng)


def classifier_loss(classifier: nn.Module, pixels: Tensor, masks: Tensor) -> Tensor:
    """Return the cross-entropy of every cell with the class at its centre; masks are (B, H, W) class indices."""
    middle = masks[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].long()
    labels = torch.where(middle < len(CLASSES) - len(THINGS), BACKGROUND, middle - (len(CLASSES) - len(THINGS)))
    return F.cross_entropy(classifier(pixels), labels)


@torch.no_grad()
def shown(classifier: nn.Module, pixels: Tensor) -> Tensor:
    """Return which objects are in images (B, 3, H, W), bool (B, 48): those in as many cells as the world's smallest object."""
    cells = F.one_hot(classifier(pixels).argmax(1), BACKGROUND + 1)[..., :BACKGROUND]
    return (cells.float().mean(dim=(1, 2)) >= WORLD.min_visible).cpu()


def presence(names: Sequence[Sequence[str]]) -> Tensor:
    """Return which objects are among each scene's names, bool (N, 48)."""
    return torch.tensor([[thing in named for thing in THINGS] for named in names])
