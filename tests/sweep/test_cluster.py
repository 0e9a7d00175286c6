"""How many cells fit on a cluster is computed, since Ray would wait for ever for one too many."""

import pytest

from tadp_ray.config.schema import ComputeConfig
from tadp_ray.sweep.cluster import concurrency

LAPTOP = [{"CPU": 2.0}]
BOXES = [{"CPU": 16.0}, {"CPU": 64.0, "GPU": 8.0}, {"CPU": 12.0, "GPU": 2.0}]


@pytest.mark.parametrize(
    ("nodes", "compute", "cells"),
    [
        (LAPTOP, {}, 2),
        (LAPTOP, {"cpus": 2}, 1),
        (LAPTOP, {"workers": 2}, 1),
        (BOXES, {"workers": 2, "cpus": 8, "gpus": 1}, 4),  # 8 + 1 workers fit: the second box has CPUs for one only
        (BOXES, {"cpus": 1, "gpus": 0.4}, 20),  # two to a GPU
        (BOXES, {"workers": 1, "cpus": 4, "gpus": 2}, 5),
    ],
)
def test_cells_at_once(nodes: list, compute: dict, cells: int) -> None:
    assert concurrency(nodes, ComputeConfig(**compute)) == cells


@pytest.mark.parametrize("compute", [{"gpus": 1}, {"cpus": 3}, {"workers": 3}])
def test_a_cell_that_never_fits_is_refused(compute: dict) -> None:
    with pytest.raises(ValueError, match="do not fit on this cluster's nodes .*lower compute.workers"):
        concurrency(LAPTOP, ComputeConfig(**compute))
