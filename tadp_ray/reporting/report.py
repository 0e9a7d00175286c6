"""Gathers a report of everything in a tracking store: each experiment at each scale, each analysis, and what is missing."""

import json
import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from tadp_ray.config.cell import each_once
from tadp_ray.config.claims import Verdict
from tadp_ray.config.load import read_yaml
from tadp_ray.config.metrics import base_metric, best_first, main_metric, metric_title
from tadp_ray.config.resolve import ExperimentFiles, ResolvedExperiment
from tadp_ray.config.shipped import visible_files
from tadp_ray.config.table import TableSpec
from tadp_ray.config.values import leaves
from tadp_ray.config.vocabulary import Scale
from tadp_ray.errors import UserError
from tadp_ray.reporting.claims import claims_summary, judge
from tadp_ray.reporting.explorer import Explorer, explore, runs_of, searched
from tadp_ray.reporting.resampling import PERCENT
from tadp_ray.reporting.results import (
    curves_of,
    draw_figures,
    fill_table,
    latest_sweep,
    other_experiments,
    per_image_results,
)
from tadp_ray.reporting.summary import sentences
from tadp_ray.reporting.table import Table, format_value
from tadp_ray.tracking.findings import AnalysisRun
from tadp_ray.tracking.findings import findings as analyses
from tadp_ray.tracking.query import CellRow, finished, short
from tadp_ray.tracking.store import Store
from tadp_ray.tracking.sweep_run import SweepEntry, SweepRun, first_of_each, read_sweep, sweep_entries
from tadp_ray.wording import shown

SCALES: tuple[Scale, ...] = ("pocket", "paper")

Runs = tuple[tuple[str, tuple[str, ...]], ...]
"""(label, MLflow run ids) pairs."""


@dataclass(frozen=True)
class Listing:
    """A table of runs."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    planned: int
    """How many runs there were to be."""


Planned = tuple[TableSpec, SweepRun] | UserError
"""A table and its newest sweep, or why there is none."""


@dataclass(frozen=True)
class ReportSection:
    """One experiment, analysis or set of claims, with its results so far."""

    name: str
    """Of the experiment or analysis."""
    key: str
    """Identifies the section on its page."""
    title: str
    question: str
    command: str
    """That produces the results."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Settings, code, machine, source of the published numbers."""
    summary: tuple[str, ...] = ()
    """The numbers in sentences."""
    table: Table | None = None
    claims: tuple[Verdict, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, Path] = field(default_factory=dict)
    """PNG files by caption."""
    explorer: Explorer = Explorer()
    """Charts, and entries to open."""
    listed: Listing | None = None
    """The finished runs of a search, the best first."""
    runs: Runs = ()
    missing: str | None = None
    """Why there are no results; None if there are."""

    @property
    def state(self) -> str:
        """`complete`, `17 of 18 entries`, `2 of 11 claims`, `0 of 11 claims; 11 not decided: run --seeds 0,1,2`, `not run`."""
        if self.missing:
            return "not run"
        if self.listed:
            return f"{len(self.listed.rows)} of {self.listed.planned} runs"
        if self.table is None and (undecided := sum(claim.holds is None for claim in self.claims)):
            verdicts = Counter(claim.verdict for claim in self.claims if claim.undecided)
            reasons = "".join(f"; {count} {verdict}" for verdict, count in verdicts.items())
            return f"{len(self.claims) - undecided} of {len(self.claims)} claims{reasons}"
        if self.table is None:
            return "complete"
        entries = [entry for row in self.table.entries for entry in row]
        complete = sum(entry.complete for entry in entries)
        return "complete" if complete == len(entries) else f"{complete} of {len(entries)} entries"


def gather(store: Store, experiments: Path, folder: Path) -> dict[str, list[ReportSection]]:
    """Return all sections by chapter.

    Args:
        store: where the runs are.
        experiments: folder of experiment files.
        folder: where pictures are written.

    Raises:
        ConfigError: an experiment's file is invalid.
        UserError: the folder holds no experiment, or the store holds an incomplete file.
    """
    files = ExperimentFiles()
    resolved = [files.load(path) for path in visible_files(experiments)]
    if not resolved:
        raise UserError(f"{experiments}: no experiments (*.yaml) in this folder; name the folder with --experiments")
    entries, named = sweep_entries(store), {one.file.stem for one in resolved}
    asked = other_experiments(store, entries, named)
    ours = [(one, scale) for scale in SCALES for one in resolved if scale in one.experiment.recipes]
    planned = {(scale, one.file.stem): planned_sweep(store, one, scale) for one, scale in [*ours, *asked]}
    others = other_sweeps(store, entries, named)
    sweeps = [own[1] for own in planned.values() if not isinstance(own, UserError)]
    sweeps += [sweep for _, sweep in others]
    # One search for all tables reads every run once; a search for each would read the newest runs again and again.
    found = finished(store, [cell.fingerprint for sweep in sweeps for cell in sweep.cells])

    def section(one: ResolvedExperiment, scale: Scale) -> ReportSection:
        return experiment_section(store, one, scale, planned[scale, one.file.stem], found, folder)

    sections = {scale: [section(one, own) for one, own in ours if own == scale] for scale in SCALES}
    return {
        "Pocket scale": sections["pocket"],
        "Claims, pocket scale": list(claim_sections(sections["pocket"], resolved, "pocket")),
        "Analyses": list(analysis_sections(store, experiments / "analyses", folder)),
        "Sweeps without a file": [with_claims(section(one, own), one, sections[own]) for one, own in asked],
        "Searches and other sweeps": [other_section(entry.name, entry.scale, sweep, found) for entry, sweep in others],
        "Paper scale": sections["paper"],
        "Claims, paper scale": list(claim_sections(sections["paper"], resolved, "paper")),
    }


