"""Registers semantic segmentation: its metrics, and the settings of its heads."""

from typing import Literal

from pydantic import Field

from tadp_ray.config.vocabulary import StrictModel
from tadp_ray.registry import Metric, register_head, register_task

register_task(
    "segmentation",
    "tadp_ray.tasks.segmentation.task:segmentation",
    metrics=(
        Metric("miou", "mIoU", "%"),
        Metric("miou_things", "mIoU of things", "%", of_things=True),
        Metric("accuracy", "pixel accuracy", "%"),
    ),
    main="miou",
    by_class="iou",
    per_image="tadp_ray.tasks.segmentation.per_image:SegmentationImages",
    score="tadp_ray.tasks.segmentation.commands:score",
    picture="tadp_ray.tasks.segmentation.commands:picture",
)


@register_head(
    "semantic_fpn", task="segmentation", implementation="tadp_ray.tasks.segmentation.semantic_fpn:SegmentationHead"
)
class SemanticFPNConfig(StrictModel):
    """Segmentation: mmseg's feature pyramid and Semantic FPN head (published for ADE20K and Cityscapes)."""

    kind: Literal["semantic_fpn"] = "semantic_fpn"
    channels: int = Field(256, ge=8, multiple_of=8, description="number of channels of pyramid and head (code: 256)")
    dropout: float = Field(
        0.1, ge=0, lt=1, description="fraction of the head's channels dropped in training (code: 0.1)"
    )
    classifier_std: float = Field(
        0.01, gt=0, le=1, description="standard deviation of the initial weights of the last layer (code: 0.01)"
    )
    loss: Literal["cross_entropy", "focal"] = Field("cross_entropy", description="training loss (code: cross_entropy)")


@register_head("smp_fpn", task="segmentation", implementation="tadp_ray.tasks.segmentation.smp_fpn:SmpFPNHead")
class SmpFPNConfig(StrictModel):
    """Segmentation: the feature pyramid of segmentation-models-pytorch (published for Pascal VOC)."""

    kind: Literal["smp_fpn"]
    pyramid: int = Field(256, ge=8, multiple_of=8, description="number of channels of the pyramid (code: 256)")
    channels: int = Field(128, ge=32, multiple_of=32, description="number of channels of the head (code: 128)")
    dropout: float = Field(
        0.2, ge=0, lt=1, description="fraction of the head's channels dropped in training (code: 0.2)"
    )
    loss: Literal["focal", "cross_entropy"] = Field(
        "focal", description="training loss: focal as in the published code, or cross_entropy as in Table S3 (f)"
    )
