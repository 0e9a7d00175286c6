"""Checkpoints are written beside the training, and hold what it was when they were asked for."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tadp_ray.errors import UserError
from tadp_ray.layout import CHECKPOINT
from tadp_ray.training import async_checkpointer, checkpoint
from tadp_ray.training.async_checkpointer import AsyncCheckpointer
from tadp_ray.training.checkpoint import read_tensors
from tadp_ray.training.journal import read_journal
from tadp_ray.training.reporter import Journal, previous_checkpoint
from tadp_ray.training.run import build_model, train_cell
from tadp_ray.training.setup import TrainSetup
from tadp_ray.training.state import TrainState

CPU = torch.device("cpu")


def always(step: int, minutes: float) -> bool:
    return True


@pytest.fixture
def model() -> torch.nn.Module:
    return torch.nn.Linear(2, 2)


@pytest.fixture
def optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters())


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds on the clock, which stands still."""
    seconds = [0.0]
    monkeypatch.setattr(async_checkpointer, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    return seconds


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, model, optimizer, monkeypatch) -> None:
    """The file holds the weights of its own step, the next one waits for it, and the journal tells when it is there."""
    release, write = threading.Event(), checkpoint.write_tensors
    monkeypatch.setattr(checkpoint, "write_tensors", lambda *args: release.wait(30) and write(*args))
    with (
        Journal(tmp_path, "f") as journal,
        AsyncCheckpointer(tmp_path / CHECKPOINT, "f", journal, always) as checkpointer,
    ):
        first = model.weight.detach().clone()
        checkpointer.save(model, optimizer, TrainState(step=1))
        checkpointer.poll()
        assert not any("checkpoint" in record for record in read_journal(tmp_path))
        with torch.no_grad():
            model.weight.add_(1)
        release.set()
        checkpointer.save(model, optimizer, TrainState(step=2))
    with Journal(tmp_path, "f") as journal, pytest.raises(KeyboardInterrupt):
        with AsyncCheckpointer(tmp_path / "stopped.safetensors", "f", journal, always) as checkpointer:
            checkpointer.save(model, optimizer, TrainState(step=3))
            raise KeyboardInterrupt
    assert [record["step"] for record in read_journal(tmp_path) if "checkpoint" in record] == [1, 2, 3]
    newest = tmp_path / CHECKPOINT
    for path, step, weight in ((previous_checkpoint(newest), 1, first), (newest, 2, first + 1)):
        tensors, facts = read_tensors(path)
        assert facts["step"] == step and torch.equal(tensors["model.weight"], weight)


def test_weights_are_written_in_turn_with_checkpoints_as_they_were(tmp_path: Path, model, optimizer) -> None:
    """They are no checkpoint: nothing resumes from them."""
    facts, best = {"step": 1}, tmp_path / "best.safetensors"
    first = model.weight.detach().clone()
    with (
        Journal(tmp_path, "f") as journal,
        AsyncCheckpointer(tmp_path / CHECKPOINT, "f", journal, always) as checkpointer,
    ):
        checkpointer.save_weights(best, model, facts)
        with torch.no_grad():
            model.weight += 1
        checkpointer.save(model, optimizer, TrainState(step=1))
        assert read_tensors(best)[0].keys() == model.state_dict().keys()
        checkpointer.save_weights(tmp_path / "later.safetensors", model, facts)
    assert [record["step"] for record in read_journal(tmp_path) if "checkpoint" in record] == [1]
    assert torch.equal(read_tensors(best)[0]["weight"], first)
    assert torch.equal(read_tensors(tmp_path / "later.safetensors")[0]["weight"], first + 1)


