"""Registers depth estimation: its metrics, and the settings of its head."""

from typing import Literal

from pydantic import Field

from tadp_ray.config.vocabulary import StrictModel
from tadp_ray.registry import Metric, register_head, register_task

METRICS = (
    *(Metric(name, decimals=3) for name in ("delta1", "delta2", "delta3")),
    Metric("abs_rel", "relative error", lower_is_better=True, decimals=3),
    Metric("sq_rel", lower_is_better=True, decimals=3),
    Metric("rmse", "RMSE", "m", lower_is_better=True, decimals=3),
    *(Metric(name, lower_is_better=True, decimals=3) for name in ("rmse_log", "log10", "silog")),
)
"""The metrics in the order of `tadp_ray.tasks.depth.metrics`."""

register_task(
    "depth",
    "tadp_ray.tasks.depth.task:depth",
    metrics=METRICS,
    main="rmse",
    per_image="tadp_ray.tasks.depth.per_image:DepthImages",
    score="tadp_ray.tasks.depth.commands:score",
    picture="tadp_ray.tasks.depth.commands:picture",
)


@register_head("vpd_depth", task="depth", implementation="tadp_ray.tasks.depth.vpd_head:DepthHead")
class DepthHeadConfig(StrictModel):
    """Depth: VPD's head, which fuses the feature levels and upsamples them (published for NYUv2)."""

    kind: Literal["vpd_depth"]
    fused: int = Field(1536, ge=16, multiple_of=16, description="number of channels of the fused levels (code: 1536)")
    deconvolved: int = Field(
        32, ge=8, multiple_of=8, description="number of channels of each of the three deconvolutions (code: 32)"
    )
    channels: int = Field(
        192,
        ge=8,
        multiple_of=8,
        description="number of channels of the convolutions before and after the bilinear upsampling (code: 192)",
    )
    unpadded: int | None = Field(
        None,
        ge=32,
        description="height and width in pixels of a view before it is padded at the bottom and the right. Features of the "
        "padding are cut off before decoding (code: 480 of 512); null: the whole padded view is decoded",
    )
    max_depth: float = Field(10.0, gt=0, description="depth in metres for a sigmoid output of 1 (code: 10)")
