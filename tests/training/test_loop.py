"""The one loop, on a model of a few numbers: interrupted, it goes on as if it had not been; what is no number is not kept."""

import ast
import json
import math
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tadp_ray.errors import UserError
from tadp_ray.layout import CHECKPOINT
from tadp_ray.training import loop
from tadp_ray.training.async_checkpointer import AsyncCheckpointer
from tadp_ray.training.checkpoint import read_tensors, write_tensors
from tadp_ray.training.journal import read_journal
from tadp_ray.training.loop import Trainer
from tadp_ray.training.reporter import Journal, NullReporter, checkpoints
from tadp_ray.training.rng import generator
from tadp_ray.training.state import TrainState

PACKAGE = Path(loop.__file__).parents[1]
FINGERPRINT = "f" * 64


class Stopped(RuntimeError):
    """Stands for a killed process."""


class Toy:
    """A training of two passes a step on random numbers; a moving average of its weights is part of the model.

    The last of its two groups of parameters has the rate that is told.
    """

    def __init__(self, folder: Path, steps: int = 6, **settings: Any) -> None:
        torch.manual_seed(0)
        self.folder = folder
        self.network, self.average = nn.Linear(3, 1), nn.Linear(3, 1).requires_grad_(False)
        self.model = nn.ModuleList([self.network, self.average])
        groups = [{"params": [self.network.weight], "lr": 0.05}, {"params": [self.network.bias]}]
        self.optimizer = torch.optim.AdamW(groups, lr=0.1)
        lr_scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1 / (1 + step))
        settings = {"passes": 2, "max_grad_norm": 0.5, "after_step": self.follow, **settings}
        fixed = {"remedy": "do better", "device": torch.device("cpu")}
        self.trainer = Trainer(
            model=self.model, optimizer=self.optimizer, lr_scheduler=lr_scheduler, steps=steps, **fixed, **settings
        )
        self.passes: list[int] = []

    def follow(self, step: int) -> None:
        for average, own in zip(self.average.parameters(), self.network.parameters(), strict=True):
            average.lerp_(own, 0.5)

    def loss_at(self, number: int) -> Tensor:
        self.passes.append(number)
        inputs = torch.randn(4, 3, generator=generator(0, number))[self.trainer.world.share(4)]
        return (self.network(inputs) - inputs.sum(1, keepdim=True)).square().mean()

    def break_in(self, number: int) -> None:
        """Have the weights stop being numbers by a pass, whose loss is one."""
        self.network.weight.register_hook(lambda gradient: gradient * (math.nan if self.passes[-1] == number else 1))

    def fit(
        self,
        loss_at: Callable[[int], Tensor] | None = None,
        is_due: Callable[[int, float], bool] = lambda step, minutes: step % 2 == 0,
    ) -> TrainState:
        main = self.trainer.world.is_main_process
        with (
            Journal(self.folder, FINGERPRINT) if main else nullcontext(NullReporter()) as reporter,
            AsyncCheckpointer(self.folder / CHECKPOINT, FINGERPRINT, reporter, is_due) as checkpointer,
        ):
            state = checkpointer.resume(self.model, self.optimizer, self.trainer.lr_scheduler)
            self.trainer.fit(loss_at or self.loss_at, state, checkpointer, reporter)
        return state

    def stop_before(self, step: int) -> None:
        """Train until the first pass of a step, counted from 0, which does not come to an end."""

        def stopping(number: int) -> Tensor:
            if number == 2 * step:
                raise Stopped
            return self.loss_at(number)

        with pytest.raises(Stopped):
            self.fit(stopping)

    def told(self) -> dict[int, float]:
        """The losses in the journal."""
        return {r["step"]: r["metrics"]["loss"] for r in read_journal(self.folder) if "loss" in r.get("metrics", {})}


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 1)


@pytest.fixture
def whole(tmp_path: Path) -> Toy:
    """A training that nothing interrupted."""
    toy = Toy(tmp_path / "whole")
    toy.fit()
    return toy


def assert_same(one: Toy, other: Toy) -> None:
    own, others = one.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(own[name], others[name]) for name in own)
    assert one.told() == other.told()


