"""The pocket world: the same bits from the same seed, and annotations that agree with one another and with what is drawn."""

import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from operator import ne
from pathlib import Path

import numpy as np
import pytest

from tadp_ray.captions.describe import Mention, counted, plural
from tadp_ray.captions.precision_recall import degrade
from tadp_ray.conditioning.tokenizer import load_tokenizer
from tadp_ray.data import drawings
from tadp_ray.data import scenes as module
from tadp_ray.data.config import ScenesData
from tadp_ray.data.datasets import open_dataset
from tadp_ray.data.sample import Sample
from tadp_ray.data.scenes import (
    BACKDROPS,
    CLASSES,
    GROUNDS,
    LOOK_ALIKES,
    SIZES,
    SPLITS,
    STUFF,
    SUBGROUP_OF,
    THINGS,
    WORLD,
    Scene,
    SceneObject,
    Scenes,
    around,
    render,
)
from tadp_ray.data.styles import STYLES
from tadp_ray.errors import UserError
from tadp_ray.pictures.sheet import contact_sheet

COUNT = 60
FILTERS, REDRAWN = ("night", "watercolor", "comic"), ("sticker", "sketch")
SINGULAR = {plural(name): name for name in THINGS}


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes("train", COUNT)


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[SceneObject, np.ndarray, np.ndarray]]:
    """Every object that is placed in a scene from now on, seen or not, with its colours and alpha in the picture."""
    found, place = [], module._placed

    def note(thing: SceneObject, size: int, horizon: float) -> tuple[np.ndarray, np.ndarray]:
        found.append((thing, *place(thing, size, horizon)))
        return found[-1][1:]

    monkeypatch.setattr(module, "_placed", note)
    return found


def test_another_process_renders_the_same_bits(scenes: Scenes) -> None:
    program = "from tadp_ray.data.scenes import Scenes; print(Scenes('train', 60).digest())"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == scenes.digest()


@pytest.mark.parametrize(
    ("style", "digest"),
    [
        ("photo", "2fe457402a7df0a5"),
        ("night", "0faac3878e796d89"),
        ("watercolor", "51ee30caa349383c"),
        ("comic", "6664ac3db28da63d"),
        ("sticker", "42443a1707e5514f"),
        ("sketch", "0b675281dcfcf64d"),
    ],
)
def test_every_machine_renders_the_same_bits(style: str, digest: str) -> None:
    """This rests on numpy's PCG64 and its distributions, whose streams a new version of numpy may change, on Pillow's
    resampling in whole numbers, and on the rounding of colours, which hides the last bits of sines and of matrix products.
    """
    assert Scenes("train", 16, style=style).digest()[:16] == digest


def test_splits_and_seeds_show_different_scenes(scenes: Scenes) -> None:
    assert len({Scenes(split, 2).digest() for split in SPLITS} | {Scenes("train", 2, seed=1).digest()}) == 5
    assert not np.array_equal(Scenes("train", 1, seed=1)[0].mask, scenes[0].mask)


def test_the_scenes_that_are_scored_are_of_the_split_that_a_recipe_names() -> None:
    scored = open_dataset(ScenesData(kind="scenes", eval_split="test", val=2), "val")
    assert scored.ids == Scenes("test", 2).ids == ("test-0-000000", "test-0-000001")


