"""What each head gives, what it is trained by, and that its chance comes from outside."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tadp_ray.config.model import HeadConfig
from tadp_ray.errors import UserError
from tadp_ray.tasks.build import build_head
from tadp_ray.tasks.depth.config import DepthHeadConfig
from tadp_ray.tasks.depth.vpd_head import DepthHead
from tadp_ray.tasks.detection.config import FasterRCNNConfig
from tadp_ray.tasks.detection.faster_rcnn import DetectionHead, Objects, SeededSampler
from tadp_ray.tasks.segmentation.config import SemanticFPNConfig, SmpFPNConfig

CLASSES = 5
PAPER, POCKET = [320, 717, 1357, 1280], [32, 64 + 20, 96 + 20, 128]
STRIDES = (4, 8, 16, 32)
"""Channels of Stable Diffusion 1.5's levels with 77 maps and of the pocket U-Net's with 20."""
SMALL: dict[str, HeadConfig] = {
    "semantic_fpn": SemanticFPNConfig(channels=16),
    "smp_fpn": SmpFPNConfig(kind="smp_fpn", pyramid=16, channels=32),
    "vpd_depth": DepthHeadConfig(kind="vpd_depth", fused=32, deconvolved=8, channels=16),
    "faster_rcnn": FasterRCNNConfig(kind="faster_rcnn", channels=16, representation=32, anchors=(16, 24, 36, 48)),
}
DENSE = ("semantic_fpn", "smp_fpn", "vpd_depth")


def make_features(channels: list[int], side: int, images: int = 2, device: str = "cpu") -> list[Tensor]:
    """Levels of 3 to 2, so that height and width cannot be mixed up."""
    torch.manual_seed(1)
    return [
        torch.randn(images, count, side >> level, side * 3 // 2 >> level, device=device)
        for level, count in enumerate(channels)
    ]


def make_head(name: str, channels: Sequence[int] = POCKET, strides: Sequence[int] = STRIDES) -> nn.Module:
    torch.manual_seed(2)
    return build_head(channels, strides, CLASSES, SMALL[name]).train()


def objects(boxes: list[list[float]], labels: list[int], seed: int = 0) -> Objects:
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "generator": torch.Generator().manual_seed(seed),
    }


def two_images(first: int = 0, second: int = 1) -> list[Objects]:
    """Objects of images of 64 x 96 pixels, one of which is empty; `first` and `second` seed their chance."""
    found = objects([[4.0, 6.0, 30.0, 40.0], [50.0, 10.0, 92.0, 60.0]], [0, CLASSES - 1], first)
    return [found, objects([], [], second)]


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (SemanticFPNConfig(), (2, CLASSES, 64, 96)),
        (SmpFPNConfig(kind="smp_fpn"), (2, CLASSES, 64, 96)),
        (DepthHeadConfig(kind="vpd_depth"), (2, 1, 512, 768)),
    ],
    ids=DENSE,
)
def test_dense_heads_of_the_published_size(config: HeadConfig, shape: tuple[int, ...]) -> None:
    head = build_head(PAPER, (8, 16, 32, 64), CLASSES, config).to("meta")
    assert head(make_features(PAPER, 64, device="meta"), None).shape == shape


def test_the_published_depth_head_has_the_published_widths() -> None:
    with torch.device("meta"):
        head = DepthHead([320, 640, 1280, 1280], (8, 16, 32, 64), 0, DepthHeadConfig(kind="vpd_depth"))
    weights = [tuple(p.shape) for p in head.parameters() if p.ndim == 4]
    assert weights == [
        *[(320, 320, 3, 3)] * 2,
        (640, 640, 3, 3),
        (1536, 3520, 1, 1),
        (1536, 32, 2, 2),
        *[(32, 32, 2, 2)] * 2,
        (192, 32, 3, 3),
        (192, 192, 3, 3),
        (1, 192, 3, 3),
    ]


@pytest.mark.parametrize(
    ("name", "shape"),
    [("semantic_fpn", (2, CLASSES, 16, 24)), ("smp_fpn", (2, CLASSES, 16, 24)), ("vpd_depth", (2, 1, 128, 192))],
)
def test_every_parameter_of_a_dense_head_gets_a_gradient(name: str, shape: tuple[int, ...]) -> None:
    head, features = make_head(name), make_features(POCKET, 16)
    for level in features:
        level.requires_grad_()
    found = head(features, None)
    assert found.shape == shape
    found.square().mean().backward()
    assert [part for part, p in head.named_parameters() if p.grad is None] == []
    assert all(level.grad.abs().sum() > 0 for level in features)


@pytest.mark.parametrize("targets", [two_images(), [objects([], [])] * 2], ids=["objects", "none"])
def test_every_parameter_of_the_detection_head_gets_a_gradient(targets: list[Objects]) -> None:
    """Images without objects train too: all that is sampled from them is background."""
    head = make_head("faster_rcnn")
    losses = head(make_features(POCKET, 16), (64, 96), targets)
    assert set(losses) == {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"}
    assert all(loss.shape == () and loss.isfinite() for loss in losses.values())
    assert (losses["loss_box_reg"] > 0) == (len(targets[0]["boxes"]) > 0)
    sum(losses.values()).backward()
    assert [part for part, p in head.named_parameters() if p.grad is None] == []


THREE, FIVE = ([16, 32, 32], (8, 16, 32)), ([16, 16, 32, 32, 16], (2, 4, 8, 16, 32))
"""Channels and strides of other backbones than a Stable Diffusion."""


def at_strides(channels: Sequence[int], strides: Sequence[int]) -> list[Tensor]:
    """Levels (2, C, h, w) of images of 64 x 96 pixels."""
    torch.manual_seed(1)
    return [
        torch.randn(2, count, 64 // stride, 96 // stride, requires_grad=True)
        for count, stride in zip(channels, strides, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "channels", "strides", "shape"),
    [
        ("semantic_fpn", *THREE, (CLASSES, 8, 12)),
        ("semantic_fpn", *FIVE, (CLASSES, 32, 48)),
        ("semantic_fpn", [16, 16, 16], (8, 8, 32), (CLASSES, 8, 12)),
        ("vpd_depth", *THREE, (1, 64, 96)),
        ("vpd_depth", *FIVE, (1, 256, 384)),
        ("vpd_depth", [16, 16, 16], (4, 16, 32), (1, 128, 192)),
        ("vpd_depth", [16, 16, 16], (4, 8, 32), (1, 128, 192)),
    ],
)
def test_dense_heads_read_any_levels_of_their_design(
    name: str, channels: list[int], strides: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    """The largest level's size is a class map's, and an eighth of a depth map's; every level and weight counts."""
    head, features = make_head(name, channels, strides), at_strides(channels, strides)
    found = head(features)
    assert found.shape == (2, *shape)
    found.square().mean().backward()
    assert [part for part, p in head.named_parameters() if p.grad is None] == []
    assert all(level.grad.abs().sum() > 0 for level in features)


