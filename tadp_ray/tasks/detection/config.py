"""Registers object detection: its metrics, and the settings of its head."""

from typing import Annotated, Literal

from pydantic import Field

from tadp_ray.config.vocabulary import StrictModel
from tadp_ray.registry import Metric, register_head, register_task

register_task(
    "detection",
    "tadp_ray.tasks.detection.task:detection",
    metrics=(
        Metric("ap", "AP", "%"),
        Metric("ap50", "AP at IoU 0.5", "%"),
        *(Metric(name) for name in ("ap75", "ap_voc07", "ap50_voc07", "coco_ap", "coco_ap50", "coco_ap75")),
    ),
    main="ap50",
    by_class="ap50",
    whole_images_only=True,
    per_image="tadp_ray.tasks.detection.per_image:DetectionImages",
    score="tadp_ray.tasks.detection.commands:score",
    picture="tadp_ray.tasks.detection.commands:picture",
)

Side = Annotated[int, Field(ge=1)]


@register_head("faster_rcnn", task="detection", implementation="tadp_ray.tasks.detection.faster_rcnn:DetectionHead")
class FasterRCNNConfig(StrictModel):
    """Detection: torchvision's Faster R-CNN on a feature pyramid (published for Pascal VOC)."""

    kind: Literal["faster_rcnn"]
    channels: int = Field(256, ge=8, multiple_of=8, description="number of channels of the pyramid (code: 256)")
    representation: int = Field(1024, ge=16, description="width of the layers of the box head (code: 1024)")
    samples: int = Field(
        512, ge=8, description="number of proposals per image that are sampled to train the box head (code: 512)"
    )
    anchors: tuple[Side, ...] = Field(
        (32, 64, 128, 256),
        min_length=1,
        description="side of the anchors of each level in image pixels, largest level first",
    )
