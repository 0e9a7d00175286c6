"""A cell with a Stable Diffusion XL trains, goes on after a stop, and predicts again."""

from pathlib import Path

import pytest
import torch

from tadp_ray.config.recipe import Recipe
from tadp_ray.data.sample import Sample
from tadp_ray.errors import UserError
from tadp_ray.layout import MODEL, PER_IMAGE
from tadp_ray.tasks.per_image import read_per_image
from tadp_ray.training.any_image import given_prompt, predict_image
from tadp_ray.training.check import check_head
from tadp_ray.training.context_cache import ContextCache
from tadp_ray.training.predict import load_cell, predict_cell
from tadp_ray.training.setup import TrainSetup

CPU = torch.device("cpu")


@pytest.mark.slow
def test_a_cell_trains_stops_goes_on_and_predicts_the_same_again(
    trained_with_a_stop, tiny_xl_folder: Path, tmp_path: Path
) -> None:
    """With noise and a text adapter; the weights are those of a training that was never stopped."""
    model = {"backbone": "stable_diffusion_xl", "weights": str(tiny_xl_folder), "noise_samples": 1, "adapter": True}
    whole, metrics = trained_with_a_stop(model=model, caption={"source": "class_names"})
    assert metrics["caption/train_truncated"] == 10  # the names of all classes are longer than 13 tokens
    (told,) = {
        (image["prompt"], image["read"]) for image in read_per_image(whole.folder / PER_IMAGE, whole.fingerprint).images
    }
    assert told[0].startswith(told[1]) and len(told[1].replace(" ", "")) <= 11 < len(told[0])
    assert predict_cell(whole, whole.folder / MODEL, tmp_path / "predicted", CPU) == 5
    model, setup, _ = load_cell(whole, whole.folder / MODEL, CPU)
    image = Sample("mine", setup.val[0].image)
    labels = predict_image(model, setup, image, given_prompt(setup, "a red ox"), CPU)
    assert labels.shape == (32, 32) and labels.max() < len(setup.classes)
    with pytest.raises(UserError, match="the prompt has 30 tokens, and the text encoder reads 11"):
        given_prompt(setup, "a" * 30)


def test_contexts_with_their_pooled_vector_are_kept_in_files(tiny_cell, tiny_xl_folder: Path) -> None:
    model = {"backbone": "stable_diffusion_xl", "weights": str(tiny_xl_folder)}
    cell = tiny_cell(model=model, caption={"source": "class_names", "encoding": "names"})
    setup, again = TrainSetup(cell.recipe, 0), TrainSetup(cell.recipe, 0)
    (prompt,) = {*setup.train_prompts.by_id.values()}
    fresh = setup.contexts([prompt])
    again.warm_contexts(cell.digests, CPU)
    assert isinstance(again.contexts, ContextCache) and torch.equal(again.contexts([prompt]), fresh)
    # a start mark, the letters of all names, and the pooled vector
    assert (
        fresh.shape == (1, 1 + sum(len(name.replace(" ", "")) for name in prompt) + 1, 32)
        and setup.tokens == fresh.shape[1]
    )
    check_head(again)


def test_class_embeddings_and_heads_of_four_levels_are_refused(tiny_cell, tiny_xl_folder: Path) -> None:
    groups = {
        "model": {"backbone": "stable_diffusion_xl", "weights": str(tiny_xl_folder)},
        "schedule": {"iterations": 3, "learning_rate": 1e-3},
    }
    with pytest.raises(
        ValueError, match=r"class_embeddings: model\.backbone: stable_diffusion_xl reads a vector .*; use text"
    ):
        Recipe.model_validate({**groups, "caption": {"source": "class_names", "encoding": "class_embeddings"}})
    told = {**groups, "model": {**groups["model"], "context": {"sources": ["text", "learned"]}}}
    with pytest.raises(
        ValueError, match=r"context: text\+learned: .* a vector of the whole text; leave model.context out"
    ):
        Recipe.model_validate({**told, "caption": {"source": "class_names"}})
    model = {**groups["model"], "head": {"kind": "smp_fpn"}}
    cell = tiny_cell(model=model, caption={"source": "class_names"})
    with pytest.raises(
        UserError, match=r"smp_fpn: it is made for 4 levels, but the backbone has 3 with strides of 2, 4, 8"
    ):
        check_head(TrainSetup(cell.recipe, 0))
