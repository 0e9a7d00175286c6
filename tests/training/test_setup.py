"""What a cell is made from: the prompts of training and of evaluation, and what is refused before any training."""

import gc
import re
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from tadp_ray.backbones.latent.config import LatentDiffusionKeys
from tadp_ray.backbones.stable_diffusion.family import StableDiffusion as SD
from tadp_ray.backbones.stable_diffusion.learned_tokens import LearnedToken, write_learned
from tadp_ray.conditioning.context import Context
from tadp_ray.conditioning.sources import LearnedSource
from tadp_ray.config.cell import Cell
from tadp_ray.config.context import ContextConfig
from tadp_ray.config.data import CaptionConfig
from tadp_ray.config.load import load_recipe
from tadp_ray.data.datasets import PocketScenes
from tadp_ray.data.loader import AugmentedDataset
from tadp_ray.data.pixels import to_tensor
from tadp_ray.data.sample import NO_IMAGE, Sample
from tadp_ray.data.scenes import CLASSES, STUFF
from tadp_ray.data.transforms import Augment
from tadp_ray.errors import UserError
from tadp_ray.plugins import Registry
from tadp_ray.registry import (
    BACKBONES,
    CONTEXT_SOURCES,
    DATASETS,
    ENCODINGS,
    HEADS,
    METRICS,
    TASKS,
    Metric,
    MetricEntry,
)
from tadp_ray.tasks.segmentation.task import segmentation
from tadp_ray.training.check import check_augment, check_first, check_head, check_setup
from tadp_ray.training.context_cache import ContextCache
from tadp_ray.training.setup import Cache, TrainSetup, load_encoder
from tadp_ray.training.windows import passes

ROOT = Path(__file__).resolve().parents[2]
NIGHT = ["a dark <night> photo of a {caption}"]


def setup(make: Callable[..., Cell], caption: dict, **model: object) -> TrainSetup:
    """A tiny cell's setup with this caption."""
    return TrainSetup(make(caption=caption, model=model).recipe, 0)


@pytest.mark.parametrize(("apply", "told"), [("train+eval", True), ("eval", False)])
def test_modifiers_are_put_around_evaluations_prompts_always_and_around_trainings_by_choice(
    tiny_cell: Callable[..., Cell], apply: str, told: bool
) -> None:
    plain = setup(tiny_cell, {})
    night = setup(tiny_cell, {"modifiers": NIGHT, "modifiers_apply": apply})

    def around(prompts: dict[str, str]) -> dict[str, str]:
        return {image_id: f"a dark <night> photo of a {text}" for image_id, text in prompts.items()}

    assert night.val_prompts.by_id == around(plain.val_prompts.by_id)
    before = plain.train_prompts.by_id
    assert night.train_prompts.by_id == (around(before) if told else before)
    assert len(before) == 10 and all(before.values())


def test_precision_and_recall_are_those_of_what_a_sentence_about_the_scene_says(tiny_cell: Callable[..., Cell]) -> None:
    prompts = setup(tiny_cell, {"source": "template", "wording": "scene"}).val_prompts
    said = {image_id: set(text.replace(",", "").split()) & {*CLASSES} for image_id, text in prompts.by_id.items()}
    assert {image_id: {*names} for image_id, names in prompts.said.items()} == said
    assert all(said.values()) and {*set().union(*said.values())} <= {*STUFF}
    assert prompts.score.precision == 1.0 and 0.2 < prompts.score.recall < 0.8
    counts = setup(tiny_cell, {"source": "template", "wording": "counts"}).val_prompts
    assert (counts.score.precision, counts.score.recall) == (1.0, 1.0)


def test_prompts_that_the_text_encoder_cuts_are_told(tiny_cell: Callable[..., Cell], caplog) -> None:
    told = {"source": "sentence", "sentence": "a photo " * 60}
    long = setup(tiny_cell, told)
    check_setup(long)
    count = len(long.train)
    said = f"of the prompts of {count} training images, the text encoder reads only the first 75 tokens of {count}"
    assert said in caplog.text and "scored images" in caplog.text
    caplog.clear()
    check_setup(setup(tiny_cell, {"source": "sentence", "sentence": "a photo"}))
    assert not caplog.text


