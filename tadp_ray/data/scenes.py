"""The pocket world: captioned scenes of drawn things, with masks, boxes, instances and depth, from a seed.

Forty-eight things, which emoji artists drew, stand on a ground under a sky. They belong to twelve subgroups of four look-alikes:
the same kind of thing, as one can tell from pixels that are few, where names say which of them it is.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from PIL import Image

from tadp_ray.captions.describe import Mention, counts, long_sentence, places, relations, scene_sentence, sentence
from tadp_ray.config.vocabulary import Style
from tadp_ray.data import drawings
from tadp_ray.data.sample import Sample
from tadp_ray.data.styles import STYLES
from tadp_ray.errors import UserError

Split = Literal["pretrain", "train", "val", "test"]
SPLITS: tuple[Split, ...] = ("pretrain", "train", "val", "test")

GROUNDS = {
    "grass": (0.34, 0.58, 0.25),
    "sand": (0.86, 0.77, 0.55),
    "road": (0.42, 0.42, 0.44),
    "snow": (0.90, 0.93, 0.97),
}
BACKDROPS = {"hill": (0.36, 0.46, 0.42), "wall": (0.66, 0.52, 0.44)}
SKY = ((0.48, 0.68, 0.90), (0.80, 0.88, 0.95))
"""Colour at the top of the picture and at the horizon."""


SIZES = {
    "farm": 1.8,
    "wild": 2.0,
    "heads": 1.7,
    "pets": 1.7,
    "birds": 1.6,
    "fruit": 1.5,
    "food": 1.5,
    "plants": 2.0,
    "vehicles": 1.9,
    "rides": 1.9,
    "buildings": 2.1,
    "household": 1.7,
}
"""Metres by subgroup: the side of a square as large as a thing's bounding box. Fruit is huge, so that 64 pixels show it."""
STUFF = ("sky", *GROUNDS, *BACKDROPS)
THINGS = drawings.NAMES
CLASSES: tuple[str, ...] = STUFF + THINGS
SUBGROUP_OF = {name: subgroup for subgroup, members in drawings.SUBGROUPS.items() for name in members}
LOOK_ALIKES = {
    name: tuple(other for other in drawings.SUBGROUPS[SUBGROUP_OF[name]] if other != name) for name in THINGS
}
"""The other members of a thing's subgroup."""


@dataclass(frozen=True)
class World:
    """The parameters of the world; lengths are fractions of the image side unless stated in metres."""

    objects: tuple[int, int] = (2, 5)
    backdrop: float = 0.6
    """Fraction of scenes with a hill or a wall behind the ground."""
    horizon: tuple[float, float] = (0.30, 0.50)
    foot: tuple[float, float] = (0.22, 0.54)
    """Distance of an object's foot below the horizon; a larger one is nearer to the camera."""
    camera_height: float = 1.5
    """Metres above the ground; the focal length is one image side."""
    far: float = 60.0
    """Metres to the backdrop, the maximum depth of the ground."""
    sky: float = 80.0
    """Metres, the depth of the sky."""
    near: float = 5.0
    """Metres; captions call only farther objects far away."""
    size_jitter: tuple[float, float] = (0.85, 1.20)
    aspect: tuple[float, float] = (0.85, 1.18)
    """Factor of the drawing's width over its height."""
    brightness: tuple[float, float] = (0.80, 1.10)
    hue: float = 0.20
    """Largest rotation of an object's hue in radians; a larger one makes a lemon of an orange."""
    min_visible: float = 0.012
    """Minimum visible fraction of the image; smaller instances are removed from the scene."""
    light: tuple[float, float] = (0.85, 1.10)
    """Brightness of the whole scene."""
    texture: float = 0.035
    noise: float = 0.012
    """Standard deviation of a pixel."""


WORLD = World()