def planned_sweep(store: Store, resolved: ResolvedExperiment, scale: Scale) -> Planned:
    """Return an experiment's table and its newest sweep at a scale, or why there is none."""
    try:
        return latest_sweep(store, resolved, None, scale)
    except UserError as error:
        return error


def experiment_section(
    store: Store,
    resolved: ResolvedExperiment,
    scale: Scale,
    planned: Planned,
    found: Mapping[str, CellRow],
    folder: Path,
) -> ReportSection:
    """Return an experiment's section at one scale, from its newest sweep and the finished cells of the store."""
    path, file = resolved.file, resolved.experiment
    command = resolved.command or f"tadp-ray sweep {shlex.quote(str(path))}" + (
        "" if scale == "pocket" else f" --scale {scale}"
    )
    published = {"published": file.table.published.source} if file.table.published else {}
    key, own_folder = f"{path.stem}-{scale}", folder / path.stem / scale
    header = {"name": path.stem, "key": key, "title": file.table.title, "question": file.question, "command": command}
    try:
        if isinstance(planned, UserError):
            raise planned
        spec, sweep = planned
        if sweep.layout is not None:
            header["command"] = sweep.layout["command"]
        table, done = fill_table(store, spec, sweep.cells, found)
        images = per_image_results(store, done) if spec.figure else {}
        curves = curves_of(store, spec, done)
        table, drawn = draw_figures(table, sweep.cells, done, curves, images, own_folder)
    except UserError as error:
        return ReportSection(**header, facts=published, missing=str(error).partition(";")[0])
    if not done:
        return ReportSection(**header, facts=published, missing="no cell of its sweep is finished")
    captions = {"curves": f"Learning curves: {file.table.title}", "figure": file.figure.title if file.figure else ""}
    return ReportSection(
        **header,
        facts={"settings": sweep.settings, **provenance(done), **published, "sweep": f"run {sweep.run_id}"},
        summary=tuple(sentences(table)),
        table=table,
        pictures={captions[picture.stem]: picture for picture in drawn},
        explorer=explore(store, table, sweep.cells, done, curves, images, key, own_folder / "entries"),
        runs=tuple(
            (f"{row}; {column}", entry.run_ids)
            for row, entries in zip(spec.rows.headings, table.entries, strict=True)
            for column, entry in zip(spec.columns.headings, entries, strict=True)
            if entry.run_ids
        ),
    )


def other_sweeps(
    store: Store, entries: Sequence[SweepEntry], named: Collection[str]
) -> list[tuple[SweepEntry, SweepRun]]:
    """Return the newest sweep of each name without a file or a table, if its cells differ in what they try."""
    newest = [entry for entry in first_of_each(entries) if entry.name not in named]
    found = []
    for entry in sorted(newest, key=lambda own: (SCALES.index(own.scale), own.name)):
        # A plan of other code may be unreadable.
        with suppress(UserError):
            sweep = read_sweep(store, entry.run_id)
            if sweep.layout is None and len({json.dumps(cell.axes, sort_keys=True) for cell in sweep.cells}) > 1:
                found.append((entry, sweep))
    return found


def other_section(name: str, scale: Scale, sweep: SweepRun, found: Mapping[str, CellRow]) -> ReportSection:
    """Return the section of a search, or of a sweep without a file of its own."""
    # A search may draw the same values twice.
    cells = each_once(sweep.cells)
    keys = sorted({key for cell in cells for key in cell.axes})
    metric = main_metric(cells[0].recipe.task)
    title = metric_title(metric)
    done = {cell.fingerprint: found[cell.fingerprint] for cell in cells if cell.fingerprint in found}
    axes, runs = runs_of(keys, cells, done, metric)
    order = best_first(metric)
    ranked = sorted(runs.items(), key=lambda own: order(own[1][1]))
    rows = tuple((*map(shown, values), format_value(metric, value), run) for run, (values, value) in ranked)
    summary = ()
    if ranked:
        _, (values, value) = ranked[0]
        best = ", ".join(f"{axis} {shown(own)}" for axis, own in zip(axes, values, strict=True))
        summary = (
            f"{title}: best {format_value(metric, value)} with {best}.",
            f"{len(rows)} of {len(cells)} runs were trained to the end. The best of many is too good by chance: train "
            "it anew with other seeds before it is believed.",
        )
    return ReportSection(
        name=name,
        key=f"{name}-{scale}",
        title=as_heading(name),
        question=f"Which {' and '.join(axis for axis in axes if axis != 'seed')} suit?",
        command=f"tadp-ray dashboard  # the runs of {name}",
        facts={"settings": sweep.settings, **provenance(done), "sweep": f"run {sweep.run_id}"},
        summary=summary,
        explorer=Explorer(charts=tuple(searched(axes, [*runs.values()], title, base_metric(metric).decimals))),
        listed=Listing((*axes, title, "run"), rows, len(cells)),
        missing=None if rows else "no run is finished",
    )


