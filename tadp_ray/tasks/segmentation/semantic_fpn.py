"""mmsegmentation's feature pyramid and Semantic FPN head, as the published ADE20K code configures them."""

import logging
import warnings
from collections.abc import Sequence

from jaxtyping import Float
from mmengine.logging import MMLogger
from torch import Tensor, nn

from tadp_ray.tasks.norms import GlobalBatchNorm2d
from tadp_ray.tasks.pyramid import halvings
from tadp_ray.tasks.segmentation.config import SemanticFPNConfig

with warnings.catch_warnings():
    # The warnings concern missing compiled operators, which neither the pyramid nor the head uses.
    warnings.simplefilter("ignore")
    from mmseg.models.decode_heads import FPNHead
    from mmseg.models.necks import FPN


class MaskedFPNHead(FPNHead):
    """FPNHead with a channel dropout mask from the caller, so that dropout does not depend on how a batch is split."""

    dropout_mask: Tensor | None = None

    def cls_seg(self, feat: Tensor) -> Tensor:
        """Return the logits (B, classes, h, w) of features (B, channels, h, w)."""
        mask = self.dropout_mask
        return self.conv_seg(feat if mask is None else feat * mask[:, :, None, None])


class SegmentationHead(nn.Module):
    """Computes class logits at the largest level's size from feature levels.

    Source: TADP's mm_configs. 1x1 laterals, nearest top-down, 3x3 outputs; then steps of conv-BN-ReLU and x2 bilinear up to
    the largest level's size (one step without bilinear for the largest level); sum, channel dropout, 1x1 classifier.

    Args:
        channels: channels of the levels, largest level first.
        strides: strides of the levels; each must be a power of two times the first.
        classes: number of classes.
        config: widths and initialization.

    Raises:
        UserError: the strides do not fit.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], classes: int, config: SemanticFPNConfig
    ) -> None:
        super().__init__()
        halvings(config.kind, strides)
        # mmengine logs every initialized tensor, with a logger outside of `logging.getLogger`.
        MMLogger.get_current_instance().setLevel(logging.WARNING)
        self.neck = FPN(in_channels=list(channels), out_channels=config.channels, num_outs=len(channels))
        self.classifier = MaskedFPNHead(
            feature_strides=list(strides),
            in_channels=[config.channels] * len(channels),
            in_index=list(range(len(channels))),
            channels=config.channels,
            num_classes=classes,
            dropout_ratio=0.0,
            norm_cfg={"type": GlobalBatchNorm2d},
            align_corners=False,
            init_cfg={"type": "Normal", "std": config.classifier_std, "override": {"name": "conv_seg"}},
            loss_decode=[],  # the task computes the loss
        )
        self.neck.init_weights()
        self.classifier.init_weights()

    def forward(
        self,
        features: Sequence[Float[Tensor, "batch _ _ _"]],
        dropout_mask: Float[Tensor, "batch channels"] | None = None,
        **_: object,
    ) -> Float[Tensor, "batch classes h w"]:
        """Return logits (B, classes, h, w); `dropout_mask` (B, channels) multiplies the last feature map."""
        self.classifier.dropout_mask = dropout_mask
        return self.classifier(self.neck(features))
