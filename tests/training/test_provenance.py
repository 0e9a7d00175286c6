"""Provenance names the code and the machine, and never the host."""

import math
import platform
import subprocess

import cv2
import PIL
import pytest

from tadp_ray.training import provenance as module
from tadp_ray.training.provenance import code_of, git_commit, provenance


def test_the_commit_says_when_tracked_files_differ(tmp_path, monkeypatch: pytest.MonkeyPatch):
    def git(*words: str) -> None:
        who = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    source = tmp_path / "code.py"
    source.write_text("1")
    assert git_commit(source) is None
    git("init")
    # A file that git does not know came from elsewhere: the checkout around it says nothing about it.
    assert git_commit(source) is None
    git("add", "code.py")
    git("commit", "-m", "first")
    assert len(git_commit(source)) == 40
    source.write_text("2")
    assert git_commit(source).endswith("+dirty")
    source.write_text("1")
    assert len(git_commit(source)) == 40
    tells = module.git
    monkeypatch.setattr(module, "git", lambda source, *words: None if "status" in words else tells(source, *words))
    assert git_commit(source).endswith("+dirty"), "git cannot tell whether it is clean"


def test_a_program_that_hangs_or_is_not_there_tells_nothing(monkeypatch: pytest.MonkeyPatch):
    assert module.output("no-such-program") is None
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: run(*words, **{**options, "timeout": 0.01}))
    assert module.output("sleep", "5") is None


def test_provenance_names_libraries_and_hardware_but_not_the_host():
    tags = provenance()
    assert {"tadp.version.torch", "tadp.version.mlflow", "tadp.version.python", "tadp.hardware.cpu"} <= set(tags)
    assert {f"tadp.version.{name}" for name in module.PACKAGES} <= set(tags), "a package that is not called so"
    assert code_of(tags)["opencv"].startswith(cv2.__version__) and code_of(tags)["pillow"] == PIL.__version__
    assert float(tags["tadp.hardware.memory_gib"]) > 0
    assert platform.node() not in tags.values()


def test_an_image_says_which_commit_it_was_built_from(monkeypatch: pytest.MonkeyPatch):
    """It holds no checkout and no git; an image that was built without a commit names none."""
    monkeypatch.setattr(module, "git_commit", lambda: None)
    monkeypatch.setenv("TADP_COMMIT", f"{'a' * 40}+dirty")
    tags = provenance.__wrapped__()
    assert tags["tadp.commit"] == f"{'a' * 40}+dirty" and tags["mlflow.source.git.commit"] == "a" * 40
    monkeypatch.setenv("TADP_COMMIT", "")
    assert not {"tadp.commit", "mlflow.source.git.commit"} & provenance.__wrapped__().keys()
    monkeypatch.setattr(module, "git_commit", lambda: "b" * 40)
    monkeypatch.setenv("TADP_COMMIT", "a" * 40)
    assert provenance.__wrapped__()["tadp.commit"] == "b" * 40


@pytest.mark.parametrize(
    ("files", "cores", "memory"),
    [
        ({"cpu.max": "250000 100000\n", "memory.max": "8589934592\n"}, 2.5, 2**33),
        ({"cpu.max": "max 100000\n", "memory.max": "max\n"}, math.inf, math.inf),
        ({}, math.inf, math.inf),
    ],
)
def test_a_container_may_use_less_than_its_machine_has(tmp_path, files, cores, memory):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert module.container_limit("cpu", tmp_path) == cores and module.container_limit("memory", tmp_path) == memory
