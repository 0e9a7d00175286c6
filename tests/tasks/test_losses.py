"""Losses against their formulas, and where the formulas give out."""

import pytest
import torch
from segmentation_models_pytorch.losses import FocalLoss

from tadp_ray.tasks.depth.losses import silog_loss
from tadp_ray.tasks.segmentation.losses import focal_loss


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_focal_loss_sums_over_classes_what_smp_now_averages(rng: torch.Generator) -> None:
    """The published code ran with a release of segmentation-models-pytorch that summed; 0.6 averages."""
    logits = 3 * torch.randn(2, 5, 32, 48, generator=rng)
    mask = torch.randint(5, (2, 32, 48), generator=rng)
    mask[0, :20] = 255
    total = 0.0
    for label in range(5):
        right = torch.where(mask == label, logits[:, label], -logits[:, label]).sigmoid()[mask != 255]
        total += float((-((1 - right) ** 2) * right.log()).mean())
    loss = focal_loss(logits, mask)
    assert float(loss) == pytest.approx(total, rel=1e-5)
    torch.testing.assert_close(loss, 5 * FocalLoss("multiclass", ignore_index=255)(logits, mask))


def test_silog_loss_is_its_formula_over_the_pixels_of_the_whole_batch(rng: torch.Generator) -> None:
    pred, target = 1 + 9 * torch.rand(2, 2, 6, 7, generator=rng)
    target[0, :4] = 0
    error = (target.log() - pred.log())[target > 0].double()
    expected = ((error**2).mean() - 0.5 * error.mean() ** 2).sqrt()
    assert float(silog_loss(pred, target)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("reading", [2.0, 0.0], ids=["perfect prediction", "no reading"])
def test_silog_loss_has_a_gradient_where_its_root_has_none(reading: float) -> None:
    pred = torch.full((1, 3, 3), 2.0, requires_grad=True)
    loss = silog_loss(pred, torch.full((1, 3, 3), reading))
    loss.backward()
    assert 0 <= loss < 1e-3 and torch.equal(pred.grad, torch.zeros(1, 3, 3))


def test_focal_loss_of_a_batch_without_labels_is_nothing() -> None:
    logits = torch.ones(1, 3, 4, 4, requires_grad=True)
    loss = focal_loss(logits, torch.full((1, 4, 4), 255))
    loss.backward()
    assert loss == 0 and not logits.grad.any()
