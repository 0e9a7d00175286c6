"""The task of semantic segmentation: label maps, cross-entropy or focal loss, mean IoU."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from tadp_ray.config.recipe import Recipe
from tadp_ray.data.datasets import thing_names
from tadp_ray.data.sample import Sample
from tadp_ray.layout import CLASSES
from tadp_ray.registry import deferred
from tadp_ray.tasks.base import Task, bilinear, dense_loss, resize_map, written
from tadp_ray.tasks.files import MapFiles
from tadp_ray.tasks.segmentation.files import write_labels
from tadp_ray.tasks.segmentation.losses import cross_entropy_loss, focal_loss
from tadp_ray.tasks.segmentation.metrics import SegmentationMetrics


def segmentation(recipe: Recipe) -> Task:
    """Return the segmentation task of a recipe, with the loss of its head."""
    head, things = recipe.model.head, thing_names(recipe.data)
    # The published Pascal head upsamples its logits by 8 with align_corners, mmseg's head without.
    upsample = partial(bilinear, align_corners=head.kind == "smp_fpn")
    pixel_loss = focal_loss if getattr(head, "loss", "cross_entropy") == "focal" else cross_entropy_loss

    def loss(logits: Tensor, mask: Tensor) -> Tensor:
        return pixel_loss(upsample(logits, mask.shape[-2:]), mask)

    return Task(
        truth="mask",
        target=mask_of,
        resize=resize_map,
        upsample=upsample,
        loss=loss,
        probabilities=lambda logits: logits.softmax(1),
        predict=lambda probabilities: probabilities.argmax(1).cpu(),
        draw=deferred("tadp_ray.tasks.segmentation.drawing:draw_labels"),
        arrays=lambda mask: {"mask": mask.numpy().astype(np.uint8)},
        metrics=partial(SegmentationMetrics, things=things),
        logged_metrics=("miou", "accuracy", *(["miou_things"] if things else [])),
        files=partial(MapFiles, write_labels),
        write=write_labels,
        score_options=lambda folder: {**written(folder), "classes": folder / CLASSES},
        counted_loss=dense_loss(loss, torch.int64),
    )


def mask_of(sample: Sample) -> Tensor:
    """Return the class indices (H, W), int64."""
    return torch.from_numpy(sample.truth("mask").astype("int64"))
