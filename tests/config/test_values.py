"""Values of axes as headings, and as words of a command line."""

import pytest

from tadp_ray.config.errors import ConfigError
from tadp_ray.config.values import headings_of, meant, split_words, text_of, yaml_of

STORE = {"source": "store", "store": "mine.jsonl"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (0.5, "0.5"),
        ([1, 50], "[1, 50]"),
        (["up0.2", True], "[up0.2, true]"),
        (STORE, "store mine.jsonl"),
        ({"source": "oracle", "recall": 0.5, "shuffle": False}, "oracle recall 0.5 shuffle false"),
        ({"kind": "lora", "targets": ["to_q"], "inner": {"rank": 4}}, "lora targets [to_q] rank 4"),
        ({}, "{}"),
    ],
)
def test_values_are_written_as_in_yaml_and_groups_by_their_values(value, text: str) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("values", "headings"),
    [
        ([{"source": "oracle"}, {"source": "null"}, STORE], ["oracle", "null", "store mine.jsonl"]),
        # What all groups say distinguishes none.
        ([STORE, {"source": "store", "store": "other.jsonl"}], ["mine.jsonl", "other.jsonl"]),
        ([{"source": "oracle"}, {"source": "oracle", "recall": 0.5}], ["oracle", "oracle recall 0.5"]),
        ([{"a": "x", "b": "1"}, {"a": "x", "c": "1"}], ['{a: x, b: "1"}', '{a: x, c: "1"}']),
        (["text", {"sources": ["text", "image"]}], ["text", "sources [text, image]"]),
        ([False, True], ["false", "true"]),
    ],
)
def test_a_group_is_headed_by_what_distinguishes_it(values, headings: list[str]) -> None:
    assert headings_of(values) == headings


AXES = {"caption": [{"source": "oracle"}, STORE], "caption.recall": [0.5, 1.0], "model.flag": [True, None]}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("oracle", ("caption", {"source": "oracle"})),
        ("caption={store: mine.jsonl, source: store}", ("caption", STORE)),
        ("store mine.jsonl", ("caption", STORE)),
        ("recall 0.5", ("caption.recall", 0.5)),
        ("caption.recall=1", ("caption.recall", 1.0)),
        ("5e-1", ("caption.recall", 0.5)),
        ("flag=true", ("model.flag", True)),
        ("flag=null", ("model.flag", None)),
        ("flag=1", None),
        ("recall={", None),
        ("recall=7", None),
    ],
)
def test_a_value_is_named_by_heading_text_or_yaml_with_and_without_its_axis(text: str, found) -> None:
    assert meant(text, AXES) == found


def test_what_several_axes_have_is_asked_for() -> None:
    axes = {"caption.precision": [0.5], "caption.recall": [0.5, 1.0], "other.recall": [2]}
    with pytest.raises(ConfigError, match="^0.5: may be of caption.precision or caption.recall; name one of them"):
        meant("0.5", axes)
    with pytest.raises(ConfigError, match="^recall=2: may be of caption.recall or other.recall"):
        meant("recall=2", axes)


def test_commas_in_brackets_part_no_words() -> None:
    assert split_words("a={b: [1, 2], c: {d: 1}}, 3") == ["a={b: [1, 2], c: {d: 1}}", "3"]


def test_a_group_in_yaml_quotes_what_would_be_read_otherwise() -> None:
    assert yaml_of({"a": "null", "b": ["x y", "1"], "c": None}) == '{a: "null", b: [x y, "1"], c: null}'
