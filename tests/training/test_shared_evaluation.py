"""Several processes share an evaluation out, down to the encoding of its images, and a GPU is given work ahead."""

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tadp_ray.config.cell import Cell
from tadp_ray.training import evaluate
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.run import train_cell
from tadp_ray.training.transfer import prefetched

CELLS = (
    {
        "model": {"timestep": [1, 200], "noise_samples": 2},
        "evaluation": {"mode": "slide", "crop": 32, "stride": 32, "scales": [1.0, 1.5], "flip": True},
    },
    {
        "task": "depth",
        "model": {"weights": "pocket", "head": {"kind": "vpd_depth", "fused": 32, "max_depth": 80}},
        "evaluation": {"captions": {"none": {"source": "null"}, "wrong": {"source": "wrong"}}},
    },
    {
        "task": "detection",
        "schedule": {"micro_batch": 2, "precision": "bfloat16"},
        "model": {
            "head": {"kind": "faster_rcnn", "channels": 16, "representation": 32, "anchors": [8, 16, 32, 48]},
        },
    },
)


@pytest.mark.slow
def test_two_processes_evaluate_what_one_does_to_the_bit(
    tiny_cell: Callable[..., Cell], distributed: Callable[..., None], tmp_path: Path
) -> None:
    """Five images in batches of two, and their latents in files of two images: each process has its own of both."""
    files = []
    for index, changes in enumerate(CELLS):
        cell = tiny_cell(**{"schedule": {"micro_batch": 2}, **changes})
        files.append(tmp_path / f"cell{index}.json")
        files[-1].write_text(cell.model_dump_json())
    program, results = Path(__file__).with_name("shared_evaluation.py"), []
    for size in (1, 2):
        output = tmp_path / f"{size}.json"
        distributed(size, program, *files, output)
        results.append(json.loads(output.read_text()))
    assert [len(found["others"]) for found in results[1]] == [0, 2, 0]
    for one, two in zip(*results, strict=True):
        assert (one.pop("encoded"), two.pop("encoded")) == ([[0, 1, 2, 3, 4]], [[0, 1, 4], [2, 3]])
        assert one == two


def test_an_evaluation_ahead_in_a_thread_scores_the_same(
    tiny_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As beside a GPU, which computes while the CPU scores."""
    found = []
    for name in ("here", "ahead"):
        threads = threading.active_count()
        found.append(train_cell(tiny_cell(name, schedule={"micro_batch": 2}), torch.device("cpu")))
        assert threading.active_count() == threads
        monkeypatch.setattr(evaluate, "prefetched", partial(threaded, evaluate.prefetched))
    assert found[0]["miou"] == found[1]["miou"] and found[0]["accuracy"] == found[1]["accuracy"]


def threaded(
    make: Callable[..., Iterator[Any]], items: Iterator[Any], _: torch.device, ahead: int = 1
) -> Iterator[Any]:
    """Items made in advance as beside a GPU."""
    return make(items, torch.device("cuda"), ahead)


@pytest.mark.parametrize(("items", "size", "processes"), [(5, 2, 2), (5, 2, 4), (16, 16, 2), (7, 1, 3), (0, 4, 2)])
def test_parts_are_whole_batches_in_order(items: int, size: int, processes: int) -> None:
    parts = [ProcessGroup(rank, processes).part(items, size) for rank in range(processes)]
    assert [index for part in parts for index in part] == list(range(items))
    assert all(part.start % size == 0 for part in parts if part)
    assert max(map(len, parts)) <= -(-items // size // processes) * size + size


def test_a_gpu_has_its_next_items_made_in_advance_and_in_order(wait_for) -> None:
    made, threads = [], set()

    def items() -> Iterator[int]:
        for item in range(5):
            made.append(item)
            threads.add(threading.current_thread())
            yield item
        raise ValueError("broken")

    ahead = prefetched(items(), torch.device("cuda"), ahead=2)
    assert next(ahead) == 0
    wait_for(lambda: len(made) >= 3)  # 1 and 2 are made without being asked for
    with pytest.raises(ValueError, match="broken"):
        assert [next(ahead) for _ in range(5)]
    assert made == [0, 1, 2, 3, 4] and threading.current_thread() not in threads
    threads.clear()
    alone = prefetched(items(), torch.device("cpu"))
    assert next(alone) == 0 and threads == {threading.current_thread()}
