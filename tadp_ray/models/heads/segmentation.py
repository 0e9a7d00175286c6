"""mmsegmentation's feature pyramid and Semantic FPN head, as the published ADE20K code configures them."""

import logging
import warnings
from collections.abc import Sequence

import torch
import torch.distributed as dist
from mmengine.logging import MMLogger
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from tadp_ray.config.schema import SemanticFPNConfig

with warnings.catch_warnings():
    # They tell of compiled operators that are not installed; neither the pyramid nor the head uses any.
    warnings.simplefilter("ignore")
    from mmseg.models.decode_heads import FPNHead
    from mmseg.models.necks import FPN


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the images of all processes, on any device.

    The published code uses SyncBatchNorm, which torch offers for GPUs only; with one process this is plain batch norm.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalised (B, C, H, W); every process must hold equally many images."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(x)
        # Two exchanges, since a variance from the mean of squares loses its last digits.
        mean = all_reduce(x.mean((0, 2, 3))) / dist.get_world_size()
        centred = x - mean[:, None, None]
        variance = all_reduce(centred.square().mean((0, 2, 3))) / dist.get_world_size()
        with torch.no_grad():
            count = x.numel() / x.shape[1] * dist.get_world_size()
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]


class KeepingFPNHead(FPNHead):
    """FPNHead whose channel dropout is given from outside, so that it cannot depend on how a batch is shared out."""

    keep: Tensor | None = None

    def cls_seg(self, feat: Tensor) -> Tensor:
        """Classify each pixel of (B, channels, h, w)."""
        return self.conv_seg(feat if self.keep is None else feat * self.keep[:, :, None, None])


class SegmentationHead(nn.Module):
    """Four feature levels to class logits at the largest level's size.

    Source: TADP's mm_configs; 1x1 laterals, nearest top-down, 3x3 outputs; then 1, 1, 2, 3 conv-BN-ReLU per level with
    x2 bilinear steps, summed, channel dropout, 1x1 classifier. Ours: batch norm before the pyramid, as an option.
    """

    def __init__(self, in_channels: Sequence[int], classes: int, config: SemanticFPNConfig) -> None:
        super().__init__()
        channels = config.channels
        self.norms = nn.ModuleList(
            GlobalBatchNorm2d(count) if config.normalize else nn.Identity() for count in in_channels
        )
        # It logs every tensor that it initialises; its logger is none of `logging.getLogger`'s.
        MMLogger.get_current_instance().setLevel(logging.WARNING)
        self.neck = FPN(in_channels=list(in_channels), out_channels=channels, num_outs=len(in_channels))
        self.classifier = KeepingFPNHead(
            feature_strides=[4, 8, 16, 32],
            in_channels=[channels] * len(in_channels),
            in_index=list(range(len(in_channels))),
            channels=channels,
            num_classes=classes,
            dropout_ratio=0.0,
            norm_cfg={"type": GlobalBatchNorm2d},
            align_corners=False,
            init_cfg={"type": "Normal", "std": config.classifier_std, "override": {"name": "conv_seg"}},
            loss_decode=[],  # the task has the loss
        )
        self.neck.init_weights()
        self.classifier.init_weights()

    def forward(self, features: Sequence[Tensor], keep: Tensor | None = None) -> Tensor:
        """Logits (B, classes, h, w); `keep` (B, channels) multiplies the last feature map (dropout)."""
        self.classifier.keep = keep
        normed = [norm(feature) for norm, feature in zip(self.norms, features, strict=True)]
        return self.classifier(self.neck(normed))
