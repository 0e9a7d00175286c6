"""A step's cost is counted without taking it."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tadp_ray.training.cost import step_cost
from tadp_ray.training.run import build_model
from tadp_ray.training.setup import TrainSetup


def test_counted_cost_is_that_of_a_real_step(tiny_cell) -> None:
    setup = TrainSetup(tiny_cell(schedule={"micro_batch": 2}).recipe, 0)
    cost = step_cost(setup.recipe, setup.pretrained, len(setup.train.classes), setup.tokens, setup.view)
    model = build_model(setup, torch.device("cpu")).train()
    images = torch.randn(2, 3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        latents = model.backbone.encode_image(images).mean
        context = torch.randn(2, 77, setup.pretrained.unet.config.cross_attention_dim)
        setup.task.loss(model(latents, context), torch.zeros(2, 32, 32, dtype=torch.int64)).backward()
    # Two passes; fused attention computes its scores once more in the backward pass, which is not counted.
    assert 0.95 < cost.flops / (2 * counter.get_total_flops()) <= 1
    assert cost.trained == sum(p.numel() for p in model.parameters())
    assert cost.state_bytes == 16 * cost.trained
    assert 2**20 < cost.activation_bytes < 2**28


@pytest.mark.parametrize(
    ("task", "head"),
    [
        ("segmentation", {"kind": "smp_fpn", "pyramid": 16, "channels": 32}),
        ("depth", {"kind": "vpd_depth", "fused": 32, "deconvolved": 8, "channels": 16}),
        ("detection", {"kind": "faster_rcnn", "channels": 16, "representation": 32, "anchors": [8, 12, 18, 24]}),
    ],
)
def test_every_task_can_be_planned(tiny_cell, task: str, head: dict) -> None:
    setup = TrainSetup(tiny_cell(task=task, model={"head": head}).recipe, 0)
    *_, counted = step_cost(setup.recipe, setup.pretrained, len(setup.train.classes), setup.tokens, setup.view).parts
    assert counted.name == "head" and counted.parameters > 1000
    assert counted.forward > 10**5 and counted.backward > counted.forward
