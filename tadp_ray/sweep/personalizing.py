"""Runs a personalization as a Ray Train job with one worker, which is restarted from its checkpoint when it dies."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray.train.torch
from rich.console import Console

from tadp_ray.errors import UserError
from tadp_ray.files import write_text
from tadp_ray.layout import RAY, WORKER_LOG
from tadp_ray.paper.personalization.job import PersonalizationJob
from tadp_ray.sweep.cluster import describe_nodes, ray_session, resources_per_worker, slots, warn_without_room
from tadp_ray.sweep.logs import worker_log
from tadp_ray.sweep.periodic import run_periodically
from tadp_ray.sweep.progress import LOG_SECONDS, TERMINAL_SECONDS
from tadp_ray.training.journal import failure, final_metrics, read_journal
from tadp_ray.training.reporter import Journal, progress_line
from tadp_ray.wording import devices


def run_job(job: PersonalizationJob, address: str | None, console: Console) -> dict[str, float]:
    """Run a personalization on a cluster, or resume an interrupted one; return its final metrics.

    Raises:
        UserError: the worker does not fit on the cluster, or the input is invalid.
        ray.train.TrainingFailedError: a bug, or a worker that died too often; recorded in the job's folder.
        KeyboardInterrupt: stopped by the user; the same command resumes.
    """
    compute = job.plan.compute
    need, room = devices(compute.cpus, compute.gpus), partial(slots, cpus=compute.cpus, gpus=compute.gpus)
    with ray_session(address) as nodes, warn_without_room(address, need, room), show_progress(job, console):
        if room(nodes) < 1:
            raise UserError(
                f"the worker needs {need}, which do not fit on this cluster's nodes ({describe_nodes(nodes)}); lower "
                "compute.cpus or compute.gpus"
            )
        try:
            error = trainer(job).fit().return_value
        except ray.train.TrainingFailedError as error:
            note_failure(job, error)
            raise
        finally:
            shutil.rmtree(job.folder / RAY, ignore_errors=True)
    if error:
        raise UserError(error)
    metrics = final_metrics(job.folder, job.fingerprint)
    assert metrics is not None  # a worker without an error has finished the journal
    return metrics


def note_failure(job: PersonalizationJob, error: ray.train.TrainingFailedError) -> None:
    """Record in the job's folder a bug, or a worker that died too often."""
    recorded = failure(job.folder)
    if log := worker_log(job.folder):
        write_text(job.folder / WORKER_LOG, log)
    with Journal(job.folder, job.fingerprint) as journal:
        journal.fail(recorded.error if recorded else str(error).strip().splitlines()[-1], str(error))


def trainer(job: PersonalizationJob) -> ray.train.torch.TorchTrainer:
    """Return Ray Train's trainer with one worker."""
    compute = job.plan.compute
    return ray.train.torch.TorchTrainer(
        learn,
        train_loop_config={"job": job},
        scaling_config=ray.train.ScalingConfig(
            num_workers=1, use_gpu=compute.gpus > 0, resources_per_worker=resources_per_worker(compute)
        ),
        run_config=ray.train.RunConfig(
            name=f"{job.fingerprint[:16]}-{time.strftime('%Y%m%d-%H%M%S')}",
            storage_path=str(job.folder / RAY),
            failure_config=ray.train.FailureConfig(max_failures=compute.max_failures, controller_failure_limit=3),
        ),
    )


def learn(config: dict[str, Any]) -> str | None:
    """Run the personalization in the worker; return a user's error, since a restart cannot fix it."""
    from tadp_ray.paper.personalization.run import personalize

    try:
        personalize(config["job"], ray.train.torch.get_device())
    except UserError as error:
        return str(error)


@contextmanager
def show_progress(job: PersonalizationJob, console: Console) -> Iterator[None]:
    """Print a job's progress from its journal during the block."""
    printed = 0

    def print_progress() -> None:
        nonlocal printed
        # The last record, of the end, has a loss too.
        records = [record for record in read_journal(job.folder) if "seconds_per_step" in record.get("metrics", {})]
        if records and records[-1]["step"] > printed:
            printed = records[-1]["step"]
            line = progress_line(printed, job.plan.schedule.iterations, records[-1]["metrics"])
            console.print(line, highlight=False)

    with run_periodically(TERMINAL_SECONDS if console.is_terminal else LOG_SECONDS, print_progress):
        yield
