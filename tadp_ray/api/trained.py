"""Trained cells by their MLflow runs: what they predict for any image and any prompt."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from tadp_ray.api.backbone import usable
from tadp_ray.api.images import AnyPicture, read_image
from tadp_ray.captions.sources import Prompt
from tadp_ray.config.cell import Cell
from tadp_ray.data.sample import Sample
from tadp_ray.files import write_text
from tadp_ray.layout import CLASSES, IMAGES, PICTURES, PREDICTIONS
from tadp_ray.pictures.files import write_figure
from tadp_ray.tasks.base import Task
from tadp_ray.tasks.files import save
from tadp_ray.tracking.query import trained_cell
from tadp_ray.tracking.store import open_store
from tadp_ray.training.any_image import given_prompt, predict_image
from tadp_ray.training.digests import check_trained, model_digests
from tadp_ray.training.model import TADP
from tadp_ray.training.pictures import draw_prediction
from tadp_ray.training.predict import read_weights, trained_model
from tadp_ray.training.setup import TrainSetup


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a trained model predicts for one image; what its task does not predict is None."""

    image: np.ndarray
    """uint8 (H, W, 3) RGB."""
    prompt: Prompt
    """What the text encoder was given: a text, or names where `caption.encoding` is not `text`."""
    classes: tuple[str, ...]
    """Names by class index."""
    found: Any
    """The prediction as its task makes it: a map (H, W), or boxes with labels and scores; on the CPU."""
    task: Task = field(repr=False)
    """How it is drawn, written and given as arrays."""

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """All that is predicted, by name."""
        return self.task.arrays(self.found)

    @property
    def mask(self) -> np.ndarray | None:
        """Segmentation: class index of every pixel, uint8 (H, W)."""
        return self.arrays.get("mask")

    @property
    def depth(self) -> np.ndarray | None:
        """Depth: metres, float32 (H, W)."""
        return self.arrays.get("depth")

    @property
    def boxes(self) -> np.ndarray | None:
        """Detection: float32 (N, 4), left, top, right and bottom edge in pixels of the image."""
        return self.arrays.get("boxes")

    @property
    def box_classes(self) -> np.ndarray | None:
        """Detection: class index of every box, int64 (N,)."""
        return self.arrays.get("box_classes")

    @property
    def scores(self) -> np.ndarray | None:
        """Detection: of every box, float32 (N,) in [0, 1], highest first."""
        return self.arrays.get("scores")

    def draw(self) -> Figure:
        """A matplotlib figure: the image with its prompt, beside the prediction; boxes with scores of at least one half."""
        return draw_prediction(self.image, self.prompt, self.found, self.classes, self.task.draw)

    def write(self, folder: str | os.PathLike, name: str = "image") -> list[Path]:
        """Write the prediction, the image and a picture of both, and return their files.

        - `predictions/NAME.png`: class indices, 8 bits, lossless; `.npy`: metres, float32; `.json`: boxes in COCO's form, whose
          categories are the lines of classes.txt, counted from 1.
        - `images/NAME.png`: the image.
        - `pictures/NAME.png`: the image and its prompt beside the prediction, for people to look at.
        - `classes.txt`: class names, one a line; none for depth.

        Args:
            folder: made if it is not there.
            name: of the files.
        """
        folder = Path(folder)
        prediction = self.task.write(folder / PREDICTIONS / name, self.found)
        files = [prediction, folder / IMAGES / f"{name}.png", folder / PICTURES / f"{name}.png"]
        save(files[1], self.image)
        write_figure(self.draw(), files[2])
        if self.task.names_classes:
            files.append(folder / CLASSES)
            write_text(files[-1], "".join(f"{name}\n" for name in self.classes))
        return files


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A finished cell, ready to predict."""

    run_id: str
    """Of MLflow."""
    cell: Cell
    """What was trained: `cell.recipe`, `cell.axes`, `cell.seed`."""
    model: TADP
    """U-Net and head in evaluation mode."""
    device: torch.device
    setup: TrainSetup
    """The cell's data, prompts and frozen model, opened as they are asked for."""

    @property
    def task(self) -> str:
        """The task's name."""
        return self.cell.recipe.task

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by class index."""
        return self.setup.classes

    def predict(
        self, image: AnyPicture, prompt: str | Sequence[str], *, image_id: str | None = None, truncate: bool = False
    ) -> Prediction:
        """What the model predicts for an image, in the image's own pixels.

        The image is resized, cut into windows and mirrored as the recipe's evaluation says. The prompt is given to the text
        encoder as it stands: the recipe's modifiers are not put around it.

        Args:
            image: a path, a Pillow image, an array uint8 (H, W, 3) RGB, or a sample of a data set.
            prompt: a text; where `caption.encoding` is not `text`, a list of names, or names apart by commas.
            image_id: whose noise the VAE's posterior is sampled with (`model.latent.draw: sample`). The id of a validation
                image gives what evaluation saw. None: the sample's own, and the same noise for all other images.
            truncate: allow a prompt of which the text encoder does not read the end.

        Raises:
            UserError: the image cannot be read, or image or prompt do not fit this model.
        """
        if image_id is None:
            image_id = image.id if isinstance(image, Sample) else ""
        pixels = read_image(image)
        told = given_prompt(self.setup, prompt, truncate)
        found = predict_image(self.model, self.setup, Sample(image_id, pixels), told, self.device)
        return Prediction(pixels, told, self.classes, found, self.setup.task)


def load_trained(
    run_id: str, *, tracking_uri: str | None = None, device: str | torch.device | None = None
) -> TrainedModel:
    """A trained cell by the id of its MLflow run, as `read_experiment` and table.csv name it.

    It needs the cell's weights and those of its Stable Diffusion, and no data set but where the length of a context or the
    size of a view is known from the data alone.

    Args:
        run_id: of a finished cell.
        tracking_uri: MLflow's store: sqlite:///FILE, a server, a database; None: MLFLOW_TRACKING_URI, or ./mlflow.db.
        device: "cpu", "cuda" ...; None: a GPU if the cell was trained on one.

    Raises:
        UserError: there is no such store, run or file of weights, or the weights that the cell was trained from changed since.
    """
    cell, weights = trained_cell(open_store(tracking_uri, make=False), run_id)
    return open_cell(cell, weights, run_id, usable(device or ("cuda" if cell.recipe.compute.gpus else "cpu")))


def open_cell(cell: Cell, weights: Path, run_id: str, device: torch.device) -> TrainedModel:
    """A finished cell with the weights that a file holds.

    Raises:
        UserError: they are not there, are damaged or another cell's, or what they were trained from changed since.
    """
    tensors = read_weights(cell, weights)
    check_trained(run_id, cell, model_digests(cell.recipe))
    setup = TrainSetup(cell.recipe, cell.seed)
    return TrainedModel(run_id, cell, trained_model(setup, weights, tensors, device), device, setup)
