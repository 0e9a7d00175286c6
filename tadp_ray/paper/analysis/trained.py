"""Loads trained models for analyses: weights from the cell's folder, the setup, and the latents of the evaluation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tadp_ray.config.data import CaptionConfig
from tadp_ray.errors import UserError
from tadp_ray.layout import MODEL
from tadp_ray.paper.analysis.finding import Trained
from tadp_ray.training.evaluate import outputs
from tadp_ray.training.model import TADP
from tadp_ray.training.predict import load_cell
from tadp_ray.training.setup import Cache, TrainSetup
from tadp_ray.training.windows import passes
from tadp_ray.wording import pluralized


@dataclass(frozen=True)
class Segmenter:
    """A trained segmentation model in evaluation mode."""

    model: TADP
    setup: TrainSetup
    latents: Mapping[str, Tensor]
    device: torch.device

    def probabilities(self, caption: CaptionConfig | None) -> Iterator[tuple[int, Tensor]]:
        """Yield (index, softmax scores (C, H, W)) of every validation image, with its prompt or that of another caption.

        Raises:
            UserError: the text encoder would truncate the other captions.
        """
        setup = self.setup
        if caption is not None:
            setup = TrainSetup(setup.recipe.model_copy(update={"caption": caption}), setup.seed, cache=setup.cache)
            if cut := setup.val_prompts.truncated:
                raise UserError(
                    f"{cut} of {len(setup.val)} prompts with caption.source={caption.source} are longer than the "
                    f"{setup.val_prompts.budget} tokens that the text encoder reads, so their last names would be left out; use "
                    "data with fewer classes"
                )
        several, probabilities = len(passes(setup.recipe.evaluation)) > 1, setup.task.probabilities
        assert probabilities is not None  # segmentation averages over passes
        indices = range(len(setup.val))
        for index, output in outputs(self.model, setup, self.latents, indices, self.device):
            yield index, (output if several else probabilities(output))[0]


def require_trained(found: Sequence[Trained]) -> None:
    """Check that all models are trained and their weights exist.

    Raises:
        UserError: a model is not trained or its weights are missing; the message contains the commands that train them.
    """
    absent = [one for one in found if one.metrics is None or not (one.cell.folder / MODEL).is_file()]
    if not absent:
        return
    gone = [one for one in absent if one.metrics is not None]
    if gone:
        raise UserError(
            f"{gone[0].cell.folder / MODEL}: MLflow holds this training as finished, but its weights are not here; name the "
            "folder that they lie under with --set compute.storage=FOLDER"
        )
    commands = "".join(f"\n  {one.command}" for one in absent)
    raise UserError(
        f"MLflow holds {len(found) - len(absent)} of {pluralized(len(found), 'trainings')}; these fill it:{commands}"
    )


def load_segmenter(one: Trained, device: torch.device, cache: Cache | None = None) -> Segmenter:
    """Load a trained segmentation model; models with the same `cache` share data sets and frozen networks.

    Raises:
        UserError: the weights are missing or damaged, or belong to another cell.
    """
    return Segmenter(*load_cell(one.cell, one.cell.folder / MODEL, device, cache), device)