def test_a_row_without_modifiers_may_say_where_they_apply(tiny_cell: Callable[..., Cell]) -> None:
    null = setup(tiny_cell, {"modifiers_apply": "eval"})
    check_setup(null)
    assert null.train_prompts.by_id == setup(tiny_cell, {}).train_prompts.by_id


def test_a_learned_token_that_only_evaluation_says_is_said(tiny_cell: Callable[..., Cell], tmp_path: Path) -> None:
    token = tmp_path / "learned_embeds.safetensors"
    write_learned(token, LearnedToken("<night>", torch.full((64,), 0.5)))
    check_setup(setup(tiny_cell, {"modifiers": NIGHT, "modifiers_apply": "eval"}, embeddings=token))
    with pytest.raises(UserError, match="its token is '<night>', which no prompt says; add it to caption.modifiers"):
        check_setup(
            setup(tiny_cell, {"modifiers": ["a photo of {caption}"], "modifiers_apply": "eval"}, embeddings=token)
        )
    # Behind so many words the text encoder does not read it.
    with pytest.raises(UserError, match="its token is '<night>', which no prompt says"):
        long = {"source": "sentence", "sentence": "a cow " * 40, "modifiers": ["{caption} at <night>"]}
        check_setup(setup(tiny_cell, long, embeddings=token))


def test_prompts_of_several_numbers_of_names_are_refused(tiny_cell: Callable[..., Cell]) -> None:
    with pytest.raises(
        UserError, match=r"class_embeddings: images have 4 to 7 names, but contexts must be of one length"
    ):
        check_setup(setup(tiny_cell, {"source": "oracle", "encoding": "class_embeddings"}))
    silent = setup(tiny_cell, {"source": "oracle", "encoding": "class_embeddings", "recall": 0.0, "min_true": 0})
    with pytest.raises(UserError, match=r"images have 0 to 0 names, but contexts must be of one length, and hold some"):
        check_setup(silent)


@pytest.mark.parametrize("scale", ["pocket", "paper"])
def test_published_detection_across_domains_tells_of_the_look_in_evaluation_only_and_segmentation_always(
    scale: str,
) -> None:
    from tadp_ray.config.cell import grid, recipe_at
    from tadp_ray.config.load import load_recipe_values
    from tadp_ray.config.resolve import load_experiment

    experiments = Path(__file__).resolve().parents[2] / "experiments"
    for task, apply in (("detection", "eval"), ("segmentation", "train+eval")):
        file = experiments / f"cross_domain_{task}.yaml"
        experiment = load_experiment(file)
        _, sweep = experiment.sweep_at(scale)
        raw, origin = load_recipe_values(experiment.recipe_file(scale))
        recipes = [recipe_at(raw, origin, sweep.changes(point), str(file)) for point in grid(sweep)]
        modified = [recipe.caption for recipe in recipes if recipe.caption.modifiers]
        assert {caption.modifiers_apply for caption in modified} == {apply}
        assert (len(recipes), len(modified)) == (12, 10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([], None),
        (["augment.crop=64", "augment.pad_to=96"], "views of the training have 64 pixels before they are padded"),
        (["evaluation.mode=whole"], "views of the evaluation have 64 pixels before they are padded"),
        (["evaluation.crop=64"], "views of the evaluation have 64 pixels"),
        # An image is cropped before it is stretched.
        (["augment.stretch=64"], "views of the training have 64 pixels before they are padded"),
    ],
)
def test_a_head_that_cuts_padding_off_cuts_off_nothing_else(changes: list[str], said: str | None) -> None:
    """Scenes of 64 pixels, in views of 32 that are padded to 64."""
    given = [
        "augment.crop=32",
        "augment.pad_to=64",
        "evaluation.mode=slide",
        "evaluation.crop=32",
        "evaluation.stride=32",
    ]
    recipe = load_recipe(ROOT / "experiments/recipes/pocket_depth.yaml", ["model.head.unpadded=32", *given, *changes])
    with nullcontext() if said is None else pytest.raises(UserError, match=rf"model\.head\.unpadded=32: {said}"):
        check_setup(TrainSetup(recipe, 0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ([], None),
        (["evaluation.multi_scale=[1, 1.5]"], (96, 96)),
        (["evaluation.scales=[0.5, 1]"], (32, 32)),
        (["evaluation.mode=slide", "evaluation.crop=32", "evaluation.stride=32"], (32, 32)),
        # Views are padded to multiples of 32.
        (
            ["data.size=96", "augment.crop=64", "evaluation.mode=slide", "evaluation.crop=50", "evaluation.stride=40"],
            None,
        ),
        # A window is no larger than the image.
        (["evaluation.mode=slide", "evaluation.crop=96", "evaluation.stride=64"], None),
    ],
)
def test_all_evaluations_of_a_model_of_one_size_have_that_size(
    changes: list[str], found: tuple[int, int] | None
) -> None:
    """Before the training, not after it: views of several sizes are evaluated last."""
    changes = ["model.attention_maps=cross+self", *changes]
    recipe = load_recipe(ROOT / "experiments/recipes/pocket_segmentation.yaml", changes)
    said = re.escape(f"must have the size of a training view, (64, 64), not {found}; ")
    with nullcontext() if found is None else pytest.raises(UserError, match=said):
        check_setup(TrainSetup(recipe, 0))


