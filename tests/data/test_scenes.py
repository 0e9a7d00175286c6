"""The procedural world: deterministic, and its annotations agree with one another."""

import re
import subprocess
import sys

import numpy as np
import pytest

from tadp_ray.captions.describe import PLURALS
from tadp_ray.captions.precision_recall import degrade
from tadp_ray.data.scenes import (
    BACKDROPS,
    CLASSES,
    GROUNDS,
    GROUPS,
    LOOK_ALIKES,
    SPLITS,
    STUFF,
    THINGS,
    WORLD,
    Scenes,
    Split,
    describe,
)
from tadp_ray.data.styles import STYLES
from tadp_ray.errors import UserError
from tadp_ray.pictures.sheet import contact_sheet

COUNT = 60


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes("train", COUNT)


def test_another_process_renders_the_same_bits(scenes: Scenes) -> None:
    program = "from tadp_ray.data.scenes import Scenes; print(Scenes('train', 60).digest())"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == scenes.digest()


def test_splits_and_seeds_show_different_scenes(scenes: Scenes) -> None:
    assert len({Scenes(split, 2).digest() for split in SPLITS} | {Scenes("train", 2, seed=1).digest()}) == 5
    assert not np.array_equal(Scenes("train", 1, seed=1)[0].mask, scenes[0].mask)


def test_boxes_are_tight_around_visible_instances(scenes: Scenes) -> None:
    """Every instance is of the class its box says, and all four sides of the box touch it."""
    for sample in map(scenes.__getitem__, range(COUNT)):
        assert sample.instances.max() == len(sample.boxes) == len(sample.box_classes)
        assert set(np.unique(sample.mask[sample.instances == 0])) <= {CLASSES.index(name) for name in STUFF}
        for place, (box, name) in enumerate(zip(sample.boxes, sample.box_classes, strict=True), 1):
            own = sample.instances == place
            rows, columns = np.nonzero(own)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert (sample.mask[own] == name).all() and own.sum() >= WORLD.min_visible * own.size


def test_what_covers_is_nearer_than_what_is_covered(scenes: Scenes) -> None:
    """Instances come nearest first, ground comes nearer from row to row, a thing is nearer than the ground at its top."""
    for sample in map(scenes.__getitem__, range(COUNT)):
        depths = [np.unique(sample.depth[sample.instances == place]) for place in range(1, len(sample.boxes) + 1)]
        assert all(len(depth) == 1 for depth in depths) and sorted(depths) == depths
        assert (sample.depth[sample.mask == CLASSES.index("sky")] == np.float32(WORLD.sky)).all()
        behind = np.isin(sample.mask, [CLASSES.index(name) for name in BACKDROPS])
        assert (sample.depth[behind] == np.float32(WORLD.far)).all()
        ground = np.where(np.isin(sample.mask, [CLASSES.index(name) for name in GROUNDS]), sample.depth, 0).max(axis=1)
        assert (np.diff(ground[ground > 0]) <= 0).all()
        for (_, top, _, _), (depth,) in zip(sample.boxes, depths, strict=True):
            assert ground[int(top)] == 0 or depth <= ground[int(top)]


def test_captions_name_exactly_the_visible_classes(scenes: Scenes) -> None:
    singular = {plural: name for name, plural in PLURALS.items()} | {f"{name}s": name for name in THINGS}
    for index in range(COUNT):
        visible = {CLASSES[value] for value in np.unique(scenes[index].mask)}
        assert visible == set(scenes.present(index))
        for caption in (scenes.caption(index), describe(scenes[index])):
            words = [singular.get(word, word) for word in re.findall(r"\w+", caption)]
            assert set(words) & set(CLASSES) == visible


@pytest.mark.parametrize("wording", ["short", "long"])
def test_a_captioner_with_mistakes_says_the_names_it_is_given(scenes: Scenes, wording: str) -> None:
    singular = {plural: name for name, plural in PLURALS.items()} | {f"{name}s": name for name in THINGS}
    present = {str(index): scenes.present(index) for index in range(COUNT)}
    chosen = {"min_true": 0, "shuffle": False, "seed": 0, "count_tokens": lambda name: 1, "budget": 75}
    said = degrade(present, CLASSES, precision=0.6, recall=0.5, **chosen)
    for index, names in said.items():
        caption = scenes.say(int(index), names, wording, 0)
        words = [singular.get(word, word) for word in re.findall(r"\w+", caption)]
        assert set(words) & set(CLASSES) == set(names), caption
        assert scenes.say(int(index), names, wording, 0) == caption
    assert all(scenes.say(index, scenes.present(index), "long", 0) == describe(scenes[index]) for index in range(COUNT))
    assert scenes.say(0, (), wording, 0) == "a photo"


@pytest.mark.parametrize(("split", "low", "high"), [("pretrain", 0.9, 1.0), ("val", 0.45, 0.75)])
def test_colour_tells_look_alikes_apart_in_pretraining_but_often_not_in_labelled_scenes(
    split: Split, low: float, high: float
) -> None:
    """How often an instance's mean colour is nearest to its own class's of its group (a third by chance)."""
    scenes, right = Scenes(split, 300), []
    for sample in map(scenes.__getitem__, range(len(scenes))):
        for place, name in enumerate(sample.box_classes, 1):
            colours = next(group.colours for group in GROUPS if CLASSES[name] in group.colours)
            middle = np.mean(list(colours.values()), axis=0)
            seen = sample.image[sample.instances == place].mean(axis=0) / 255
            # The dark parts and the shading pull every colour down, hence the direction and not the place.
            offsets = {other: np.subtract(colour, middle) for other, colour in colours.items()}
            best = max(offsets, key=lambda other: (seen - middle) @ offsets[other] / np.linalg.norm(offsets[other]))
            right.append(best == CLASSES[name])
    assert low < np.mean(right) <= high


def test_a_style_changes_the_picture_and_nothing_else(scenes: Scenes) -> None:
    for style in set(STYLES) - {"photo"}:
        styled = Scenes("train", 3, style=style)
        for index in range(3):
            change = np.abs(styled[index].image.astype(int) - scenes[index].image).mean()
            assert change > 25, (style, change)
            assert np.array_equal(styled[index].mask, scenes[index].mask)
            assert np.array_equal(styled[index].depth, scenes[index].depth)


def test_the_world_has_more_things_than_a_caption_names() -> None:
    assert len(THINGS) >= 20 and len(STUFF) >= 4 and len(set(CLASSES)) == len(THINGS) + len(STUFF)
    assert all(len(LOOK_ALIKES[name]) == 2 for name in THINGS)
    assert Scenes("train", 1, size=128)[0].image.shape == (128, 128, 3)


def test_sheet_and_index_errors(scenes: Scenes) -> None:
    assert contact_sheet([Scenes("val", 5), Scenes("val", 5, style="night")]).shape == (3 * 128, 2 * 4 * 128, 3)
    with pytest.raises(IndexError, match="60"):
        scenes[60]
    with pytest.raises(UserError, match="pretrain, train, val, test"):
        Scenes("validation", 3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="photo, night, watercolor, comic"):
        Scenes("val", 3, style="oil")  # type: ignore[arg-type]