def test_perception_personalization_and_pretraining_have_no_loop_of_their_own() -> None:
    """Steps are made here alone; the classifier of looks, which neither reports nor resumes, is six lines of its own."""
    calls: dict[str, set[str]] = {"zero_grad": set(), "Trainer": set(), "AsyncCheckpointer": set()}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                calls.get(name, set()).add(str(path.relative_to(PACKAGE)))
    assert calls["zero_grad"] == {"training/loop.py", "paper/pocket/style.py"}
    users = {"training/perception.py", "paper/personalization/finetuner.py", "paper/pocket/pretrain.py"}
    assert calls["Trainer"] == calls["AsyncCheckpointer"] == users


def test_a_step_is_that_of_the_mean_over_its_passes(tmp_path: Path) -> None:
    """Gradients are cut after they are summed up; rate and loss are those of the step that is told."""
    toy = Toy(tmp_path, steps=3)
    twin = Toy(tmp_path / "twin")
    for step in range(3):
        loss = (twin.loss_at(2 * step) + twin.loss_at(2 * step + 1)) / 2
        assert nn.utils.clip_grad_norm_(twin.network.parameters(), 0.5) == 0
        loss.backward()
        assert nn.utils.clip_grad_norm_(twin.network.parameters(), 0.5) > 0.5
        twin.optimizer.step()
        twin.optimizer.zero_grad()
        twin.trainer.lr_scheduler.step()
    state = toy.fit()
    torch.testing.assert_close(toy.network.state_dict(), twin.network.state_dict())
    assert toy.passes == list(range(6)) and state.step == 3 and state.loss == pytest.approx(float(loss.detach()))
    told = [record["metrics"]["learning_rate"] for record in read_journal(tmp_path) if record.get("metrics")]
    assert told == pytest.approx([0.1, 0.1 / 2, 0.1 / 3])


def test_interrupted_and_resumed_is_never_interrupted(whole: Toy, tmp_path: Path) -> None:
    Toy(tmp_path / "cut").stop_before(5)
    resumed = Toy(tmp_path / "cut")
    assert resumed.fit().step == 6 and resumed.passes == list(range(8, 12))
    assert_same(resumed, whole)
    assert [record["step"] for record in read_journal(resumed.folder) if "checkpoint" in record] == [2, 4, 4, 6]
    told = [record["metrics"]["learning_rate"] for record in read_journal(resumed.folder) if record.get("metrics")]
    assert told[-2:] == pytest.approx([0.1 / 5, 0.1 / 6])


