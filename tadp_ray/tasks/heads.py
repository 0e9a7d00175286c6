"""Task heads: from the four feature levels, largest first, to what a task predicts.

A dense head is called as `head(features, keep)` and gives one map at or above the largest level's size: class logits
(B, classes, h, w) or metres (B, 1, h, w). The detection head is called as `head(features, image_size, targets)` and gives
losses in training, boxes in evaluation.
"""

from collections.abc import Sequence

from tadp_ray.config.model import DepthHeadConfig, FasterRCNNConfig, HeadConfig, SemanticFPNConfig, SmpFPNConfig
from tadp_ray.tasks.depth.vpd_head import DepthHead
from tadp_ray.tasks.detection.faster_rcnn import DetectionHead
from tadp_ray.tasks.segmentation.semantic_fpn import SegmentationHead
from tadp_ray.tasks.segmentation.smp_fpn import SmpFPNHead

Head = SegmentationHead | SmpFPNHead | DepthHead | DetectionHead


def build_head(in_channels: Sequence[int], classes: int, config: HeadConfig) -> Head:
    """The head that a recipe names, with fresh weights.

    Args:
        in_channels: of the four levels, largest first.
        classes: how many a head tells apart, background not counted for boxes; depth has none.
        config: its class says which head.
    """
    match config:
        case SemanticFPNConfig():
            return SegmentationHead(in_channels, classes, config)
        case SmpFPNConfig():
            return SmpFPNHead(in_channels, classes, config)
        case DepthHeadConfig():
            return DepthHead(in_channels, config)
        case FasterRCNNConfig():
            return DetectionHead(in_channels, classes, config)
