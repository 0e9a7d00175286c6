"""One analysis of any kind: which trained models it asks for, and what it finds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import JsonValue

from tadp_ray.backbones.stable_diffusion.load import Diffusion, open_diffusion
from tadp_ray.config.analysis import Analysis, CopyPaste, EndMarks, OffTarget, Variation
from tadp_ray.config.schema import Recipe
from tadp_ray.paper.analysis.copy_paste import copy_paste
from tadp_ray.paper.analysis.eos_tokens import end_marks
from tadp_ray.paper.analysis.finding import Outcome, Trained
from tadp_ray.paper.analysis.off_target import off_target
from tadp_ray.paper.analysis.trained import ready
from tadp_ray.paper.analysis.variation import variation
from tadp_ray.paper.analysis.varied import check_pictures


def asked(analysis: Analysis, recipe: Recipe) -> dict[str, Mapping[str, JsonValue]]:
    """The trained models that an analysis looks at, by name: the recipe keys that make each."""
    match analysis.look:
        case OffTarget():
            # As the recipe stands, where its names are right.
            return {"right names": {} if recipe.caption.source == "oracle" else {"caption": {"source": "oracle"}}}
        case EndMarks(texts=texts):
            return dict(texts)
        case CopyPaste():
            return {}
    return {} if recipe.data.kind == "scenes" else {"judge": {"caption": {"source": "null"}}}


def check(analysis: Analysis, recipe: Recipe, found: Mapping[str, Sequence[Trained]]) -> None:
    """Refuse to begin without the models that must be looked at; of end marks only scores are, which may be missing.

    Raises:
        UserError: some are not trained, and the message says what trains them; or pictures that are named are not there.
    """
    if isinstance(analysis.look, Variation):
        check_pictures(analysis.look, recipe, analysis.seeds[0])
    if not isinstance(analysis.look, EndMarks):
        for models in found.values():
            ready(models)


def analyse(analysis: Analysis, recipe: Recipe, found: Mapping[str, Sequence[Trained]], folder: Path) -> Outcome:
    """Look, and say what is there.

    Args:
        analysis: the question.
        recipe: data and weights.
        found: what `asked` asks for.
        folder: where pictures go.

    Raises:
        UserError: data, weights or trained models do not fit or are not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if recipe.compute.gpus else "cpu")
    torch.set_num_threads(recipe.compute.cpus)
    look, seed = analysis.look, analysis.seeds[0]
    if isinstance(look, OffTarget):
        return off_target(look, found["right names"], device, folder)
    diffusion = on(open_diffusion(recipe.model.weights, recipe.model.embeddings), device)
    if isinstance(look, CopyPaste):
        return copy_paste(look, recipe, seed, diffusion, folder)
    if isinstance(look, EndMarks):
        return end_marks(look, recipe, seed, diffusion, found, folder)
    return variation(look, recipe, seed, diffusion, found.get("judge", ()), folder)


def on(diffusion: Diffusion, device: torch.device) -> Diffusion:
    """All of a Stable Diffusion on a device."""
    diffusion.unet.to(device)
    return diffusion.to(device)