def test_a_split_is_other_random_numbers_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Things look alike in pretraining and in labelled scenes: with the numbers of train, pretrain shows the scenes of train."""
    labelled = [render("train", 0, index) for index in range(5)]
    monkeypatch.setattr(module, "SPLITS", ("train", "pretrain", "val", "test"))
    for index, sample in enumerate(labelled):
        assert same(render("pretrain", 0, index), sample, "image", "mask", "depth", "boxes", "box_classes", "instances")


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


def test_the_picture_the_instances_and_the_depth_are_those_of_the_nearest_thing(
    placed: list[tuple[SceneObject, np.ndarray, np.ndarray]],
) -> None:
    """Without light and noise, as a painter does it: the farthest first."""
    world, hidden = replace(WORLD, light=(1.0, 1.0), noise=0.0), 0
    for index in range(COUNT):
        placed.clear()
        sample = render("val", 0, index, world=world)
        depths = [np.float32(WORLD.camera_height / thing.foot) for thing, _, _ in placed]
        assert sorted(depths) == depths and len({*depths}) == len(depths)
        kept = [entry for entry, depth in zip(placed, depths, strict=True) if depth in sample.depth]
        hidden += len(placed) - len(kept)
        instances = np.zeros((64, 64), dtype=int)
        for place, (_, _, alpha) in reversed([*enumerate(kept, 1)]):
            instances[alpha >= 0.5] = place
        assert np.array_equal(instances, sample.instances)
        before = np.zeros((64, 64))
        for place, (thing, colour, alpha) in enumerate(kept, 1):
            own, clear = instances == place, (alpha == 1) & (before == 0)
            assert (sample.depth[own] == np.float32(WORLD.camera_height / thing.foot)).all()
            assert CLASSES[sample.box_classes[place - 1]] == thing.name
            assert own[clear].all() and np.abs(sample.image[clear] - 255 * colour[clear]).max(initial=0) <= 0.51
            before += alpha
    assert hidden > 5


def test_a_thing_is_as_large_as_its_subgroup_and_its_distance_say(
    placed: list[tuple[SceneObject, np.ndarray, np.ndarray]],
) -> None:
    assert SIZES.keys() == drawings.SUBGROUPS.keys()
    for index in range(COUNT):
        render("val", 0, index)
    factors = []
    for thing, _, _ in placed:
        height, width = thing.alpha.shape
        metres = WORLD.camera_height / thing.foot / 64
        factors.append((height * width) ** 0.5 * metres / SIZES[SUBGROUP_OF[thing.name]])
    # A side may be rounded by half a pixel.
    assert 0.80 < min(factors) < 0.90 and 1.15 < max(factors) < 1.25
    assert np.mean(factors) == pytest.approx(np.mean(WORLD.size_jitter), abs=0.02)


def test_captions_name_exactly_the_visible_classes(scenes: Scenes) -> None:
    for index in range(COUNT):
        visible = {CLASSES[value] for value in np.unique(scenes[index].mask)}
        assert visible == set(scenes.present(index))
        for caption in (scenes.caption(index), scenes.say(index, scenes.present(index), "long", 0)):
            words = [SINGULAR.get(word, word) for word in re.findall(r"\w+", caption)]
            assert set(words) & set(CLASSES) == visible


def test_captions_are_english(scenes: Scenes) -> None:
    assert scenes.caption(18) == "a photo of sky, grass, a rabbit, a doughnut, a cactus and an airplane"
    assert scenes.say(18, scenes.present(18), "long", 0) == (
        "a photo of a doughnut in the middle, a rabbit in the middle, an airplane on the right and a cactus on the left, on "
        "grass, with sky behind"
    )
    things = [Mention("fox", 0.1, near=True), Mention("owl", 0.9, near=False), Mention("fox", 0.2, near=True)]
    assert around(things, ("sky", "snow", "hill", "fox", "owl"), "night photo") == (
        "a night photo of two foxes on the left and an owl far away on the right, on snow, with hill and sky behind"
    )


KINDS = ("scene", "counts", "places", "relations")
THING = r"(?:an?|two|three|four|five|six) (\w+)"
THIRDS = {"on the left": 0, "in the middle": 1, "on the right": 2}


def told(scenes: Scenes, index: int, wording: str) -> tuple[str, list[str]]:
    """What a sentence says of the things, phrase by phrase, after what it says of the rest, which is true."""
    caption, present = scenes.say(index, scenes.present(index), wording, 0), scenes.present(index)
    things, _, rest = caption.partition("on " + next(name for name in present if name in GROUNDS))
    behind = set(re.findall(r"\w+", rest)) & set(CLASSES)
    assert behind == {name for name in present if name == "sky" or name in BACKDROPS}
    said = things.removeprefix("a photo").removeprefix(" of").strip(" ,")
    return caption, re.split(r", | and ", said) if said else []


def test_a_sentence_about_the_scene_names_no_thing(scenes: Scenes) -> None:
    assert scenes.say(18, scenes.present(18), "scene", 0) == "a photo on grass, with sky behind"
    assert all(told(scenes, index, "scene")[1] == [] for index in range(COUNT))
    assert scenes.say(0, ("fox",), "scene", 0) == "a photo"


def test_counts_are_those_of_the_instances(scenes: Scenes) -> None:
    several = 0
    for index in range(COUNT):
        names = [CLASSES[value] for value in scenes[index].box_classes]
        wanted = Counter(names)
        caption, phrases = told(scenes, index, "counts")
        assert {re.fullmatch(THING, phrase)[1] for phrase in phrases} == {
            name if count == 1 else plural(name) for name, count in wanted.items()
        }, caption
        assert sorted(phrases) == sorted(counted(name, count) for name, count in wanted.items()), caption
        several += max(wanted.values()) > 1
    assert several > 3


def test_places_are_the_thirds_of_the_boxes_centres(scenes: Scenes) -> None:
    for index in range(COUNT):
        scene = scenes[index]
        centres = (scene.boxes[:, 0] + scene.boxes[:, 2]) / 2
        wanted = {(CLASSES[name], int(3 * x / scenes.size)) for name, x in zip(scene.box_classes, centres, strict=True)}
        caption, phrases = told(scenes, index, "places")
        found = [re.fullmatch(rf"an? (\w+) ({'|'.join(THIRDS)})", phrase) for phrase in phrases]
        assert len(found) == len(wanted) and {(each[1], THIRDS[each[2]]) for each in found} == wanted, caption


def holds(how: str, scene: Scene, depths: list[float], one: int, other: int) -> bool:
    """Whether an instance is on the left of another, on its right or behind it: farther, in some of its columns of pixels."""
    (left, _, right, _), (start, _, end, _) = scene.boxes[one], scene.boxes[other]
    if how == "behind":
        return depths[one] > depths[other] and left < end and start < right
    return bool(right <= start if how == "on the left of" else left >= end)


def test_every_relation_is_true_of_two_instances_and_no_thing_is_left_out(scenes: Scenes) -> None:
    seen = Counter()
    for index in range(COUNT):
        scene, (caption, phrases) = scenes[index], told(scenes, index, "relations")
        names = [CLASSES[value] for value in scene.box_classes]
        depths = [float(scene.depth[scene.instances == k].max()) for k in range(1, len(names) + 1)]
        said = set()
        for phrase in phrases:
            relation = re.fullmatch(r"an? (\w+) (on the left of|on the right of|behind) an? (\w+)", phrase)
            if relation is None:
                assert len(names) == 1 and phrase == counted(names[0], 1)
                said.add(names[0])
                continue
            one, how, other = relation.groups()
            pairs = [
                (i, j) for i in range(len(names)) for j in range(len(names)) if (names[i], names[j]) == (one, other)
            ]
            assert any(holds(how, scene, depths, i, j) for i, j in pairs if i != j), caption
            seen[how] += 1
            said |= {one, other}
        assert said == set(names), caption
    assert len(seen) == 3 and min(seen.values()) > 5


@pytest.mark.parametrize("wording", KINDS)
def test_sentences_are_in_words_of_the_pocket_model_and_fit_into_its_context(scenes: Scenes, wording: str) -> None:
    tokenizer, budget = load_tokenizer("pocket")
    for index in range(COUNT):
        caption = scenes.say(index, scenes.present(index), wording, 0)
        assert len(words := re.findall(r"\w+|,", caption)) <= budget
        assert len(tokenizer(caption, add_special_tokens=False).input_ids) == len(words), caption


@pytest.mark.parametrize("wording", ["short", "long", "counts", "places", "relations"])
def test_a_captioner_with_mistakes_says_the_names_it_is_given(scenes: Scenes, wording: str) -> None:
    present = {str(index): scenes.present(index) for index in range(COUNT)}
    chosen = {"min_true": 0, "shuffle": False, "seed": 0, "count_tokens": lambda name: 1, "budget": 75}
    said = degrade(present, CLASSES, precision=0.6, recall=0.5, **chosen)
    for index, names in said.items():
        caption = scenes.say(int(index), names, wording, 0)
        words = [SINGULAR.get(word, word) for word in re.findall(r"\w+", caption)]
        assert set(words) & set(CLASSES) == set(names), caption
        assert scenes.say(int(index), names, wording, 0) == caption
    assert scenes.say(0, (), wording, 0) == "a photo"


def test_a_mistake_is_said_at_any_place_among_what_is_there(scenes: Scenes) -> None:
    there = [name for name in scenes.present(18) if name in THINGS]
    found: Counter[int] = Counter()
    for name in {*THINGS} - {*there}:
        names = [own for own in THINGS if own in (*there, name)]
        words = re.findall(r"\w+", scenes.say(18, names, "long", 0))
        found[sorted(names, key=words.index).index(name)] += 1
    # About nine of 44 at each of the five places.
    assert len(there) == 4 and found.keys() == {*range(5)} and min(found.values()) > 3


def same(one: Sample, other: Sample, *fields: str) -> bool:
    return all(np.array_equal(getattr(one, field), getattr(other, field)) for field in fields)


@pytest.mark.parametrize("style", FILTERS)
def test_a_filter_changes_the_picture_and_nothing_else(scenes: Scenes, style: str) -> None:
    for index in range(5):
        styled = render("train", 0, index, style=style)
        assert np.abs(styled.image.astype(int) - scenes[index].image).mean() > 20
        assert same(styled, scenes[index], "mask", "depth", "boxes", "box_classes", "instances")


@pytest.mark.parametrize("style", REDRAWN)
def test_other_families_draw_the_same_things_in_the_same_places(
    scenes: Scenes, style: str, placed: list[tuple[SceneObject, np.ndarray, np.ndarray]]
) -> None:
    """Outlines and pictures differ, so that a thing may be hidden in one style only; what is planned and the rest stay."""
    for index in range(20):
        plans, samples = [], []
        for chosen in ("photo", style):
            placed.clear()
            samples.append(render("train", 0, index, style=chosen))
            plans.append([(thing.name, thing.foot, thing.centre) for thing, _, _ in placed])
        photo, redrawn = samples
        assert plans[0] == plans[1]
        assert not any(np.array_equal(getattr(photo, part), getattr(redrawn, part)) for part in ("image", "instances"))
        rest = (photo.instances == 0) & (redrawn.instances == 0)
        assert np.array_equal(photo.mask[rest], redrawn.mask[rest])
        assert np.array_equal(photo.depth[rest], redrawn.depth[rest])


@pytest.mark.slow
def test_the_docs_say_in_how_many_scenes_other_outlines_show_other_classes() -> None:
    scenes = {style: Scenes("test", 400, style=style) for style in ("photo", *REDRAWN)}
    names = {style: [each.present(index) for index in range(400)] for style, each in scenes.items()}
    others = [sum(map(ne, names["photo"], names[style])) for style in ("sticker", "sketch")]
    text = (Path(__file__).parents[2] / "docs/pocket_world.md").read_text()
    told = re.search(r"of 400 test scenes, (\d+) .* as stickers than as photos, and (\d+)\s", text)
    assert told and others == [*map(int, told.groups())]


def test_every_thing_is_seen_as_often_as_another_and_drawn_by_each_family_of_its_style(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: Counter[tuple[str, str]] = Counter()
    stamp = drawings.stamp
    monkeypatch.setattr(drawings, "stamp", lambda name, family: drawn.update([(name, family)]) or stamp(name, family))
    for style in ("photo", *REDRAWN):
        drawn.clear()
        for index in range(500):
            render("pretrain", 0, index, 32, style)
        assert {*drawn} == {(name, family) for name in THINGS for family in STYLES[style].families}
        names = Counter(name for name, family in drawn.elements())
        # Between a half and twice as often as by an even choice.
        assert drawn.total() / 96 < min(names.values()) and max(names.values()) < drawn.total() / 24


def test_a_turned_hue_keeps_grey_and_brightness() -> None:
    turn = module._hue_rotation(0.3)
    assert np.allclose(turn @ turn.T, np.eye(3)) and np.linalg.det(turn) == pytest.approx(1)
    assert np.allclose(np.full(3, 0.4) @ turn, 0.4) and np.trace(turn) == pytest.approx(1 + 2 * np.cos(0.3))
    assert np.allclose(turn @ module._hue_rotation(-0.3), np.eye(3))
    # Red goes to green by a third of a turn.
    assert np.allclose((1, 0, 0) @ module._hue_rotation(2 * np.pi / 3), (0, 1, 0))


def test_the_world_has_forty_eight_things_in_subgroups_of_four() -> None:
    assert len(THINGS) == 48 and len(STUFF) == 7 and STUFF + THINGS == CLASSES and len({*CLASSES}) == 55
    assert len(drawings.SUBGROUPS) == 12
    for members in drawings.SUBGROUPS.values():
        assert len(members) == 4
        assert all({name, *LOOK_ALIKES[name]} == {*members} and len(LOOK_ALIKES[name]) == 3 for name in members)


def test_sheet_size_and_index_errors(scenes: Scenes) -> None:
    assert Scenes("train", 1, size=128)[0].image.shape == (128, 128, 3)
    assert contact_sheet([Scenes("val", 5), Scenes("val", 5, style="night")]).shape == (3 * 128, 2 * 4 * 128, 3)
    with pytest.raises(IndexError, match="60"):
        scenes[60]
    with pytest.raises(UserError, match="pretrain, train, val, test"):
        Scenes("validation", 3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="photo, night, watercolor, comic, sticker, sketch"):
        Scenes("val", 3, style="oil")  # type: ignore[arg-type]
