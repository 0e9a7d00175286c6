"""The detection head against torchvision's own Faster R-CNN, on the same features."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from tadp_ray.tasks.detection.config import FasterRCNNConfig
from tadp_ray.tasks.detection.faster_rcnn import DetectionHead, Objects, SeededSampler

CHANNELS, CLASSES, SIZE = [12, 20, 24, 16], 3, (128, 192)
CONFIG = FasterRCNNConfig(kind="faster_rcnn", channels=16, representation=24)
BOXES = (
    [[10.0, 20.0, 90.0, 70.0], [100.0, 5.0, 180.0, 120.0], [60.0, 60.0, 95.0, 100.0]],
    [],
    [[0.0, 0.0, 191.0, 127.0]],
)


class FixedPyramid(nn.Module):
    """A backbone that knows the features already."""

    def __init__(self, features: list[Tensor]) -> None:
        super().__init__()
        self.neck = FeaturePyramidNetwork(CHANNELS, CONFIG.channels)
        self.features = features
        self.out_channels = CONFIG.channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        assert images.shape == (len(self.features[0]), 3, *SIZE)
        return self.neck({str(level): feature for level, feature in enumerate(self.features)})


def make_features(images: int) -> list[Tensor]:
    """Levels at an eighth of SIZE and smaller, as Stable Diffusion has them."""
    rng = torch.Generator().manual_seed(1)
    return [torch.randn(images, c, 16 >> k, 24 >> k, generator=rng) for k, c in enumerate(CHANNELS)]


def make_torchvision(features: list[Tensor], head: DetectionHead) -> FasterRCNN:
    """Faster R-CNN with the published settings written out (facts of TADP's detection code), and the head's weights."""
    model = FasterRCNN(
        FixedPyramid(features),
        min_size=SIZE[0],
        max_size=SIZE[1],
        rpn_anchor_generator=AnchorGenerator(((32,), (64,), (128,), (256,)), ((0.5, 1.0, 2.0),) * 4),
        rpn_fg_iou_thresh=0.7,
        rpn_bg_iou_thresh=0.3,
        rpn_batch_size_per_image=256,
        rpn_positive_fraction=0.5,
        rpn_nms_thresh=0.7,
        rpn_pre_nms_top_n_train=2000,
        rpn_post_nms_top_n_train=2000,
        rpn_pre_nms_top_n_test=1000,
        rpn_post_nms_top_n_test=1000,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(CONFIG.channels * 7 * 7, CONFIG.representation),
        box_predictor=FastRCNNPredictor(CONFIG.representation, CLASSES + 1),
        box_fg_iou_thresh=0.5,
        box_bg_iou_thresh=0.5,
        box_batch_size_per_image=512,
        box_positive_fraction=0.25,
        box_score_thresh=0.05,
        box_nms_thresh=0.5,
        box_detections_per_img=100,
    )
    model.backbone.neck.load_state_dict(head.neck.state_dict())
    model.rpn.load_state_dict(head.rpn.state_dict())
    model.roi_heads.load_state_dict(head.roi_heads.state_dict())
    return model


@pytest.fixture
def head() -> DetectionHead:
    torch.manual_seed(0)
    head = DetectionHead(CHANNELS, (4, 8, 16, 32), CLASSES, CONFIG)
    with torch.no_grad():  # as far from its tame start as training might bring it
        for p in (*head.rpn.head.parameters(), *head.roi_heads.box_predictor.parameters()):
            p.normal_(std=0.1)
    return head


def objects(image: int) -> Objects:
    boxes = torch.tensor(BOXES[image]).reshape(-1, 4)
    generator = torch.Generator().manual_seed(image)
    return {"boxes": boxes, "labels": torch.arange(len(boxes)) % CLASSES, "generator": generator}


def as_torchvision(target: Objects) -> dict[str, Tensor]:
    """torchvision counts classes from 1: its 0 is the background."""
    return {"boxes": target["boxes"], "labels": target["labels"] + 1}


@pytest.mark.parametrize("image", range(len(BOXES)))
def test_losses_of_an_image_equal_torchvisions(head: DetectionHead, image: int) -> None:
    """Within 1e-5; torchvision samples with its own sampler, from the global generator."""
    features = [level[image : image + 1] for level in make_features(len(BOXES))]
    reference = make_torchvision(features, head).train()
    reference.transform.eval()  # it would draw an image size, of the one that there is
    torch.manual_seed(image)
    expected = reference([torch.zeros(3, *SIZE)], [as_torchvision(objects(image))])
    found = head.train()(features, SIZE, [objects(image)])
    assert found.keys() == expected.keys()
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss, atol=1e-5, rtol=0)


def test_losses_and_gradients_of_a_batch_equal_torchvisions(head: DetectionHead) -> None:
    """Within 1e-5, with the same samples."""
    features, targets = make_features(len(BOXES)), [objects(image) for image in range(len(BOXES))]
    reference = make_torchvision(features, head).train()
    for part in (reference.rpn, reference.roi_heads):
        part.fg_bg_sampler = SeededSampler(
            part.fg_bg_sampler.batch_size_per_image, part.fg_bg_sampler.positive_fraction
        )
        part.fg_bg_sampler.generators = [target["generator"] for target in targets]
    expected = reference([torch.zeros(3, *SIZE)] * len(BOXES), [as_torchvision(target) for target in targets])
    found = head.train()(features, SIZE, [objects(image) for image in range(len(BOXES))])
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss, atol=1e-5, rtol=0)
    sum(expected.values()).backward()
    sum(found.values()).backward()
    for mine, theirs in zip(head.neck.parameters(), reference.backbone.neck.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-5, rtol=0)


def test_detections_equal_torchvisions(head: DetectionHead) -> None:
    """Boxes, scores and labels within 1e-5; labels count from 0 here and from 1 there."""
    features = make_features(len(BOXES))
    reference = make_torchvision(features, head).eval()
    expected = reference([torch.zeros(3, *SIZE)] * len(BOXES))
    found = head.eval()(features, SIZE)
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert len(theirs["boxes"]) > 10
        torch.testing.assert_close(mine["boxes"], theirs["boxes"], atol=1e-5, rtol=0)
        torch.testing.assert_close(mine["scores"], theirs["scores"], atol=1e-5, rtol=0)
        assert torch.equal(mine["labels"], theirs["labels"] - 1)
    assert len({label for one in found for label in one["labels"].tolist()}) > 1


def test_samples_equal_torchvisions() -> None:
    """The same seed gives the same samples, more or fewer candidates than are wanted."""
    for seed, count in enumerate((5, 300, 3000)):
        labels = torch.randint(-1, 3, (count,), generator=torch.Generator().manual_seed(seed))
        mine, theirs = (kind(256, 0.5) for kind in (SeededSampler, BalancedPositiveNegativeSampler))
        mine.generators = [torch.Generator().manual_seed(seed)]
        torch.manual_seed(seed)
        for found, expected in zip(mine([labels]), theirs([labels]), strict=True):
            assert torch.equal(found[0], expected[0].bool())
