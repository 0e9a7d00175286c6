"""A task and its head: surface normals, learned from depth maps."""

from typing import Literal

from pydantic import Field

from tadp_ray.config.vocabulary import StrictModel
from tadp_ray.registry import Metric, register_head, register_task

register_task(
    "normals",
    "tadp_more.normals.task:normals",
    metrics=(
        Metric("mean_angle", "mean angle to the true normal", "degrees", lower_is_better=True, decimals=1),
        Metric("within_30", "normals within 30 degrees", "%", decimals=1),
    ),
    main="mean_angle",
)


@register_head("normals_conv", task="normals", implementation="tadp_more.normals.head:NormalsHead")
class NormalsHeadConfig(StrictModel):
    """Resizes every level to the largest one, then applies two convolutions."""

    kind: Literal["normals_conv"]
    channels: int = Field(32, ge=1, description="channels between the convolutions")
