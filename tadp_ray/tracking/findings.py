"""What analyses found, as MLflow holds it: each a run tagged with its name, whose files are finding.json and its pictures."""

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
from tadp_ray.tracking.journal_run import METRICS_PER_BATCH, flatten
from tadp_ray.tracking.names import encode
from tadp_ray.tracking.query import pages
from tadp_ray.tracking.store import Store
from tadp_ray.training.provenance import provenance

log = logging.getLogger(__name__)

EXPERIMENT = "findings"
"""MLflow's, which bears these runs."""
NAME = "tadp.finding"
"""Tag: what the finding is called."""


class AnalysisRun(BaseModel):
    """A finding: what was asked, how it is made again, and what came out."""

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
    """What is missing."""
    claims: tuple[Verdict, ...] = ()
    pictures: tuple[str, ...] = ()
    """Files beside finding.json."""


def keep_finding(store: Store, folder: Path, facts: Mapping[str, Any], files: Sequence[str]) -> str:
    """Keep a finding: write finding.json into a folder, and both it and the named files beside it into a run of its own.

    The run bears the settings as parameters and the numbers as metrics, too; it is tagged when it is whole.

    Args:
        store: where.
        folder: holds the files.
        facts: what `AnalysisRun` holds, but for run_id, commit and pictures.
        files: names of pictures and whatever else belongs to the finding.

    Returns: the run's id.
    """
    tags = {"mlflow.note.content": facts["question"], **provenance()}
    run = store.client.create_run(store.experiment_id(EXPERIMENT), tags=tags, run_name=facts["name"])
    run_id = run.info.run_id
    made = {"run_id": run_id, "commit": tags.get("tadp.commit"), "pictures": list(files)}
    write_json(folder / FINDING, {**facts, **made})
    for name in (FINDING, *files):
        store.client.log_artifact(run_id, str(folder / name))
    settings, began = facts.get("settings", {}), run.info.start_time
    params = flatten(settings if isinstance(settings, Mapping) else {"settings": settings})
    store.client.log_batch(run_id, params=[Param(key, value) for key, value in params.items()])
    numbers = [Metric(encode(name), float(value), began, 0) for name, value in facts.get("numbers", {}).items()]
    for first in range(0, len(numbers), METRICS_PER_BATCH):
        store.client.log_batch(run_id, metrics=numbers[first : first + METRICS_PER_BATCH])
    store.client.set_tag(run_id, NAME, facts["name"])
    store.client.set_terminated(run_id, "FINISHED")
    return run_id


def findings(store: Store, folder: Path) -> dict[str, AnalysisRun]:
    """The newest finding of every name, its files fetched into `folder`/<name>.

    A run whose name is no plain file name was made by others, and is passed over and told.

    Raises:
        UserError: a finding is not whole: it cannot be read, or lacks a picture that it names.
    """
    experiments = [found.experiment_id for found in pages(store.client.search_experiments)]
    newest = ["attributes.start_time DESC"]
    found: dict[str, AnalysisRun] = {}
    runs = pages(store.client.search_runs, experiments, f"tags.`{NAME}` != ''", order_by=newest) if experiments else ()
    for run in runs:
        name = run.data.tags[NAME]
        if not plain(name):
            log.warning(
                "MLflow at %s, run %s: passed over, its tag %s=%.300r is no plain name",
                store.shown,
                run.info.run_id,
                NAME,
                name,
            )
        elif name not in found:
            (folder / name).mkdir(parents=True, exist_ok=True)
            found[name] = fetched(store, run.info.run_id, name, folder / name)
    return found


def plain(name: str) -> bool:
    """Whether a name can be a file's, and leads into no other folder: nothing that others wrote may choose a place here."""
    return re.fullmatch(r"[\w(][\w .,()+=-]{0,199}", name) is not None


def fetched(store: Store, run_id: str, name: str, folder: Path) -> AnalysisRun:
    """A run's finding, its files in `folder`."""
    held = {file.path for file in store.client.list_artifacts(run_id)}
    try:
        if FINDING not in held:
            raise ValueError(f"{FINDING} is missing")
        path = Path(store.client.download_artifacts(run_id, FINDING, str(folder)))
        analysis = AnalysisRun.model_validate_json(path.read_bytes())
        if strange := [picture for picture in analysis.pictures if not plain(picture)]:
            raise ValueError(f"{strange[0]!r:.300}: named in {FINDING}, but no plain file name")
        if lacking := [picture for picture in analysis.pictures if picture not in held]:
            raise ValueError(f"{', '.join(lacking)}: named in {FINDING}, but missing")
    except ValueError as error:
        said = (
            "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            if isinstance(error, ValidationError)
            else str(error)
        )
        raise UserError(f"MLflow at {store.shown}, run {run_id}: the finding {name!r} is not whole ({said})") from None
    for picture in analysis.pictures:
        store.client.download_artifacts(run_id, picture, str(folder))
    return analysis
