"""The procedural world of the pocket scale: captioned scenes with masks, boxes and depth, rendered from a seed.

Eight things come in four look-alike pairs: both of a pair share their silhouette and differ by colour alone, an offset
along one colour axis that varies from instance to instance. The size of that offset is a design choice, stated openly:
pretraining scenes show it strongly, so that a diffusion model can learn what the words mean; labelled scenes show it
weakly, so that colour alone often cannot tell a pair apart there and words can help.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from tadp_ray.data.sample import Dataset, Sample

Split = Literal["pretrain", "train", "val", "test"]
SPLITS: tuple[Split, ...] = ("pretrain", "train", "val", "test")

STUFF = ("sky", "grass", "sand")
GROUPS = (("cat", "dog"), ("car", "bus"), ("tree", "bush"), ("chair", "sofa"))
THINGS = tuple(name for group in GROUPS for name in group)
CLASSES: tuple[str, ...] = STUFF + THINGS

SKY_DEPTH = 80.0
"""Metres; the far plane, which distant ground does not exceed either."""


@dataclass(frozen=True)
class Cue:
    """How well colour tells the two of a pair apart: offset a = strength + jitter * N(0, 1) along the pair's axis."""

    strength: tuple[float, float]
    jitter: float
    noise: float


@dataclass(frozen=True)
class World:
    """The knobs of the world; lengths are shares of the image side unless they say metres."""

    pretrain: Cue = Cue(strength=(0.35, 1.10), jitter=0.30, noise=0.012)
    labelled: Cue = Cue(strength=(0.15, 0.45), jitter=0.55, noise=0.030)
    objects: tuple[int, int] = (1, 3)
    horizon: tuple[float, float] = (0.30, 0.50)
    foot: tuple[float, float] = (0.28, 0.52)
    """How far below the horizon an object stands: the farther below, the nearer it is."""
    camera_height: float = 1.5
    """Metres above the ground; the focal length is one image side."""
    size_jitter: tuple[float, float] = (0.85, 1.20)
    min_visible: float = 0.012
    """An instance that shows a smaller share of the image than this is left out of the scene."""
    texture: float = 0.035


WORLD = World()

# A pair's two colours: an instance lies at their midpoint plus or minus a times half their difference.
COLOURS = {
    "cat": (1.00, 0.55, 0.05),
    "dog": (0.42, 0.30, 0.90),
    "car": (0.92, 0.10, 0.15),
    "bus": (0.10, 0.36, 0.95),
    "tree": (0.02, 0.42, 0.48),
    "bush": (0.64, 0.50, 0.02),
    "chair": (0.96, 0.55, 0.86),
    "sofa": (0.38, 0.16, 0.06),
}
GROUND_COLOURS = {"grass": (0.34, 0.58, 0.25), "sand": (0.86, 0.77, 0.55)}
SKY_COLOURS = ((0.48, 0.68, 0.90), (0.80, 0.88, 0.95))
# Height in metres and width over height of each pair's silhouette.
SIZES = {"cat": (1.95, 1.25), "car": (1.85, 1.55), "tree": (2.10, 0.80), "chair": (1.90, 1.15)}

Parts = tuple[np.ndarray, np.ndarray]


def _disc(u: np.ndarray, v: np.ndarray, centre: tuple[float, float], radius: tuple[float, float]) -> np.ndarray:
    return ((u - centre[0]) / radius[0]) ** 2 + ((v - centre[1]) / radius[1]) ** 2 <= 1


def _block(u: np.ndarray, v: np.ndarray, left: float, right: float, bottom: float, top: float) -> np.ndarray:
    return (u >= left) & (u <= right) & (v >= bottom) & (v <= top)


def _animal(u: np.ndarray, v: np.ndarray, pose: float) -> Parts:
    body = _disc(u, v, (0.0, 0.54), (0.38, 0.19)) | _disc(u, v, (-0.36, 0.72 + 0.1 * pose), (0.14, 0.17))
    for left in (-0.30, -0.17, 0.12, 0.24):
        body |= _block(u, v, left, left + 0.085, 0.0, 0.5)
    tail = np.abs(v - 0.62 - (1.0 + pose) * (u - 0.34)) < 0.055
    return body | (tail & (u > 0.3) & (u < 0.5)), np.zeros_like(body)


def _vehicle(u: np.ndarray, v: np.ndarray, pose: float) -> Parts:
    cabin = 0.30 + 0.14 * pose
    body = _block(u, v, -0.5, 0.5, 0.13, 0.58) | _block(u, v, -0.42, cabin, 0.5, 1.0)
    dark = _block(u, v, -0.34, cabin - 0.08, 0.62, 0.9)
    for centre in (-0.28, 0.28):
        dark |= _disc(u, v, (centre, 0.13), (0.10, 0.13 * 1.15))
    return body | dark, dark