def test_the_seconds_of_steps_before_an_interruption_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of those that were not reported yet. A pass takes a second here."""
    cut, resumed = Toy(tmp_path), Toy(tmp_path)
    monkeypatch.setattr(loop, "LOG_EVERY", 10)
    clock = SimpleNamespace(monotonic=lambda: float(len(cut.passes) + len(resumed.passes)))
    monkeypatch.setattr(loop, "time", clock)
    cut.stop_before(5)
    assert resumed.fit().seconds == 12


def cut_in_half(path: Path) -> str:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return "damaged"


def flip_a_bit(path: Path) -> str:
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
    return "damaged (it does not hold what was written)"


def put_infinity(path: Path) -> str:
    tensors, facts = read_tensors(path)
    tensors["model.0.weight"][0, 1] = math.inf
    write_tensors(path, tensors, facts)
    return "not a number in model.0.weight"


@pytest.mark.parametrize("damage", [cut_in_half, flip_a_bit, put_infinity])
def test_a_damaged_checkpoint_leaves_the_one_before_and_without_it_the_start(
    whole: Toy, tmp_path: Path, capsys: pytest.CaptureFixture, damage: Callable[[Path], str]
) -> None:
    Toy(tmp_path / "cut").stop_before(5)
    newest, before = checkpoints(tmp_path / "cut")
    said = damage(newest)
    Toy(tmp_path / "cut").stop_before(3)
    assert checkpoints(tmp_path / "cut") == [before], "the damaged one would be kept as the one before the next"
    resumed = Toy(tmp_path / "cut")
    resumed.fit()
    assert_same(resumed, whole)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{newest}: {said}") and line.endswith("; going on from the one before")

    Toy(tmp_path / "again").stop_before(5)
    for path in checkpoints(tmp_path / "again"):
        damage(path)
    afresh = Toy(tmp_path / "again")
    afresh.fit()
    assert_same(afresh, whole)
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("; going on from the one before") and second.endswith("; going on from the start")


def test_a_checkpoint_is_written_when_one_is_due(tmp_path: Path) -> None:
    asked: list[tuple[int, float]] = []
    Toy(tmp_path).fit(is_due=lambda step, minutes: asked.append((step, minutes)) or step in (1, 2, 5))
    assert [record["step"] for record in read_journal(tmp_path) if "checkpoint" in record] == [1, 2, 5]
    assert [step for step, _ in asked] == [1, 2, 3, 4, 5, 6] and all(minutes >= 0 for _, minutes in asked)


@pytest.mark.parametrize(
    ("log_every", "evaluate_every", "said"),
    [
        (1, None, "step 4: the loss is nan; do better"),
        (6, None, "step 6: the loss is nan; do better"),
        (6, 3, r"step 3: the loss is \d\S*, and weights are no longer finite \(0.weight\); do better"),
    ],
)
def test_weights_that_are_no_numbers_are_never_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_every: int, evaluate_every: int | None, said: str
) -> None:
    """Neither in a checkpoint nor at an evaluation; and the same command says the same again."""
    monkeypatch.setattr(loop, "LOG_EVERY", log_every)
    evaluated: list[int] = []
    for _ in range(2):
        toy = Toy(tmp_path, evaluate=lambda state: evaluated.append(state.step), evaluate_every=evaluate_every)
        toy.break_in(5)
        with pytest.raises(UserError, match=f"^{said}$"):
            toy.fit(is_due=lambda step, minutes: True)
        assert [read_tensors(path)[1]["step"] for path in checkpoints(tmp_path)] == [2, 1]
    assert not evaluated


def test_weights_that_stop_being_numbers_in_the_last_step_are_refused(tmp_path: Path) -> None:
    toy = Toy(tmp_path, name="vae")
    toy.break_in(11)
    with pytest.raises(UserError, match=r"^vae, step 6: the loss is \d\S*, and weights are no longer finite"):
        toy.fit(is_due=lambda step, minutes: False)


def test_moments_that_are_no_numbers_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of the next step, which tells them, is still a number."""
    monkeypatch.setattr(loop, "LOG_EVERY", 6)

    def after_step(step: int) -> None:
        if step == 5:
            toy.optimizer.state[toy.network.weight]["exp_avg_sq"].fill_(math.inf)

    toy = Toy(tmp_path, after_step=after_step)
    said = r"step 6: the loss is \d\S+, and moments are no longer finite \(optimizer.0.exp_avg_sq\); do better"
    with pytest.raises(UserError, match=said):
        toy.fit(is_due=lambda step, minutes: step == 5)


def test_evaluations_come_at_their_steps_and_their_time_is_none_of_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, evaluated = [0.0], []
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(loop, "LOG_EVERY", 4)

    def evaluate(state: TrainState) -> None:
        evaluated.append(state.step)
        clock[0] += 100

    def after_step(step: int) -> None:
        clock[0] += 1

    toy = Toy(tmp_path, steps=8, evaluate=evaluate, evaluate_every=3, after_step=after_step)
    state = toy.fit(is_due=lambda step, minutes: False)
    assert evaluated == [3, 6, 8] and state.seconds == 8
    told = [record["metrics"] for record in read_journal(tmp_path) if record.get("metrics")]
    assert [metrics["seconds_per_step"] for metrics in told] == [1, 1]


TOGETHER = """
import json, math, sys
from pathlib import Path
import torch.distributed as dist

folder, tests = map(Path, sys.argv[1:])
sys.path.insert(0, str(tests))
from test_loop import Toy, UserError, loop

dist.init_process_group("gloo")
rank, loop.LOG_EVERY = dist.get_rank(), 1
toy = Toy(folder / "together")
toy.fit()
broken = Toy(folder / "broken")
try:
    broken.fit(lambda number: broken.loss_at(number) * (math.nan if number == 5 and rank == 1 else 1))
    ended = ""
except UserError as error:
    ended = str(error)
weights = [own.tolist() for own in toy.network.parameters()]
(folder / f"{rank}.json").write_text(json.dumps({"weights": weights, "ended": ended}))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_train_what_one_does_and_end_together(whole: Toy, tmp_path: Path) -> None:
    """Though the second one alone has met what is no number."""
    (tmp_path / "worker.py").write_text(TOGETHER)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words += [tmp_path / "worker.py", tmp_path, Path(__file__).parent]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        for own, values in zip(whole.network.parameters(), found["weights"], strict=True):
            torch.testing.assert_close(own, torch.tensor(values))
        assert found["ended"] == "step 3: the loss is nan; do better"
    assert Toy(tmp_path / "together").told() == pytest.approx(whole.told())