@dataclass(frozen=True)
class SceneObject:
    """One instance: its pixels, and the place of the foot of its bounding box."""

    name: str
    foot: float
    centre: float
    colour: np.ndarray
    """(h, w, 3), premultiplied by alpha."""
    alpha: np.ndarray
    """(h, w) in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Scene(Sample):
    """A sample of the world, which annotates everything."""

    mask: np.ndarray
    depth: np.ndarray
    boxes: np.ndarray
    box_classes: np.ndarray
    instances: np.ndarray


def render(split: Split, seed: int, index: int, size: int = 64, style: Style = "photo", world: World = WORLD) -> Scene:
    """Render one scene; the same arguments give the same bits in every process.

    A style changes the picture, and its families of drawings the outlines; names, places and sizes of the planned objects stay.
    An object of which less than `min_visible` shows is left out, so with other outlines, a scene may have other classes. Boxes
    and instances are sorted from near to far; boxes surround the visible pixels. Depth is in metres: that of the ground depends
    on the row, that of an object is the depth of the ground at its foot.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), index))
    rng = np.random.Generator(np.random.PCG64(sequence))
    horizon = rng.uniform(*world.horizon)
    picture, mask, depth = _background(rng, size, horizon, world)
    instances = np.zeros((size, size), dtype=np.uint8)
    boxes, names, painted = [], [], []
    for thing in _things(rng, size, STYLES[style].families, world):
        colour, alpha = _placed(thing, size, horizon)
        # From near to far: an object is visible only where no nearer one covers it.
        visible = (alpha >= 0.5) & (instances == 0)
        if visible.sum() < world.min_visible * size * size:
            continue
        painted.append((colour, alpha))
        mask[visible] = CLASSES.index(thing.name)
        depth[visible] = world.camera_height / thing.foot
        rows, columns = np.nonzero(visible)
        boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        names.append(CLASSES.index(thing.name))
        instances[visible] = len(boxes)
    for colour, alpha in reversed(painted):
        picture = picture * (1 - alpha[..., None]) + colour
    picture = picture * rng.uniform(*world.light) + world.noise * rng.standard_normal(picture.shape)
    # A separate generator, so that the style does not change the scene.
    picture = STYLES[style].filter(np.clip(picture, 0, 1), instances, np.random.default_rng(rng.spawn(1)[0]))
    return Scene(
        id=f"{split}-{seed}-{index:06d}",
        image=np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8),
        mask=mask,
        depth=depth.astype(np.float32),
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        box_classes=np.array(names, dtype=np.int64),
        instances=instances,
    )


def _things(rng: np.random.Generator, size: int, families: Sequence[str], world: World) -> list[SceneObject]:
    """Return the instances of a scene, from near to far."""
    feet = np.sort(rng.uniform(*world.foot, rng.integers(*world.objects, endpoint=True)))[::-1]
    return [_thing(rng, foot, size, families, world) for foot in feet]


def _thing(rng: np.random.Generator, foot: float, size: int, families: Sequence[str], world: World) -> SceneObject:
    name = THINGS[rng.integers(len(THINGS))]
    # One random number whatever the number of families, so that a style does not change the scene.
    drawing = Image.fromarray(drawings.stamp(name, families[int(rng.random() * len(families))]))
    side = SIZES[SUBGROUP_OF[name]] * rng.uniform(*world.size_jitter) * foot / world.camera_height * size
    ratio = drawing.width / drawing.height * rng.uniform(*world.aspect)
    pixels = max(1, round(side * ratio**0.5)), max(1, round(side / ratio**0.5))
    # Premultiplied (RGBa), so that what is transparent adds no colour.
    scaled = np.asarray(drawing.convert("RGBa").resize(pixels, Image.Resampling.BOX), dtype=float) / 255
    if rng.random() < 0.5:
        scaled = scaled[:, ::-1]
    alpha = scaled[..., 3]
    colour = scaled[..., :3] @ _hue_rotation(rng.uniform(-world.hue, world.hue)) * rng.uniform(*world.brightness)
    return SceneObject(name, foot, rng.uniform(0.08, 0.92), np.clip(colour, 0, alpha[..., None]), alpha)