def _plant(u: np.ndarray, v: np.ndarray, pose: float) -> Parts:
    trunk = _block(u, v, -0.08, 0.08, 0.0, 0.45)
    crown = _disc(u, v, (0.0, 0.66), (0.42 + 0.08 * pose, 0.34))
    return crown | trunk, trunk & ~crown


def _seat(u: np.ndarray, v: np.ndarray, pose: float) -> Parts:
    body = _block(u, v, -0.5, 0.45, 0.32, 0.56 + 0.06 * pose) | _block(u, v, 0.24, 0.5, 0.32, 1.0)
    legs = _block(u, v, -0.46, -0.34, 0.0, 0.32) | _block(u, v, 0.32, 0.44, 0.0, 0.32)
    return body | legs, legs


SILHOUETTES: tuple[Callable[[np.ndarray, np.ndarray, float], Parts], ...] = (_animal, _vehicle, _plant, _seat)


def _smooth_noise(rng: np.random.Generator, size: int, cells: tuple[int, int]) -> np.ndarray:
    """Gaussian noise on a coarse grid, linearly enlarged to (size, size)."""
    weights = []
    for n in cells:
        at = (np.arange(size) + 0.5) / size * (n - 1)
        weights.append(np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(n))))
    return weights[0] @ rng.standard_normal(cells) @ weights[1].T


def _blur(picture: np.ndarray) -> np.ndarray:
    """Soften hard edges with a 1-2-1 kernel, so that a scene looks photographed rather than cut out."""
    padded = np.pad(picture, ((1, 1), (0, 0), (0, 0)), mode="edge")
    picture = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    padded = np.pad(picture, ((0, 0), (1, 1), (0, 0)), mode="edge")
    return (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4


def _background(
    rng: np.random.Generator, size: int, horizon: float, world: World
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sky over one kind of ground: colours (size, size, 3), mask and depth, whose ground follows the row."""
    row = ((np.arange(size) + 0.5) / size)[:, None]
    sky = np.broadcast_to(row < horizon, (size, size))
    ground = ("grass", "sand")[rng.integers(2)]
    depth = np.full((size, size), SKY_DEPTH)
    depth[~sky] = np.broadcast_to(world.camera_height / np.maximum(row - horizon, 1e-6), (size, size))[~sky]
    top, bottom = np.array(SKY_COLOURS)
    air = top + (bottom - top) * np.clip(row / horizon, 0, 1)[..., None]
    earth = np.array(GROUND_COLOURS[ground]) * rng.uniform(0.88, 1.08)
    picture = np.where(sky[..., None], air, earth)
    clouds = _smooth_noise(rng, size, (6, 5))
    blades = _smooth_noise(rng, size, (14, 9))
    picture = picture + world.texture * np.where(sky, clouds, blades)[..., None]
    mask = np.where(sky, CLASSES.index("sky"), CLASSES.index(ground)).astype(np.uint8)
    return picture, mask, np.minimum(depth, SKY_DEPTH)


def render(split: Split, seed: int, index: int, size: int = 64, world: World = WORLD) -> Sample:
    """Render one scene; the same arguments give the same bits in every process.

    Boxes surround the visible pixels of an instance, nearest instance first. Depth is in metres: ground by its row,
    an object at the ground it stands on, sky at `SKY_DEPTH`.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), index))))
    cue = world.pretrain if split == "pretrain" else world.labelled
    horizon = rng.uniform(*world.horizon)
    picture, mask, depth = _background(rng, size, horizon, world)
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    free = np.ones((size, size), dtype=bool)
    boxes, box_classes = [], []
    # Nearest first: whatever stands behind is painted only where nothing covers it.
    for foot in np.sort(rng.uniform(*world.foot, rng.integers(*world.objects, endpoint=True)))[::-1]:
        group, member = rng.integers(len(GROUPS)), rng.integers(2)
        pair = GROUPS[group]
        height, ratio = SIZES[pair[0]]
        height *= rng.uniform(*world.size_jitter) * foot / world.camera_height
        side = rng.choice((-1.0, 1.0))
        u = side * (x - rng.uniform(0.08, 0.92)) / (height * ratio)
        shape, dark = SILHOUETTES[group](u, (horizon + foot - y) / height, rng.uniform(-1, 1))
        offset = np.clip(rng.uniform(*cue.strength) + cue.jitter * rng.standard_normal(), -1.3, 1.3)
        brightness = rng.uniform(0.92, 1.06)
        first, second = (np.array(COLOURS[name]) for name in pair)
        colour = brightness * ((first + second) / 2 + (1 - 2 * member) * offset * (first - second) / 2)
        visible = shape & free
        if visible.sum() < world.min_visible * size * size:
            continue
        shade = 1.06 - 0.16 * np.clip((y - horizon - foot + height) / height, 0, 1)
        picture = np.where(visible[..., None], np.clip(colour, 0.02, 1.0) * shade[..., None], picture)
        picture[visible & dark] = 0.12 + 0.18 * np.clip(colour, 0.02, 1.0)
        mask[visible] = CLASSES.index(pair[member])
        depth[visible] = world.camera_height / foot
        free &= ~shape
        rows, columns = np.nonzero(visible)
        boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        box_classes.append(CLASSES.index(pair[member]))
    picture = _blur(picture) + cue.noise * rng.standard_normal(picture.shape)
    return Sample(
        id=f"{split}-{seed}-{index:06d}",
        image=np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8),
        mask=mask,
        depth=depth.astype(np.float32),
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        box_classes=np.array(box_classes, dtype=np.int64),
    )


