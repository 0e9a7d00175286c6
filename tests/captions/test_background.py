"""Whether "background" is a name: in the published code an oracle of Pascal VOC says it, and never wrongly."""

from dataclasses import replace
from typing import Any

import pytest

from tadp_ray.captions.oracle import degraded_store, oracle_store
from tadp_ray.captions.prompts import Prompts, make_prompts
from tadp_ray.captions.sources import foreground
from tadp_ray.config.data import CaptionConfig
from tadp_ray.data.pascal import CLASSES
from tadp_ray.errors import UserError

PRESENT = {
    "plane": ("background", "airplane", "person"),
    "tv": ("background", "television"),
    "close": ("cat", "sofa"),  # fills its image
    "empty": ("background",),
}
CROWD = {f"{k}": ("background", *CLASSES[1 + k % 16 : 5 + k % 16]) for k in range(60)}


def prompts(present: dict[str, Any] = PRESENT, source: str = "oracle", budget: int = 75, **caption: Any) -> Prompts:
    """Prompts of VOC's classes, a token a word."""
    config = CaptionConfig(source=source, **caption)
    return make_prompts(config, present, CLASSES, 0, lambda text: len(text.split()), budget)


def test_by_default_an_oracle_says_background_as_the_published_one() -> None:
    assert CLASSES[0] == "background" and len(CLASSES) == 21
    assert prompts().by_id == {
        "plane": "background airplane person",
        "tv": "background television",
        "close": "cat sofa",
        "empty": "background",
    }
    without = prompts(include_background=False)
    assert without.by_id == {"plane": "airplane person", "tv": "television", "close": "cat sofa", "empty": ""}


def test_all_class_names_are_the_published_23_words_or_22() -> None:
    (said,) = {*prompts(source="class_names").by_id.values()}
    assert said.split()[:2] == ["background", "airplane"] and len(said.split()) == 23
    (said,) = {*prompts(source="class_names", include_background=False).by_id.values()}
    assert said.split()[0] == "airplane" and len(said.split()) == 22
    (said,) = {*prompts(source="class_names", encoding="class_embeddings", include_background=False).by_id.values()}
    assert said == tuple(CLASSES[1:])


@pytest.mark.parametrize("source", ["oracle", "template"])
def test_degraded_names_keep_the_background_and_never_invent_it(source: str) -> None:
    present = {**CROWD, "close": ("cat", "sofa")}
    worse = prompts(present, source, precision=0.5, recall=0.5, wording="names" if source == "template" else "short")
    spoken = {image_id: text.split() for image_id, text in worse.by_id.items()}
    assert all(spoken[image_id][0] == "background" for image_id in CROWD), "first, as in class order"
    assert "background" not in spoken["close"]
    # The targets are those of all other names; counted by hand over 242 of them.
    said = {image_id: {*foreground(worded(text))} for image_id, text in worse.by_id.items()}
    hits = sum(len(said[image_id] & {*present[image_id]}) for image_id in present)
    assert hits == 121 and sum(map(len, said.values())) == 242
    assert (worse.score.precision, worse.score.recall) == (0.5, 0.5)
    left_aside = prompts(present, source, precision=0.5, recall=0.5, include_background=False, wording="short")
    assert (left_aside.score.precision, left_aside.score.recall) == (0.5, 0.5)
    assert not any("background" in text for text in left_aside.by_id.values())


def worded(text: str) -> list[str]:
    """The names of a prompt of names, some of which have two words."""
    for name in CLASSES:
        text = text.replace(name, name.replace(" ", "_"))
    return [word.replace("_", " ") for word in text.split()]


@pytest.mark.parametrize("source", ["wrong", "shuffled"])
def test_names_of_other_images_keep_the_background_and_never_invent_it(source: str) -> None:
    for image_id, text in prompts(CROWD | PRESENT, source).by_id.items():
        assert ("background" in text.split()) == ("background" in (CROWD | PRESENT)[image_id])


def test_figures_do_not_count_the_background_whoever_speaks() -> None:
    everything = prompts(source="class_names")
    assert (everything.score.precision, everything.score.recall) == (5 / 80, 1.0)
    assert everything.fits["plane"].precision == 2 / 20 and everything.fits["empty"].recall is None
    silent = prompts(source="sentence", sentence="an airplane and a person")
    assert silent.fits["plane"].recall == 1.0, "a captioner need not say background"


def test_the_background_takes_its_tokens_before_other_names() -> None:
    crowded = {"a": ("background", "bird", "boat", "bottle"), **{f"{k}": ("background", "bird") for k in range(8)}}
    for recall in (0.9, 1.0):
        said = prompts(crowded, recall=recall, budget=3)
        assert len(said["a"].split()) == 3 and said["a"].split()[0] == "background" and said.truncated == 0
    # And before wrong ones, of which three are wanted.
    assert prompts({"a": ("background", "bird")}, precision=0.25, budget=3).truncated == 0


def test_the_background_is_one_of_the_names_that_are_always_said() -> None:
    shown = {name: PRESENT[name] for name in ("plane", "tv", "empty")}
    assert prompts(shown, recall=0.0, min_true=1).by_id == dict.fromkeys(shown, "background")
    assert [len(text.split()) for text in prompts(shown, recall=0.6, min_true=2).by_id.values()] == [2, 2, 1]


def test_an_oracle_s_names_stand_in_class_order_and_no_other_names_are_degraded() -> None:
    oracle = oracle_store({"a": ("cat", "background", "airplane")}, CLASSES, {})
    assert oracle.captions == {"a": ("background airplane cat",)}
    settings = {"precision": 0.5, "recall": 1.0, "seed": 0, "count_tokens": len, "budget": 75}
    # An imported file of an oracle has no names apart from its words.
    for other in (replace(oracle, names={}), replace(oracle, header={**oracle.header, "captioner": "blip"})):
        with pytest.raises(UserError, match="was not made by tadp-ray caption oracle, so it does not say which names"):
            degraded_store(other, **settings)


def test_the_caption_commands_do_as_trainings_do() -> None:
    oracle = oracle_store(CROWD, CLASSES, {})
    count = lambda text: len(text.split())
    worse = degraded_store(oracle, precision=0.5, recall=0.5, seed=0, count_tokens=count, budget=75)
    trained = prompts(CROWD, precision=0.5, recall=0.5)
    assert {image_id: texts[0] for image_id, texts in worse.captions.items()} == trained.by_id
    assert (worse.header["realised"]["precision"], worse.header["realised"]["recall"]) == (0.5, 0.5)
