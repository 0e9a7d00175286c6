"""A compiled training step is one graph, compiled once, and trains like the step that is not compiled."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from tadp_ray.config.cell import Cell
from tadp_ray.training.run import train_cell
from tests.fixtures.cells import losses

CPU = torch.device("cpu")
CROPPED: dict[str, Any] = {"resize": 48, "crop": 32}
"""Views of which there are too many to encode them beforehand."""


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[CompileCounterWithBackend]:
    """Counts the graphs of everything that is compiled, and writes no kernels, which takes a minute."""
    counters: list[CompileCounterWithBackend] = []
    compile_with = torch.compile

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        counters.append(CompileCounterWithBackend("aot_eager"))
        return partial(compile_with, backend=counters[-1], fullgraph=True)(work)

    torch._dynamo.reset()
    # The suite checks shapes in calls, which cannot be traced.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    monkeypatch.setattr(torch, "compile", counted)
    return counters


@pytest.mark.slow
def test_a_step_at_two_timesteps_with_noise_that_is_told_by_three_sources_is_one_graph(
    tiny_cell: Callable[..., Cell], tiny_vision: Path, graphs: list[CompileCounterWithBackend]
) -> None:
    """Six steps with an evaluation between them: one graph of the model and its loss, one of the encoder."""
    image = {"kind": "image", "encoder": str(tiny_vision / "clip"), "map": "cide"}
    context = {"sources": ["text", {"kind": "learned", "count": 3}, image]}
    model = {"timestep": [1, 200], "noise_samples": 2, "context": context}
    plain = tiny_cell("plain", augment=CROPPED, model=model)
    compiled = tiny_cell("compiled", augment=CROPPED, model=model, compute={"compile": True})
    train_cell(plain, CPU)
    assert not graphs
    train_cell(compiled, CPU)
    assert [counter.frame_count for counter in graphs] == [1, 1]
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-3)
