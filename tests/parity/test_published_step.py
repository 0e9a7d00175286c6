"""The plain re-creation of the published step, which ours is timed against, trains the same model."""

from fractions import Fraction

import pytest
import torch
from torch import nn


def gradients(*parts: nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for part in parts for p in part.parameters() if p.grad is not None])


@pytest.mark.parametrize("recompute", [False, True])
def test_both_steps_have_the_same_outputs_and_gradients(recompute: bool) -> None:
    from published_step import OUTPUTS_DIFFER, Case, Ours, Plain

    case = Case(64, Fraction(1, 8), batch=2, device="cpu", precision="float32", recompute=recompute)
    with torch.random.fork_rng(devices=[]):
        ours, plain = Ours(case), Plain(case)
    one, other = ours.logits().detach(), plain.logits().detach()
    assert one.shape == (2, 150, 8, 8) and one.std() > 1e-3
    assert (one - other).norm() < OUTPUTS_DIFFER * other.norm()

    for side in (ours, plain):
        side.loss().backward()
    one, other = gradients(ours.model.backbone, ours.model.head), gradients(plain.unet, plain.head)
    assert (one - other).norm() < 1e-4 * other.norm()
