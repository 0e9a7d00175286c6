"""Sentences about known scenes read like a captioner's and name every thing with its count and place."""

from tadp_ray.captions.describe import Mention, class_list, counted, long_sentence, plural, relations, sentence


def test_the_three_kinds_of_caption():
    names = ("sky", "road", "bus", "child")
    assert class_list(names) == "sky road bus child"
    assert sentence(names, {"bus", "child"}) == "a photo of sky, road, a bus and a child"
    told = long_sentence(
        [Mention("bus", 0.1, True), Mention("child", 0.9, False), Mention("bus", 0.2, True)], ["road"], ["wall", "sky"]
    )
    assert (
        told == "a photo of two buses on the left and a child far away on the right, on road, with wall and sky behind"
    )


def test_a_scene_without_things_or_without_a_view_is_still_a_sentence():
    assert long_sentence([], ["sand"], ["sky"]) == "a photo on sand, with sky behind"
    assert long_sentence([Mention("sheep", 0.5, True)] * 2, [], []) == "a photo of two sheep in the middle"


def test_a_farther_object_is_left_or_right_of_a_nearer_one_or_behind_it():
    """Boxes that only touch do not overlap."""
    car, tree = Mention("car", 0.5, True, 0.25, 0.75), lambda *edges: Mention("tree", 0.5, True, *edges)
    where = {
        (0.0, 0.25): "on the left of",
        (0.75, 1.0): "on the right of",
        (0.0, 0.26): "behind",
        (0.74, 1.0): "behind",
    }
    for edges, said in where.items():
        assert relations([car, tree(*edges)]) == [f"a tree {said} a car"]
    assert relations([car, tree(0.0, 0.2), tree(0.0, 0.2), car]) == (
        ["a tree on the left of a car", "a tree behind a tree", "a car on the right of a tree"]
    )
    assert relations([car]) == ["a car"] and relations([]) == []
    # Of an object that is not there, only a centre is said.
    assert relations([Mention("owl", 0.1, True), car]) == ["a car on the right of an owl"]


def test_articles_and_plurals_are_english():
    single = ("car", "apple", "owl", "ewe")
    assert [counted(name, 1) for name in single] == ["a car", "an apple", "an owl", "a ewe"]
    assert [counted("couch", number) for number in (2, 6, 7)] == ["two couches", "six couches", "many couches"]
    names = ("fox", "church", "cactus", "bunny", "dromedary", "toy", "sheep", "goose", "house")
    assert [*map(plural, names)] == (
        ["foxes", "churches", "cactuses", "bunnies", "dromedaries", "toys", "sheep", "geese", "houses"]
    )
