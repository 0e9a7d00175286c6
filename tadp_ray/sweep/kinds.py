"""The kinds of cells of a plan: what a step of each costs, also without data and weights. Does not import Ray."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from tadp_ray.backbones.families import family_of
from tadp_ray.captions.sources import foreground
from tadp_ray.conditioning.sources import context_length
from tadp_ray.config.cell import Cell, each_once
from tadp_ray.config.context import DEFAULT_CONTEXT
from tadp_ray.config.recipe import Recipe
from tadp_ray.data.datasets import class_names
from tadp_ray.errors import UserError
from tadp_ray.sweep.known import Known, key_of
from tadp_ray.sweep.plan import Plan
from tadp_ray.training.digests import all_hashed
from tadp_ray.training.step_cost import StepCost
from tadp_ray.wording import mib, pluralized

if TYPE_CHECKING:
    # Their import takes seconds, which what is known needs not.
    from tadp_ray.training.setup import Cache, TrainSetup

STEP_NEUTRAL = ("learning_rate", "iterations", "warmup_iterations", "warmup_ratio", "lr_schedule", "power", "min_lr")
"""Keys of `schedule` that do not change the cost of a step."""


@dataclass(frozen=True)
class CellKind:
    """Cells whose steps cost the same."""

    cells: tuple[Cell, ...]
    cost: StepCost
    notes: tuple[str, ...] = ()
    """What the count assumes, since data, weights or captions are missing."""
    other_captions: str = ""
    """A line on the evaluations with other captions; empty if there are none."""

    @property
    def name(self) -> str:
        """The name of its first cell, and how many others there are."""
        more = f" and {len(self.cells) - 1} more" if self.cells[1:] else ""
        return f"{self.cells[0].name}{more}"


def kinds_of(plan: Plan, cache: Callable[[], "Cache"] | None = None) -> list[CellKind]:
    """Return the selected cells by the cost of a step, which is traced once for cells of the same sizes.

    Args:
        plan: the sweep.
        cache: returns what cells share, if a step has to be traced. None: a new one.
    """
    cache = cache or functools.cache(plan.new_cache)
    alike: dict[str, list[Cell]] = {}
    for cell in each_once(plan.selected or plan.cells):
        alike.setdefault(step_keys(cell), []).append(cell)
    known, kinds = Known(), dict[Any, CellKind]()
    for cells in alike.values():
        kind = kind_of(cells, known, cache)
        # Cells of other settings may cost the same, such as those of another timestep.
        same = dataclasses.replace(kind.cost, groups=()), kind.notes, kind.other_captions
        before = kinds.get(same)
        kinds[same] = dataclasses.replace(before, cells=(*before.cells, *cells)) if before else kind
    return list(kinds.values())


def kind_of(cells: Sequence[Cell], known: Known, cache: Callable[[], "Cache"]) -> CellKind:
    """Return a kind of cells, from the data and weights of its first cell or, if some are missing, from its recipe alone."""
    first = cells[0]
    if not all_hashed(first):
        return CellKind(tuple(cells), *planned_cost(first.recipe))
    key = key_of("cost", first)
    if key not in known:
        known[key] = count_cost(first, cache())
    cost, other_captions = known[key]
    return CellKind(tuple(cells), TypeAdapter(StepCost).validate_python(cost), other_captions=other_captions)


def count_cost(cell: Cell, cache: "Cache") -> tuple[dict[str, Any], str]:
    """Return the cost of a step as JSON values, and a line on the evaluations with other captions."""
    from tadp_ray.training.cost import step_cost
    from tadp_ray.training.setup import TrainSetup

    setup = TrainSetup(cell.recipe, cell.seed, cache=cache)
    classes = len(setup.train.classes)
    cost = step_cost(cell.recipe, setup.pretrained, classes, setup.prompt_tokens, setup.view, setup.encoders)
    return dataclasses.asdict(cost), other_captions_line(setup, cost) if setup.other_captions else ""


def step_keys(cell: Cell) -> str:
    """Return the settings on which the cost of a step and of further evaluations depends, as text."""
    recipe = cell.recipe.model_dump(mode="json")
    compute, caption, schedule = recipe["compute"], recipe["caption"], recipe["schedule"]
    # The length of a context depends on the captions only if their names are encoded one by one.
    told = caption if caption["encoding"] != "text" else None
    scored = [[name, other["encoding"]] for name, other in recipe["evaluation"].pop("captions").items()]
    groups = [recipe[name] for name in ("task", "data", "augment", "model")] + [recipe["evaluation"]] * bool(scored)
    steps = {key: value for key, value in schedule.items() if key not in STEP_NEUTRAL}
    used = [compute["num_train_workers"], bool(compute["gpus"]), compute["gradient_checkpointing"]]
    return json.dumps([groups, told, scored, steps, used], sort_keys=True)


def planned_cost(recipe: Recipe) -> tuple[StepCost, tuple[str, ...]]:
    """Return the cost of a step and notes on what it assumes, without data, weights and captions.

    The data set's name gives the classes, and Stable Diffusion 1.5 gives the sizes if the weights are missing.

    Raises:
        UserError: weights are there, but damaged; or the side of a view does not fit the backbone.
    """
    from tadp_ray.training.check import check_side
    from tadp_ray.training.cost import step_cost
    from tadp_ray.training.setup import load_encoder

    pretrained, note = family_of(recipe.model).sizes(recipe.model)
    notes = [note] if note else []
    try:
        check_side(recipe, pretrained.multiple)
    except UserError as error:
        raise UserError("; ".join([*notes, str(error)])) from None
    classes = class_names(recipe.data)
    names = classes if recipe.caption.include_background else foreground(classes)
    lengths = {"text": pretrained.tokens, "class_embeddings": 1 if recipe.caption.source == "oracle" else len(names)}
    if recipe.caption.encoding not in lengths:
        notes.append(
            f"context: counting the vectors of caption.encoding: {recipe.caption.encoding} needs the tokenizer; using the full "
            "length"
        )
    tokens = lengths.get(recipe.caption.encoding, pretrained.tokens)
    encoders, context = [], recipe.model.context
    tokens = tokens * context.reads_text
    if context != DEFAULT_CONTEXT:
        notes.append(f"context: {'+'.join(context.kinds)}, {context_length(context, tokens)} vectors")
    try:
        encoders = [load_encoder(source) for source in context.readers_of_images]
    except UserError as error:
        notes.append(f"context: counting a caption's instead, since {error}")
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"context": DEFAULT_CONTEXT})})
        tokens = pretrained.tokens
    side = recipe.augment.side or getattr(recipe.data, "size", 512)
    return step_cost(recipe, pretrained, len(classes), tokens, (side, side), encoders), tuple(notes)


def lower_memory(kinds: Sequence[CellKind], recipe: Recipe | None = None) -> dict[str, str]:
    """Return the keys that lower the memory of a worker, each with what it does, for the kind that needs most.

    Args:
        kinds: of cells.
        recipe: of the kind, if it has no cells.
    """
    most = max(kinds, key=lambda kind: kind.cost.memory_bytes)
    recipe = recipe or most.cells[0].recipe
    images, world, compute = recipe.schedule.images_per_pass, recipe.compute.world_size, recipe.compute
    activations, state, keys = mib(most.cost.activation_bytes), mib(most.cost.state_bytes), dict[str, str]()
    if not compute.gradient_checkpointing and not compute.compile:
        keys["compute.gradient_checkpointing=true"] = (
            f"recomputes most of the {activations} of activations, a third more time"
        )
    # Batch normalization needs two images in each worker.
    can_halve = images % (2 * world) == 0 and images >= 4 * world
    if can_halve:
        keys[f"schedule.micro_batch={images // 2}"] = "half of the activations, another result"
    if can_halve and compute.gpus >= 1:
        keys[f"compute.num_train_workers={2 * world}"] = "half of the activations in each worker, the same result"
    if recipe.schedule.precision != "bfloat16" and compute.gpus:
        keys["schedule.precision=bfloat16"] = "smaller activations, another result"
    if getattr(getattr(recipe.model, "trainable", None), "kind", None) == "full":
        keys["model.trainable=lora"] = f"few of the {state} of weights, gradients and moments, another result"
    return keys


def kind_lines(kinds: Sequence[CellKind]) -> Iterator[str]:
    """Yield lines on the cost of every kind of cell: a line for each if there are several, and the parts of the first."""
    if len(kinds) > 1:
        yield f"{len(kinds)} kinds of cells:"
        width = max(len(kind.cells[0].name) for kind in kinds) + 1
        yield f"  {'':<{width}}{'cells':>6}{'trained':>14}{'GFLOP a step':>16}{'memory of a worker':>20}"
        for kind in kinds:
            cost = kind.cost
            yield (
                f"  {kind.cells[0].name:<{width}}{len(kind.cells):>6}{cost.trained:>14,}{cost.flops / 1e9:>16,.1f}"
                f"{mib(cost.memory_bytes):>20}"
            )
        yield f"of these, {kinds[0].name}:"
    yield from dict.fromkeys(note for kind in kinds for note in kind.notes)
    yield from cost_lines(kinds[0].cells[0].recipe, kinds[0].cost)
    if keys := lower_memory(kinds):
        yield memory_line(keys)
    yield from dict.fromkeys(kind.other_captions for kind in kinds if kind.other_captions)


def cost_lines(recipe: Recipe, cost: StepCost) -> Iterator[str]:
    """Yield lines on the cost of a step of a recipe."""
    yield f"{'':<24}{'parameters':>14}{'forward':>14}{'backward':>14}   GFLOP per image"
    for part in cost.parts:
        yield f"{part.name:<24}{part.parameters:>14,}{part.forward / 1e9:>14,.3f}{part.backward / 1e9:>14,.3f}"
    yield f"{'optimizer group':<24}{'parameters':>14}{'rate':>14}"
    for name, count, rate in cost.groups:
        yield f"{name:<24}{count:>14,}{rate:>14.2e}"
    yield f"one step of {pluralized(cost.images, 'images')}: {cost.flops / 1e9:,.1f} GFLOP"
    yield (
        f"memory of each worker, about {mib(cost.memory_bytes)} and temporary buffers: {mib(cost.frozen_bytes)} of frozen "
        f"weights, {mib(cost.state_bytes)} of weights, gradients and AdamW moments, {mib(cost.activation_bytes)} of activations"
    )
    if cost.note:
        yield cost.note
    if recipe.compute.gpus:
        yield from time_lines(recipe, cost)


def time_lines(recipe: Recipe, cost: StepCost) -> Iterator[str]:
    """Yield a line on the least time of a step on the GPU of this machine, if there is one."""
    import torch

    from tadp_ray.training.gpu import least_seconds, matrix_peak

    if torch.cuda.is_available():
        device = torch.device("cuda")
        least = least_seconds(recipe, cost, recipe.augment.only_flips, device)
        yield (
            f"time of a step, at least {least:.3f} s: all of it at the "
            f"{matrix_peak(device, recipe.schedule.precision) / 1e12:,.0f} TFLOP/s of a product of matrices in "
            f"{recipe.schedule.precision}, measured on the {torch.cuda.get_device_name(device)} here"
        )


def memory_line(keys: Mapping[str, str]) -> str:
    """Return a line that names the keys that lower the memory."""
    return "to lower the memory: " + "; ".join(f"{key} ({what})" for key, what in keys.items())


def other_captions_line(setup: "TrainSetup", cost: StepCost) -> str:
    """Return a line on the evaluations with other captions, which encode no image again; views of any size cost by their area."""
    from tadp_ray.training.windows import passes, views_of

    height, width = setup.view
    scans = passes(setup.recipe.evaluation)
    boxes = (box for i in range(len(setup.val)) for scan in scans for box in views_of(setup, i, scan))
    views = sum(box[2] * box[3] for box in boxes) / (height * width)
    forward = sum(part.forward for part in cost.parts if part.name in ("backbone", "head"))
    count, images = len(setup.other_captions), len(setup.val)
    return (
        f"after training: scoring {pluralized(images, 'images')} with {pluralized(count, 'other captions')}, each "
        f"{views * forward / 1e9:,.1f} GFLOP, as many as {views * forward / cost.flops:,.1f} steps"
    )
