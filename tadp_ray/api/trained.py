"""Loads trained cells by their MLflow run ids, to predict on any image with any prompt."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from tadp_ray.api.images import AnyPicture, read_image
from tadp_ray.captions.sources import Prompt
from tadp_ray.config.cell import Cell
from tadp_ray.config.recipe import Recipe
from tadp_ray.data.datasets import class_names
from tadp_ray.data.sample import Sample
from tadp_ray.errors import UserError
from tadp_ray.files import read_lines, write_text
from tadp_ray.layout import CLASSES, IMAGES, PICTURES, PREDICTIONS
from tadp_ray.pictures.files import write_figure
from tadp_ray.tasks.base import Task
from tadp_ray.tasks.build import task_of
from tadp_ray.tasks.files import save
from tadp_ray.tracking.query import trained_cell
from tadp_ray.tracking.store import open_store
from tadp_ray.training.any_image import given_prompt, predict_image
from tadp_ray.training.digests import check_trained, embeddings_digest, model_digests
from tadp_ray.training.model import TADP
from tadp_ray.training.pictures import draw_prediction
from tadp_ray.training.predict import read_weights, trained_model
from tadp_ray.training.setup import TrainSetup
from tadp_ray.training.transfer import device_for


@dataclass(frozen=True, eq=False)
class Prediction:
    """A trained model's prediction for one image; fields of other tasks are None."""

    image: np.ndarray
    """uint8 (H, W, 3) RGB."""
    prompt: Prompt
    """A text, or class names if `caption.encoding` reads names."""
    classes: tuple[str, ...]
    """Class names in index order."""
    output: Any
    """The task's prediction on the CPU: a map (H, W), or boxes with labels and scores."""
    task: Task = field(repr=False)
    """Draws the prediction, writes it and converts it to arrays."""

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The prediction as named arrays."""
        return self.task.arrays(self.output)

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
        """Detection: float32 (N, 4), (left, top, right, bottom) in pixels of the image."""
        return self.arrays.get("boxes")

    @property
    def box_classes(self) -> np.ndarray | None:
        """Detection: class index of every box, int64 (N,)."""
        return self.arrays.get("box_classes")

    @property
    def scores(self) -> np.ndarray | None:
        """Detection: score of every box, float32 (N,) in [0, 1], in descending order."""
        return self.arrays.get("scores")

    def draw(self) -> Figure:
        """Return a matplotlib figure of the image, its prompt and the prediction; boxes with scores of at least 0.5."""
        return draw_prediction(self.image, self.prompt, self.output, self.classes, self.task.draw)

    def write(self, folder: str | os.PathLike, name: str = "image") -> list[Path]:
        """Write the prediction, the image and a visualization, and return their paths.

        - `predictions/NAME.png`: class indices, 8 bits, lossless; `.npy`: metres, float32; `.json`: COCO results, whose
          category ids are the line numbers of classes.txt, from 1.
        - `images/NAME.png`: the image.
        - `pictures/NAME.png`: a visualization: the image, its prompt and the prediction.
        - `classes.txt`: class names, one per line; not for depth.

        Args:
            folder: created if needed; files in it with these names are replaced.
            name: of the files, without extension.
        """
        folder = Path(folder)
        prediction = self.task.write(folder / PREDICTIONS / name, self.output)
        files = [prediction, folder / IMAGES / f"{name}.png", folder / PICTURES / f"{name}.png"]
        save(files[1], self.image)
        write_figure(self.draw(), files[2])
        if self.task.names_classes:
            files.append(folder / CLASSES)
            write_text(files[-1], "".join(f"{name}\n" for name in self.classes))
        return files


def check_unwritten(folder: Path, name: str, recipe: Recipe) -> None:
    """Check that a prediction of a recipe's model can be written without replacing another file (`Prediction.write`).

    Raises:
        UserError: its image, prediction or visualization is there, or classes.txt of other classes.
    """
    own = [folder / IMAGES / f"{name}.png", folder / PICTURES / f"{name}.png"]
    there = [file for file in (*own, *folder.glob(f"{PREDICTIONS}/*")) if file.stem == name and file.exists()]
    if there:
        raise UserError(f"{there[0]}: is there, and would be replaced; name another folder")
    classes = folder / CLASSES
    if task_of(recipe).names_classes and classes.exists() and read_lines(classes) != [*class_names(recipe.data)]:
        raise UserError(f"{classes}: lists other classes than this model's, and would be replaced; name another folder")


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A finished cell, ready to predict."""

    run_id: str
    """Id of the MLflow run."""
    cell: Cell
    """The trained cell: `cell.recipe`, `cell.axes`, `cell.seed`."""
    model: TADP
    """U-Net and head in evaluation mode."""
    device: torch.device
    setup: TrainSetup
    """The cell's data, prompts and frozen model, each loaded at its first use."""

    @property
    def task(self) -> str:
        """The task's name, e.g. "segmentation"."""
        return self.cell.recipe.task

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in index order."""
        return self.setup.classes

    def predict(
        self, image: AnyPicture, prompt: str | Sequence[str], *, image_id: str | None = None, truncate: bool = False
    ) -> Prediction:
        """Predict for an image, at the image's own size.

        The image is resized, split into windows and flipped as in the recipe's evaluation. The prompt goes to the text encoder
        unchanged: the recipe's modifiers are not applied.

        Args:
            image: a path, a Pillow image, an array uint8 (H, W, 3) RGB, or a sample of a data set.
            prompt: a text; if `caption.encoding` reads names, a list of names, or names separated by commas; empty if the
                model reads no text (`model.context`).
            image_id: seeds the noise of the VAE's posterior (`model.latent.draw: sample`) and, with the cell's seed, the noise
                that is added (`model.noise_samples`). The id of a validation image reproduces its evaluation. None: the
                sample's own id, or the same noise for all other images.
            truncate: allow a prompt that is too long for the text encoder.

        Raises:
            UserError: the image cannot be read, or this model does not accept the image or the prompt.
        """
        if image_id is None:
            image_id = image.id if isinstance(image, Sample) else ""
        pixels = read_image(image)
        parsed = given_prompt(self.setup, prompt, truncate)
        output = predict_image(self.model, self.setup, Sample(image_id, pixels), parsed, self.device)
        return Prediction(pixels, parsed, self.classes, output, self.setup.task)


def load_trained(
    run_id: str, *, tracking_uri: str | None = None, device: str | torch.device | None = None
) -> TrainedModel:
    """Load a trained cell by the id of its MLflow run, which `read_experiment` and table.csv contain.

    It needs the cell's weights and those of its Stable Diffusion. It needs the data set only if the context length or the
    image size depends on the data.

    Args:
        run_id: of a finished cell.
        tracking_uri: MLflow store: sqlite:///FILE, or the URL of a server or database; None: MLFLOW_TRACKING_URI, or
            ./mlflow.db.
        device: "cpu", "cuda" ...; None: a GPU if the cell was trained on one.

    Raises:
        UserError: the store, the run or the weights do not exist, or the weights of the Stable Diffusion have changed since.
    """
    cell, weights = trained_cell(open_store(tracking_uri, make=False), run_id)
    return open_cell(cell, weights, run_id, device_for(cell, device))


def open_cell(cell: Cell, weights: Path, run_id: str, device: torch.device) -> TrainedModel:
    """Load a finished cell with the weights in a file.

    Raises:
        UserError: the file is missing, damaged or of another cell, or the weights of the Stable Diffusion or the class embeddings
            have changed since.
    """
    tensors = read_weights(cell, weights)
    found = model_digests(cell.recipe)
    if file := cell.recipe.caption.embeddings:
        found["embeddings"] = embeddings_digest(file)
    check_trained(run_id, cell, found)
    setup = TrainSetup(cell.recipe, cell.seed)
    return TrainedModel(run_id, cell, trained_model(setup, weights, tensors, device), device, setup)
