"""Nouns-only captions: what is kept, what the header tells, and what is said without the tagger."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tadp_ray.captions.nouns import NOUNS, load_tagger, nouns_of, nouns_store
from tadp_ray.captions.store import CaptionStore, read_store
from tests.fixtures.cli import invoke


def by_list(words: Sequence[str]) -> list[str]:
    """A tagger that knows three nouns and a proper name."""
    return [{"cat": "NN1", "beds": "NN2", "people": "NN0", "Rome": "NP0"}.get(word, "VVB") for word in words]


def test_nouns_are_kept_once_in_their_order() -> None:
    assert nouns_of("people see a cat, beds and the cat's people in Rome", by_list) == ["people", "cat", "beds"]
    assert nouns_of("", by_list) == []


def test_tags_and_the_oracle_s_mark_stay() -> None:
    store = CaptionStore({"a": ("a cat", "so")}, {"captioner": "oracle"}, tags={"a": ("short", "none")})
    made = nouns_store(store, by_list, "a list")
    assert made.captions == {"a": ("cat", "")} and made.tags == store.tags and made.uses_ground_truth
    assert (made.header["tagger"], made.header["nouns_of"]) == ("a list", store.digest())
    plain = nouns_store(CaptionStore({"a": ("a cat",)}), by_list, "a list")
    assert not plain.uses_ground_truth
    published = CaptionStore({"a": ("cat",)}, path=Path("pascal_class_names.json"))
    assert nouns_store(published, by_list, "a list").uses_ground_truth


def test_without_the_tagger_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "HanTa.HanoverTagger", None)
    CaptionStore({"a": ("a cat",)}).write(tmp_path / "a.jsonl")
    done = invoke("caption", "nouns", tmp_path / "a.jsonl", "--out", tmp_path / "b.jsonl")
    assert done.exit_code == 2 and "pip install HanTa" in done.stderr


def test_english_captions_are_tagged(tmp_path: Path, needs_extra: Callable[[str, str], None]) -> None:
    needs_extra("nouns", "HanTa")
    assert set(load_tagger()(["a", "cat", "runs"])) & {*NOUNS} == {"NN1"}
    CaptionStore({"a": ("a cat laying on a bed with a pillow", "two dogs and a television")}).write(
        tmp_path / "a.jsonl"
    )
    done = invoke("caption", "nouns", tmp_path / "a.jsonl", "--out", tmp_path / "b.jsonl")
    assert done.exit_code == 0, done.output
    made = read_store(tmp_path / "b.jsonl")
    assert made["a"] == ("cat bed pillow", "dogs television") and made.header["tagger"].startswith("HanTa ")
