"""The smp head against segmentation-models-pytorch's own decoder and model, on the same features."""

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder

from tadp_ray.tasks.segmentation.config import SmpFPNConfig
from tadp_ray.tasks.segmentation.smp_fpn import SmpFPNHead

CHANNELS, CLASSES = [12, 20, 24, 16], 3


def test_logits_equal_the_librarys_decoder_and_head() -> None:
    """Bit for bit, the library's channel dropout being still."""
    torch.manual_seed(0)
    head = SmpFPNHead(CHANNELS, (4, 8, 16, 32), CLASSES, SmpFPNConfig(kind="smp_fpn", pyramid=16, channels=32))
    decoder = FPNDecoder(CHANNELS, encoder_depth=4, pyramid_channels=16, segmentation_channels=32, merge_policy="add")
    classifier = SegmentationHead(32, CLASSES, kernel_size=1)
    decoder.load_state_dict(head.decoder.state_dict())
    classifier.load_state_dict({f"0.{name}": p for name, p in head.classifier.state_dict().items()})
    features = [torch.randn(2, count, 16 >> level, 24 >> level) for level, count in enumerate(CHANNELS)]
    found = head.train()(features)
    assert found.shape == (2, CLASSES, 16, 24)
    assert torch.equal(found, classifier(decoder.eval()(features)))


def test_the_published_sizes_are_the_librarys_own() -> None:
    """Names and shapes of all weights are those of the library's FPN model with its default widths."""
    model = smp.FPN("resnet18", encoder_weights=None, encoder_depth=4, classes=21)
    head = SmpFPNHead(model.encoder.out_channels[-4:], (4, 8, 16, 32), 21, SmpFPNConfig(kind="smp_fpn"))
    theirs = {name: p.shape for name, p in model.decoder.named_parameters()}
    assert {name: p.shape for name, p in head.decoder.named_parameters()} == theirs
    assert head.classifier.weight.shape == model.segmentation_head[0].weight.shape
