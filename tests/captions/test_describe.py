"""Sentences about known scenes read like a captioner's and name every thing with its count and place."""

from tadp_ray.captions.describe import Mention, class_list, long_sentence, sentence


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
