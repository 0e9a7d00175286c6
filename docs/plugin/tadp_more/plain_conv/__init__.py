"""A backbone of strided convolutions on pixels, trained from random weights. It uses no text."""

from typing import Literal

from pydantic import Field

from tadp_ray.config.vocabulary import StrictModel
from tadp_ray.registry import register_backbone


@register_backbone("plain_conv", "tadp_more.plain_conv.backbone:PlainConv")
class PlainConvKeys(StrictModel):
    """Strided convolutions on pixels, trained from random weights."""

    backbone: Literal["plain_conv"]
    width: int = Field(16, ge=1, description="channels of the largest level, which double at each smaller one")
    levels: int = Field(4, ge=1, le=6, description="number of levels, with strides 4, 8, 16 ...")
