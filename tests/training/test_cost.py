"""A step's cost is counted without taking it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from tadp_ray.registry import HEADS
from tadp_ray.training.cost import step_cost
from tadp_ray.training.precision import autocast
from tadp_ray.training.run import build_model
from tadp_ray.training.setup import TrainSetup


@pytest.mark.slow
def test_counted_cost_is_that_of_a_real_step(tiny_cell) -> None:
    setup = TrainSetup(tiny_cell(schedule={"micro_batch": 2}).recipe, 0)
    cost = step_cost(setup.recipe, setup.pretrained, len(setup.train.classes), setup.tokens, setup.view)
    model = build_model(setup, torch.device("cpu")).train()
    images = torch.randn(2, 3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        latents = model.backbone.encode_image(images).mean
        context = torch.randn(2, 77, setup.pretrained.unet.config.cross_attention_dim)
        setup.task.loss(model(latents, context), torch.zeros(2, 32, 32, dtype=torch.int64)).backward()
    # Two passes. Operations per image are whole numbers.
    assert 0.9999 < cost.flops / (2 * counter.get_total_flops()) <= 1
    assert cost.trained == sum(p.numel() for p in model.parameters())
    assert cost.state_bytes == 16 * cost.trained


@pytest.mark.slow
def test_each_timestep_and_sample_of_noise_costs_a_pass(tiny_cell) -> None:
    """The image is still encoded once, and a head reads a wider pyramid only where features are concatenated."""

    def cost(**model: object) -> tuple[object, ...]:
        setup = TrainSetup(tiny_cell(model=model).recipe, 0)
        found = step_cost(setup.recipe, setup.pretrained, len(setup.train.classes), setup.tokens, setup.view)
        return found, *found.parts

    one, encoder, _, backbone, head = cost()
    six, same, _, backbones, averaged = cost(timestep=[1, 50, 200], noise_samples=2, timestep_features="averaged")
    assert encoder == same and head == averaged
    assert (backbones.forward, backbones.backward) == (6 * backbone.forward, 6 * backbone.backward)
    assert 4 * one.activation_bytes < six.activation_bytes < 7 * one.activation_bytes
    *_, wide = cost(timestep=[1, 50, 200], noise_samples=2)
    assert wide.parameters > head.parameters and wide.forward > head.forward


@pytest.mark.slow
def test_a_head_may_leave_levels_unread(tiny_cell, monkeypatch: pytest.MonkeyPatch) -> None:
    class Largest(nn.Module):
        def __init__(self, channels, strides, classes, config) -> None:
            super().__init__()
            self.layer = nn.Conv2d(channels[0], classes, 1)

        def forward(self, features, **_: object) -> Tensor:
            return self.layer(features[0])

    setup = TrainSetup(tiny_cell().recipe, 0)
    monkeypatch.setitem(HEADS._entries, "semantic_fpn", replace(HEADS["semantic_fpn"], implementation=Largest))
    cost = step_cost(setup.recipe, setup.pretrained, len(setup.train.classes), setup.tokens, setup.view)
    *_, backbone, head = cost.parts
    assert 0 < head.forward < backbone.forward < backbone.backward


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_counted_activations_are_those_that_a_real_step_keeps(tiny_cell, precision: str) -> None:
    """All that autograd holds between the passes, but the weights; of attention that is fused, no scores."""
    setup = TrainSetup(tiny_cell(schedule={"precision": precision}, data={"size": 64}).recipe, 0)
    cost = step_cost(setup.recipe, setup.pretrained, len(setup.train.classes), setup.tokens, setup.view)
    model = build_model(setup, torch.device("cpu")).train()
    latents = torch.randn(4, *model.backbone.latent_shape(torch.empty(4, 3, 64, 64)))
    context = torch.randn(4, 77, setup.pretrained.unet.config.cross_attention_dim)
    weights, kept, alive = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}, []

    def keep(tensor: Tensor) -> Tensor:
        alive.append(tensor)  # so that no other tensor gets its address
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with autocast(torch.device("cpu"), precision), saved_tensors_hooks(keep, lambda tensor: tensor):
        setup.task.loss(model(latents, context), torch.zeros(4, 64, 64, dtype=torch.int64))
    real = sum(size for address, size in kept.items() if address not in weights)
    assert cost.activation_bytes == pytest.approx(real, rel=0.2)


@pytest.mark.slow
def test_norms_count_in_float32_where_a_gpu_computes_in_bfloat16(tiny_cell) -> None:
    """Its autocast takes them so; a CPU's leaves them in bfloat16."""
    found = []
    for gpus in (0, 1):
        setup = TrainSetup(tiny_cell(schedule={"precision": "bfloat16"}, compute={"gpus": gpus}).recipe, 0)
        found.append(step_cost(setup.recipe, setup.pretrained, 3, setup.tokens, setup.view).activation_bytes)
    assert found[0] < found[1]


@pytest.mark.slow
def test_the_text_encoder_counts_where_it_stays_in_memory(tiny_cell) -> None:
    """It leaves a GPU before the first step."""
    cpu, gpu = (
        step_cost(setup.recipe, setup.pretrained, 3, setup.tokens, setup.view)
        for setup in (TrainSetup(tiny_cell(compute={"gpus": gpus}).recipe, 0) for gpus in (0, 1))
    )
    _, encoder, *_ = cpu.parts
    assert encoder.name == "text encoder" and cpu.frozen_bytes - gpu.frozen_bytes == 4 * encoder.parameters


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "head"),
    [
        ("segmentation", {"kind": "smp_fpn", "pyramid": 16, "channels": 32}),
        ("depth", {"kind": "vpd_depth", "fused": 32, "deconvolved": 8, "channels": 16}),
        ("detection", {"kind": "faster_rcnn", "channels": 16, "representation": 32, "anchors": [8, 12, 18, 24]}),
    ],
)
def test_every_task_can_be_planned(tiny_cell, task: str, head: dict) -> None:
    setup = TrainSetup(tiny_cell(task=task, model={"weights": "pocket", "head": head}).recipe, 0)
    *_, counted = step_cost(setup.recipe, setup.pretrained, len(setup.train.classes), setup.tokens, setup.view).parts
    assert counted.name == "head" and counted.parameters > 1000
    assert counted.forward > 10**5 and counted.backward > counted.forward
