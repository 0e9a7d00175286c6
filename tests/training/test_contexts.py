"""Contexts are made once and found again."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tadp_ray.errors import UserError
from tadp_ray.training import contexts
from tadp_ray.training.contexts import Contexts


class Encoder:
    """Makes a context of a prompt's letters, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, prompt: str) -> Tensor:
        """(2, 3), of the letters' sum."""
        self.asked.append(prompt)
        return torch.ones(2, 3, requires_grad=True) * sum(map(ord, prompt))


def test_a_later_sweep_encodes_only_new_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "PER_FILE", 2)
    first, second = Encoder(), Encoder()
    one = Contexts(first)
    before = one(["ox", "", "ox"])
    one.keep(tmp_path, ["ox", "", "cat", "ox", "dog"])
    assert torch.equal(one(["ox", "", "ox"]), before) and not before.requires_grad

    two = Contexts(second)
    two.keep(tmp_path, ["cat", "cow"])
    assert second.asked == ["cow"]
    assert torch.equal(two(["cat", "cow", "ox"]), Contexts(Encoder())(["cat", "cow", "ox"]))
    asked = list(first.asked)
    one.keep(tmp_path, ["cow"])
    assert first.asked == asked and torch.equal(one(["cow"]), two(["cow"]))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    Contexts(Encoder()).keep(tmp_path, ["ox"])
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{file}: not readable .* delete it to have it made afresh"):
        Contexts(Encoder()).keep(tmp_path, ["ox"])
