"""A personalization on real Ray Train: its worker is killed, and the token is the undisturbed one."""

import io
import shutil
import time
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from rich.console import Console
from safetensors.torch import load_file

from tadp_ray.config.load import load_personalization
from tadp_ray.layout import LEARNED
from tadp_ray.paper.personalization.run import make_job, personalize
from tadp_ray.sweep import personalizing
from tadp_ray.training.journal import read_journal
from tadp_ray.training.reporter import Journal

pytestmark = pytest.mark.cluster
RECIPE = """\
method: {kind: textual_inversion, token: <night>, initializer_token: photo, prompts: ["a {token} style photo of {caption}"]}
images: {kind: scenes, style: night, count: 3, size: 32}
weights: "WEIGHTS"
schedule: {iterations: 40, batch_size: 2, learning_rate: 0.01}
modifier: a <night> style photo of {caption}
samples: [car grass sky]
compute: {checkpoint_every: 5}
"""


def test_a_killed_worker_goes_on_from_its_checkpoint_and_mlflow_hears_of_it(
    command, empty_database: Path, tiny_pocket: Path, tmp_path: Path, wait_for
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    recipe, out, store = tmp_path / "night.yaml", tmp_path / "out", f"sqlite:///{tmp_path}/mlflow.db"
    recipe.write_text(RECIPE.replace("WEIGHTS", str(tiny_pocket)))
    hit = command("personalize", recipe, "--out", out, "--tracking-uri", store, folder=tmp_path)
    wait_for(lambda: (out / "checkpoint.safetensors").is_file() or not hit.running)
    assert hit.running, hit.end()
    workers = [child for child in hit.process.children(recursive=True) if child.name().startswith("ray::RayTrain")]
    assert workers
    for worker in workers:
        worker.kill()
    code, said = hit.end()
    assert code == 0, said
    assert f"result and samples.png in {out}" in said
    assert sum(record["type"] == "started" for record in read_journal(out)) == 2

    whole = make_job(load_personalization(recipe), 0, tmp_path / "whole")
    personalize(whole, torch.device("cpu"))
    assert torch.equal(load_file(out / LEARNED)["<night>"], load_file(whole.folder / LEARNED)["<night>"])
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("personalization")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["method.token"] == "<night>"
    assert {"samples.png", LEARNED} <= {file.path for file in client.list_artifacts(run.info.run_id)}


def test_the_end_of_a_personalization_is_no_step_of_it(
    tiny_pocket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recipe, told = tmp_path / "night.yaml", io.StringIO()
    recipe.write_text(RECIPE.replace("WEIGHTS", str(tiny_pocket)))
    job = make_job(load_personalization(recipe), 0, tmp_path / "out")
    monkeypatch.setattr(personalizing, "LOG_SECONDS", 0.05)
    with personalizing.show_progress(job, Console(file=told)), Journal(job.folder, job.fingerprint) as journal:
        journal.report(30, {"loss": 0.5, "learning_rate": 0.01, "seconds_per_step": 0.1})
        time.sleep(0.2)
        journal.finish(40, {"loss": 0.4, "seconds": 9.0})
        time.sleep(0.2)
    assert told.getvalue() == "step 30/40, loss 0.5000, 0:00:01 left\n" and not caplog.records