@pytest.mark.parametrize(
    ("task", "change", "said"),
    [
        ("depth", "augment.crop_max_share=0.75", "augment.crop_max_share=0.75: counts the pixels of a class"),
        ("detection", "augment.crop_max_share=0.75", "augment.crop_max_share=0.75: counts the pixels of a class"),
        ("segmentation", "augment.cut_depth=0.25", "augment.cut_depth=0.25: shows the depth of an image"),
        ("detection", "augment.cut_depth=0.25", "augment.cut_depth=0.25: shows the depth of an image"),
        ("segmentation", "augment.crop_max_share=0.75", None),
        ("depth", "augment.cut_depth=0.25", None),
    ],
)
def test_augmentation_that_needs_a_ground_truth_of_another_task_is_refused(
    task: str, change: str, said: str | None
) -> None:
    recipe = load_recipe(ROOT / f"experiments/recipes/pocket_{task}.yaml", ["augment.crop=32", change])
    with (
        nullcontext()
        if said is None
        else pytest.raises(UserError, match=f"{said}, but the ground truth of this task is its")
    ):
        check_augment(TrainSetup(recipe, 0))


@pytest.mark.parametrize(
    ("changes", "view"),
    [([], (64, 64)), (["augment.resize=128"], (128, 128)), (["augment.resize=128", "augment.crop=32"], (32, 32))],
)
def test_a_view_has_the_size_of_what_is_trained(changes: list[str], view: tuple[int, int]) -> None:
    recipe = load_recipe(ROOT / "experiments/recipes/pocket_segmentation.yaml", changes)
    setup = TrainSetup(recipe, 0)
    augment = Augment(recipe.augment, "mask", recipe.model.pixel_normalization)
    views = AugmentedDataset(setup.train, augment, setup.task.target)
    assert setup.view == view == tuple(views[0, 0][1].shape[-2:])


def scenes(slip: Callable[[Any], Any]) -> type[PocketScenes]:
    """The pocket world, as a plug-in with a slip opens it."""
    return type("Own", (PocketScenes,), {"open": staticmethod(lambda *given: slip(PocketScenes.open(*given)))})


def with_own(**attributes: Any) -> type[PocketScenes]:
    """The pocket world, with other attributes and methods."""

    def slip(opened: Any) -> Any:
        vars(opened).update(attributes)
        return opened

    return scenes(slip)


