"""Loss and prediction of segmentation; boxes of a resized image."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from tadp_ray.config.recipe import Recipe
from tadp_ray.errors import UserError
from tadp_ray.tasks.base import bilinear_by_products
from tadp_ray.tasks.build import CombinedMetrics, task_of
from tadp_ray.tasks.detection.task import resize_boxes

SEGMENTATION = task_of(Recipe(caption={"source": "null"}, schedule={"iterations": 1, "learning_rate": 1e-3}))


@pytest.fixture
def logits() -> torch.Tensor:
    """Logits (2, 3, 4, 6)."""
    return torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))


def test_loss_is_cross_entropy_at_label_size_over_all_pixels(logits: torch.Tensor) -> None:
    """Ignored pixels add nothing and still count in the mean (mmseg's default)."""
    mask = torch.randint(3, (2, 8, 12), generator=torch.Generator().manual_seed(1))
    mask[0, :5] = 255
    full = F.interpolate(logits, (8, 12), mode="bilinear", align_corners=False).log_softmax(1)
    valid = mask != 255
    chosen = full.gather(1, mask.clamp(max=2)[:, None])[:, 0]
    torch.testing.assert_close(SEGMENTATION.loss(logits, mask), -chosen[valid].sum() / mask.numel())


def test_loss_of_a_batch_is_the_mean_of_its_parts(logits: torch.Tensor) -> None:
    """So that accumulation and the number of processes leave gradients alone, however ignored pixels are shared out."""
    mask = torch.randint(3, (2, 8, 12), generator=torch.Generator().manual_seed(1))
    mask[0, :, :11] = 255
    parts = [SEGMENTATION.loss(logits[i : i + 1], mask[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(SEGMENTATION.loss(logits, mask), torch.stack(parts).mean())


def test_a_view_without_labels_gives_no_gradient(logits: torch.Tensor) -> None:
    logits.requires_grad_()
    loss = SEGMENTATION.loss(logits, torch.full((2, 8, 12), 255))
    loss.backward()
    assert loss == 0 and logits.grad.abs().sum() == 0


def test_prediction_is_the_likeliest_class() -> None:
    shares = torch.zeros(1, 3, 2, 2)
    shares[0, 2, :, 0] = 1
    shares[0, 1, :, 1] = 1
    assert SEGMENTATION.predict(shares).tolist() == [[[2, 1], [2, 1]]]


def test_the_pascal_head_s_logits_are_enlarged_with_aligned_corners(logits: torch.Tensor) -> None:
    """In training and in evaluation; source: UpsamplingBilinear2d in segmentation-models-pytorch's head, which TADP uses."""
    head = {"kind": "smp_fpn", "loss": "cross_entropy"}
    pascal = task_of(
        Recipe(caption={"source": "null"}, model={"head": head}, schedule={"iterations": 1, "learning_rate": 1e-3})
    )
    mask = torch.randint(3, (2, 32, 48), generator=torch.Generator().manual_seed(1))
    enlarged = torch.nn.UpsamplingBilinear2d(scale_factor=8)(logits)
    torch.testing.assert_close(pascal.upsample(logits, (32, 48)), enlarged)
    torch.testing.assert_close(pascal.loss(logits, mask), F.cross_entropy(enlarged, mask))


def test_boxes_follow_width_and_height_apart() -> None:
    found = {"boxes": torch.tensor([[8.0, 4.0, 16.0, 12.0]]), "labels": torch.tensor([3])}
    moved = resize_boxes(found, image_size=(32, 64), size=(64, 192))
    assert moved["boxes"].tolist() == [[24.0, 8.0, 48.0, 24.0]] and moved["labels"].tolist() == [3]


def test_boxes_end_at_the_image_and_none_lies_in_its_padding() -> None:
    """Of an image of 97 x 131 pixels in a view of 128 x 192."""
    boxes = [
        [100.0, 50.0, 150.0, 120.0],
        [131.0, 10.0, 140.0, 20.0],
        [10.0, 98.0, 20.0, 110.0],
        [0.0, 0.0, 131.0, 97.0],
    ]
    found = {"boxes": torch.tensor(boxes), "labels": torch.arange(4), "scores": torch.tensor([0.9, 0.8, 0.7, 0.6])}
    moved = resize_boxes(found, image_size=(97, 131), size=(97, 131))
    assert moved["boxes"].tolist() == [[100.0, 50.0, 131.0, 97.0], boxes[3]]
    assert moved["labels"].tolist() == [0, 3] and moved["scores"].tolist() == pytest.approx([0.9, 0.6])


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(8, 12), (7, 17), (3, 5)])
def test_resizing_by_products_is_bilinear(logits: torch.Tensor, size: tuple[int, int], align_corners: bool) -> None:
    """GPUs resize so; its gradient is the same, too."""
    logits.requires_grad_()
    weights = torch.randn(*size, generator=torch.Generator().manual_seed(1))
    expected = F.interpolate(logits, size, mode="bilinear", align_corners=align_corners)
    resized = bilinear_by_products(logits, size, align_corners)
    torch.testing.assert_close(resized, expected)
    gradients = [torch.autograd.grad((made * weights).sum(), logits)[0] for made in (resized, expected)]
    torch.testing.assert_close(*gradients)


def test_an_extra_metric_is_of_all_processes() -> None:
    reduced = []
    main, extra = (SimpleNamespace(reduce=lambda name=name: reduced.append(name)) for name in ("main", "extra"))
    CombinedMetrics(main, {"extra": extra}).reduce()
    assert reduced == ["main", "extra"]


@pytest.mark.parametrize("own", [{"extra": 1.0, "miou": 99.0}, {"other": 1.0}])
def test_an_extra_metric_has_its_own_name_and_replaces_none(own: dict[str, float]) -> None:
    made = CombinedMetrics(SEGMENTATION.metrics(["a", "b"]), {"extra": SimpleNamespace(compute=lambda: own)})
    with pytest.raises(UserError, match="metric 'extra': compute returned .*; expected 'extra' alone"):
        made.compute()
