"""Everything that a tracking store holds, part by part: each experiment at each scale, each analysis, and what is missing."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tadp_ray.config.claims import Verdict
from tadp_ray.config.experiments import ExperimentFiles, ResolvedExperiment
from tadp_ray.config.load import read_yaml
from tadp_ray.config.vocabulary import Scale
from tadp_ray.errors import UserError
from tadp_ray.reporting.answer import by_image, draw_answer, fill, newest_answer
from tadp_ray.reporting.claims import judge, verdicts
from tadp_ray.reporting.matching import Encoders
from tadp_ray.reporting.sentence import sentences
from tadp_ray.reporting.table import Table, short
from tadp_ray.tracking.findings import AnalysisRun
from tadp_ray.tracking.findings import findings as analyses
from tadp_ray.tracking.query import CellRow
from tadp_ray.tracking.store import Store

Runs = tuple[tuple[str, tuple[str, ...]], ...]
"""What the ids of MLflow's runs belong to, and the ids."""


@dataclass(frozen=True)
class ReportSection:
    """One question and its answer, as far as it is there."""

    name: str
    """Of the experiment or analysis."""
    title: str
    question: str
    command: str
    """What fills it, or makes it anew."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Settings, code, machine, source of what is published."""
    said: tuple[str, ...] = ()
    """What the numbers say, computed."""
    table: Table | None = None
    claims: tuple[Verdict, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, Path] = field(default_factory=dict)
    """PNG files by what they show, in words."""
    runs: Runs = ()
    missing: str | None = None
    """Why there is no answer."""

    @property
    def state(self) -> str:
        """`whole`, `17 of 18 places`, `2 of 11 claims`, `0 of 11 claims; 11 not decided: run --seeds 0,1,2`, `not run`."""
        if self.missing:
            return "not run"
        if unknown := sum(claim.holds is None for claim in self.claims):
            open_claims = Counter(claim.verdict for claim in self.claims if claim.undecided)
            said = "".join(f"; {count} {verdict}" for verdict, count in open_claims.items())
            return f"{len(self.claims) - unknown} of {len(self.claims)} claims{said}"
        if self.table is None:
            return "whole"
        entries = [entry for row in self.table.entries for entry in row]
        whole = sum(entry.complete for entry in entries)
        return "whole" if whole == len(entries) else f"{whole} of {len(entries)} places"


def gather(store: Store, experiments: Path, folder: Path, encoders: Encoders) -> dict[str, list[ReportSection]]:
    """All parts by chapter.

    Args:
        store: where the runs are.
        experiments: folder of experiment files.
        folder: where pictures are written.
        encoders: what compares words, by the name of weights, for figures that ask for it.

    Raises:
        ConfigError: an experiment's file is wrong.
        UserError: the folder holds none, or what the store holds is not whole.
    """
    files = ExperimentFiles()
    found = [files.load(path) for path in sorted(experiments.glob("*.yaml"))]
    if not found:
        raise UserError(f"{experiments}: holds no experiment (*.yaml); name the folder by --experiments")
    asked = {
        scale: [answered(store, one, scale, folder, encoders) for one in found if scale in one.experiment.recipes]
        for scale in ("pocket", "paper")
    }
    return {
        "Tables and figures, pocket scale": asked["pocket"],
        "Claims, pocket scale": list(judged(asked["pocket"], found, "pocket")),
        "Analyses": list(looked_into(store, experiments / "analyses", folder)),
        "Tables and figures, paper scale": asked["paper"],
        "Claims, paper scale": list(judged(asked["paper"], found, "paper")),
    }


