"""torchvision's Faster R-CNN on a feature pyramid, as the published Pascal VOC code configures it."""

from collections.abc import Sequence
from typing import TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from tadp_ray.errors import UserError
from tadp_ray.processes import shared_sum, world_size
from tadp_ray.tasks.detection.config import FasterRCNNConfig
from tadp_ray.tasks.pyramid import check_doubling, unfit

RATIOS = (0.5, 1.0, 2.0)
"""Aspect ratios, height to width, of the anchors (published code)."""
POOLED = 7
"""Side of the map that RoIAlign pools each proposal to, with 2 x 2 sampling points per cell (torchvision's defaults)."""


class Objects(TypedDict):
    """The objects of one training image."""

    boxes: Tensor
    """float32 (N, 4) xyxy pixels, with an area above 0; N may be 0."""
    labels: Tensor
    """int64 (N,) class index, from 0."""
    generator: torch.Generator
    """CPU generator for this image and pass, for sampling anchors and proposals."""


class Detections(TypedDict):
    """The detections in one image, best first."""

    boxes: Tensor
    """float32 (N, 4) xyxy pixels."""
    labels: Tensor
    """int64 (N,) class index, from 0."""
    scores: Tensor
    """float32 (N,) between 0 and 1."""


class SeededSampler(BalancedPositiveNegativeSampler):
    """torchvision's sampler with one CPU generator per image, set by the caller.

    The samples of an image depend neither on the device nor on the other images of its process.
    """

    generators: Sequence[torch.Generator] = ()
    """One generator per image of the next call."""
    drawn = 0
    """Number of samples of the last call, over all its images."""

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return masks (N,) of the sampled positives and negatives per image, from (N,) labels: 0 negative, above positive."""
        positives, negatives = [], []
        for labels, generator in zip(matched_idxs, self.generators, strict=True):
            positives.append(draw(labels >= 1, int(self.batch_size_per_image * self.positive_fraction), generator))
            room = self.batch_size_per_image - int(positives[-1].sum())
            negatives.append(draw(labels == 0, room, generator))
        self.drawn = sum(int(mask.sum()) for mask in positives + negatives)
        return positives, negatives


def draw(candidates: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Return a mask (N,) of at most `most` of the candidates (N,), each with the same probability."""
    places = candidates.nonzero().squeeze(1)
    chosen = torch.randperm(len(places), generator=generator)[:most]
    mask = torch.zeros_like(candidates)
    mask[places[chosen.to(places.device)]] = True
    return mask


class DetectionHead(nn.Module):
    """Computes the losses of Faster R-CNN, or boxes, from feature levels, each half as large as the previous one.

    Source: TADP's detection model. torchvision's pyramid without an extra level, one anchor size per level at three ratios;
    all settings that are not in the recipe are the defaults of torchvision's FasterRCNN.

    Args:
        channels: channels of the levels, largest level first.
        strides: strides of the levels: powers of two, each twice the previous one (torchvision rounds others to these).
        classes: number of classes, without the background.
        config: widths, samples, and an anchor size per level.

    Raises:
        UserError: the strides do not fit, or the numbers of anchors and levels differ.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int, config: FasterRCNNConfig) -> None:
        super().__init__()
        check_doubling(config.kind, strides)
        if strides[0].bit_count() != 1:
            raise unfit(config.kind, strides, "levels whose strides are powers of two")
        if len(config.anchors) != len(strides):
            raise UserError(
                f"model.head.anchors={list(config.anchors)}: {len(config.anchors)} sides for a backbone of {len(strides)} levels "
                f"(strides of {', '.join(map(str, strides))} pixels); give one for each level, largest level first"
            )
        self.neck = FeaturePyramidNetwork(list(channels), config.channels)
        self.neck.out_channels = config.channels  # FasterRCNN reads it from its backbone
        library = FasterRCNN(
            self.neck,
            rpn_anchor_generator=AnchorGenerator(
                tuple((side,) for side in config.anchors), (RATIOS,) * len(config.anchors)
            ),
            box_roi_pool=MultiScaleRoIAlign([str(level) for level in range(len(strides))], POOLED, sampling_ratio=2),
            box_head=TwoMLPHead(config.channels * POOLED**2, config.representation),
            box_predictor=FastRCNNPredictor(config.representation, classes + 1),  # label 0 is the background
            box_batch_size_per_image=config.samples,
        )
        self.rpn, self.roi_heads = library.rpn, library.roi_heads
        for part in (self.rpn, self.roi_heads):
            default = part.fg_bg_sampler
            part.fg_bg_sampler = SeededSampler(default.batch_size_per_image, default.positive_fraction)

    def forward(
        self,
        features: Sequence[Float[Tensor, "batch _ _ _"]],
        image_size: tuple[int, int],
        targets: Sequence[Objects] | None = None,
        **_: object,
    ) -> dict[str, Tensor] | list[Detections]:
        """Return the four losses, whose sum is minimized, in training, and the detections of each image in evaluation.

        They are computed in float32 whatever the precision: in bfloat16, a coordinate of 512 pixels is rounded by up to 2.

        Args:
            features: one tensor per level, largest first.
            image_size: (H, W) of all images of the batch in pixels, the unit of anchors and boxes.
            targets: one per image, in training only.
        """
        with torch.autocast(features[0].device.type, enabled=False):
            return self._outputs([level.float() for level in features], image_size, targets)

    def _outputs(
        self, features: Sequence[Tensor], image_size: tuple[int, int], targets: Sequence[Objects] | None
    ) -> dict[str, Tensor] | list[Detections]:
        levels = self.neck({str(level): feature for level, feature in enumerate(features)})
        # torchvision uses only the sizes of the images.
        images = ImageList(features[0].new_empty(len(features[0]), 0, *image_size), [image_size] * len(features[0]))
        if not self.training:
            proposals, _ = self.rpn(images, levels)
            found, _ = self.roi_heads(levels, proposals, images.image_sizes)
            return [{**objects, "labels": objects["labels"] - 1} for objects in found]

        assert targets is not None
        samplers = self.rpn.fg_bg_sampler, self.roi_heads.fg_bg_sampler
        for sampler in samplers:
            sampler.generators = [target["generator"] for target in targets]
        wanted = [{"boxes": target["boxes"], "labels": target["labels"] + 1} for target in targets]
        proposals, rpn_losses = self.rpn(images, levels, wanted)
        _, box_losses = self.roi_heads(levels, proposals, images.image_sizes, wanted)
        # torchvision divides a loss by the number of samples in its process, which depends on the images. With this factor,
        # the mean over the processes equals the loss of all images together.
        counts = features[0].new_tensor([sampler.drawn for sampler in samplers])
        shares = counts * world_size() / shared_sum(counts)
        return {
            name: loss * share
            for losses, share in zip((rpn_losses, box_losses), shares, strict=True)
            for name, loss in losses.items()
        }
