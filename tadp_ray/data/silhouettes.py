"""The outlines of the objects in the pocket world, one per look-alike group.

A silhouette is drawn in its own frame: v runs from 0 at the foot to 1 at the top, u from -0.5 to 0.5 across, and `pose` in
[-1, 1] varies the drawing. It gives the pixels that belong to the thing, and those of them that are dark (tyres, windows,
trunks, legs), which carry little of the thing's colour.
"""

from collections.abc import Callable

import numpy as np

Parts = tuple[np.ndarray, np.ndarray]
Silhouette = Callable[[np.ndarray, np.ndarray, float], Parts]


def _disc(u: np.ndarray, v: np.ndarray, centre: tuple[float, float], radius: tuple[float, float]) -> np.ndarray:
    return ((u - centre[0]) / radius[0]) ** 2 + ((v - centre[1]) / radius[1]) ** 2 <= 1


def _block(u: np.ndarray, v: np.ndarray, left: float, right: float, bottom: float, top: float) -> np.ndarray:
    return (u >= left) & (u <= right) & (v >= bottom) & (v <= top)


def _nothing(shape: np.ndarray) -> np.ndarray:
    return np.zeros_like(shape)


def pet(u: np.ndarray, v: np.ndarray, pose: float) -> Parts:
    """A sitting animal with pointed ears and a tail that curls up behind."""
    body = _disc(u, v, (0.02, 0.30), (0.30, 0.31)) | _disc(u, v, (-0.14, 0.68), (0.25, 0.20))
    for tip in (-0.31, 0.03):
        body |= (np.abs(u - tip) < 0.11 * (1 - (v - 0.78) / 0.22)) & (v > 0.78) & (v <= 1)
    tail = np.abs(np.hypot(u - 0.30, v - 0.24) - 0.15) < 0.05
    body |= (tail & (v > 0.12 + 0.08 * pose)) | _block(u, v, -0.26, -0.14, 0.0, 0.3)
    return body, _disc(u, v, (-0.22, 0.72), (0.045, 0.04))


def cattle(u: np.ndarray, v: np.ndarray, pose: float) -> Parts:
    """A large animal on four legs with a raised or lowered head."""
    body = _disc(u, v, (0.05, 0.58), (0.36, 0.21)) | _disc(u, v, (-0.38, 0.80 + 0.08 * pose), (0.13, 0.12))
    body |= np.abs(u + 0.28 + 0.4 * (v - 0.68)) < 0.08
    body &= (v > 0.35) & (v < 0.95 + 0.05 * pose)
    legs = _nothing(body)
    for left in (-0.27, -0.15, 0.20, 0.32):
        legs |= _block(u, v, left, left + 0.075, 0.0, 0.5)
    return body | legs, legs & (v < 0.12)


def vehicle(u: np.ndarray, v: np.ndarray, pose: float) -> Parts:
    """A box on wheels with a cabin of varying length."""
    cabin = 0.30 + 0.14 * pose
    body = _block(u, v, -0.5, 0.5, 0.13, 0.58) | _block(u, v, -0.42, cabin, 0.5, 1.0)
    dark = _block(u, v, -0.34, cabin - 0.08, 0.64, 0.9)
    for centre in (-0.28, 0.28):
        dark |= _disc(u, v, (centre, 0.15), (0.10, 0.15))
    return body | dark, dark


def plant(u: np.ndarray, v: np.ndarray, pose: float) -> Parts:
    """A round crown of three lobes on a trunk."""
    trunk = _block(u, v, -0.07, 0.07, 0.0, 0.45)
    crown = _disc(u, v, (0.0, 0.74), (0.30 + 0.05 * pose, 0.26))
    crown |= _disc(u, v, (-0.24, 0.56), (0.24, 0.19)) | _disc(u, v, (0.24, 0.56), (0.24, 0.19))
    return crown | trunk, trunk & ~crown


def seat(u: np.ndarray, v: np.ndarray, pose: float) -> Parts:
    """A seat with a back on one side, on legs."""
    body = _block(u, v, -0.5, 0.45, 0.32, 0.54 + 0.05 * pose) | _block(u, v, 0.24, 0.5, 0.32, 1.0)
    legs = _block(u, v, -0.46, -0.34, 0.0, 0.32) | _block(u, v, 0.32, 0.44, 0.0, 0.32)
    return body | legs, legs


def person(u: np.ndarray, v: np.ndarray, pose: float) -> Parts:
    """A head over a coat, arms held out, two legs."""
    coat = (np.abs(u) < 0.20 + 0.22 * (0.78 - v)) & (v > 0.30) & (v < 0.80)
    arms = (np.abs(v - 0.64 - (0.25 + 0.3 * pose) * (np.abs(u) - 0.3)) < 0.055) & (np.abs(u) < 0.5)
    legs = _block(np.abs(u), v, 0.05, 0.20, 0.0, 0.32)
    return coat | arms | legs | _disc(u, v, (0.0, 0.89), (0.17, 0.11)), legs & ~coat


def bird(u: np.ndarray, v: np.ndarray, pose: float) -> Parts:
    """A round body with a pointed tail on thin legs, a small head with a beak."""
    body = _disc(u, v, (0.02, 0.50), (0.32, 0.26)) | _disc(u, v, (-0.26, 0.80), (0.17, 0.17))
    body |= (np.abs(v - 0.56 - 0.5 * (u - 0.2)) < 0.16 - 0.25 * (u - 0.2)) & (u > 0.2) & (u < 0.5)
    beak = (np.abs(v - 0.79) < 0.07 * (1 + (u + 0.40) / 0.1)) & (u > -0.5) & (u < -0.40)
    legs = _block(u, v, -0.10 + 0.04 * pose, -0.03 + 0.04 * pose, 0.0, 0.3)
    legs |= _block(u, v, 0.08, 0.15, 0.0, 0.3)
    return body | beak | legs, beak | (legs & ~body)


def building(u: np.ndarray, v: np.ndarray, pose: float) -> Parts:
    """Walls under a gabled roof with a chimney or spire; a door and two windows."""
    walls = _block(u, v, -0.42, 0.42, 0.0, 0.55)
    roof = (v >= 0.5) & (np.abs(u) < 0.5 * (0.92 - v) / 0.42) & (v < 0.92)
    tower = _block(u, v, 0.18, 0.32, 0.5, 0.92 + 0.08 * pose)
    dark = _block(u, v, -0.09, 0.09, 0.0, 0.30)
    for centre in (-0.26, 0.26):
        dark |= _block(u, v, centre - 0.075, centre + 0.075, 0.24, 0.42)
    return walls | roof | tower, dark
