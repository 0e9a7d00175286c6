"""Prints what a sweep would do and cost (`--dry-run`). Does not import Ray."""

import statistics
from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import timedelta

import torch

from tadp_ray.backbones.families import family_of
from tadp_ray.captions.making import missing_stores
from tadp_ray.captions.sources import foreground
from tadp_ray.conditioning.sources import context_length
from tadp_ray.config.cell import Cell
from tadp_ray.config.context import DEFAULT_CONTEXT
from tadp_ray.config.schema import Recipe
from tadp_ray.config.yaml12 import dump_yaml
from tadp_ray.data.datasets import class_names
from tadp_ray.errors import UserError
from tadp_ray.sweep.plan import (
    Plan,
    oracle_line,
    scored_oracle_line,
    scored_stores_of_ground_truth,
    stores_of_ground_truth,
)
from tadp_ray.tracking.journal_run import flatten
from tadp_ray.tracking.query import CellRow
from tadp_ray.training.cost import StepCost, step_cost
from tadp_ray.training.evaluate import passes, views_of
from tadp_ray.training.gpu import least_seconds, matrix_peak
from tadp_ray.training.setup import Cache, TrainSetup, load_encoder

OTHER_CAPTIONS = "evaluation.captions."
COST_NEUTRAL = ("caption.", "compute.", "data.root", OTHER_CAPTIONS)
"""Prefixes of recipe keys that do not change how long a cell takes; of compute, only workers and GPUs are compared, of further
captions only their number."""


def preview(plan: Plan, done: Mapping[str, CellRow], earlier: Sequence[CellRow], at_once: int) -> Iterator[str]:
    """Yield the lines that `--dry-run` prints.

    Args:
        plan: the sweep.
        done: finished cells by fingerprint.
        earlier: finished cells of the same experiment and scale, whose times give the estimate.
        at_once: how many cells fit on the cluster at once.
    """
    recipe, compute = plan.recipe, plan.recipe.compute
    todo = plan.missing(done)
    yield f"{plan.name} at {plan.scale} scale, {plan.settings}: {len(plan.cells)} cells, {len(todo)} to train"
    if plan.oracle:
        yield plan.oracle
    selected = {cell.fingerprint for cell in plan.selected}
    for cell in plan.cells:
        yield f"  {cell.name:<40} {cell.fingerprint[:16]}  {cell_state(cell, done, selected)}"
    where = (
        f"{compute.num_train_workers} Ray Train worker(s)" if compute.num_train_workers else "the sweep's own process"
    )
    yield (
        f"each cell: {recipe.schedule.iterations} steps of {recipe.schedule.batch_size} images in {where}, "
        f"{compute.cpus} CPUs and {compute.gpus:g} GPUs each; {at_once} cells at once"
    )
    setup = TrainSetup(recipe, plan.cells[0].seed, cache=Cache(plan.datasets))
    classes = len(setup.train.classes)
    cost = step_cost(recipe, setup.pretrained, classes, setup.prompt_tokens, setup.view, setup.encoders)
    yield from cost_lines(recipe, cost)
    if setup.other_captions:
        yield other_captions_line(setup, cost)
    yield estimate(todo, earlier, at_once)


def recipe_preview(recipe: Recipe) -> Iterator[str]:
    """Yield the lines that `train --dry-run` prints: every setting, and the cost of a step.

    It needs neither data nor weights nor captions: the data set's name gives the classes, and Stable Diffusion 1.5 gives the
    sizes if the weights are missing.
    """
    yield dump_yaml(recipe.model_dump(mode="json")).rstrip()
    absent = missing_stores([recipe])
    yield from (f"captions: {problem}" for problem in absent)
    if recipe.caption.uses_ground_truth or (not absent and stores_of_ground_truth(recipe)):
        yield oracle_line("the captions of the cell", [recipe.caption.source])
    stores = () if absent else scored_stores_of_ground_truth(recipe)
    if oracles := recipe.evaluation.oracles(stores):
        yield scored_oracle_line(oracles)
    pretrained, note = family_of(recipe.model).sizes(recipe.model)
    if note:
        yield note
    classes = class_names(recipe.data)
    names = classes if recipe.caption.include_background else foreground(classes)
    lengths = {"text": pretrained.tokens, "class_embeddings": 1 if recipe.caption.source == "oracle" else len(names)}
    if recipe.caption.encoding not in lengths:
        yield "context: counting the tokens of separately encoded names needs the tokenizer; using the full length"
    tokens = lengths.get(recipe.caption.encoding, pretrained.tokens)
    encoders, context = [], recipe.model.context
    tokens = tokens * context.reads_text
    if context != DEFAULT_CONTEXT:
        yield f"context: {'+'.join(context.kinds)}, {context_length(context, tokens)} vectors"
    try:
        encoders = [load_encoder(source) for source in context.readers_of_images]
    except UserError as error:
        yield f"context: counting a caption's instead, since {error}"
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"context": DEFAULT_CONTEXT})})
        tokens = pretrained.tokens
    side = recipe.augment.side or getattr(recipe.data, "size", 512)
    yield from cost_lines(recipe, step_cost(recipe, pretrained, len(classes), tokens, (side, side), encoders))


