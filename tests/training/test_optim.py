"""Learning rates follow the published schedule, and norms are not decayed."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tadp_ray.config.recipe import ScheduleConfig
from tadp_ray.training.optim import make_optimizer, parameter_groups, rate_factor

FAST_4K = ScheduleConfig(iterations=4000, learning_rate=1.6e-4, backbone_lr_mult=0.1, warmup_iterations=75, power=1.0)


@pytest.mark.parametrize(
    ("step", "factor"), [(0, 1e-6), (30, 0.4 * 0.9925), (75, 1 - 75 / 4000), (2000, 0.5), (4000, 0.0)]
)
def test_published_fast_schedule(step: int, factor: float) -> None:
    """mmcv's poly policy (power 1, minimum 0) with linear warm-up from 1e-6 (seg_ade20k_fast_4k)."""
    assert rate_factor(step, FAST_4K) == pytest.approx(factor, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 3e-5),
        (6054, 3e-5 + 4.7e-4 * 0.5**0.9),
        (12108, 5e-4),
        (18162, 5e-4 - 4.7e-4 * 0.5**0.9),
        (24216, 3e-5),
        (25224, 3e-5),
    ],
)
def test_published_nyu_schedule(step: int, rate: float) -> None:
    """Up for 12 epochs of 1,009 steps and down for 12; the last epoch stays at the lowest rate."""
    nyu = ScheduleConfig(
        iterations=25225,
        batch_size=24,
        learning_rate=5e-4,
        lr_schedule="triangular",
        peak_step=12108,
        min_lr=3e-5,
        power=0.9,
    )
    assert 5e-4 * rate_factor(step, nyu) == pytest.approx(rate, abs=1e-9)


def test_a_warm_up_rises_from_its_ratio_and_the_lowest_rate_is_that_of_the_decay() -> None:
    schedule = ScheduleConfig(iterations=100, learning_rate=1e-3, min_lr=5e-4, warmup_iterations=10)
    assert [rate_factor(step, schedule) for step in (0, 5, 80, 99)] == pytest.approx(
        [1e-6, 0.95 / 2, 0.5, 0.5], rel=1e-5
    )
    with pytest.raises(
        ValidationError, match="warmup_iterations 10: lr_schedule: triangular rises to peak_step by itself"
    ):
        ScheduleConfig(iterations=100, learning_rate=1e-3, lr_schedule="triangular", peak_step=50, warmup_iterations=10)


class AttendingBackbone(nn.Module):
    """A residual block and an attention block."""

    def __init__(self) -> None:
        super().__init__()
        self.residual = nn.Sequential(nn.Conv2d(4, 8, 3), nn.GroupNorm(2, 8))
        self.attention = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8))

    def attention_norms(self) -> list[nn.Parameter]:
        return list(self.attention[0].parameters())


class Model(nn.Module):
    """Two modules named as the model's are."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = AttendingBackbone()
        self.head = nn.Sequential(nn.Conv2d(8, 2, 1), nn.BatchNorm2d(2))


@pytest.mark.parametrize(
    ("weight_decay_rule", "expected"),
    [
        (
            "all_but_norms",
            {"backbone": (3, 1.6e-5, 0.005), "backbone, not decayed": (4, 1.6e-5, 0), "head": (2, 1.6e-4, 0.005)},
        ),
        (
            "matrices",
            {"backbone": (2, 1.6e-5, 0.005), "backbone, not decayed": (5, 1.6e-5, 0), "head": (1, 1.6e-4, 0.005)},
        ),
        (
            "as_mmcv",
            {"backbone": (5, 1.6e-5, 0.005), "backbone, not decayed": (2, 1.6e-4, 0), "head": (4, 1.6e-4, 0.005)},
        ),
    ],
)
def test_groups(weight_decay_rule: str, expected: dict[str, tuple[int, float, float]]) -> None:
    """A frozen parameter is in none; mmcv's names exempt the backbone's norms of attention alone, at the head's rate."""
    model = Model()
    model.backbone.residual[0].bias.requires_grad_(False)
    optimizer, _ = make_optimizer(model, FAST_4K.model_copy(update={"weight_decay_rule": weight_decay_rule}))
    found = {g["name"]: (len(g["params"]), g["initial_lr"], g["weight_decay"]) for g in optimizer.param_groups}
    assert {name: found[name] for name in expected} == {
        name: pytest.approx(values) for name, values in expected.items()
    }
    assert sum(count for count, _, _ in found.values()) == 11


class Vectors(nn.Module):
    """Vectors of a context, which have a rate of their own."""

    lr_mult = 5.0

    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.zeros(3, 8))


def test_the_last_group_has_the_head_s_rate_which_is_reported() -> None:
    """The context is the model's last part. Checkpoints number the moments in the order of the groups."""
    model = Model()
    model.context = Vectors()
    groups = parameter_groups(model, ScheduleConfig(iterations=100, learning_rate=1e-3, backbone_lr_mult=0.5))
    assert [(group["name"], group["lr"]) for group in groups] == [
        ("context", 5e-3),
        ("backbone", 5e-4),
        ("backbone, not decayed", 5e-4),
        ("head", 1e-3),
        ("head, not decayed", 1e-3),
    ]
