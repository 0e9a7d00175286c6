"""Findings of analyses in MLflow: each is a run, tagged with its name, with finding.json and pictures as artifacts."""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param
from pydantic import BaseModel, ConfigDict, ValidationError

from tadp_ray.config.claims import Verdict
from tadp_ray.errors import UserError
from tadp_ray.files import write_json
from tadp_ray.layout import FINDING
from tadp_ray.tracking.names import encode, flatten
from tadp_ray.tracking.query import search_all
from tadp_ray.tracking.store import Store
from tadp_ray.training.provenance import provenance

log = logging.getLogger(__name__)

EXPERIMENT = "findings"
"""MLflow's experiment with these runs."""
NAME = "tadp.finding"
"""Tag: the name of the finding."""


class AnalysisRun(BaseModel):
    """The finding of an analysis: its question, the command that reproduces it, and its results."""

    model_config = ConfigDict(frozen=True)

    name: str
    question: str
    figure_of_paper: str | None = None
    command: str
    settings: str | dict[str, Any] = ""
    run_id: str
    commit: str | None = None
    numbers: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    """On what is missing."""
    claims: tuple[Verdict, ...] = ()
    pictures: tuple[str, ...] = ()
    """Files beside finding.json."""


def log_finding(store: Store, folder: Path, facts: Mapping[str, Any], files: Sequence[str]) -> str:
    """Write finding.json into a folder, and log it and the named files beside it as a new MLflow run.

    The run also has the settings as parameters and the numbers as metrics. Its tag is set last, when it is complete.

    Args:
        store: MLflow.
        folder: with the files.
        facts: the fields of `AnalysisRun` except run_id, commit and pictures.
        files: names of pictures and other files.

    Returns: the run's id.
    """
    tags = {"mlflow.note.content": facts["question"], **provenance()}
    run = store.client.create_run(store.experiment_id(EXPERIMENT), tags=tags, run_name=facts["name"])
    run_id = run.info.run_id
    run_facts = {"run_id": run_id, "commit": tags.get("tadp.commit"), "pictures": list(files)}
    write_json(folder / FINDING, {**facts, **run_facts})
    for name in (FINDING, *files):
        store.client.log_artifact(run_id, str(folder / name))
    settings, start = facts.get("settings", {}), run.info.start_time
    params = flatten(settings if isinstance(settings, Mapping) else {"settings": settings})
    numbers = [Metric(encode(name), float(value), start, 0) for name, value in facts.get("numbers", {}).items()]
    store.client.log_batch(run_id, numbers, [Param(key, value) for key, value in params.items()])
    store.client.set_tag(run_id, NAME, facts["name"])
    store.client.set_terminated(run_id, "FINISHED")
    return run_id


def findings(store: Store, folder: Path) -> dict[str, AnalysisRun]:
    """Return the newest finding of every name, and download its files to `folder`/<name>.

    Runs whose name is not a plain file name come from elsewhere; they are skipped with a warning.

    Raises:
        UserError: a finding is incomplete: it cannot be read, or a picture is missing.
    """
    results: dict[str, AnalysisRun] = {}
    for run in search_all(store, f"tags.`{NAME}` != ''", "attributes.start_time DESC"):
        name = run.data.tags[NAME]
        if not is_plain_name(name):
            log.warning(
                "MLflow at %s, run %s: skipped, its tag %s=%.300r is not a plain file name",
                store.safe_uri,
                run.info.run_id,
                NAME,
                name,
            )
        elif name not in results:
            (folder / name).mkdir(parents=True, exist_ok=True)
            results[name] = download_finding(store, run.info.run_id, name, folder / name)
    return results


def finding_name(folder: Path) -> str:
    """Return the name of a finding: that of its folder.

    Raises:
        UserError: a report would skip a finding of this name.
    """
    name = folder.resolve().name
    if not is_plain_name(name):
        raise UserError(
            f"{folder}: what is kept in MLflow has the name of its folder, and {name!r} does not serve; begin with a letter or a "
            "digit, and use letters, digits, spaces and _.,()+=- alone"
        )
    return name


def is_plain_name(name: str) -> bool:
    """Return whether a name is a plain file name, so that no tag can choose a path on this machine."""
    return re.fullmatch(r"[\w(][\w .,()+=-]{0,199}", name) is not None


def download_finding(store: Store, run_id: str, name: str, folder: Path) -> AnalysisRun:
    """Return a run's finding, with its files in `folder`."""
    artifacts = {file.path for file in store.client.list_artifacts(run_id)}
    try:
        if FINDING not in artifacts:
            raise ValueError(f"{FINDING} is missing")
        path = Path(store.client.download_artifacts(run_id, FINDING, str(folder)))
        analysis = AnalysisRun.model_validate_json(path.read_bytes())
        if invalid := [picture for picture in analysis.pictures if not is_plain_name(picture)]:
            raise ValueError(f"{invalid[0]!r:.300}: named in {FINDING}, but not a plain file name")
        if missing := [picture for picture in analysis.pictures if picture not in artifacts]:
            raise ValueError(f"{', '.join(missing)}: named in {FINDING}, but missing")
    except ValueError as error:
        problem = (
            "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            if isinstance(error, ValidationError)
            else str(error)
        )
        raise UserError(
            f"MLflow at {store.safe_uri}, run {run_id}: the finding {name!r} is incomplete ({problem})"
        ) from None
    for picture in analysis.pictures:
        store.client.download_artifacts(run_id, picture, str(folder))
    return analysis
