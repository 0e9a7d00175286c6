"""What a plan has checked and counted is neither checked nor counted again, and what has not passed is."""

import subprocess
import sys
from pathlib import Path

import pytest

from tadp_ray.cli.dry_run import plan_preview
from tadp_ray.config.cell import Cell
from tadp_ray.errors import UserError
from tadp_ray.sweep import known as known_module
from tadp_ray.sweep.known import Known, key_of
from tadp_ray.training import check, setup
from tadp_ray.training.setup import TrainSetup
from tests.fixtures.cells import make_plan

PRINT = """\
import sys
from pathlib import Path
from tadp_ray.cli.dry_run import plan_preview
from tadp_ray.sweep.choices import Choices
from tadp_ray.sweep.planning import plan_file
from tadp_ray.tracking.store import existing_store
plan = plan_file(Path(sys.argv[1]), "pocket", None, Choices())
print("\\n".join(plan_preview(plan, existing_store(), None, False, None, None).lines()))
print(sorted({"torch", "diffusers", "mlflow"} & set(sys.modules)))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, which is empty."""
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_another_command_of_the_same_code_knows_it_and_other_code_does_not(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Known(), Known()
    one["a"], other["b"] = [1, "x"], True
    assert "b" not in one and "a" not in other
    again = Known()
    assert again["a"] == [1, "x"] and again["b"] is True and "c" not in again
    monkeypatch.setattr(known_module, "environment", lambda: "edited" * 3)
    assert "a" not in Known()


def test_beside_a_plug_in_nothing_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its author edits it without a new version."""
    monkeypatch.setattr(known_module, "plugin_versions", lambda: {"tadp-more": "1.0"})
    memory = Known()
    memory["a"] = 1
    assert memory["a"] == 1 and "a" not in Known() and not [*cache.iterdir()]


@pytest.mark.parametrize("damage", [lambda lines: lines[:-9], lambda lines: lines.replace(b"41", b"42")])
def test_a_damaged_line_is_not_known_and_hides_no_other(cache: Path, damage) -> None:
    Known()["first"] = 41
    (file,) = cache.glob("tadp_ray/plans/*")
    file.write_bytes(damage(file.read_bytes()))
    again = Known()
    assert "first" not in again
    again["second"] = 2
    assert "first" not in Known() and Known()["second"] == 2


def test_a_folder_that_cannot_be_written_hinders_nobody(cache: Path) -> None:
    (cache / "tadp_ray").write_text("in the way")
    memory = Known()
    memory["a"] = 1
    assert memory["a"] == 1 and "a" not in Known()


def test_seeds_share_what_settings_data_and_workers_do_not(make_cell) -> None:
    cell: Cell = make_cell()
    compute = cell.recipe.compute.model_copy(update={"num_train_workers": 2})
    others = [
        make_cell(recall=0.5),
        cell.model_copy(update={"digests": {**cell.digests, "train": "edited"}}),
        cell.model_copy(update={"recipe": cell.recipe.model_copy(update={"compute": compute})}),
    ]
    assert key_of("check", make_cell(seed=1)) == key_of("check", cell) != key_of("cost", cell)
    assert key_of("check", cell) not in {key_of("check", other) for other in others}


def test_settings_are_checked_until_they_pass(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []

    def fake(setup: TrainSetup) -> None:
        checked.append(setup.seed)
        if len(checked) == 2:
            raise UserError("no")

    monkeypatch.setattr(check, "check_setup", fake)
    plan = make_plan(experiment, "pocket", seeds=[0, 1])
    with pytest.raises(UserError, match="cell precision=0.5 recall=1.0 seed=0: no"):
        plan.check(plan.cells)
    assert checked == [0, 0]
    plan.check(plan.cells)
    assert checked == [0] * 5
    more = make_plan(experiment, "pocket", seeds=[2])
    more.check(more.cells)
    assert checked == [0] * 5
    changed = make_plan(experiment, "pocket", overrides=["schedule.batch_size=2"])
    changed.check(changed.cells)
    assert checked == [0] * 9


@pytest.mark.slow
def test_a_second_dry_run_says_the_same_and_loads_neither_torch_nor_mlflow(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one loads the weights once, to check and to count."""
    loads, load = list[object](), setup.load_pretrained
    monkeypatch.setattr(setup, "load_pretrained", lambda origin: loads.append(origin) or load(origin))
    plan = make_plan(experiment, "pocket")
    first = list(plan_preview(plan, None, None, False, None, None).lines())
    assert len(loads) == 1
    done = subprocess.run([sys.executable, "-c", PRINT, experiment], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    *said, loaded = done.stdout.splitlines()
    assert said == first and loaded == "[]"