@pytest.mark.parametrize(
    ("strides", "doublings"),
    [((4, 8, 16, 32), [0, 1, 2, 3]), ((2, 4, 8, 16, 32), [0, 1, 2, 3, 4]), ((8, 8, 32), [0, 0, 2])],
)
def test_semantic_fpn_doubles_a_level_as_often_as_it_was_halved(strides: tuple[int, ...], doublings: list[int]) -> None:
    """With a convolution before each, and one where a level has the size already."""
    scales = make_head("semantic_fpn", [16] * len(strides), strides).classifier.scale_heads
    counts = [Counter(type(part).__name__ for part in level) for level in scales]
    assert [count["Upsample"] for count in counts] == doublings
    assert [count["ConvModule"] for count in counts] == [max(times, 1) for times in doublings]


@pytest.mark.parametrize(("channels", "strides"), [THREE, FIVE])
def test_detection_finds_boxes_on_any_number_of_levels(channels: list[int], strides: tuple[int, ...]) -> None:
    """Boxes of every size are pooled from a level of theirs, the first and the last one too."""
    anchors = tuple(4 * stride for stride in strides)
    config = SMALL["faster_rcnn"].model_copy(update={"anchors": anchors})
    head, features = build_head(channels, strides, CLASSES, config).eval(), at_strides(channels, strides)
    assert [len(sizes) for sizes in head.rpn.anchor_generator.sizes] == [1] * len(strides)
    levels = head.neck({str(level): feature for level, feature in enumerate(features)})
    # torchvision pools a box of 224 pixels from the level of stride 16, one half as large from the level before.
    boxes = torch.tensor([[0.0, 0.0, 14.0 * stride, 14.0 * stride] for stride in strides])
    pooled = head.roi_heads.box_roi_pool(levels, [boxes, boxes[:0]], [(64, 96)] * 2)
    for place in range(len(strides)):
        gradients = torch.autograd.grad(
            pooled[place].sum(), list(levels.values()), retain_graph=True, allow_unused=True
        )
        used = [gradient is not None and bool(gradient.any()) for gradient in gradients]
        assert used == [level == place for level in range(len(strides))]


