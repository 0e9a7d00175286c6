"""Contact sheets of scenes."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from tadp_ray.data.scenes import Scene, Scenes
from tadp_ray.pictures.colours import AMOUNTS, palette


def contact_sheet(styles: Sequence[Scenes]) -> np.ndarray:
    """Draw every scene, two in a row, as: the image in each style, the first with its boxes | mask | depth (near is light).

    Args:
        styles: the same scenes in several styles.

    Returns: uint8 (rows * 2 * H, 2 * (styles + 2) * 2 * W, 3) RGB, at twice the size of a scene.
    """
    colours = (255 * palette(len(styles[0].classes))).round().astype(np.uint8)
    tiles = [tile([style[index] for style in styles], colours) for index in range(len(styles[0]))]
    tiles += [np.zeros_like(tiles[0])] * (len(tiles) % 2)
    rows = [np.concatenate(tiles[start : start + 2], axis=1) for start in range(0, len(tiles), 2)]
    return np.concatenate(rows)


def tile(styles: Sequence[Scene], colours: np.ndarray) -> np.ndarray:
    """Draw the panels of one scene, with classes in the given colours (C, 3)."""
    sample = styles[0]
    near = AMOUNTS(2.0 / np.maximum(sample.depth, 2.0), bytes=True)[..., :3]
    panels = [style.image for style in styles] + [colours[sample.mask], near]
    picture = Image.fromarray(np.concatenate(panels, axis=1).repeat(2, axis=0).repeat(2, axis=1))
    for (left, top, right, bottom), name in zip(sample.boxes, sample.box_classes, strict=True):
        box = (2 * left, 2 * top, 2 * right - 1, 2 * bottom - 1)
        ImageDraw.Draw(picture).rectangle(box, outline=tuple(colours[name].tolist()))
    return np.asarray(picture)
