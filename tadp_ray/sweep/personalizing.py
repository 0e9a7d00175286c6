"""Runs a personalization as a Ray Train job of one worker, which is restarted from its checkpoint when it dies."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import ray.train.torch
from rich.console import Console

from tadp_ray.errors import UserError
from tadp_ray.files import write_text
from tadp_ray.layout import RAY, WORKER_LOG
from tadp_ray.paper.personalization.job import PersonalizationJob
from tadp_ray.sweep.cluster import have, joined, resources_per_worker, slots
from tadp_ray.sweep.logs import worker_log
from tadp_ray.sweep.periodic import run_periodically
from tadp_ray.sweep.progress import LOG_SECONDS, TERMINAL_SECONDS
from tadp_ray.training.journal import failure, read_journal
from tadp_ray.training.reporter import Journal


def run_job(job: PersonalizationJob, address: str | None, console: Console) -> None:
    """Learn a look on a cluster, or go on where an earlier call was stopped.

    Raises:
        UserError: the worker does not fit on the cluster, or the input does not fit.
        ray.train.TrainingFailedError: a bug, or a worker that died too often; kept in the job's folder.
        KeyboardInterrupt: stopped by the user; the same command goes on.
    """
    compute = job.plan.compute
    # The dashboard's State API frees the workers of a job for the next one; here is one job alone.
    with joined(address, dashboard=False) as nodes, progress_shown(job, console):
        if slots(nodes, compute.cpus, compute.gpus) < 1:
            raise UserError(
                f"the worker needs {compute.cpus} CPUs and {compute.gpus:g} GPUs, which do not fit on this cluster's nodes "
                f"({have(nodes)}); lower compute.cpus or compute.gpus"
            )
        try:
            error = trainer(job).fit().return_value
        except ray.train.TrainingFailedError as ending:
            note_failure(job, ending)
            raise
        finally:
            shutil.rmtree(job.folder / RAY, ignore_errors=True)
    if error:
        raise UserError(error)


def note_failure(job: PersonalizationJob, ending: ray.train.TrainingFailedError) -> None:
    """Keep what Ray tells of a bug, or of a worker that died too often, beside the job's journal."""
    known = failure(job.folder)
    if log := worker_log(job.folder):
        write_text(job.folder / WORKER_LOG, log)
    with Journal(job.folder, job.fingerprint) as journal:
        journal.fail(known.error if known else str(ending).strip().splitlines()[-1], str(ending))


def trainer(job: PersonalizationJob) -> ray.train.torch.TorchTrainer:
    """Ray Train over one worker."""
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
    """What the worker does; returns the error that the user must mend, which no restart can."""
    from tadp_ray.paper.personalization.run import personalize

    try:
        personalize(config["job"], ray.train.torch.get_device())
    except UserError as error:
        return str(error)


@contextmanager
def progress_shown(job: PersonalizationJob, console: Console) -> Iterator[None]:
    """Say now and then how far a job has come, as its journal tells."""
    told = 0

    def tell() -> None:
        nonlocal told
        records = [record for record in read_journal(job.folder) if "loss" in record.get("metrics", {})]
        if records and records[-1]["step"] > told:
            told, metrics = records[-1]["step"], records[-1]["metrics"]
            left = metrics.get("seconds_per_step", 0) * (job.plan.schedule.iterations - told)
            console.print(
                f"step {told}/{job.plan.schedule.iterations}, loss {metrics['loss']:.4f}, "
                f"{timedelta(seconds=round(left))} left",
                highlight=False,
            )

    with run_periodically(TERMINAL_SECONDS if console.is_terminal else LOG_SECONDS, tell):
        yield
