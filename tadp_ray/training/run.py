"""Trains and scores one cell: the same function under plain Python, torchrun and Ray."""

import os
import resource
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tadp_ray.config.cell import Cell
from tadp_ray.config.fingerprint import sha256_of
from tadp_ray.config.vocabulary import MAIN_METRIC
from tadp_ray.errors import UserError
from tadp_ray.models.tadp import TADP
from tadp_ray.training import checkpoint
from tadp_ray.training.chance import image_generator
from tadp_ray.training.digests import check_contents
from tadp_ray.training.distributed import World
from tadp_ray.training.evaluate import encode_views, evaluate
from tadp_ray.training.loop import BEST, Course, Training
from tadp_ray.training.pictures import draw_predictions
from tadp_ray.training.reporter import MODEL, Follower, Journal, Reporter, Watch, Watched, acquire_lock, final_metrics
from tadp_ray.training.study import Study, threads_of


def train_cell(cell: Cell, device: torch.device, watch: Watch | None = None, command: str = "") -> dict[str, float]:
    """Train a cell unless its journal says that it is finished; returns its final metrics either way.

    A `watch` is told how good the model is, and may end the training by an exception. `command` is what the journal calls
    the command that has the cell trained.

    Raises:
        UserError: something in the recipe, the data or a checkpoint does not fit.
    """
    if not World.current().leads:
        return run(cell, device, Follower(cell.folder))
    with Journal(cell.folder, cell.fingerprint, command=command) as journal:
        metrics = final_metrics(cell.folder, cell.fingerprint)
        if metrics is None:
            last = cell.recipe.schedule.iterations
            watched = Watched(journal, watch, MAIN_METRIC[cell.recipe.task], last) if watch else journal
            metrics = run(cell, device, watched)
            journal.finish(last, metrics)
        return metrics


def run(cell: Cell, device: torch.device, reporter: Reporter) -> dict[str, float]:
    """Train one cell and return its final metrics.

    Metrics are the task's figures at the last step, its main one at the best evaluation, the realised precision and recall
    of the captions, and what the training cost.
    """
    compute, world = cell.recipe.compute, World.current()
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"compute.gpus: {compute.gpus:g}, but torch {torch.__version__} sees no GPU here; install a torch for this "
            "machine's GPU, or set compute.gpus: 0"
        )
    torch.set_num_threads(compute.cpus)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.manual_seed(cell.seed)
    began, read = time.monotonic(), disk_reads()

    world.together(lambda: check_contents(cell))
    study = Study(cell.recipe, cell.seed)
    study.check()
    model = build_model(study, device)
    encoding = time.monotonic()
    study.keep_contexts(cell.digests, device)
    text_seconds = time.monotonic() - encoding
    latents = evaluation_latents(cell.digests, study, model, device, world)
    start_read = disk_reads() - read
    training = Training(cell, study, model, latents, reporter, device, world)
    course = training.fit()
    for name, other in study.besides().items():
        seen = evaluation_latents({**cell.digests, "val": other.val.digest()}, other, model, device, world)
        found = evaluate(model, other, seen, device, world).compute()
        course.latest[f"{study.task.main}/{name}"] = found[study.task.main]

    world.together(lambda: check_contents(cell))
    if world.leads:
        training.write_model(MODEL, course)
        if course.best_step == course.step:
            (cell.folder / BEST).unlink(missing_ok=True)
        draw_predictions(cell.folder / "predictions.png", model, study, latents, device)
    spent = {"seconds": time.monotonic() - began, "text_seconds": text_seconds, "start_read_mib": start_read}
    return final(cell, study, model, course, spent)


def build_model(study: Study, device: torch.device) -> TADP:
    """A fresh model for a study, its trained part on the device; the frozen one is moved along."""
    model, diffusion = study.recipe.model, study.diffusion.to(device)
    latent = tuple(side // diffusion.factor for side in study.view)
    built = TADP(diffusion, len(study.classes), model, study.tokens, latent).to(device)
    if study.recipe.compute.recompute:
        built.unet.enable_gradient_checkpointing()
    return built


def disk_reads() -> float:
    """MiB that this process has had read from disk; what the machine holds in memory costs none."""
    # Linux counts blocks of 512 bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock * 512 / 2**20


def final(cell: Cell, study: Study, model: TADP, course: Course, spent: Mapping[str, float]) -> dict[str, float]:
    """The metrics that a finished cell is known by."""
    metrics = {
        **course.latest,
        f"best_{study.task.main}": course.best,
        "best_step": course.best_step,
        **spent,
        "train_seconds_per_step": course.seconds / course.step,
        "checkpoint_seconds": course.stalled,
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        # Linux counts the largest resident set in KiB; a warm process keeps what its earlier cells needed.
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    for split, prompts in (("train", study.train_prompts), ("val", study.val_prompts)):
        metrics[f"caption/{split}_truncated"] = prompts.truncated
        for name, value in (("precision", prompts.precision), ("recall", prompts.recall)):
            if value is not None:
                metrics[f"caption/{split}_{name}"] = value
    return metrics


def evaluation_latents(
    digests: Mapping[str, str], study: Study, model: TADP, device: torch.device, world: World
) -> Mapping[str, Tensor]:
    """Latents of every evaluation view, made once per sweep and kept on disk, where all cells and workers read them.

    The posterior is sampled with noise that depends on the image alone, so that all cells are scored on the same latents.
    """
    recipe = study.recipe
    key = sha256_of(
        [
            digests["val"],
            digests["weights"],
            recipe.augment.resize,
            recipe.augment.stretch,
            recipe.model.latent.model_dump(),
            recipe.model.pixels,
            {**recipe.evaluation.model_dump(), "every": 0, "multi_scale": ()},
            device.type,
            *threads_of(recipe, device),
        ]
    )
    path = recipe.compute.folder / "latents" / f"{key[:16]}.safetensors"
    if world.leads:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = acquire_lock(path.with_suffix(".lock"), patience=3600)
        try:
            make = lambda: (encode_views(study, encoder(model, device), range(len(study.val))), {})
            latents = checkpoint.kept(path, {"latents": key}, make)
        finally:
            os.close(lock)
    world.barrier()
    return latents if world.leads else checkpoint.labelled(path, {"latents": key})


def encoder(model: TADP, device: torch.device) -> Callable[[Tensor, str, int], Tensor]:
    """The function that turns an evaluation view (1, 3, h, w) into a latent, with noise of (image id, view)."""

    def encode(images: Tensor, image_id: str, view: int) -> Tensor:
        noise = torch.randn((1, *model.latent_shape(images)), generator=image_generator(image_id, view))
        return model.encode_images(images.to(device), noise.to(device)).cpu()

    return encode