def present_classes(mask: np.ndarray) -> tuple[str, ...]:
    """Return the names of the classes a mask shows, in class-index order."""
    return tuple(CLASSES[index] for index in np.unique(mask))


def describe(names: tuple[str, ...]) -> str:
    """Return an English sentence that names the given classes: things with an article, stuff without."""
    phrases = [f"a {name}" if name in THINGS else name for name in names]
    return "a photo of " + (", ".join(phrases[:-1]) + " and " if phrases[1:] else "") + phrases[-1]


class Scenes:
    """A split of the world as a data set; scenes are rendered when first asked for and then kept in memory."""

    classes = CLASSES

    def __init__(self, split: Split, count: int, seed: int = 0, size: int = 64) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
        if count < 1:
            raise ValueError(f"a set of scenes needs count >= 1, not {count}")
        self.split, self.seed, self.size = split, seed, size
        self.ids = tuple(f"{split}-{seed}-{index:06d}" for index in range(count))
        self.sizes: tuple[tuple[int, int], ...] = ((size, size),) * count
        self._rendered: dict[int, Sample] = {}

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Return the scene at `index`, 0 to len - 1."""
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        if index not in self._rendered:
            self._rendered[index] = render(self.split, self.seed, index, self.size)
        return self._rendered[index]

    def present(self, index: int) -> tuple[str, ...]:
        """Return the visible classes of a scene, in class-index order."""
        return present_classes(self[index].mask)

    def caption(self, index: int) -> str:
        """Return a sentence that names exactly the visible classes of a scene."""
        return describe(self.present(index))

    def digest(self) -> str:
        """Return the sha256 hex of the parameters of the world and of the first 16 scenes as rendered."""
        constants = (asdict(WORLD), CLASSES, COLOURS, GROUND_COLOURS, SKY_COLOURS, SIZES, SKY_DEPTH)
        total = hashlib.sha256(repr((self.split, self.seed, self.size, len(self), constants)).encode())
        for index in range(min(16, len(self))):
            sample = self[index]
            for array in (sample.image, sample.mask, sample.depth, sample.boxes, sample.box_classes):
                total.update(np.ascontiguousarray(array).tobytes())
        return total.hexdigest()


def contact_sheet(dataset: Dataset, count: int, columns: int = 4) -> np.ndarray:
    """Draw the first scenes as image with boxes | mask | depth (near is light).

    Returns: uint8 (rows * H, columns * 3 * W, 3) RGB, at twice the size of a scene.
    """
    palette = np.random.default_rng(4).integers(40, 240, (256, 3)).astype(np.uint8)
    tiles = []
    for index in range(min(count, len(dataset))):
        sample = dataset[index]
        near = (255 * np.clip(2.0 / np.maximum(sample.depth, 2.0), 0, 1)).astype(np.uint8)
        panels = [sample.image, palette[sample.mask], np.repeat(near[..., None], 3, axis=2)]
        tile = Image.fromarray(np.concatenate(panels, axis=1).repeat(2, axis=0).repeat(2, axis=1))
        for (left, top, right, bottom), name in zip(sample.boxes, sample.box_classes, strict=True):
            box = (2 * left, 2 * top, 2 * right - 1, 2 * bottom - 1)
            ImageDraw.Draw(tile).rectangle(box, outline=tuple(int(value) for value in palette[name]))
        tiles.append(np.asarray(tile))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)]
    return np.concatenate(rows)
