"""Trains and evaluates one cell, in the same way under plain Python, torchrun and Ray."""

import gc
import logging
import os
import resource
import shutil
import sysconfig
import time
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from tadp_ray.config.cell import Cell
from tadp_ray.config.metrics import main_metric
from tadp_ray.data.datasets import Datasets
from tadp_ray.errors import UserError
from tadp_ray.layout import BEST, PREDICTED
from tadp_ray.training import checkpoint
from tadp_ray.training.check import check_setup
from tadp_ray.training.digests import check_contents
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.embeddings import evaluation_embeddings, training_embeddings
from tadp_ray.training.evaluate import evaluate
from tadp_ray.training.journal import final_metrics
from tadp_ray.training.latents import evaluation_latents, training_latents
from tadp_ray.training.model import TADP, make_model
from tadp_ray.training.perception import PerceptionTraining
from tadp_ray.training.precision import deterministic_algorithms
from tadp_ray.training.reporter import Journal, NullReporter, Reporter, Watch, WatchedReporter
from tadp_ray.training.setup import Cache, TrainSetup
from tadp_ray.training.state import TrainState
from tadp_ray.training.transfer import check_gpu

log = logging.getLogger(__name__)


def train_cell(
    cell: Cell, device: torch.device, watch: Watch | None = None, command: str = "", cache: Cache | None = None
) -> dict[str, float]:
    """Train a cell unless its journal shows that it is finished; return its final metrics in both cases.

    Args:
        cell: cell to train.
        device: device of this process.
        watch: receives the main metric at every evaluation but the last, and may stop the training with an exception.
        command: id of the command that trains the cell, for the journal.
        cache: shared by cells, with their data sets, frozen networks, contexts and prompts.

    Raises:
        UserError: the recipe, the data or a checkpoint do not fit.
    """
    if not ProcessGroup.current().is_main_process:
        return run(cell, device, NullReporter(), cache)
    with Journal(cell.folder, cell.fingerprint, command=command) as journal:
        metrics = final_metrics(cell.folder, cell.fingerprint)
        if metrics is None:
            last = cell.recipe.schedule.iterations
            watched = WatchedReporter(journal, watch, main_metric(cell.recipe.task), last) if watch else journal
            metrics = run(cell, device, watched, cache)
            journal.finish(last, metrics)
        return metrics


def run(cell: Cell, device: torch.device, reporter: Reporter, cache: Cache | None = None) -> dict[str, float]:
    """Train one cell and return its final metrics.

    They are the task's metrics at the last step, its main metric at the best evaluation, the precision and recall of the
    captions, and the cost of the training.
    """
    compute, world = cell.recipe.compute, ProcessGroup.current()
    check_gpu(device, compute.gpus)
    if compute.compile and (lacking := missing_compiler(device)):
        raise UserError(
            f"compute.compile: true, but there is no {lacking} here, which torch needs; install it, or leave it out"
        )
    torch.set_num_threads(compute.cpus)
    torch.manual_seed(cell.seed)
    if compute.compile:
        prepare_compilation()
    if device.type == "cuda":
        # Else the memory of the cells that share this GPU would decide whether this one suffices.
        torch.cuda.set_per_process_memory_fraction(min(compute.gpus, 1.0))
    try:
        with deterministic_algorithms(compute.deterministic):
            return _run(cell, device, reporter, cache or Cache(Datasets(compute.folder)), world)
    except torch.OutOfMemoryError as error:
        # Starting it again would end in the same way.
        recomputed = "compute.gradient_checkpointing: true or " * (not compute.compile)
        raise UserError(
            f"the GPU's memory does not suffice ({str(error).partition('. GPU')[0]}); lower schedule.micro_batch="
            f"{cell.recipe.schedule.images_per_pass}, or set {recomputed}schedule.precision: bfloat16"
        ) from error


