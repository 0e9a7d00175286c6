"""Learning rates follow the published schedule, and norms are not decayed."""

import pytest
from torch import nn

from tadp_ray.config.schema import ScheduleConfig
from tadp_ray.training.optim import make_optimizer, rate_factor

FAST_4K = ScheduleConfig(iterations=4000, learning_rate=1.6e-4, unet_scale=0.1, warmup_iterations=75, power=1.0)


@pytest.mark.parametrize(
    ("step", "factor"), [(0, 1e-6), (30, 0.4 * 0.9925), (75, 1 - 75 / 4000), (2000, 0.5), (4000, 0.0)]
)
def test_published_fast_schedule(step: int, factor: float) -> None:
    """mmcv's poly policy (power 1, minimum 0) with linear warm-up from 1e-6 (seg_ade20k_fast_4k)."""
    assert rate_factor(step, FAST_4K) == pytest.approx(factor, rel=1e-4, abs=1e-9)


def test_groups() -> None:
    unet = nn.Sequential(nn.Conv2d(4, 8, 3), nn.GroupNorm(2, 8), nn.LayerNorm(8))
    head = nn.Sequential(nn.Conv2d(8, 2, 1), nn.BatchNorm2d(2))
    unet[0].bias.requires_grad_(False)
    optimizer, rates = make_optimizer(unet, head, FAST_4K)
    described = [(len(g["params"]), g["weight_decay"]) for g in optimizer.param_groups]
    assert described == [(1, 0.005), (4, 0.0), (2, 0.005), (2, 0.0)]
    assert [g["initial_lr"] for g in optimizer.param_groups] == pytest.approx([1.6e-5, 1.6e-5, 1.6e-4, 1.6e-4])
    assert rates.get_last_lr()[2] == pytest.approx(1.6e-10)
