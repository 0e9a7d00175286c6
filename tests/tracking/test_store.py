"""A store that cannot be used is refused before anything is computed."""

import socket
import time

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tadp_ray.errors import UserError
from tadp_ray.tracking.client import first_line
from tadp_ray.tracking.store import open_store
from tadp_ray.tracking.sweep_run import attach, parent, record_plan


def test_a_server_that_is_not_there_is_named_with_the_mend(free_port):
    with pytest.raises(UserError, match=rf"127.0.0.1:{free_port} does not answer.*start it, fix the URI"):
        open_store(f"http://127.0.0.1:{free_port}")


@pytest.mark.slow
def test_a_server_that_is_silent_costs_seconds():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(UserError, match="does not answer"):
            open_store(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - began < 60


@pytest.mark.parametrize("scheme", ["postgresql", "http"])
def test_a_database_server_is_knocked_at_too_and_its_password_stays_secret(scheme, free_port):
    with pytest.raises(UserError, match=r"me:\*\*\*@127.0.0.1.*refused") as error:
        open_store(f"{scheme}://me:secret@127.0.0.1:{free_port}/mlflow")
    assert "secret" not in str(error.value)


def test_a_password_in_what_mlflow_says_stays_secret():
    """Its errors repeat the address of a request that failed."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        uri = f"http://me:secret@127.0.0.1:{deaf.getsockname()[1]}"
        client = MlflowClient(tracking_uri=uri)
        deaf.close()
        with pytest.raises(MlflowException, match="me:secret") as error:
            client.search_experiments()
    said = first_line(error.value)
    assert "secret" not in said and "me:***@127.0.0.1" in said


def test_without_a_uri_the_database_lies_in_the_working_folder(store, monkeypatch):
    monkeypatch.chdir(store.database.parent)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert open_store().uri == store.uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert open_store().uri == store.uri


@pytest.mark.parametrize("uri", ["{folder}/mlflow.db", "results.db", "sqlite:mlflow.db", "sqlite://mlflow.db"])
def test_a_sqlite_file_without_its_scheme_is_told_how_it_is_named(store, uri):
    with pytest.raises(UserError, match="begins with sqlite:///, as in sqlite:///mlflow.db"):
        open_store(uri.format(folder=store.database.parent))


def test_a_store_that_takes_numbers_but_no_files_is_told(store, make_cell, tmp_path, capsys):
    """Before a sweep it is an error; afterwards table and figures are on disk anyway."""
    store.client.create_experiment("prec_recall", artifact_location="file:///proc/nowhere")
    run = parent(store, "prec_recall", "pocket", "key")
    with pytest.raises(UserError, match="answers but does not accept files .* fix its artifact store first"):
        record_plan(store, run, "recipe pocket", [make_cell()])
    (tmp_path / "table.md").write_text("| 1 |")
    attach(store, run, [tmp_path / "table.md"])
    assert "did not accept table.md" in capsys.readouterr().err


def test_what_a_storage_of_files_says_in_its_own_way_is_a_failure_of_the_store(store, tmp_path, monkeypatch, capsys):
    """boto's exceptions are none of MLflow's, and no OSError."""

    class ClientError(Exception):
        pass

    def refuse(*_):
        raise ClientError("the token has expired")

    run = parent(store, "prec_recall", "pocket", "key")
    monkeypatch.setattr(MlflowClient, "log_artifact", refuse)
    (tmp_path / "table.md").write_text("| 1 |")
    attach(store, run, [tmp_path / "table.md"])
    assert "did not accept table.md (the token has expired)" in capsys.readouterr().err
