"""Semantic segmentation as a task: label maps, cross-entropy or focal loss, mean IoU."""

from functools import partial

import torch
from torch import Tensor

from tadp_ray.config.schema import Recipe
from tadp_ray.data.sample import Sample
from tadp_ray.tasks.base import Task, bilinear, dense_loss
from tadp_ray.tasks.files import MapFiles
from tadp_ray.tasks.segmentation.losses import cross_entropy_loss, focal_loss
from tadp_ray.tasks.segmentation.metrics import SegmentationMetrics


def segmentation(recipe: Recipe) -> Task:
    """The task of a recipe of segmentation, with the loss of its head."""
    head = recipe.model.head
    # The published Pascal head enlarges its logits by 8 with aligned corners, mmseg's head without.
    upsample = partial(bilinear, align_corners=head.kind == "smp_fpn")
    pixel_loss = focal_loss if head.loss == "focal" else cross_entropy_loss

    def loss(logits: Tensor, mask: Tensor) -> Tensor:
        return pixel_loss(upsample(logits, mask.shape[-2:]), mask)

    return Task(
        truth="mask",
        target=mask_of,
        upsample=upsample,
        loss=loss,
        probabilities=lambda logits: logits.softmax(1),
        predict=lambda shares: shares.argmax(1),
        metrics=SegmentationMetrics,
        logged_metrics=("miou", "accuracy"),
        files=MapFiles,
        counted_loss=dense_loss(loss, torch.int64),
    )


def mask_of(sample: Sample) -> Tensor:
    """Class indices (H, W), int64."""
    return torch.from_numpy(sample.mask.astype("int64"))