def test_a_checkpoint_that_cannot_be_written_ends_the_training(tmp_path: Path, model, optimizer, monkeypatch) -> None:
    """At the end, or as soon as it is known, with the mend and without a draft that fills the disk; an error goes first."""

    def full(tensors: dict, path: Path, facts: dict) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with Journal(tmp_path, "f") as journal:
        for times in (1, 2):
            with pytest.raises(UserError, match="checkpoint.safetensors: cannot be written.*No space left.*make room"):
                with AsyncCheckpointer(tmp_path / CHECKPOINT, "f", journal, always) as checkpointer:
                    for _ in range(times):
                        checkpointer.save(model, optimizer, TrainState(step=1))
        with (
            pytest.raises(KeyboardInterrupt),
            AsyncCheckpointer(tmp_path / CHECKPOINT, "f", journal, always) as checkpointer,
        ):
            checkpointer.save(model, optimizer, TrainState(step=1))
            raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal.jsonl", "lock"]


def test_a_resumed_training_counts_the_seconds_of_earlier_sessions(
    tmp_path: Path, model, optimizer, now: list[float]
) -> None:
    """Until the checkpoint it goes on from; what was lost after that is trained again."""
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    for expected in (0, 10, 20):
        with (
            Journal(tmp_path, "f") as journal,
            AsyncCheckpointer(tmp_path / CHECKPOINT, "f", journal, always) as checkpointer,
        ):
            state = checkpointer.resume(model, optimizer, scheduler)
            assert state.earlier == expected
            for _ in range(2):
                now[0] += 5
                state.step += 1
                checkpointer.save(model, optimizer, state)
            now[0] += 1000


def test_minutes_are_counted_from_the_start_and_then_from_the_last_checkpoint(
    tmp_path: Path, model, optimizer, now: list[float]
) -> None:
    asked: dict[int, float] = {}
    now[0] = 1000

    def after_a_minute(step: int, minutes: float) -> bool:
        asked[step] = minutes
        return minutes > 1

    with (
        Journal(tmp_path, "f") as journal,
        AsyncCheckpointer(tmp_path / CHECKPOINT, "f", journal, after_a_minute) as checkpointer,
    ):
        for step, seconds in enumerate((30, 60, 15, 30), 1):
            now[0] += seconds
            if checkpointer.due(step):
                checkpointer.save(model, optimizer, TrainState(step=step))
    assert asked == {1: 0.5, 2: 1.5, 3: 0.25, 4: 0.75}


def test_what_is_no_number_is_not_written(tmp_path: Path, model, optimizer) -> None:
    with (
        Journal(tmp_path, "f") as journal,
        AsyncCheckpointer(tmp_path / CHECKPOINT, "f", journal, always) as checkpointer,
    ):
        assert checkpointer.save(model, optimizer, TrainState(step=1)) is None
        with torch.no_grad():
            model.bias[1] = float("inf")
        assert checkpointer.save(model, optimizer, TrainState(step=2)) == "model.bias"
        assert checkpoint.read_tensors(tmp_path / CHECKPOINT)[1]["step"] == 1
    assert [record["step"] for record in read_journal(tmp_path) if "checkpoint" in record] == [1]


@pytest.mark.slow
def test_a_checkpoint_is_due_after_steps_or_minutes(tiny_cell) -> None:
    for name, compute, steps in (
        ("steps", {"checkpoint_every": 4}, [4]),
        ("minutes", {"checkpoint_minutes": 1e-9}, [1, 2, 3, 4, 5]),
    ):
        cell = tiny_cell(name, compute=compute)
        metrics = train_cell(cell, CPU)
        assert [record["step"] for record in read_journal(cell.folder) if "checkpoint" in record] == steps
        assert metrics["checkpoint_seconds"] > 0


def test_a_checkpoint_holds_what_is_trained_and_nothing_frozen(tiny_cell) -> None:
    """VAE and text encoder are known by the digest of their files, which is part of the fingerprint."""
    cell = tiny_cell(model={"adapter": True})
    model = build_model(TrainSetup(cell.recipe, cell.seed), CPU)
    trained = {f"model.{name}" for name, parameter in model.named_parameters() if parameter.requires_grad}
    running = {f"model.{name}" for name, _ in model.named_buffers()}
    kept = checkpoint.snapshot(model, torch.optim.AdamW(model.parameters()))
    assert kept.keys() == trained | running and len(trained) > 100
    assert sum(kept[name].numel() for name in running) < sum(kept[name].numel() for name in trained) / 100
