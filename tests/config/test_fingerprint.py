"""Fingerprints survive growth: a new key with an unchanged default leaves every cell that was trained before it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, create_model

from tadp_ray.config import fingerprint
from tadp_ray.config.cell import LOCATIONS, Cell
from tadp_ray.config.errors import models_in
from tadp_ray.config.model import MODELS
from tadp_ray.config.personalization import Personalization, PersonalSchedule
from tadp_ray.config.pretraining import Pretraining
from tadp_ray.config.recipe import Recipe, ScheduleConfig
from tadp_ray.config.vocabulary import StrictModel
from tadp_ray.paper.personalization.job import PersonalizationJob

RECIPE = {
    "schedule": {"iterations": 10, "learning_rate": 1e-3},
    "caption": {"source": "class_names", "encoding": "names"},
    "model": {"latent": "vpd", "head": {"kind": "smp_fpn", "channels": 64}},
}
PLAN = {
    "method": {"kind": "textual_inversion", "token": "<night>", "initializer_token": "night"},
    "images": {"kind": "scenes", "style": "night"},
    "schedule": {"iterations": 3, "learning_rate": 0.01},
    "modifier": "a <night> photo of a {caption}",
    "samples": ["a car"],
}


def cell(recipe: dict[str, Any] = RECIPE, kind: type[Recipe] = Recipe) -> Cell:
    """A cell by a recipe of some vocabulary."""
    made = kind.model_validate_json(json.dumps(recipe))
    digests = {"train": "a1", "val": "b2", "weights": "c3"}
    return Cell.model_construct(experiment="e", seed=7, axes={}, recipe=made, digests=digests)


def job(plan: dict[str, Any] = PLAN, kind: type[Personalization] = Personalization) -> PersonalizationJob:
    """A personalization by a plan of some vocabulary."""
    made = kind.model_validate_json(json.dumps(plan))
    return PersonalizationJob.model_construct(plan=made, seed=7, folder=Path("somewhere"), digests={"weights": "a1"})


class Dropped(StrictModel):
    """A group that nobody has thought of yet."""

    share: float = 0.0
    kinds: tuple[str, ...] = ("some", "more")


def grown(kind: type[BaseModel], **groups: type[BaseModel]) -> type[Any]:
    """The vocabulary of `kind` with a key and a group more, both with defaults, and groups of it grown, too."""
    swapped: dict[str, Any] = {}
    for name, group in groups.items():
        swapped[name] = (group, ...) if kind.model_fields[name].is_required() else (group, group())
    return create_model(f"New{kind.__name__}", __base__=kind, new_key=(int, 3), dropped=(Dropped, Dropped()), **swapped)


def test_a_new_key_and_a_new_group_leave_yesterdays_fingerprints() -> None:
    schedule, model = grown(ScheduleConfig), grown(MODELS["stable_diffusion"])
    today = grown(Recipe, schedule=schedule, model=model)
    assert cell(kind=today).recipe.schedule.dropped == Dropped()
    assert cell(kind=today).fingerprint == cell().fingerprint
    told = {**RECIPE, "dropped": {"share": 0, "kinds": ["some", "more"]}, "new_key": 3}
    assert cell(told, today).fingerprint == cell().fingerprint
    for news in ({"new_key": 4}, {"dropped": {"share": 0.5}}, {"model": {**RECIPE["model"], "new_key": 4}}):
        assert cell({**RECIPE, **news}, today).fingerprint != cell().fingerprint
    personal = grown(Personalization, schedule=grown(PersonalSchedule))
    assert job(kind=personal).fingerprint == job().fingerprint
    assert job({**PLAN, "new_key": 4}, personal).fingerprint != job().fingerprint
    assert grown(Pretraining)(size=32).fingerprint == Pretraining(size=32).fingerprint
    assert grown(Pretraining)(size=32, new_key=4).fingerprint != Pretraining(size=32).fingerprint


def test_fingerprints_are_those_of_the_cells_that_users_have_trained() -> None:
    """Another value here orphans every finished cell of everybody."""
    assert cell().fingerprint == "84e0e7d315086a5b9f36f5ff6ae11d9fee71c284c6a379e86267791fdec26a92"
    assert job().fingerprint == "e1a1cd40a0713e9c00e8a45f7c2014782c984d55c9d072d01c5c189082a98df3"
    assert Pretraining(size=32).fingerprint == "813e3646e015487945b89409390d65c65f9ef52b767db0e677f514785875c405"


def test_defaults_that_are_spelled_out_are_no_other_cell() -> None:
    small = {"schedule": RECIPE["schedule"], "caption": {"source": "class_names"}}
    whole = cell(small).recipe.model_dump(mode="json")
    assert cell(whole).fingerprint == cell(small).fingerprint
    for group in (
        {"data": {"kind": "scenes"}},
        {"model": {"head": {}}},
        {"model": {"latent": "ls"}},
        {"augment": {}},
        {"model": {"trainable": "full"}},
    ):
        assert cell({**small, **group}).fingerprint == cell(small).fingerprint
    zeros = [cell({**small, "schedule": {**small["schedule"], "backbone_lr_mult": zero}}) for zero in (0, 0.0, -0.0)]
    assert len({found.fingerprint for found in zeros}) == 1
    spelled = job(job().plan.model_dump(mode="json"))
    assert spelled.fingerprint == job().fingerprint


def test_a_place_is_no_setting_even_where_a_group_says_nothing_else() -> None:
    bare = {"schedule": RECIPE["schedule"], "caption": {"source": "class_names"}}
    places = [{"model": {"weights": "elsewhere"}}, {"model": {"embeddings": "e.bin"}}, {"compute": {"num_workers": 4}}]
    assert {cell({**bare, **place}).fingerprint for place in places} == {cell(bare).fingerprint}
    streets = [
        {"kind": "cityscapes", "root": root, "target_domain": {"kind": "dark_zurich", "root": root}} for root in "ab"
    ]
    cropped = {**bare, **places[0], "augment": {"crop": 64}}
    assert len({cell({**cropped, "data": data}).fingerprint for data in streets}) == 1
    other = {**PLAN, "compute": {"cpus": 3, "gpus": 1}, "weights": "elsewhere"}
    assert job(other).fingerprint == job().fingerprint


def test_threads_count_on_cpus_and_not_beside_a_gpu() -> None:
    """One thread is the default, so that cells of one thread are known as they were."""
    threads = lambda count, gpus: {**RECIPE, "compute": {"cpus": count, "gpus": gpus}}
    assert cell(threads(1, 0)).fingerprint == cell(threads(1, 1)).fingerprint == cell().fingerprint
    assert len({cell(threads(count, 0)).fingerprint for count in (1, 2, 4)}) == 3
    assert cell(threads(4, 1)).fingerprint == cell(threads(1, 1)).fingerprint
    plans = [{**PLAN, "compute": {"cpus": count}} for count in (1, 2)]
    assert job(plans[0]).fingerprint == job().fingerprint != job(plans[1]).fingerprint


@pytest.mark.parametrize("gpus", [0, 1])
def test_a_compiled_step_is_another_cell(gpus: int) -> None:
    compiled = {**RECIPE, "compute": {"compile": True, "gpus": gpus}}
    assert cell(compiled).fingerprint != cell().fingerprint


def test_every_changed_value_is_another_cell() -> None:
    changes = [
        {"data": {"kind": "scenes", "style": "night"}},
        {"data": {"kind": "scenes", "extra_styles": ["night"]}},
        {"schedule": {"iterations": 11, "learning_rate": 1e-3}},
        {"schedule": {"iterations": 10, "learning_rate": 1e-3, "micro_batch": 16}},
        {"caption": {"source": "class_names"}},
        {"model": {"latent": "vpd"}},
        {"model": {"trainable": "frozen"}},
        {"model": {"trainable": "attention_only"}},
        {"model": {"trainable": "lora"}},
        {"model": {"trainable": {"kind": "lora", "rank": 8}}},
        {"model": {"trainable": {"kind": "lora", "targets": ["to_q"]}}},
        {"model": {"latent": "vpd", "head": {"kind": "smp_fpn"}}},
        {"model": {"latent": {"draw": "mode"}, "head": {"kind": "smp_fpn", "channels": 64}}},
        {"model": {"head": {"kind": "semantic_fpn", "channels": 64}}},
        {"evaluation": {"scales": [1.0, 1.25]}},
        {"evaluation": {"captions": {"none": {"source": "null"}}}},
        {"evaluation": {"captions": {"nothing": {"source": "null"}}}},
        {"evaluation": {"captions": {"none": {"source": "oracle", "recall": 0.5}}}},
        {"augment": {"scale": [0.5, 1.0]}},
        {"model": {"context": {"sources": ["text", "learned"]}}},
        {"model": {"context": {"sources": ["text", {"kind": "learned", "count": 5}]}}},
        {"model": {"context": {"sources": ["learned", "text"]}}},
        {"model": {"context": {"sources": ["text", "learned"], "join": "sum"}}},
        {"model": {"context": {"sources": ["text", "image"]}}},
        {"model": {"context": {"sources": ["text", {"kind": "image", "map": "cide"}]}}},
    ]
    found = [cell({**RECIPE, **change}).fingerprint for change in changes]
    assert len({cell().fingerprint, *found}) == len(changes) + 1


def test_the_number_of_the_meaning_of_defaults_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [cell().fingerprint, job().fingerprint, Pretraining().fingerprint]
    for room in ("cell", "pretraining"):
        monkeypatch.setattr(f"tadp_ray.config.{room}.DEFAULTS", fingerprint.DEFAULTS + 1)
    monkeypatch.setattr("tadp_ray.paper.personalization.job.DEFAULTS", fingerprint.DEFAULTS + 1)
    assert not {cell().fingerprint, job().fingerprint, Pretraining().fingerprint} & {*before}


def defaults(kind: type[BaseModel], name: str, without: dict[str, Any]) -> Iterator[str]:
    """`name.key = value` for every key that counts and has a default, groups inside included."""
    for key, field in kind.model_fields.items():
        inner = without.get(key, {})
        if inner is True:
            continue
        value = field.get_default(call_default_factory=True)
        if not field.is_required():
            shown = fingerprint.changed(value, inner) if isinstance(value, BaseModel) else value
            yield f"{name}.{key} = {type(value).__name__} {shown!r}"
        for group in models_in(field.annotation):
            yield from defaults(group, f"{name}.{key}[{group.__name__}]", inner)


def test_a_changed_default_raises_the_number_of_their_meaning(tmp_path: Path) -> None:
    """`defaults.txt` lists the defaults that fingerprints are silent about."""
    lines = [f"DEFAULTS = {fingerprint.DEFAULTS}", *defaults(Recipe, "recipe", LOCATIONS)]
    located = {"compute": True, "weights": True}
    lines += [
        *defaults(Personalization, "personalization", located),
        *defaults(Pretraining, "pretraining", {"gate_every": True}),
    ]
    kept = Path(__file__).with_name("defaults.txt")
    now = tmp_path / kept.name
    now.write_text("\n".join(lines) + "\n")
    if now.read_text() == kept.read_text():
        return
    before = dict(line.split(" = ", 1) for line in kept.read_text().splitlines())
    today = dict(line.split(" = ", 1) for line in lines)
    other = [key for key in before.keys() & today.keys() - {"DEFAULTS"} if before[key] != today[key]]
    raised = before["DEFAULTS"] != today["DEFAULTS"]
    assert raised or not other, f"the defaults of {other} changed: raise DEFAULTS in tadp_ray/config/fingerprint.py"
    pytest.fail(f"keys came or went; the list of today is {now}: copy it over {kept}")


def test_of_groups_that_stand_in_one_place_at_most_one_has_a_default_kind() -> None:
    """Else two of them would say the same where both keep to their defaults."""

    def groups(kind: type[BaseModel]) -> Iterator[list[type[BaseModel]]]:
        for field in kind.model_fields.values():
            found = models_in(field.annotation)
            yield found
            for group in found:
                yield from groups(group)

    places = [found for kind in (Recipe, Personalization) for found in groups(kind) if len(found) > 1]
    assert len(places) >= 4
    for found in places:
        kinds = [group.model_fields.get("kind") or group.model_fields["backbone"] for group in found]
        assert sum(not kind.is_required() for kind in kinds) <= 1, found