def _hue_rotation(angle: float) -> np.ndarray:
    """Return the matrix (3, 3) that rotates RGB colours around the grey axis; `colours @ matrix`."""
    cross = np.array(((0, 1, -1), (-1, 0, 1), (1, -1, 0))) / np.sqrt(3)
    return np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) / 3


def _placed(thing: SceneObject, size: int, horizon: float) -> tuple[np.ndarray, np.ndarray]:
    """Return an object's colours (size, size, 3) and alpha (size, size) at its place in the picture."""
    height, width = thing.alpha.shape
    top, left = round((horizon + thing.foot) * size) - height, round(thing.centre * size - width / 2)
    rows, columns = slice(max(top, 0), min(top + height, size)), slice(max(left, 0), min(left + width, size))
    inside = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    colour, alpha = np.zeros((size, size, 3)), np.zeros((size, size))
    colour[rows, columns], alpha[rows, columns] = thing.colour[inside], thing.alpha[inside]
    return colour, alpha


def _background(
    rng: np.random.Generator, size: int, horizon: float, world: World
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sky, possibly a hill or a wall, and one kind of ground: colours (size, size, 3), mask, depth per row."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    ground = list(GROUNDS)[rng.integers(len(GROUNDS))]
    backdrop = list(BACKDROPS)[rng.integers(len(BACKDROPS))]
    rise = rng.uniform(0.06, 0.20) * (rng.random() < world.backdrop)
    waves = np.sin(2 * np.pi * (rng.uniform(0.4, 1.2) * x + rng.random()))
    top = horizon - rise * (1 + 0.45 * waves if backdrop == "hill" else 1)
    sky, behind = y < np.minimum(top, horizon), (y >= top) & (y < horizon)
    brightness = rng.uniform(0.88, 1.08, 2)

    air = np.array(SKY[0]) + (np.array(SKY[1]) - SKY[0]) * np.clip(y / horizon, 0, 1)[..., None]
    picture = np.where(sky[..., None], air, np.array(GROUNDS[ground]) * brightness[0])
    picture = np.where(behind[..., None], np.array(BACKDROPS[backdrop]) * brightness[1], picture)
    if backdrop == "wall":
        courses = (np.floor(y * 40) % 2 == 0) ^ (np.floor(x * 16) % 2 == 0)
        picture = picture - 0.07 * (behind & courses)[..., None]
    coarse, fine = _smooth_noise(rng, size, (6, 5)), _smooth_noise(rng, size, (14, 9))
    picture = picture + world.texture * np.where(sky | behind, coarse, fine)[..., None]

    mask = np.full((size, size), CLASSES.index(ground), dtype=np.uint8)
    mask[sky], mask[behind] = CLASSES.index("sky"), CLASSES.index(backdrop)
    depth = np.minimum(world.camera_height / np.maximum(y - horizon, 1e-6), world.far)
    depth[sky] = world.sky
    return picture, mask, depth


def _smooth_noise(rng: np.random.Generator, size: int, cells: tuple[int, int]) -> np.ndarray:
    """Return Gaussian noise on a coarse grid, linearly upsampled to (size, size)."""
    weights = []
    for n in cells:
        at = (np.arange(size) + 0.5) / size * (n - 1)
        weights.append(np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(n))))
    return weights[0] @ rng.standard_normal(cells) @ weights[1].T


def present_classes(mask: np.ndarray) -> tuple[str, ...]:
    """Return the names of the classes in a mask, in class-index order."""
    return tuple(CLASSES[index] for index in np.unique(mask))


