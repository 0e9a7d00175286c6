"""The cells that a command trains. Does not import Ray."""

import logging
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadp_ray.config.asked import layout_record
from tadp_ray.config.cell import Cell, each_once
from tadp_ray.config.fingerprint import sha256_of
from tadp_ray.config.recipe import Recipe
from tadp_ray.config.resolve import ResolvedExperiment
from tadp_ray.config.search import Search
from tadp_ray.config.table import TableSpec
from tadp_ray.config.vocabulary import Scale
from tadp_ray.data.datasets import Datasets, class_names, remarks
from tadp_ray.data.files import FileDataset
from tadp_ray.errors import UserError
from tadp_ray.registry import TASKS
from tadp_ray.sweep.known import Known, key_of
from tadp_ray.tracking.names import check_classes
from tadp_ray.training.digests import all_hashed

if TYPE_CHECKING:
    from tadp_ray.training.setup import Cache

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Cells that belong together, and those of them that this command selects."""

    name: str
    """The name of the experiment's file, followed by the recipe's if another recipe is used."""
    settings: str
    """The recipe and its overrides."""
    scale: Scale
    """Which of the experiment's recipes and sweeps; a cell has the scale of its data."""
    question: str
    """That the cells answer."""
    cells: tuple[Cell, ...]
    """Every cell of the table: axis values x seeds."""
    selected: tuple[Cell, ...]
    """The cells that `--only` selects; all cells without it."""
    search: Search | None = None
    """When the worse cells are stopped early; None: never."""
    datasets: Datasets = field(default_factory=Datasets, compare=False, repr=False)
    """The data sets that planning has opened."""
    absent: tuple[str, ...] = ()
    """What cells need and is missing, in words: of a plan without data, weights or captions alone."""

    @property
    def layout(self) -> dict[str, Any] | None:
        """What a table of the cells needs beside them; None: they fill no table."""
        return None

    @property
    def recipe(self) -> Recipe:
        """The recipe of the first cell; all cells share its task, data and compute unless an axis varies them."""
        return self.cells[0].recipe

    @property
    def storage(self) -> Path:
        """The folder on this machine with cells, latents and tables."""
        return self.recipe.compute.folder

    @property
    def folder(self) -> Path:
        """The folder of this sweep's table and figures."""
        return self.storage / self.name / self.scale

    @property
    def key(self) -> str:
        """Hash of the table's cells without their seeds: more seeds fill the same table, other settings make another."""
        return sha256_of(sorted({cell.group for cell in self.cells}))

    @property
    def oracle(self) -> str | None:
        """Lines on the captions that use the ground truth, of cells and of further evaluations; None if there are none."""
        oracles, lines = [cell for cell in self.selected if cell.uses_ground_truth], []
        if oracles:
            some = "all" if len(oracles) == len(self.selected) else f"{len(oracles)} of {len(self.selected)}"
            lines.append(oracle_line(f"the captions of {some} cells", [cell.recipe.caption.source for cell in oracles]))
        if scored := dict.fromkeys(name for cell in self.selected for name in cell.oracle_evaluations):
            lines.append(scored_oracle_line(scored))
        return "\n".join(lines) or None

    def missing(self, done: Container[str]) -> list[Cell]:
        """Return the selected cells that are not done; table entries with the same training share one cell."""
        return each_once([cell for cell in self.selected if cell.fingerprint not in done])

    def warn(self) -> None:
        """Log warnings about the data that are there, and about a precision in which this machine is slow."""
        recipes = [cell.recipe for cell in self.cells if all_hashed(cell)]
        for data in {own.data: None for own in recipes}:
            for line in remarks(data, *(self.datasets.open(data, split) for split in ("train", "val"))):
                log.warning(line)
        for data, limit in {(own.data, getattr(own.model.head, "max_depth", None)): None for own in recipes}:
            for split, effect in (
                ("train", "trained on, but cannot be predicted"),
                ("val", "neither predicted nor scored"),
            ):
                shown = self.datasets.open(data, split)
                deepest = shown.greatest if isinstance(shown, FileDataset) else None
                if limit and deepest and deepest > limit:
                    log.warning(
                        f"model.head.max_depth={limit:g}: data.{split} has depths of {deepest:.4g} m, and what is beyond "
                        f"{limit:g} m is {effect}; raise it, or write 0 for pixels without a reading"
                    )
        if any(cell.recipe.schedule.precision == "bfloat16" and not cell.recipe.compute.gpus for cell in self.cells):
            # They take seconds to import.
            import torch

            from tadp_ray.training.precision import fast_bfloat16

            if not fast_bfloat16(torch.device("cpu")):
                log.warning(
                    "schedule.precision=bfloat16: a CPU without AVX-512, like this one, takes many times as long as in "
                    "float32; use float32, unless this is meant"
                )

    def new_cache(self) -> "Cache":
        """Return an empty cache of what cells share, with this plan's data sets."""
        # It takes seconds to import, which a finished sweep and one with invalid files do not need.
        from tadp_ray.training.setup import Cache

        return Cache(self.datasets)

    def check(self, cells: Sequence[Cell], cache: Callable[[], "Cache"] | None = None) -> None:
        """Open the data, make the prompts and build the heads of cells before they are trained.

        Of cells that differ in their seeds alone, the first is checked. A seed decides where the text encoder's limit cuts a
        caption, and so at most whether a precision and a recall near that limit can be met. Every cell checks itself as it
        starts, too. What an earlier command has checked is not checked again.

        Args:
            cells: selected cells, whose data, captions and weights are there.
            cache: returns the cache to use, if anything has to be checked. None: a new one, which is given back at the end, since
                the 4 GiB of Stable Diffusion 1.5 belong to those who train.

        Raises:
            UserError: the first problem found.
        """
        known, firsts = Known(), dict[str, Cell]()
        for cell in cells:
            firsts.setdefault(cell.group, cell)
        left = {key: cell for cell in firsts.values() if (key := key_of("check", cell)) not in known}
        if not left:
            return
        # As in `new_cache`.
        from tadp_ray.training.check import check_head, check_setup
        from tadp_ray.training.setup import TrainSetup

        shared = (cache or self.new_cache)()
        for key, cell in left.items():
            try:
                check_classes(class_names(cell.recipe.data))
                setup = TrainSetup(cell.recipe, cell.seed, cache=shared)
                check_setup(setup)
                check_head(setup)
            except UserError as error:
                raise UserError(f"cell {cell.name}: {error}") from None
            known[key] = True