@pytest.mark.parametrize(
    ("name", "channels", "strides", "said"),
    [
        (
            "smp_fpn",
            *THREE,
            "model.head.kind=smp_fpn: it is made for 4 levels, but the backbone has 3 with strides of 8, 16, 32",
        ),
        ("smp_fpn", *FIVE, "made for 4 levels, but the backbone has 5 with strides of 2, 4, 8, 16, 32 pixels"),
        ("smp_fpn", [16] * 4, (4, 8, 16, 16), "smp_fpn: it is made for levels each of which has twice the stride"),
        (
            "semantic_fpn",
            [16] * 3,
            (8, 24, 48),
            "semantic_fpn: it is made for levels whose strides are powers of two times",
        ),
        ("semantic_fpn", [16] * 2, (8, 4), "semantic_fpn: it is made for levels whose strides are powers of two times"),
        ("semantic_fpn", [16] * 3, (8, 32, 16), "made for levels whose strides are powers of two times"),
        ("vpd_depth", [16] * 3, (14, 28, 42), "vpd_depth: it is made for levels whose strides are powers of two times"),
        ("vpd_depth", [16], (16,), "vpd_depth: it is made for at least two levels, but the backbone has 1"),
        ("vpd_depth", [16, 16, 20, 16, 16, 16], (1, 2, 4, 8, 16, 32), "a level of 20 channels is halved 2 times"),
        (
            "faster_rcnn",
            [16] * 4,
            (4, 8, 16, 64),
            "faster_rcnn: it is made for levels each of which has twice the stride",
        ),
        (
            "faster_rcnn",
            [16] * 4,
            (7, 14, 28, 56),
            "faster_rcnn: it is made for levels whose strides are powers of two",
        ),
        ("faster_rcnn", *FIVE, r"model.head.anchors=[16, 24, 36, 48]: 4 sides for a backbone of 5 levels"),
    ],
)
def test_a_head_says_which_levels_it_is_not_made_for(
    name: str, channels: list[int], strides: tuple[int, ...], said: str
) -> None:
    with pytest.raises(UserError) as refused:
        make_head(name, channels, strides)
    assert said in str(refused.value)


def test_smp_dropout_is_the_given_mask_and_no_other() -> None:
    head, features = make_head("smp_fpn"), make_features(POCKET, 16)
    assert not any(isinstance(part, nn.modules.dropout._DropoutNd) for part in head.modules())
    plain = head(features)
    assert torch.equal(plain, head(features))
    torch.testing.assert_close(plain, head(features, torch.ones(2, 32)))
    dropped = head(features, torch.tensor([[0.0] * 32, [1.0] * 32]))
    torch.testing.assert_close(dropped[0], head.classifier.bias[:, None, None].expand_as(dropped[0]))
    torch.testing.assert_close(dropped[1], plain[1])


def test_depth_lies_between_zero_and_the_largest() -> None:
    config = DepthHeadConfig(kind="vpd_depth", fused=32, deconvolved=8, channels=16, max_depth=4.0)
    head = DepthHead(POCKET, STRIDES, 0, config)
    features = make_features(POCKET, 16)
    fresh = head(features)
    torch.testing.assert_close(fresh, torch.full_like(fresh, 2.0), atol=0.01, rtol=0)  # tiny first weights: the middle
    with torch.no_grad():
        head.decode[-3].weight.normal_()
        head.decode[-1].weight.normal_(std=0.1)
    found = head(features)
    assert 0 < found.min() < 1
    assert 3 < found.max() < 4