def mentions(sample: Scene) -> list[Mention]:
    """Return a mention of every instance of a scene, from near to far."""
    size = sample.mask.shape[0]
    return [
        Mention(
            CLASSES[name],
            float(box[0] + box[2]) / 2 / size,
            bool(sample.depth[sample.instances == place].max() < WORLD.near),
            float(box[0]) / size,
            float(box[2]) / size,
        )
        for place, (box, name) in enumerate(zip(sample.boxes, sample.box_classes, strict=True), 1)
    ]


def around(things: Sequence[Mention], names: Sequence[str], work: str = "photo") -> str:
    """Return a long sentence of things and of the stuff among names."""
    return long_sentence(things, *setting(names), work)


def setting(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the grounds among names, and what is behind them."""
    behind = [name for name in reversed(names) if name == "sky" or name in BACKDROPS]
    return [name for name in names if name in GROUNDS], behind


PHRASES: dict[str, Callable[[Sequence[Mention]], list[str]]] = {
    "scene": lambda things: [],
    "counts": counts,
    "places": places,
    "relations": relations,
}
"""What the sentences of a wording say of the things, from near to far; ground and background follow."""


class Scenes:
    """A split of the world as a data set; scenes are rendered at their first use and kept in memory."""

    classes = CLASSES

    def __init__(self, split: Split, count: int, seed: int = 0, size: int = 64, style: Style = "photo") -> None:
        if split not in SPLITS:
            raise UserError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
        if style not in STYLES:
            raise UserError(f"style must be one of {', '.join(STYLES)}, not {style!r}")
        self.split, self.seed, self.size, self.style = split, seed, size, style
        self.ids = tuple(f"{split}-{seed}-{index:06d}" for index in range(count))
        self.sizes: tuple[tuple[int, int], ...] = ((size, size),) * count
        self._rendered: dict[int, Scene] = {}

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Scene:
        """Return the scene at `index`, 0 to len - 1."""
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        if index not in self._rendered:
            self._rendered[index] = render(self.split, self.seed, index, self.size, self.style)
        return self._rendered[index]

    def present(self, index: int) -> tuple[str, ...]:
        """Return the visible classes of a scene, in class-index order."""
        return present_classes(self[index].mask)

    def caption(self, index: int) -> str:
        """Return a sentence that names exactly the visible classes of a scene."""
        return sentence(self.present(index), THINGS)

    def say(self, index: int, names: Sequence[str], wording: str, seed: int) -> str:
        """Return a captioner's sentence with these names, whether they are in the scene or not.

        What it says of present objects is true. Absent ones get a random place among them, so that the order of words does not
        reveal mistakes.

        Args:
            index: of the scene.
            names: of classes, in class-index order.
            wording: short, long, or one of `PHRASES`.
            seed: of the places of absent objects.
        """
        things = [name for name in names if name not in STUFF]
        if not names or wording == "short":
            return sentence(names, things) if names else "a photo"
        seen = [mention for mention in mentions(self[index]) if mention.name in names]
        for name in things:
            if name not in self.present(index):
                rng = random.Random(f"{seed}/{self.ids[index]}/{name}")
                place = int(rng.random() * (len(seen) + 1))
                near = seen[min(place, len(seen) - 1)].near if seen else rng.random() < 0.5
                seen.insert(place, Mention(name, rng.random(), near))
        return around(seen, names) if wording == "long" else scene_sentence(PHRASES[wording](seen), *setting(names))

    def digest(self) -> str:
        """Return the sha256 hex of the parameters of the world and of the first 16 scenes as rendered."""
        constants = (asdict(WORLD), drawings.digest(), SIZES, STUFF, GROUNDS, BACKDROPS, SKY)
        total = hashlib.sha256(repr((self.split, self.seed, self.size, self.style, len(self), constants)).encode())
        for index in range(min(16, len(self))):
            sample = self[index]
            for array in (sample.image, sample.mask, sample.depth, sample.boxes, sample.box_classes):
                total.update(np.ascontiguousarray(array).tobytes())
        return total.hexdigest()
