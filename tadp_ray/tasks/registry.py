"""Tasks and heads by the names that recipes give them.

Every head is called as `head(features, dropout_mask=..., image_size=..., targets=...)`, with features of any number of levels
that it was built for, largest first. A dense head takes the mask alone and gives one map: class logits (B, classes, h, w) or
metres (B, 1, h, w). The detection head takes size and targets, and gives losses in training, boxes in evaluation.
"""

from collections.abc import Callable, Mapping, Sequence

from torch import nn

from tadp_ray.config.model import HeadConfig
from tadp_ray.config.schema import Recipe
from tadp_ray.config.vocabulary import TaskName
from tadp_ray.tasks.base import Task
from tadp_ray.tasks.depth.task import depth
from tadp_ray.tasks.depth.vpd_head import DepthHead
from tadp_ray.tasks.detection.faster_rcnn import DetectionHead
from tadp_ray.tasks.detection.task import detection
from tadp_ray.tasks.segmentation.semantic_fpn import SegmentationHead
from tadp_ray.tasks.segmentation.smp_fpn import SmpFPNHead
from tadp_ray.tasks.segmentation.task import segmentation

TASKS: Mapping[TaskName, Callable[[Recipe], Task]] = {
    "segmentation": segmentation,
    "depth": depth,
    "detection": detection,
}
HEADS: Mapping[str, Callable[..., nn.Module]] = {
    "semantic_fpn": SegmentationHead,
    "smp_fpn": SmpFPNHead,
    "vpd_depth": DepthHead,
    "faster_rcnn": DetectionHead,
}


def task_of(recipe: Recipe) -> Task:
    """The task of a recipe, with the loss of its head and the rules of its evaluation."""
    return TASKS[recipe.task](recipe)


def build_head(in_channels: Sequence[int], classes: int, config: HeadConfig) -> nn.Module:
    """The head that a recipe names, with fresh weights.

    Args:
        in_channels: of each level, largest first.
        classes: how many a head tells apart, background not counted for boxes; depth has none.
        config: the head's own.
    """
    return HEADS[config.kind](in_channels, classes, config)
