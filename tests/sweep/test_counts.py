"""What the cells of a plan share is hashed, read and checked once, however many cells there are."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tadp_ray.captions import forms
from tadp_ray.captions.store import CaptionStore
from tadp_ray.config import cell as cell_module
from tadp_ray.training import digests, setup
from tests.fixtures.cells import make_plan


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], list[Any]]:
    """`counted(module, "name")`: the list of the first arguments that a function is called with from now on."""

    def count(place: Any, name: str) -> list[Any]:
        whole, calls = getattr(place, name), []
        monkeypatch.setattr(place, name, lambda *words, **named: calls.append(words[0]) or whole(*words, **named))
        return calls

    return count


def test_weights_data_and_groups_are_hashed_once_a_plan(experiment: Path, counted) -> None:
    weights, data = counted(digests, "model_digests"), counted(digests, "data_digests")
    hashed = counted(cell_module, "sha256_of")
    plan = make_plan(experiment, "pocket", seeds=range(5))
    assert len({cell.fingerprint for cell in plan.cells}) == 20
    assert (len(weights), len(data)) == (1, 1)
    kinds = Counter("group" if "digests" in value else "fingerprint" for value in hashed)
    assert kinds == {"group": 4, "fingerprint": 20}


def test_a_seed_changes_the_fingerprint_and_not_the_group(experiment: Path) -> None:
    one, other = make_plan(experiment, "pocket", seeds=[3, 4]).cells[:2]
    assert one.group == other.group and one.fingerprint != other.fingerprint
    again = one.with_seed(4)
    assert (
        again == other and again.fingerprint == other.fingerprint and again.with_seed(3).fingerprint == one.fingerprint
    )


def test_a_caption_store_is_parsed_once_until_it_changes(experiment: Path, tmp_path: Path, counted) -> None:
    store = tmp_path / "captions.jsonl"
    CaptionStore({"a": ("a cat",)}).write(store)
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("axes: {schedule.learning_rate: [1e-3, 1e-4], schedule.power: [1.0, 0.9]}\n")
    text = experiment.read_text().replace("caption.precision", "schedule.learning_rate")
    experiment.write_text(text.replace("caption.recall", "schedule.power").partition("  published")[0])
    changes = ["caption.source=store", f"caption.store={store}"]
    parsed = counted(forms, "read_text")
    first = make_plan(experiment, "pocket", overrides=changes)
    assert parsed == [store] and len(first.cells) == 4
    CaptionStore({"a": ("a dog",)}).write(store)
    second = make_plan(experiment, "pocket", overrides=changes)
    assert parsed == [store] * 2
    assert first.cells[0].digests["captions"] != second.cells[0].digests["captions"]


def test_the_check_makes_the_prompts_of_one_seed_of_each_setting(experiment: Path, counted) -> None:
    made = counted(setup, "make_prompts")
    plan = make_plan(experiment, "pocket", seeds=range(5))
    plan.check(plan.cells)
    # Four settings, two splits.
    assert len(made) == 8
