"""segmentation-models-pytorch's feature pyramid head, as the published Pascal VOC code configures it."""

from collections.abc import Sequence

from jaxtyping import Float
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from torch import Tensor, nn

from tadp_ray.tasks.pyramid import check_doubling, unfit
from tadp_ray.tasks.segmentation.config import SmpFPNConfig

LEVELS = 4
"""Number of levels that the library's decoder requires."""


class SmpFPNHead(nn.Module):
    """Computes class logits at the largest level's size from four feature levels, each half as large as the previous one.

    Source: TADP's Pascal segmentation model. 1x1 laterals, nearest top-down; then 3, 2, 1, 0 steps of conv-GroupNorm-ReLU
    with x2 bilinear (one step without bilinear for the largest level); sum, channel dropout, 1x1 classifier. Weights have
    torch's default initialization, since the published code does not call the library's.

    Args:
        channels: channels of the levels, largest level first.
        strides: strides of the levels.
        classes: number of classes.
        config: widths.

    Raises:
        UserError: there are not four levels, or one is not half as large as the previous one.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int, config: SmpFPNConfig) -> None:
        super().__init__()
        if len(strides) != LEVELS:
            raise unfit(config.kind, strides, f"{LEVELS} levels")
        check_doubling(config.kind, strides)
        self.decoder = FPNDecoder(
            list(channels), pyramid_channels=config.pyramid, segmentation_channels=config.channels
        )
        # The caller passes the dropout mask, so that dropout does not depend on how a batch is split.
        self.decoder.dropout = nn.Identity()
        self.classifier = nn.Conv2d(config.channels, classes, kernel_size=1)

    def forward(
        self,
        features: Sequence[Float[Tensor, "batch _ _ _"]],
        dropout_mask: Float[Tensor, "batch channels"] | None = None,
        **_: object,
    ) -> Float[Tensor, "batch classes h w"]:
        """Return logits (B, classes, h, w); `dropout_mask` (B, channels) multiplies the last feature map."""
        merged = self.decoder(features)
        return self.classifier(merged if dropout_mask is None else merged * dropout_mask[:, :, None, None])
