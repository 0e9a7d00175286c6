"""The procedural world of the pocket scale: captioned scenes with masks, boxes, instances and depth, from a seed.

There are twenty-four kinds of objects in eight groups of three look-alikes: the members of a group have the same silhouette and
differ only in colour, which varies between instances. The strength of the colour cue is a design choice: it is strong in the
pretraining scenes, so that a diffusion model can learn the words, and weak in the labelled scenes, so that colour often cannot
distinguish look-alikes and words can help.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from tadp_ray.captions.describe import Mention, long_sentence, sentence
from tadp_ray.config.vocabulary import Style
from tadp_ray.data import silhouettes
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


@dataclass(frozen=True)
class Group:
    """Look-alikes: one silhouette, a height in metres, a width over height, and a colour for each member."""

    silhouette: silhouettes.Silhouette
    height: float
    ratio: float
    colours: dict[str, tuple[float, float, float]]


GROUPS: tuple[Group, ...] = (
    Group(
        silhouettes.pet, 1.7, 0.85, {"cat": (0.97, 0.58, 0.10), "dog": (0.36, 0.38, 0.80), "fox": (0.80, 0.08, 0.12)}
    ),
    Group(
        silhouettes.cattle,
        1.8,
        1.25,
        {"horse": (0.48, 0.24, 0.06), "cow": (0.40, 0.16, 0.70), "sheep": (0.96, 0.88, 0.66)},
    ),
    Group(
        silhouettes.vehicle,
        1.7,
        1.55,
        {"car": (0.92, 0.10, 0.15), "bus": (0.10, 0.36, 0.95), "truck": (0.95, 0.80, 0.10)},
    ),
    Group(
        silhouettes.plant,
        2.4,
        0.85,
        {"tree": (0.02, 0.40, 0.42), "bush": (0.66, 0.60, 0.02), "palm": (0.35, 0.88, 0.45)},
    ),
    Group(
        silhouettes.seat,
        1.8,
        1.10,
        {"chair": (0.96, 0.45, 0.80), "sofa": (0.38, 0.16, 0.06), "bench": (0.05, 0.72, 0.72)},
    ),
    Group(
        silhouettes.person,
        2.3,
        0.55,
        {"man": (0.12, 0.22, 0.66), "woman": (0.90, 0.12, 0.50), "child": (0.98, 0.84, 0.22)},
    ),
    Group(
        silhouettes.bird,
        1.5,
        0.95,
        {"bird": (0.15, 0.60, 0.92), "duck": (0.96, 0.60, 0.30), "goose": (0.72, 0.42, 0.92)},
    ),
    Group(
        silhouettes.building,
        2.4,
        1.10,
        {"house": (0.86, 0.42, 0.30), "barn": (0.42, 0.05, 0.28), "church": (0.62, 0.78, 0.90)},
    ),
)
STUFF = ("sky", *GROUNDS, *BACKDROPS)
THINGS = tuple(name for group in GROUPS for name in group.colours)
CLASSES: tuple[str, ...] = STUFF + THINGS
LOOK_ALIKES = {
    name: tuple(other for other in group.colours if other != name) for group in GROUPS for name in group.colours
}
"""The other members of a thing's group."""


@dataclass(frozen=True)
class Cue:
    """How well colour distinguishes look-alikes.

    An instance lies at its group's mean colour plus `strength` times its member's offset from it, plus `jitter` * N(0, 1)
    times every member's offset; `noise` is the standard deviation of a pixel.
    """

    strength: tuple[float, float]
    jitter: float
    noise: float


@dataclass(frozen=True)
class World:
    """The parameters of the world; lengths are fractions of the image side unless stated in metres."""

    pretrain: Cue = Cue(strength=(0.50, 1.10), jitter=0.20, noise=0.012)
    labelled: Cue = Cue(strength=(0.15, 0.45), jitter=0.40, noise=0.030)
    objects: tuple[int, int] = (1, 4)
    backdrop: float = 0.6
    """Fraction of scenes with a hill or a wall behind the ground."""
    horizon: tuple[float, float] = (0.30, 0.50)
    foot: tuple[float, float] = (0.18, 0.50)
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
    min_visible: float = 0.012
    """Minimum visible fraction of the image; smaller instances are removed from the scene."""
    light: tuple[float, float] = (0.85, 1.10)
    """Brightness of the whole scene."""
    texture: float = 0.035


WORLD = World()


@dataclass(frozen=True)
class SceneObject:
    """One instance: its position, size and appearance."""

    name: str
    group: Group
    foot: float
    centre: float
    height: float
    """Fraction of the image side."""
    facing: float
    pose: float
    colour: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Scene(Sample):
    """A sample of the world, which annotates everything."""

    mask: np.ndarray
    depth: np.ndarray
    boxes: np.ndarray
    box_classes: np.ndarray
    instances: np.ndarray