SLIPS: dict[str, tuple[Registry, str, Any, str]] = {
    "nothing to import": (
        TASKS,
        "segmentation",
        "nothere:task",
        "nothere:task, which is registered, cannot be imported",
    ),
    "task": (
        TASKS,
        "segmentation",
        lambda _: {},
        "task 'segmentation' returned a dict; expected a tadp_ray.tasks.base.Task",
    ),
    "logged metrics": (
        TASKS,
        "segmentation",
        lambda recipe: replace(segmentation(recipe), logged_metrics=("miou", "mio")),
        "task 'segmentation': logged_metrics has mio, which is not registered; use miou, ",
    ),
    "head": (HEADS, "semantic_fpn", lambda *_: None, "head 'semantic_fpn' returned None; expected a torch.nn"),
    "metrics of a task": (
        TASKS,
        "segmentation",
        lambda recipe: replace(
            segmentation(recipe), metrics=lambda _: SimpleNamespace(accumulate=1, reduce=1, compute=1)
        ),
        "task 'segmentation': metrics returned a SimpleNamespace without images; expected a tadp_ray.tasks.base.Metrics",
    ),
    "metric": (
        METRICS,
        "mine",
        lambda _: object(),
        "metric 'mine' returned an object without accumulate, reduce, compute; expected a tadp_ray.tasks.base.Accumulated",
    ),
    "frozen networks": (
        BACKBONES,
        "stable_diffusion",
        type("Own", (SD,), {"load": staticmethod(lambda _: {})}),
        "backbone Own: load returned a dict without multiple, tokens, .* expected a tadp_ray.backbones.base.Pretrained",
    ),
    "backbone": (
        BACKBONES,
        "stable_diffusion",
        type("Own", (SD,), {"make_backbone": staticmethod(lambda *_: torch.nn.Identity())}),
        "backbone 'stable_diffusion': make_backbone returned an Identity without channels, strides, ",
    ),
    "no data set": (
        DATASETS,
        "scenes",
        scenes(lambda _: []),
        "data set 'scenes': open returned a list without classes, ids, sizes, present, digest; expected a tadp_ray.data.sample",
    ),
    "sizes": (
        DATASETS,
        "scenes",
        with_own(sizes=((32, 32),)),
        "returned 10 ids, 1 sizes, 10 samples; expected as many of each",
    ),
    "ids": (DATASETS, "scenes", with_own(ids=("a",) * 10), "data set 'scenes': open returned the id 'a' twice"),
    "sample": (
        DATASETS,
        "scenes",
        with_own(annotation=lambda *_: {}),
        "sample 0 returned a dict; expected a tadp_ray.data.sample",
    ),
    "sample's id": (
        DATASETS,
        "scenes",
        with_own(annotation=lambda *_: Sample("b", NO_IMAGE)),
        "data set 'scenes': sample 0 has the id 'b'; expected ids",
    ),
    "classes": (
        DATASETS,
        "scenes",
        with_own(classes=CLASSES[::-1]),
        "data set 'scenes': train has the classes .*; name both alike",
    ),
    "names": (
        DATASETS,
        "scenes",
        with_own(present=lambda *_: "cow"),
        "data set: 'c' in .* is none of its classes 'sky'",
    ),
    "encoding": (
        ENCODINGS,
        "names",
        lambda *_: lambda _: torch.zeros(1, 2, 3),
        r"context of \(.* is shape \(1, 2, 3\); ",
    ),
    "length of contexts": (
        ENCODINGS,
        "names",
        lambda *_: lambda names: torch.zeros(1 + len(names), 64),
        r"caption.encoding: the context of \('.*'\) has . vectors and that of .* has .; an encoding must give all",
    ),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_what_plug_ins_make_is_checked_before_a_training(
    tiny_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch, slip: str
) -> None:
    registry, name, made, said = SLIPS[slip]
    if registry is METRICS:
        entry = MetricEntry("segmentation", Metric("mine"), made)
    else:
        entry = replace(registry[name], implementation=made, **({"sources": ()} if registry is ENCODINGS else {}))
    recipe = tiny_cell(caption={"source": "oracle", "encoding": "text"}).recipe
    monkeypatch.setitem(registry._entries, name, entry)
    if registry is ENCODINGS:
        told = CaptionConfig(source="oracle", encoding="names")
        recipe = recipe.model_copy(update={"caption": told})
    setup = TrainSetup(recipe, 0)
    with pytest.raises(UserError, match=said):
        check_setup(setup)
        check_head(setup)


def test_an_encoding_may_be_of_some_sources_alone(
    tiny_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_cell(caption={"source": "oracle", "encoding": "text"}).recipe
    monkeypatch.setitem(ENCODINGS._entries, "text", replace(ENCODINGS["text"], sources=("oracle",)))
    setup = TrainSetup(recipe, 0)
    assert setup.encoding.encoding == "text" and setup.contexts(["car"]).shape == (1, 77, 64)


def test_text_encoders_of_earlier_cells_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    encoders: list[weakref.ref[torch.nn.Module]] = []

    def load(_: object) -> SimpleNamespace:
        text_encoder = torch.nn.Linear(1, 1)
        encoders.append(weakref.ref(text_encoder))
        return SimpleNamespace(tokenizer=None, text_encoder=text_encoder)

    monkeypatch.setattr("tadp_ray.training.setup.load_pretrained", load)
    monkeypatch.setattr(
        "tadp_ray.training.setup.make_text_encoder",
        lambda _, network, *__: lambda texts: [network.weight for _ in texts],
    )
    cache, caption = Cache(), CaptionConfig(source="class_names")
    for origin in range(5):
        assert cache.contexts(origin, caption, ())(["cat"]).shape == (1, 1, 1)
    gc.collect()
    assert [held() is None for held in encoders] == [True, True, True, False, False]


def test_what_a_context_source_makes_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ContextConfig.model_validate({"sources": [{"kind": "learned", "count": 2}]})
    own = type("Own", (LearnedSource,), {"build": staticmethod(lambda *_: None)})
    monkeypatch.setitem(CONTEXT_SOURCES._entries, "learned", replace(CONTEXT_SOURCES["learned"], implementation=own))
    with pytest.raises(UserError, match="context source 'learned': build returned None; expected a torch.nn"):
        Context(config, 8)
    with pytest.raises(
        UserError, match="context source 'learned', which reads images: load returned None without width"
    ):
        load_encoder(config.sources[0])


WHOLE = {
    "image": np.zeros((32, 48, 3), np.uint8),
    "mask": np.full((32, 48), 255, np.uint8),
    "depth": np.ones((32, 48), np.float32),
}


@pytest.mark.parametrize(
    ("field", "values", "said"),
    [
        *(
            ("image", image, r"expected uint8 \(32, 48, 3\), as sizes")
            for image in (np.zeros((3, 32, 48), np.uint8), np.zeros((48, 32, 3), np.uint8), np.zeros((32, 48, 3)), None)
        ),
        ("mask", np.zeros((32, 48), np.int64), r"is int64 \(32, 48\); expected uint8 \(32, 48\), as sizes"),
        ("mask", np.eye(32, 48, dtype=np.uint8), "has the label 1; expected 0 to 0, or 255 = ignored"),
        ("depth", np.ones((48, 32), np.float32), r"expected float32 \(32, 48\), as sizes"),
    ],
)
def test_the_first_sample_of_a_plug_ins_data_set_is_looked_at(field: str, values: Any, said: str) -> None:
    class Own(list):
        classes, sizes = ("a",), ((32, 48),)

    with pytest.raises(UserError, match=f"mine: the {field} of sample 0 .*{said}"):
        check_first(Own([Sample("b", **{**WHOLE, field: values})]), ("a",), "mine")
    check_first(Own([Sample("b", **WHOLE)]), ("a",), "mine")
    Own.classes = ()
    check_first(Own([Sample("b", **WHOLE | {"mask": np.eye(32, 48, dtype=np.uint8)})]), (), "mine")


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ([], (40, 80)),
        (["augment.resize=64"], (64, 128)),
        (["evaluation.resize=32"], (32, 64)),
        (["augment.resize=64", "evaluation.resize=32"], (32, 64)),
        (["augment.stretch=64"], (64, 64)),
        (["augment.stretch=64", "evaluation.resize=32"], (32, 64)),
    ],
)
def test_evaluation_has_a_size_of_its_own(
    monkeypatch: pytest.MonkeyPatch, changes: list[str], size: tuple[int, int]
) -> None:
    """An image of 40 x 80 pixels; Cityscapes' recipes resize in evaluation only."""
    setup = TrainSetup(load_recipe(ROOT / "experiments/recipes/pocket_segmentation.yaml", changes), 0)
    monkeypatch.setattr(TrainSetup, "val", SimpleNamespace(sizes=[(40, 80)]))
    assert setup.evaluated_size(0) == size and setup.scored_size(0) == (40, 80)
    assert setup.evaluated_size(0, 1.5) == (1.5 * size[0], 1.5 * size[1])
    image = np.random.default_rng(0).integers(0, 256, (40, 80, 3), np.uint8)
    # What is stretched in training, too, is resized as there.
    kind = cv2.INTER_CUBIC if changes == ["augment.stretch=64"] else cv2.INTER_LINEAR
    assert torch.equal(setup.evaluated(image, 0, 1.0), to_tensor(cv2.resize(image, size[::-1], interpolation=kind)))


