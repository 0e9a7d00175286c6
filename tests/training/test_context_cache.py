"""Contexts are made once and found again."""

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tadp_ray.training import context_cache
from tadp_ray.training.context_cache import ContextCache, key_of
from tadp_ray.training.precision import allow_tf32


class Encoder:
    """Makes a context of a prompt's letters, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, prompts: Sequence[str]) -> list[Tensor]:
        """(2, 3) of each, of the letters' sum."""
        self.asked += prompts
        return [torch.ones(2, 3, requires_grad=True) * sum(map(ord, prompt)) for prompt in prompts]


def test_a_later_sweep_encodes_only_new_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_cache, "PER_FILE", 2)
    first, second = Encoder(), Encoder()
    one = ContextCache(first)
    before = one(["ox", "", "ox"])
    one.warm(tmp_path, "key", ["ox", "", "cat", "ox", "dog"])
    assert torch.equal(one(["ox", "", "ox"]), before) and not before.requires_grad

    two = ContextCache(second)
    two.warm(tmp_path, "key", ["cat", "cow"])
    assert second.asked == ["cow"]
    assert torch.equal(two(["cat", "cow", "ox"]), ContextCache(Encoder())(["cat", "cow", "ox"]))
    asked = list(first.asked)
    one.warm(tmp_path, "key", ["cow"])
    assert first.asked == asked and torch.equal(one(["cow"]), two(["cow"]))


def test_processes_take_turns_a_file_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the second of two waits until all of a data set is encoded, which takes a large text encoder hours."""
    monkeypatch.setattr(context_cache, "PER_FILE", 2)
    locked, first, second = context_cache.locked, Encoder(), Encoder()

    def interrupted(path: Path, patience: float) -> AbstractContextManager[None]:
        if first.asked:
            monkeypatch.setattr(context_cache, "locked", locked)
            ContextCache(second).warm(tmp_path, "key", list("abcde"))
        return locked(path, patience)

    monkeypatch.setattr(context_cache, "locked", interrupted)
    cache = ContextCache(first)
    cache.warm(tmp_path, "key", list("abcde"))
    assert first.asked == ["a", "b"] and second.asked == ["c", "d", "e"]
    assert len([*tmp_path.glob("*.safetensors")]) == 3
    assert torch.equal(cache(list("abcde")), ContextCache(Encoder())(list("abcde")))


def test_names_are_not_a_text_of_the_same_letters(tmp_path: Path) -> None:
    """They are encoded one by one, and so are kept apart, in memory and in files."""
    encode = lambda prompts: [torch.full((1, 2), float(len(prompt))) for prompt in prompts]
    cache = ContextCache(encode)
    assert cache([("ox",)]).tolist() == [[[1.0, 1.0]]] and cache(["ox"]).tolist() == [[[2.0, 2.0]]]
    cache.warm(tmp_path, "key", [("ox", "cow"), ("ox",)])
    again = ContextCache(Encoder())
    again.warm(tmp_path, "key", [("ox", "cow"), ("ox",)])
    assert again([("ox",), ("ox", "cow")])[:, 0, 0].tolist() == [1.0, 2.0]
    assert len({*map(key_of, ("ox", ("ox",), "ox, cow", ("ox", "cow"), ("ox, cow",)))}) == 5


def flip(path: Path, place: int) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["bit of a number", "bit of a fact", "cut", "text", "another key", "no checksum"])
def test_a_file_that_is_not_whole_or_not_ours_is_told_and_made_afresh(tmp_path: Path, damage: str, capsys) -> None:
    """A flipped bit of a number is the worst: every later cell would be scored by it."""
    key = "another" if damage == "another key" else "key"
    ContextCache(Encoder()).warm(tmp_path, key, ["ox"])
    (file,) = tmp_path.glob("*.safetensors")
    match damage:
        case "bit of a number":
            flip(file, -2)
        case "bit of a fact":
            flip(file, file.read_bytes().index(b"contexts") + 2)
        case "cut":
            file.write_bytes(file.read_bytes()[:-1])
        case "text":
            file.write_text("my notes")
        case "no checksum":
            save_file({key_of("ox"): torch.full((2, 3), 7.0)}, file)
    again = Encoder()
    contexts = ContextCache(again)
    contexts.warm(tmp_path, "key", ["ox"])
    assert again.asked == ["ox"] and torch.equal(contexts(["ox"]), torch.full((1, 2, 3), 231.0))
    said = capsys.readouterr().err
    assert said.startswith(f"{file}: ") and said.endswith("; made afresh\n") and said.count("\n") == 1
    ContextCache(again).warm(tmp_path, "key", ["ox"])
    assert again.asked == ["ox"] and not capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_share_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has written a file leaves the lock to the other, which asks for it several times a second."""
    monkeypatch.setattr(context_cache, "PER_FILE", 1)
    prompts, encoders = list("abcdef"), (Encoder(), Encoder())
    threads = [
        threading.Thread(target=ContextCache(encoder).warm, args=(tmp_path, "key", prompts)) for encoder in encoders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = (encoder.asked for encoder in encoders)
    assert sorted(first + second) == prompts and first and second


def test_only_files_with_needed_contexts_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading is of whole files, and other cells may have left many."""
    for prompts in (["x", "y"], ["a", "b"]):
        ContextCache(Encoder()).warm(tmp_path, "key", prompts)
    opened, opening = [], context_cache.open_labelled
    monkeypatch.setattr(context_cache, "open_labelled", lambda path, label: opened.append(path) or opening(path, label))
    encoder = Encoder()
    cache = ContextCache(encoder)
    cache.warm(tmp_path, "key", list("abc"))
    assert encoder.asked == ["c"] and len({*opened}) == 2
    assert torch.equal(cache(list("abc")), ContextCache(Encoder())(list("abc"))) and encoder.asked == ["c"]
    cache.warm(tmp_path, "key", ["y", "a"])
    assert encoder.asked == ["c"] and len({*opened}) == 3


def test_known_contexts_leave_the_precision_of_a_running_evaluation(tmp_path: Path) -> None:
    """They are asked for in a thread, while the model computes another batch in TF32."""
    cache = ContextCache(Encoder())
    cache.warm(tmp_path, "key", ["ox"])
    allow_tf32(True)
    try:
        cache(["ox"])
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        allow_tf32(False)
