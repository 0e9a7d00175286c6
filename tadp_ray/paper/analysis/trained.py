"""Trained models, as analyses use them: their weights from the cell's folder, their study, the latents they are scored on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tadp_ray.config.data import CaptionConfig
from tadp_ray.errors import UserError
from tadp_ray.layout import MODEL
from tadp_ray.paper.analysis.finding import Trained
from tadp_ray.training.evaluate import outputs, passes
from tadp_ray.training.model import TADP
from tadp_ray.training.predict import load_trained
from tadp_ray.training.setup import TrainSetup


@dataclass(frozen=True)
class Segmenter:
    """A trained segmentation model in evaluation mode."""

    model: TADP
    setup: TrainSetup
    latents: Mapping[str, Tensor]
    device: torch.device

    def shares(self, caption: CaptionConfig | None = None) -> Iterator[tuple[int, Tensor]]:
        """(index, softmax scores (C, H, W)) of every validation image, told its own prompt or another caption's."""
        setup = self.setup
        if caption is not None:
            setup = TrainSetup(setup.recipe.model_copy(update={"caption": caption}), setup.seed, cache=setup.cache)
        several = len(passes(setup.recipe.evaluation)) > 1
        indices = range(len(setup.val))
        for index, output in outputs(self.model, setup, self.latents, indices, self.device):
            yield index, (output if several else setup.task.probabilities(output))[0]


def ready(found: Sequence[Trained]) -> Sequence[Trained]:
    """The models, all of them trained and with their weights in place.

    Raises:
        UserError: some are not; the message says what trains them.
    """
    absent = [one for one in found if one.metrics is None or not (one.cell.folder / MODEL).is_file()]
    if not absent:
        return found
    gone = [one for one in absent if one.metrics is not None]
    if gone:
        raise UserError(
            f"{gone[0].cell.folder / MODEL}: MLflow holds this training as finished, but its weights are not here; name the "
            "folder that they lie under with --set compute.storage=FOLDER"
        )
    commands = "".join(f"\n  {one.command}" for one in absent)
    raise UserError(f"MLflow holds {len(found) - len(absent)} of the {len(found)} trainings; these fill it:{commands}")


def load_segmenter(one: Trained, device: torch.device) -> Segmenter:
    """A trained cell, ready to look.

    Raises:
        UserError: its weights are not there, are damaged, or are another cell's.
    """
    return Segmenter(*load_trained(one.cell, one.cell.folder / MODEL, device), device)