def test_further_evaluations_have_the_look_or_the_sizes_that_they_name() -> None:
    """And are otherwise the main one; that of another domain keeps to itself."""
    changes = ["data.target_domain=comic", "data.extra_styles=[night]", "evaluation.multi_scale=[1, 1.5]"]
    setup = TrainSetup(load_recipe(ROOT / "experiments/recipes/pocket_segmentation.yaml", changes), 3)
    night, sizes = (setup.extra_evaluations()[name] for name in ("night", "multi_scale"))
    assert [each.val.style for each in (setup, night, sizes)] == ["comic", "night", "comic"]
    assert [look.mirrored for look in passes(sizes.recipe.evaluation)] == [False, True] * 2
    assert {look.factor for look in passes(sizes.recipe.evaluation)} == {1, 1.5}
    assert night.recipe.evaluation == setup.recipe.evaluation and (night.seed, sizes.seed) == (3, 3)


def test_contexts_are_shared_by_what_decides_them_alone(
    tiny_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []
    monkeypatch.setattr(ContextCache, "warm", lambda self, folder, *_: folders.append(folder))

    def warmed(digests: dict[str, str], **changes: dict[str, Any]) -> int:
        cell = tiny_cell(**changes)
        TrainSetup(cell.recipe, cell.seed).warm_contexts({**cell.digests, **digests}, torch.device("cpu"))
        return len({*folders})

    assert warmed({}) == warmed({"val": "another", "train": "another"}) == 1
    assert warmed({}, caption={"source": "null"}) == warmed({}, schedule={"learning_rate": 0.5}) == 1
    for number, name in enumerate(("weights", "token", "embeddings"), start=2):
        assert warmed({name: "another"}) == number
    embedded = {"encoding": "class_embeddings", "source": "class_names"}
    assert warmed({}, caption=embedded) == 5
    assert warmed({}, caption={**embedded, "templates": "single"}) == 6
    other = {"evaluation": {"captions": {"names": embedded}}}
    assert warmed({}, **other) == 6 and warmed({"embeddings/names": "another"}, **other) == 7
    assert warmed({}, model={"timestep": 50}) == 7
    # A plug-in's text encoder may depend on all keys that its backbone adds.
    with monkeypatch.context() as patch:
        patch.setattr(LatentDiffusionKeys, "encoding_of_texts", {"skip": 2})
        assert warmed({}) == 8
    # A random text encoder is another one for every seed.
    random = {"model": {"unet_init": "random"}}
    assert warmed({}, seed=1) == 8 and warmed({}, **random) == 9 and warmed({}, seed=1, **random) == 10
    # Vectors of classes in a file without their names are in the order of the data set's.
    monkeypatch.setattr(TrainSetup, "train", SimpleNamespace(classes=("cat", "dog")))
    cell = tiny_cell()
    TrainSetup(cell.recipe, cell.seed)._warm(cell.digests, torch.device("cpu"))
    assert len({*folders}) == 11
