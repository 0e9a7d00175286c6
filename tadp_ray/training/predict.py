"""Writes the predictions of a trained cell, with images and ground truth, as files for `score` and `picture`."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from tadp_ray.config.cell import Cell
from tadp_ray.data.datasets import Datasets
from tadp_ray.errors import UserError
from tadp_ray.files import write_text
from tadp_ray.layout import CLASSES, IMAGES
from tadp_ray.tasks.files import save
from tadp_ray.training import checkpoint
from tadp_ray.training.check import check_setup
from tadp_ray.training.digests import check_trained, digests_of
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.evaluate import predictions, scored_image, truth
from tadp_ray.training.model import TADP
from tadp_ray.training.run import build_model, evaluation_inputs
from tadp_ray.training.setup import Cache, TrainSetup
from tadp_ray.training.transfer import device_for

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def predict_run(
    run: str,
    cell: Cell,
    model_file: Path,
    folder: Path,
    storage: Path,
    cache: Cache | None = None,
    only: Collection[str] | None = None,
    device: str | None = None,
) -> int:
    """Write the predictions of a finished run's cell; see `predict_cell`.

    Args:
        run: id of the run, for messages.
        storage: folder with the shared latents and contexts.
        device: computes. None: a GPU if the cell was trained on one.

    Raises:
        UserError: torch cannot use the device here; data, captions or frozen weights have changed since; or the cell's weights
            are not there.
    """
    computes = device_for(cell, device)
    cell = cell.at(storage)
    cache = cache or Cache(Datasets(cell.recipe.compute.folder))
    check_trained(run, cell, digests_of(cell.recipe, cache.datasets))
    return predict_cell(cell, model_file, folder, computes, cache, only)


def predict_cell(
    cell: Cell,
    model_file: Path,
    folder: Path,
    device: torch.device,
    cache: Cache | None = None,
    only: Collection[str] | None = None,
) -> int:
    """Write a finished cell's predictions for the validation split, as they were scored.

    Writes images/ as PNG, classes.txt, and targets and predictions: label maps as PNG, 255 = ignored; depth maps as .npy in
    metres; boxes as targets.json and predictions.json in COCO's format. For boxes, classes.txt lists the classes of objects.

    Args:
        cell: the finished cell.
        model_file: its weights.
        folder: destination.
        device: computes.
        cache: shares data sets and frozen networks between cells.
        only: ids of the images; None: all.

    Returns: the number of images.

    Raises:
        UserError: the weights are missing or damaged, or belong to another cell.
    """
    model, setup, latents = load_cell(cell, model_file, device, cache)
    files = setup.task.files(setup.val.classes)
    names = file_names(setup.val.ids)
    chosen = [index for index, own in enumerate(setup.val.ids) if only is None or own in only]
    for index, prediction in predictions(model, setup, latents, chosen, device):
        save(folder / IMAGES / f"{names[index]}.png", scored_image(setup, index))
        files.add(folder, names[index], setup.scored_size(index), truth(setup, index)[0], prediction[0])
    files.end(folder)
    write_text(folder / CLASSES, "".join(f"{name}\n" for name in files.classes))
    return len(chosen)


def load_cell(
    cell: Cell, model_file: Path, device: torch.device, cache: Cache | None = None
) -> tuple[TADP, TrainSetup, Mapping[str, Tensor]]:
    """Return the model of a finished cell in evaluation mode, its setup and the latents that it was scored on.

    Cells that are loaded with the same `cache` share data sets and frozen networks.

    Raises:
        UserError: the weights are missing or damaged, or belong to another cell.
    """
    tensors = read_weights(cell, model_file)
    torch.set_num_threads(cell.recipe.compute.cpus)
    setup = TrainSetup(cell.recipe, cell.seed, cache=cache or Cache(Datasets(cell.recipe.compute.folder)))
    check_setup(setup)
    model = trained_model(setup, model_file, tensors, device)
    setup.warm_contexts(cell.digests, device)
    return model, setup, evaluation_inputs(cell.digests, setup, model, device, ProcessGroup.current())


def trained_model(setup: TrainSetup, model_file: Path, tensors: Mapping[str, Tensor], device: torch.device) -> TADP:
    """Return a setup's model in evaluation mode with the given weights; `model_file` is their file for error messages."""
    model = build_model(setup, device).eval()
    checkpoint.load_weights(model_file, model, tensors)
    return model


def read_weights(cell: Cell, model_file: Path) -> Mapping[str, Tensor]:
    """Read the weights of a finished cell.

    Raises:
        UserError: the weights are missing or damaged, or belong to another cell.
    """
    if not model_file.is_file():
        raise UserError(
            f"{model_file}: no such file; the cell's weights were moved or deleted, or lie on another machine"
        )
    try:
        tensors, facts = checkpoint.read_tensors(model_file)
    except checkpoint.Damaged as error:
        raise UserError(f"{error}; copy it again, or delete {model_file.parent} and train this cell again") from None
    if facts.get("fingerprint") != cell.fingerprint:
        raise UserError(f"{model_file}: weights of another cell, {facts.get('fingerprint')}, not of {cell.fingerprint}")
    return tensors


def file_names(ids: Sequence[str]) -> list[str]:
    """Return a file name without suffix for each image id; ids may have an image suffix and contain folders.

    Raises:
        UserError: two ids have the same file name.
    """
    names = []
    for image_id in ids:
        path = PurePosixPath(image_id)
        names.append(str(path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path).replace("/", "_"))
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"several images would be written to the same file, such as {twice[0]!r}; rename them")
    return names