def _run(cell: Cell, device: torch.device, reporter: Reporter, cache: Cache, world: ProcessGroup) -> dict[str, float]:
    began, read = time.monotonic(), disk_reads()
    # Networks and optimizers of earlier cells are in cycles, which hold their memory until they are collected.
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    world.together(lambda: check_contents(cell, cache.datasets))
    setup = TrainSetup(cell.recipe, cell.seed, cache=cache)
    check_setup(setup)
    model = build_model(setup, device)
    encoding = time.monotonic()
    setup.warm_contexts(cell.digests, device)
    text_seconds = time.monotonic() - encoding
    if setup.pretrained.text_encoder is not None:
        # All contexts are in files now; on a GPU, PixArt's T5 takes 18 GiB of the training's memory.
        setup.pretrained.text_encoder.to("cpu")
    latents = evaluation_inputs(cell.digests, setup, model, device, world)
    views = training_latents(cell.digests, setup, model, device, world)
    embeddings = training_embeddings(cell.digests, setup, device, world)
    start_read = disk_reads() - read
    training = PerceptionTraining(cell, setup, model, views, embeddings, latents, reporter, device, world)
    state = training.fit()
    for name, other in setup.extra_evaluations().items():
        inputs = evaluation_inputs({**cell.digests, "val": other.val.digest()}, other, model, device, world)
        metrics = evaluate(model, other, inputs, device, world).compute()
        state.latest[f"{setup.task.main}/{name}"] = metrics[setup.task.main]
    for name, other in setup.other_captions.items():
        metrics = evaluate(model, other, latents, device, world).compute()
        state.latest[f"{setup.task.main}/{name}"] = metrics[setup.task.main]

    world.together(lambda: check_contents(cell, cache.datasets))
    if world.is_main_process:
        from tadp_ray.training.pictures import draw_predictions

        training.write_model(state)
        keep_best(cell.folder / BEST, state)
        draw_predictions(cell.folder / PREDICTED, model, setup, latents, device)
    seconds = state.earlier + time.monotonic() - began
    spent = {"seconds": seconds, "text_seconds": text_seconds, "start_read_mib": start_read}
    if device.type == "cuda" and world.is_main_process:
        from tadp_ray.training.gpu import gpu_metrics

        spent |= gpu_metrics(setup, state.seconds / state.step, device)
    return final(cell, setup, model, state, spent)


def evaluation_inputs(
    digests: Mapping[str, str], setup: TrainSetup, model: TADP, device: torch.device, world: ProcessGroup
) -> Mapping[str, Tensor]:
    """Return the latents of all evaluation views by their keys, and what the context's image encoders say about them."""
    latents = evaluation_latents(digests, setup, model, device, world)
    embeddings = evaluation_embeddings(digests, setup, device, world)
    return ChainMap(embeddings, cast("dict[str, Tensor]", latents)) if embeddings else latents


def build_model(setup: TrainSetup, device: torch.device) -> TADP:
    """Build the model of a setup on a device; the frozen networks are moved there too."""
    pretrained, recipe = setup.pretrained.to(device), setup.recipe
    encoders = [encoder.to(device) for encoder in setup.encoders]
    model = make_model(pretrained, recipe.model, len(setup.classes), setup.prompt_tokens, setup.view, encoders)
    if recipe.compute.gradient_checkpointing:
        model.backbone.enable_gradient_checkpointing()
    return model.to(device)


def keep_best(path: Path, state: TrainState) -> None:
    """Remove the weights of the best evaluation if they are the last ones, or those of another evaluation.

    A process that was killed before its next checkpoint may have found a better one, which a GPU does not compute again exactly.
    """
    if state.best_step != state.step and path.is_file():
        step = checkpoint.TensorFile(path).facts["step"]
        if step == state.best_step:
            return
        log.warning("%s: is of step %d and not of the best one, %d; removed", path, step, state.best_step)
    path.unlink(missing_ok=True)


def prepare_compilation() -> None:
    """Prepare torch for the steps that the next cell compiles."""
    # What was compiled for an earlier cell of this process would decide which sizes are static in this one.
    torch.compiler.reset()
    # Else a step of several processes is cut into a graph for each 25 MiB of gradients.
    torch._dynamo.config.optimize_ddp = False


def missing_compiler(device: torch.device) -> str:
    """Return what compiled steps need on a device and that is not there, e.g. `gcc`; empty if all of it is.

    On GPUs it is Triton's compiler, of C; on a CPU it is Inductor's, of C++. Both include Python's headers.
    """
    variable, *names = ("CC", "gcc", "clang") if device.type == "cuda" else ("CXX", "g++", "clang++")
    if not os.environ.get(variable) and not any(map(shutil.which, names)):
        return names[0]
    return "" if Path(sysconfig.get_paths()["include"], "Python.h").is_file() else "Python.h (python3-dev)"


def disk_reads() -> float:
    """Return the MiB that this process has read from disk; reads from the page cache do not count."""
    # Linux counts blocks of 512 bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock * 512 / 2**20


def final(
    cell: Cell, setup: TrainSetup, model: TADP, state: TrainState, spent: Mapping[str, float]
) -> dict[str, float]:
    """Return the final metrics of a finished cell."""
    metrics = {
        **state.latest,
        f"best_{setup.task.main}": state.best,
        "best_step": state.best_step,
        **spent,
        "train_seconds_per_step": state.seconds / state.step,
        "checkpoint_seconds": state.stalled,
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        # Linux reports the peak resident set in KiB; it includes earlier cells of the same process.
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    scored = ((f"/{name}", other.val_prompts) for name, other in setup.other_captions.items())
    for split, where, prompts in (
        ("train", "", setup.train_prompts),
        ("val", "", setup.val_prompts),
        *(("val", where, prompts) for where, prompts in scored),
    ):
        metrics[f"caption/{split}_truncated{where}"] = prompts.truncated
        for name, value in (("precision", prompts.score.precision), ("recall", prompts.score.recall)):
            if value is not None:
                metrics[f"caption/{split}_{name}{where}"] = value
    return metrics
