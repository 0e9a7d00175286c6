"""The simulation that predicts sweeps on many GPUs, on cases that can be worked out by hand."""

import json
from pathlib import Path

import pytest

from tadp_ray.layout import JOURNAL


def times(**changes: float):
    """One second a step, and nothing else takes any time."""
    from scaling import Times

    names = ("start_s", "compile_s", "checkpoint_copy_s", "load_s", "read_s", "sweep_s")
    free = {name: 0.0 for name in names} | {"storage_gb_s": 1e12, "links_gb_s": 1e12}
    return Times(**({"step_s": 1.0, "encode_s": 0.0, "predict_s": 0.0, "update_s": 0.0} | free | changes))


def seconds(cells: int, steps: int, layout: dict, checkpoint_every: int = 1000, **changes: float) -> float:
    from scaling import Layout, Sweep, Training

    training = Training(steps, steps, checkpoint_every)
    return Sweep((training,) * cells, Layout("", **layout), times(**changes)).run()


def test_windows_are_those_of_the_photographs_usual_size() -> None:
    from scaling import SCALES, windows

    assert windows([1.0]) == 2000 * 2
    assert windows(SCALES, flips=2) == 2000 * 2 * (2 + 4 + 6 + 6 + 6)


def test_cells_wait_for_a_slot() -> None:
    assert seconds(9, 10, {"gpus": 2}, sweep_s=5, start_s=2) == pytest.approx(5 + 5 * (2 + 10))
    assert seconds(9, 10, {"gpus": 64}, sweep_s=5, start_s=2) == pytest.approx(5 + 2 + 10)


def test_two_cells_on_a_card_share_it_and_start_beside_each_other() -> None:
    assert seconds(4, 10, {"gpus": 1}, start_s=10) == pytest.approx(4 * 20)
    # Both start at once, then each has half of the card, twice.
    assert seconds(4, 10, {"gpus": 1, "cells_per_gpu": 2}, start_s=10) == pytest.approx(2 * (10 + 20))


def test_gpus_that_train_a_cell_together_exchange_gradients_and_update_everything_each() -> None:
    alone = seconds(2, 10, {"gpus": 2}, update_s=0.2)
    together = seconds(2, 10, {"gpus": 2, "gpus_per_cell": 2}, update_s=0.2, links_gb_s=3.46)
    assert (alone, together) == (pytest.approx(10), pytest.approx(2 * 10 * (0.8 / 2 + 0.2 + 1.0)))


def test_slow_loaders_hold_a_step_up() -> None:
    assert seconds(1, 10, {"gpus": 1}, load_s=1.0, loaders=8) == pytest.approx(10 * 16 / 8)


def test_one_cell_encodes_latents_and_the_others_wait() -> None:
    assert seconds(4, 10, {"gpus": 4}, encode_s=0.01) == pytest.approx(0.01 * 4000 + 10)


def test_a_checkpoint_is_written_behind_the_training_and_shares_the_storage() -> None:
    taken = seconds(1, 20, {"gpus": 1}, checkpoint_every=10, checkpoint_copy_s=3, storage_gb_s=1)
    loaded, latents = 4.3, 4000 * 65536e-9
    # At step 20, 0.4 GB of the checkpoint are left; the model's 3.5 GB have half of the storage until these are written.
    assert taken == pytest.approx(loaded + latents + 10 + 3 + 10 + 0.8 + (3.5 - 0.4))


def test_an_evaluation_reads_while_the_card_computes() -> None:
    # 2,000 photographs for the latents, which take no time, and once more for the evaluation of 4,000 windows.
    assert seconds(1, 10, {"gpus": 1}, read_s=0.01, predict_s=0.003) == pytest.approx(20 + 10 + 20)
    assert seconds(1, 10, {"gpus": 1}, read_s=0.01, predict_s=0.01) == pytest.approx(20 + 10 + 40)


def test_steps_start_and_memory_are_what_was_measured() -> None:
    from scaling import columns

    found = columns()
    fast, plain = found["H200 bfloat16, compiled"], found["H200 bfloat16"]
    assert (fast.times.step_s, fast.times.compile_s) == (pytest.approx(0.227), 166)
    assert (plain.times.step_s, plain.times.compile_s) == (pytest.approx(0.306), 0)
    assert (fast.cell_gib, plain.cell_gib, fast.card_gib) == (35.2, 38.4, 139)
    # An evaluation is not compiled: a window's encoding is 1.117 of the 57.2 TFLOP that a step takes 306 ms for.
    assert fast.times.encode_s == plain.times.encode_s == pytest.approx(0.306 * 1.117 / 57.2)
    # By the bounds of both cards.
    assert found["H100 tf32"].times.step_s == pytest.approx(0.733 * 282 / 240)


def test_the_page_has_the_tables_that_the_program_prints(capsys: pytest.CaptureFixture, monkeypatch) -> None:
    import scaling

    monkeypatch.setattr("sys.argv", ["scaling.py"])
    scaling.main()
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    page = (Path(__file__).resolve().parents[1] / "docs/scaling.md").read_text().splitlines()
    assert len(printed) > 40 and [line for line in printed if line not in page] == []


def test_measured_times_replace_those_of_the_page(tmp_path: Path) -> None:
    from scaling import measured

    row = {"step_s": 0.2, "first_s": 90.0, "memory_gib": 36.0}
    found = {"machine": {"card": "NVIDIA H200"}, "scaling": {"step_s": 0.2, "load_s": 0.03}}
    (tmp_path / "gpu.json").write_text(json.dumps(found | {"compiled": {"rows": [{"failed": "no"}, row]}}))
    ((name, choice),) = measured(tmp_path / "gpu.json").items()
    assert (name, choice.cell_gib, choice.card_gib) == ("NVIDIA H200, measured", 36, 139)
    assert (choice.times.step_s, choice.times.load_s, choice.times.compile_s) == (0.2, 0.03, 90)
    (tmp_path / "gpu.json").write_text(json.dumps(found | {"full_size": {"rows": [row]}}))
    ((_, choice),) = measured(tmp_path / "gpu.json").items()
    assert (choice.times.step_s, choice.times.compile_s) == (0.2, 0)
    (tmp_path / "gpu.json").write_text(json.dumps(found | {"scaling": {}}))
    with pytest.raises(SystemExit, match="holds no step of 16 images"):
        measured(tmp_path / "gpu.json")


def test_a_sweep_that_has_run_is_simulated_from_its_cells(tmp_path: Path) -> None:
    from scaling import check

    for number, (start, end) in enumerate([(0, 10), (0, 12), (11, 20)]):
        folder = tmp_path / f"cells/{number}"
        folder.mkdir(parents=True)
        records = [
            {"type": "started", "time": 100 + start, "fingerprint": "f"},
            {"type": "finished", "time": 100 + end, "step": 1, "metrics": {}},
        ]
        (folder / JOURNAL).write_text("".join(f"{json.dumps(record)}\n" for record in records))
    assert check(tmp_path, 2) == "3 cells, 2 at once: 19.0 s simulated, 20.0 s measured"
