"""A hyperparameter search: candidates are the cells of a plan, the worse ones stop early, the best becomes a recipe."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tadp_ray.config.cell import Cell, each_once, recipe_at
from tadp_ray.config.errors import ConfigError
from tadp_ray.config.load import extended_files, load_recipe_values, load_search, merge, parse_override, set_key
from tadp_ray.config.metrics import best_first, main_metric
from tadp_ray.config.yaml12 import dump_yaml
from tadp_ray.data.datasets import Datasets
from tadp_ray.errors import UserError
from tadp_ray.files import write_text
from tadp_ray.sweep.choices import key_set_by, settings_text
from tadp_ray.sweep.inputs import absent_prerequisites, cell_inputs, with_absolute_paths
from tadp_ray.sweep.plan import Plan
from tadp_ray.tracking.query import finished
from tadp_ray.tracking.store import Store

FOUND = "# Found by a search: "
"""Start of the recipes that searches write."""


def plan_search(recipe: Path, file: Path, overrides: Sequence[str], seed: int) -> Plan:
    """Return the plan of a search file, with one cell per candidate. Scenes are always scored on val, never on test.

    Raises:
        ConfigError: the files or the overrides are invalid.
        UserError: data, weights or the caption store are missing, the recipe sets Ray Train workers, or it ends before the
            grace period.
    """
    search = load_search(file)
    for text in overrides:
        if f"{key_set_by(text)}.".startswith(tuple(f"{key}." for key in (*search.space, "evaluation.interval"))):
            raise ConfigError([f"--set {text}: the search {file} sets this key; change it there"])
    raw, origins = load_recipe_values(recipe, [*overrides, f"evaluation.interval={search.grace_period}"])
    if "eval_split" in raw.get("data", {}):
        raw = set_key(raw, "data.eval_split", "val")
    points = search.draw(seed)
    recipes = [recipe_at(raw, origins, point, f"search {file}") for point in points]
    if recipes[0].compute.num_train_workers:
        raise UserError(
            "compute.num_train_workers: a search does not use Ray Train workers; --set compute.num_train_workers=0"
        )
    if (steps := recipes[0].schedule.iterations) < search.grace_period:
        raise UserError(
            f"{file}: grace_period={search.grace_period}: is more than the {steps} steps of a candidate (schedule.iterations); "
            "lower it, or --set schedule.iterations=STEPS"
        )
    name, cells, hashed, datasets = f"{recipe.stem}-{file.stem}", [], {}, Datasets(recipes[0].compute.folder)
    absent_prerequisites(recipes, recipe.parent.parent, dry=False)
    for point, resolved in zip(points, map(with_absolute_paths, recipes), strict=True):
        contents = cell_inputs(resolved, datasets, hashed)
        cells.append(Cell(experiment=name, seed=seed, axes=point, recipe=resolved, **contents))
    question = f"Which {' and '.join(search.space)} suit {recipe.name}?"
    candidates, settings = tuple(cells), settings_text(recipe, overrides)
    return Plan(name, settings, cells[0].scale, question, candidates, candidates, search, datasets=datasets)


def check_out(recipe: Path, out: Path) -> None:
    """Check that the best candidate can be written before any is trained.

    Raises:
        UserError: `out` is a folder, a file that the written one would extend, or one that no search has written.
    """
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder; name a file in it, e.g. {out / 'found.yaml'}")
    if out.resolve() in [file.resolve() for file in extended_files(recipe, "recipes")]:
        raise UserError(
            f"--out {out}: is the recipe to improve, or one that it extends, which the found recipe extends; name another file"
        )
    if out.is_file():
        with out.open(encoding="utf-8", errors="replace") as file:
            first = file.readline()
        if first and not first.startswith(FOUND):
            raise UserError(
                f"--out {out}: is a file that no search has written, which would be lost; name another file"
            )


def write_best(plan: Plan, store: Store, recipe: Path, overrides: Sequence[str], out: Path) -> str:
    """Write the best candidate as a recipe, which extends the given one where that suffices; return a summary.

    Raises:
        UserError: no candidate was trained to the end.
    """
    done = finished(store, [cell.fingerprint for cell in plan.cells])
    if not done:
        raise UserError("no candidate was trained to the end; see their journals")
    metric = main_metric(plan.recipe.task)
    ended = [cell for cell in plan.cells if cell.fingerprint in done]
    order = best_first(metric)
    best = min(ended, key=lambda cell: order(done[cell.fingerprint].metrics[metric]))
    row = done[best.fingerprint]
    tried = len(each_once(plan.cells))
    summary = (
        f"{metric} {row.metrics[metric]:.4g} on val, the best of {tried} candidates of seed {best.seed}, {len(done)} "
        f"of which were trained to the end (run {row.run_id})"
    )
    base, _ = load_recipe_values(recipe)
    changes, whole = dict[str, Any](), base
    for key, value in (*(parse_override(text) for text in overrides), *best.axes.items()):
        if not key.startswith("compute."):
            changes, whole = set_key(changes, key, value), set_key(whole, key, value)
    # An override may replace a group, which a file that extends another cannot.
    if merge(base, changes) == whole:
        whole = {"extends": os.path.relpath(recipe.absolute(), out.absolute().parent), **changes}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, f"{FOUND}{summary}.\n" + dump_yaml(whole))
    return summary