def cost_lines(recipe: Recipe, cost: StepCost) -> Iterator[str]:
    """Yield lines on the cost of a step of a recipe."""
    yield f"{'':<24}{'parameters':>14}{'forward':>14}{'backward':>14}   GFLOP per image"
    for part in cost.parts:
        yield f"{part.name:<24}{part.parameters:>14,}{part.forward / 1e9:>14,.3f}{part.backward / 1e9:>14,.3f}"
    yield f"{'optimizer group':<24}{'parameters':>14}{'rate':>14}"
    for name, count, rate in cost.groups:
        yield f"{name:<24}{count:>14,}{rate:>14.2e}"
    yield f"one step of {cost.images} images: {cost.flops / 1e9:,.1f} GFLOP"
    yield (
        f"memory of each worker, about {mib(cost.memory_bytes)} and temporary buffers: {mib(cost.frozen_bytes)} of frozen "
        f"weights, {mib(cost.state_bytes)} of weights, gradients and AdamW moments, {mib(cost.activation_bytes)} of activations"
    )
    if cost.note:
        yield cost.note
    if recipe.compute.gpus and torch.cuda.is_available():
        device = torch.device("cuda")
        yield (
            f"time of a step, at least {least_seconds(recipe, cost.flops, device):.3f} s: all of it at the "
            f"{matrix_peak(device, recipe.schedule.precision) / 1e12:,.0f} TFLOP/s of a product of matrices in "
            f"{recipe.schedule.precision}, measured on the {torch.cuda.get_device_name(device)} here"
        )


def other_captions_line(setup: TrainSetup, cost: StepCost) -> str:
    """Return a line on the evaluations with other captions, which encode no image again; views of any size cost by their area."""
    height, width = setup.view
    scans = passes(setup.recipe.evaluation)
    boxes = (box for i in range(len(setup.val)) for scan in scans for box in views_of(setup, i, scan))
    views = sum(box[2] * box[3] for box in boxes) / (height * width)
    forward = sum(part.forward for part in cost.parts[2:])
    count, images = len(setup.other_captions), len(setup.val)
    return (
        f"after training: {images:,} images are scored with {count} other captions, each {views * forward / 1e9:,.1f} GFLOP, as "
        f"many as {views * forward / cost.flops:,.1f} steps"
    )


def cell_state(cell: Cell, done: Mapping[str, CellRow], selected: Container[str]) -> str:
    """Return whether a cell is finished, to train or not selected, by its fingerprint."""
    if cell.fingerprint in done:
        return f"finished, run {done[cell.fingerprint].run_id}"
    return "to train" if cell.fingerprint in selected else "not selected by --only"


def estimate(todo: Sequence[Cell], earlier: Sequence[CellRow], at_once: int) -> str:
    """Return a line on how long the cells will take, estimated from finished cells with the same settings."""
    if not todo:
        return "nothing to train"
    cost, scored = cost_keys(todo[0]), len(todo[0].recipe.evaluation.captions)
    alike = [
        row
        for row in earlier
        if all(row.params.get(key) == value for key, value in cost.items()) and other_captions_of(row) == scored
    ]
    if not alike:
        return "time: unknown, since no finished cell has these settings"
    seconds = statistics.median(row.metrics["seconds"] for row in alike)
    compute, rounds = todo[0].recipe.compute, -(-len(todo) // at_once)
    hours = len(todo) * seconds * compute.world_size / 3600
    spent = f"{hours * compute.gpus:.2f} GPU-hours" if compute.gpus else f"{hours * compute.cpus:.2f} core-hours"
    machines = "; ".join(sorted({row.hardware for row in alike}))
    return (
        f"time: about {timedelta(seconds=round(rounds * seconds))} for {len(todo)} cells, {spent}; from {len(alike)} "
        f"finished cells of {seconds:.0f} s (median) on {machines}"
    )


def cost_keys(cell: Cell) -> dict[str, str]:
    """Return the settings that a cell's time depends on, as MLflow's parameters: steps, sizes and workers."""
    settings = flatten(cell.recipe.model_dump(mode="json"))
    compared = ("compute.num_train_workers", "compute.gpus")
    return {key: value for key, value in settings.items() if not key.startswith(COST_NEUTRAL) or key in compared}


def other_captions_of(row: CellRow) -> int:
    """Return the number of further captions that a finished cell was scored with."""
    return sum(key.startswith(OTHER_CAPTIONS) and key.endswith(".source") for key in row.params)


def mib(size: int) -> str:
    """Format bytes as MiB."""
    return f"{size / 2**20:,.0f} MiB"