def answered(store: Store, asked: ResolvedExperiment, scale: Scale, folder: Path, encoders: Encoders) -> ReportSection:
    """An experiment at one scale, from the sweep that was asked for last."""
    path, file = asked.file, asked.experiment
    command = f"tadp-ray sweep {path}" + ("" if scale == "pocket" else f" --scale {scale}")
    published = {"published": file.table.published.source} if file.table.published else {}
    known = {"name": path.stem, "title": file.table.title, "question": file.question, "command": command}
    try:
        spec, found = newest_answer(store, asked, None, scale)
        table, done = fill(store, spec, found.cells)
        images = by_image(store, done) if spec.figure else {}
        table, drawn = draw_answer(store, table, found.cells, done, images, folder / path.stem / scale, encoders)
    except UserError as error:
        return ReportSection(**known, facts=published, missing=str(error).partition(";")[0])
    words = {"curves": f"Learning curves: {file.table.title}", "figure": file.figure.title if file.figure else ""}
    return ReportSection(
        **known,
        facts={"settings": found.settings, **provenance(done), **published, "sweep": f"run {found.run_id}"},
        said=tuple(sentences(table)),
        table=table,
        pictures={words[picture.stem]: picture for picture in drawn},
        runs=tuple(
            (f"{row}; {column}", entry.run_ids)
            for row, entries in zip(spec.rows.headings, table.entries, strict=True)
            for column, entry in zip(spec.columns.headings, entries, strict=True)
            if entry.run_ids
        ),
    )


def provenance(done: Mapping[str, CellRow]) -> dict[str, str]:
    """The commits and machines that finished cells come from."""
    rows = done.values()
    told = {
        "commit": sorted({short(row.commit or "unknown") for row in rows}),
        "machine": sorted({row.hardware for row in rows if row.hardware}),
    }
    return {name: ", ".join(values) for name, values in told.items() if values}


def judged(
    parts: Sequence[ReportSection], experiments: Sequence[ResolvedExperiment], scale: Scale
) -> Iterator[ReportSection]:
    """What the experiments of a scale claim, held against their tables, if any of them claims something."""
    claiming = [one for one in experiments if one.experiment.claims and scale in one.experiment.recipes]
    if not claiming:
        return
    known = {part.name: part for part in parts}
    found, named = [], set()
    for asked in claiming:

        def table_of(other: str | None, asked: ResolvedExperiment = asked) -> Table | None:
            name = asked.other(other).file.stem
            named.add(name)
            return known[name].table if name in known else None

        found += [judge(claim, table_of) for claim in asked.experiment.claims]
    yield ReportSection(
        name="claims",
        title="Claims held against their aims",
        question="Which claims of these experiments do their tables bear out?",
        command="\n".join(part.command for part in parts if part.name in named),
        facts={
            "value": "smallest difference, each taken within a seed, ± sample standard deviation over several seeds"
        },
        said=(verdicts(found),),
        claims=tuple(found),
        missing=None if any(own.value is not None or own.undecided for own in found) else "none of its tables is whole",
    )


def looked_into(store: Store, files: Path, folder: Path) -> Iterator[ReportSection]:
    """Every analysis that was kept, and those that have a file and were not."""
    kept = analyses(store, folder)
    for path in sorted(files.glob("*.yaml")):
        if path.stem not in kept:
            asked = read_yaml(path)
            missing = f"MLflow at {store.shown} holds no finding of {path.stem}"
            facts = {"of the paper": str(asked["figure"])} if "figure" in asked else {}
            command = f"tadp-ray analyze run {path}"
            yield ReportSection(
                path.stem, titled(path.stem), str(asked.get("question", "")), command, facts, missing=missing
            )
    for name, found in sorted(kept.items()):
        yield analysed(found, folder / name)


def titled(name: str) -> str:
    """A name as a heading."""
    return name.replace("_", " ").capitalize()


def analysed(found: AnalysisRun, folder: Path) -> ReportSection:
    """An analysis as it was kept."""
    settings = (
        found.settings if isinstance(found.settings, str) else ", ".join(f"{k}={v}" for k, v in found.settings.items())
    )
    facts = {
        "of the paper": found.figure_of_paper,
        "settings": settings,
        "commit": found.commit and short(found.commit),
    }
    pictures = [name for name in found.pictures if name.endswith(".png")]
    return ReportSection(
        name=found.name,
        title=titled(found.name),
        question=found.question,
        command=found.command,
        facts={name: value for name, value in facts.items() if value},
        said=(*([verdicts(found.claims)] if found.claims else []), *found.notes),
        claims=found.claims,
        numbers=dict(flat(found.numbers)),
        pictures={
            f"{found.name.replace('_', ' ')}: {Path(name).stem.replace('_', ' ')}": folder / name for name in pictures
        },
        runs=(("analysis", (found.run_id,)),),
    )


def flat(numbers: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested numbers by dotted names."""
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