def provenance(done: Mapping[str, CellRow]) -> dict[str, str]:
    """Return the commits and machines that finished cells come from."""
    rows = done.values()
    facts = {
        "commit": sorted({short(row.commit or "unknown") for row in rows}),
        "machine": sorted({row.hardware for row in rows if row.hardware}),
    }
    return {name: ", ".join(values) for name, values in facts.items() if values}


def with_claims(
    section: ReportSection, resolved: ResolvedExperiment, sections: Sequence[ReportSection]
) -> ReportSection:
    """Return the section of a sweep with the verdicts on its own claims, which may name other sections."""
    by_name = {own.name: own for own in (*sections, section)}
    return replace(section, claims=tuple(verdicts_of(resolved, by_name, set())))


def verdicts_of(
    resolved: ResolvedExperiment, by_name: Mapping[str, ReportSection], used: set[str]
) -> Iterator[Verdict]:
    """Yield the verdicts on an experiment's claims, and add the names of the sections that were looked at."""

    def table_of(other: JsonValue) -> Table | None:
        name = resolved.file.stem if other is None else Path(str(other)).stem
        used.add(name)
        return by_name[name].table if name in by_name else None

    yield from (judge(claim, table_of) for claim in resolved.experiment.claims)


def claim_sections(
    sections: Sequence[ReportSection], experiments: Sequence[ResolvedExperiment], scale: Scale
) -> Iterator[ReportSection]:
    """Yield one section with the claims of all experiments at a scale; nothing if there are no claims."""
    claiming = [one for one in experiments if one.experiment.claims and scale in one.experiment.recipes]
    if not claiming:
        return
    by_name = {section.name: section for section in sections}
    used: set[str] = set()
    verdicts = [verdict for resolved in claiming for verdict in verdicts_of(resolved, by_name, used)]
    yield ReportSection(
        name="claims",
        key=f"claims-{scale}",
        title="Claims and their aims",
        question="Which claims of these experiments do their tables support?",
        command="\n".join(section.command for section in sections if section.name in used),
        facts={
            "value": "of the differences that decide a claim, the smallest: mean of those within a seed, ± sample standard "
            f"deviation over seeds, with its {PERCENT} % interval"
        },
        summary=(claims_summary(verdicts),),
        claims=tuple(verdicts),
        missing=None if any(own.value is not None or own.undecided for own in verdicts) else "no table is complete",
    )


def analysis_sections(store: Store, files: Path, folder: Path) -> Iterator[ReportSection]:
    """Yield a section for every analysis in the store, and for those that have a file but were not run."""
    stored = analyses(store, folder)
    for path in visible_files(files):
        if path.stem not in stored:
            config = read_yaml(path)
            missing = f"MLflow at {store.safe_uri} holds no finding of {path.stem}"
            facts = {"of the paper": str(config["figure"])} if "figure" in config else {}
            command = f"tadp-ray analyze run {shlex.quote(str(path))}"
            yield ReportSection(
                path.stem,
                f"{path.stem}-analysis",
                as_heading(path.stem),
                str(config.get("question", "")),
                command,
                facts,
                missing=missing,
            )
    for name, run in sorted(stored.items()):
        yield analysis_section(run, folder / name)


def as_heading(name: str) -> str:
    """Return a file's name as a heading."""
    return name.replace("_", " ").capitalize()


def analysis_section(run: AnalysisRun, folder: Path) -> ReportSection:
    """Return the section of an analysis that was run."""
    settings = run.settings if isinstance(run.settings, str) else ", ".join(f"{k}={v}" for k, v in run.settings.items())
    facts = {
        "of the paper": run.figure_of_paper,
        "settings": settings,
        "commit": run.commit and short(run.commit),
    }
    pictures = [name for name in run.pictures if name.endswith(".png")]
    return ReportSection(
        name=run.name,
        key=f"{run.name}-analysis",
        title=as_heading(run.name),
        question=run.question,
        command=run.command,
        facts={name: value for name, value in facts.items() if value},
        summary=(*([claims_summary(run.claims)] if run.claims else []), *run.notes),
        claims=run.claims,
        numbers=leaves(run.numbers),
        pictures={
            f"{run.name.replace('_', ' ')}: {Path(name).stem.replace('_', ' ')}": folder / name for name in pictures
        },
        runs=(("analysis", (run.run_id,)),),
    )