def render(split: Split, seed: int, index: int, size: int = 64, style: Style = "photo", world: World = WORLD) -> Scene:
    """Render one scene; the same arguments give the same bits in every process, and a style changes only the image.

    Boxes and instances are sorted from near to far; boxes surround the visible pixels. Depth is in metres: that of the ground
    depends on the row, that of an object is the depth of the ground at its foot.
    """
    rng = np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), index))
    rng = np.random.Generator(np.random.PCG64(rng))
    cue = world.pretrain if split == "pretrain" else world.labelled
    horizon = rng.uniform(*world.horizon)
    picture, mask, depth = _background(rng, size, horizon, world)
    instances = np.zeros((size, size), dtype=np.uint8)
    boxes, names = [], []
    for thing in _things(rng, cue, world):
        shape, dark, shade = _outline(thing, size, horizon)
        # From near to far: an object is painted only where no nearer one covers it.
        visible = shape & (instances == 0)
        if visible.sum() < world.min_visible * size * size:
            continue
        picture = np.where(visible[..., None], np.clip(thing.colour, 0.02, 1.0) * shade, picture)
        picture[visible & dark] = 0.10 + 0.18 * np.clip(thing.colour, 0.02, 1.0)
        mask[visible] = CLASSES.index(thing.name)
        depth[visible] = world.camera_height / thing.foot
        rows, columns = np.nonzero(visible)
        boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        names.append(CLASSES.index(thing.name))
        instances[visible] = len(boxes)
    picture = _blur(picture) * rng.uniform(*world.light) + cue.noise * rng.standard_normal(picture.shape)
    # A separate generator, so that the style does not change the scene.
    picture = STYLES[style](np.clip(picture, 0, 1), instances, np.random.default_rng(rng.spawn(1)[0]))
    return Scene(
        id=f"{split}-{seed}-{index:06d}",
        image=np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8),
        mask=mask,
        depth=depth.astype(np.float32),
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        box_classes=np.array(names, dtype=np.int64),
        instances=instances,
    )


def _things(rng: np.random.Generator, cue: Cue, world: World) -> list[SceneObject]:
    """Return the instances of a scene, from near to far."""
    feet = np.sort(rng.uniform(*world.foot, rng.integers(*world.objects, endpoint=True)))[::-1]
    return [_thing(rng, foot, cue, world) for foot in feet]


def _thing(rng: np.random.Generator, foot: float, cue: Cue, world: World) -> SceneObject:
    group = GROUPS[rng.integers(len(GROUPS))]
    member = rng.integers(len(group.colours))
    colours = np.array(list(group.colours.values()))
    middle = colours.mean(axis=0)
    weights = cue.jitter * rng.standard_normal(len(colours))
    weights[member] += rng.uniform(*cue.strength)
    return SceneObject(
        name=list(group.colours)[member],
        group=group,
        foot=foot,
        centre=rng.uniform(0.08, 0.92),
        height=group.height * rng.uniform(*world.size_jitter) * foot / world.camera_height,
        facing=rng.choice((-1.0, 1.0)),
        pose=rng.uniform(-1, 1),
        colour=rng.uniform(0.92, 1.06) * (middle + weights @ (colours - middle)),
    )


def _outline(thing: SceneObject, size: int, horizon: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an object's pixels, the dark ones among them, and its shading (size, size, 1) from light above."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    u = thing.facing * (x - thing.centre) / (thing.height * thing.group.ratio)
    v = (horizon + thing.foot - y) / thing.height
    shape, dark = thing.group.silhouette(u, v, thing.pose)
    return shape, dark, (1.06 - 0.16 * np.clip(1 - v, 0, 1))[..., None]


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


def _blur(picture: np.ndarray) -> np.ndarray:
    """Soften hard edges with a 1-2-1 kernel, so that a scene looks photographed rather than cut out."""
    padded = np.pad(picture, ((1, 1), (0, 0), (0, 0)), mode="edge")
    picture = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    padded = np.pad(picture, ((0, 0), (1, 1), (0, 0)), mode="edge")
    return (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4


def present_classes(mask: np.ndarray) -> tuple[str, ...]:
    """Return the names of the classes in a mask, in class-index order."""
    return tuple(CLASSES[index] for index in np.unique(mask))


def mentions(sample: Scene, world: World = WORLD) -> list[Mention]:
    """Return a mention of every instance of a scene, from near to far."""
    size = sample.mask.shape[0]
    return [
        Mention(CLASSES[name], (box[0] + box[2]) / 2 / size, sample.depth[sample.instances == place].max() < world.near)
        for place, (box, name) in enumerate(zip(sample.boxes, sample.box_classes, strict=True), 1)
    ]


def describe(sample: Scene, world: World = WORLD) -> str:
    """Return a captioner's sentence for a scene, with counts, places and stuff; it names exactly the visible classes."""
    return around(mentions(sample, world), present_classes(sample.mask))


def around(things: Sequence[Mention], names: Sequence[str]) -> str:
    """Return a long sentence of things and of the stuff among names."""
    behind = [name for name in reversed(names) if name == "sky" or name in BACKDROPS]
    return long_sentence(things, [name for name in names if name in GROUNDS], behind)


class Scenes:
    """A split of the world as a data set; scenes are rendered at their first use and kept in memory."""

    classes = CLASSES

    def __init__(self, split: Split, count: int, seed: int = 0, size: int = 64, style: Style = "photo") -> None:
        if split not in SPLITS:
            raise UserError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
        if style not in STYLES:
            raise UserError(f"style must be one of {', '.join(STYLES)}, not {style!r}")
        if count < 1:
            raise UserError(f"a set of scenes needs count >= 1, not {count}")
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

    def say(self, index: int, names: Sequence[str], wording: Literal["short", "long"], seed: int) -> str:
        """Return a captioner's sentence with these names, whether they are in the scene or not.

        In the long wording, present objects have counts and places; absent ones get a random place among them, so that the order
        of words does not reveal mistakes.
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
        return around(seen, names)

    def digest(self) -> str:
        """Return the sha256 hex of the parameters of the world and of the first 16 scenes as rendered."""
        looks = [(group.height, group.ratio, group.colours) for group in GROUPS]
        constants = (asdict(WORLD), CLASSES, looks, GROUNDS, BACKDROPS, SKY)
        total = hashlib.sha256(repr((self.split, self.seed, self.size, self.style, len(self), constants)).encode())
        for index in range(min(16, len(self))):
            sample = self[index]
            for array in (sample.image, sample.mask, sample.depth, sample.boxes, sample.box_classes):
                total.update(np.ascontiguousarray(array).tobytes())
        return total.hexdigest()