@dataclass(frozen=True, kw_only=True)
class ExperimentPlan(Plan):
    """One experiment at one scale: every cell of its table."""

    source: ResolvedExperiment
    """The experiment's parsed files, or what a command line asks for in their place."""
    table: TableSpec
    """The table that the cells fill, which gives each cell's (row, column)."""
    command: str
    """That runs the same sweep."""

    def check(self, cells: Sequence[Cell], cache: Callable[[], "Cache"] | None = None) -> None:
        """Check as `Plan.check`, and that the cells will have those of the table's metrics that belong to one class.

        Raises:
            UserError: the first problem found.
        """
        for data, task in {(cell.recipe.data, cell.recipe.task): None for cell in cells}:
            scored = self.datasets.open(data, "val")
            absent = scored.absent() if isinstance(scored, FileDataset) else []
            for name in absent:
                if (metric := f"{TASKS[task].by_class}/{name}") in self.table.metrics:
                    raise UserError(
                        f"{self.source.file}: table.metrics={metric!r}: no scored image of data.kind: {data.kind} shows {name}, "
                        "so cells with these data would lack the metric; leave it out"
                    )
        super().check(cells, cache)

    @property
    def layout(self) -> dict[str, Any]:
        """What the table needs beside its cells, so that it can be made again without the files."""
        return layout_record(self.source, self.scale, self.command)


def oracle_line(which: str, sources: Iterable[str]) -> str:
    """Return a line such as `oracle: the captions of all cells use the ground truth ...`."""
    named = ", ".join(sorted(set(sources)))
    return f"oracle: {which} use the ground truth, also of the scored images (caption.source: {named})"


def scored_oracle_line(names: Iterable[str]) -> str:
    """Return a line such as `oracle: the further captions template, oracle use the ground truth ...`."""
    return f"oracle: the further captions {', '.join(names)} use the ground truth of the scored images (evaluation.captions)"