def test_anchors_fit_the_image() -> None:
    """One size per level at each ratio; strides follow from the image, so that any VAE factor will do."""
    head = make_head("faster_rcnn")
    seen: list[Tensor] = []
    head.rpn.anchor_generator.register_forward_hook(lambda _, __, anchors: seen.extend(anchors))
    head.eval()(make_features(POCKET, 16), (64, 96))
    places = [16 * 24, 8 * 12, 4 * 6, 2 * 3]
    for level, (anchors, side) in enumerate(zip(seen[0].split([3 * n for n in places]), (16, 24, 36, 48), strict=True)):
        wide, square, tall = (anchors[:3, 2:] - anchors[:3, :2]).tolist()
        assert square == [side, side]
        assert wide[0] / wide[1] == pytest.approx(2, rel=0.2)  # corners are rounded to whole pixels
        assert tall[1] / tall[0] == pytest.approx(2, rel=0.2)
        assert anchors[3, 0] - anchors[0, 0] == 4 << level


def test_detections_are_boxes_in_the_image_with_classes_from_zero() -> None:
    head = make_head("faster_rcnn").eval()
    with torch.no_grad():
        head.roi_heads.box_predictor.cls_score.bias.copy_(torch.tensor([0.0, 3.0, 0.0, 0.0, 0.0, 3.0]))
    found = head(make_features(POCKET, 16), (64, 96))
    assert len(found) == 2
    for one in found:
        count = len(one["boxes"])
        assert 0 < count <= 100
        assert one["boxes"].shape == (count, 4)
        assert set(one["labels"].tolist()) == {0, CLASSES - 1}
        assert (one["boxes"][:, :2] >= 0).all()
        assert (one["boxes"][:, 2:] <= torch.tensor([96, 64])).all()
        assert one["scores"].tolist() == sorted(one["scores"].tolist(), reverse=True)


def detection_losses(head: DetectionHead, targets: list[Objects], images: slice = slice(None)) -> Tensor:
    features = [level[images] for level in make_features(POCKET, 16)]
    return torch.stack(list(head(features, (64, 96), targets[images]).values()))


def test_detection_is_as_random_as_its_generators() -> None:
    head = make_head("faster_rcnn")
    losses = detection_losses(head, two_images())
    torch.manual_seed(99)
    assert torch.equal(losses, detection_losses(head, two_images()))
    assert not torch.equal(losses, detection_losses(head, two_images(second=7)))


def test_what_is_sampled_from_an_image_does_not_depend_on_the_others() -> None:
    sampler = SeededSampler(batch_size_per_image=8, positive_fraction=0.5)
    labels = [torch.randint(-1, 3, (count,), generator=torch.Generator().manual_seed(count)) for count in (40, 60)]

    def sample(images: list[int]) -> list[Tensor]:
        sampler.generators = [torch.Generator().manual_seed(image) for image in images]
        positives, negatives = sampler([labels[image] for image in images])
        assert sampler.drawn == 8 * len(images)
        return [torch.stack(pair) for pair in zip(positives, negatives, strict=True)]

    together = sample([0, 1])
    assert torch.equal(together[0], sample([0])[0])
    assert torch.equal(together[1], sample([1])[0])
    for (positive, negative), truth in zip(together, labels, strict=True):
        assert positive.sum() == 4
        assert negative.sum() == 4
        assert (truth[positive] > 0).all()
        assert (truth[negative] == 0).all()


@pytest.mark.slow
def test_two_processes_train_like_one(one_and_two) -> None:
    """Losses, gradients and running statistics of a batch do not depend on how many processes share it."""
    program = Path(__file__).with_name("heads_step.py")
    one, two = one_and_two(program)
    for part in ("rpn", "roi_heads"):
        first, second = two.pop(f"samples.{part}").tolist()
        assert one.pop(f"samples.{part}").tolist() == [first + second]
        assert first != second  # torchvision alone would then weigh the processes wrongly
    for name, tensor in one.items():
        # Gradients add up thousands of terms in another order.
        tolerance = {"atol": 2e-6, "rtol": 1e-3} if name.startswith("gradient") else {"atol": 1e-6, "rtol": 1e-5}
        torch.testing.assert_close(two[name], tensor, **tolerance, msg=lambda text, n=name: f"{n}: {text}")
