"""Runs an analysis, and lists the trained models that it needs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue

from tadp_ray.backbones.families import family_of, latent_families
from tadp_ray.config.analysis import Analysis, CopyPaste, EOSTokens, OffTarget, Variation
from tadp_ray.config.recipe import Recipe
from tadp_ray.errors import UserError
from tadp_ray.paper.analysis.copy_paste import check_files, copy_paste
from tadp_ray.paper.analysis.eos_tokens import check_texts, eos_tokens
from tadp_ray.paper.analysis.finding import Outcome, Trained
from tadp_ray.paper.analysis.off_target import off_target
from tadp_ray.paper.analysis.trained import require_trained
from tadp_ray.paper.analysis.variation import variation
from tadp_ray.paper.analysis.varied import check_pictures
from tadp_ray.training.transfer import check_gpu


def asked(analysis: Analysis, recipe: Recipe) -> dict[str, Mapping[str, JsonValue]]:
    """Return the trained models that an analysis needs: name -> changes of the recipe."""
    match analysis.spec:
        case OffTarget():
            # The recipe itself, if its names are correct.
            return {"right names": {} if recipe.caption.is_exact_oracle else {"caption": {"source": "oracle"}}}
        case EOSTokens(texts=texts):
            return dict(texts)
        case CopyPaste():
            return {}
    return {} if recipe.data.kind == "scenes" else {"judge": {"caption": {"source": "null"}}}


def check(analysis: Analysis, recipe: Recipe, found: Mapping[str, Sequence[Trained]]) -> None:
    """Check that the images and the trained models of an analysis exist; for EOS tokens models may be missing.

    Raises:
        UserError: the backbone or a text does not fit, images are missing, or models are not trained; the message then contains
            the commands that train them.
    """
    check_backbone(analysis, recipe)
    if isinstance(analysis.spec, Variation):
        check_pictures(analysis.spec, recipe, analysis.seeds[0])
    if isinstance(analysis.spec, CopyPaste):
        check_files(analysis.spec)
    if isinstance(analysis.spec, EOSTokens):
        check_texts({text: models[0].cell.recipe.caption for text, models in found.items()})
    else:
        for models in found.values():
            require_trained(models)


def check_backbone(analysis: Analysis, recipe: Recipe) -> None:
    """Check that a recipe's family of backbones has what an analysis looks at.

    Raises:
        UserError: it is no latent diffusion model, or img2img of another family than Stable Diffusion is asked for.
    """
    if isinstance(analysis.spec, OffTarget):
        return
    # diffusers' img2img, which Figure S1 is about, is written for the U-Net of Stable Diffusion here.
    fitting = ["stable_diffusion"] if isinstance(analysis.spec, Variation) else list(latent_families())
    if recipe.model.backbone not in fitting:
        raise UserError(
            f"model.backbone={recipe.model.backbone}: {analysis.spec.kind} needs a model of {' or '.join(fitting)}; "
            "set model.backbone and model.weights"
        )


def analyse(analysis: Analysis, recipe: Recipe, found: Mapping[str, Sequence[Trained]], folder: Path) -> Outcome:
    """Run an analysis.

    Args:
        analysis: settings of the analysis.
        recipe: data and weights.
        found: the models of `asked`, by name.
        folder: output folder of the figures.

    Raises:
        UserError: data, weights or trained models are missing or do not fit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if recipe.compute.gpus else "cpu")
    check_gpu(device, recipe.compute.gpus)
    torch.set_num_threads(recipe.compute.cpus)
    spec, seed = analysis.spec, analysis.seeds[0]
    if isinstance(spec, OffTarget):
        return off_target(spec, found["right names"], device, folder)
    family = family_of(recipe.model)
    # Only latent families come here (`check_backbone`).
    diffusion: Any = family.load(family.origin(recipe.model, seed))
    diffusion.to(device, whole=True)
    if isinstance(spec, CopyPaste):
        return copy_paste(spec, recipe, seed, diffusion, folder)
    if isinstance(spec, EOSTokens):
        return eos_tokens(spec, recipe, seed, diffusion, found, folder)
    return variation(spec, recipe, seed, diffusion, found.get("judge", ()), folder)
