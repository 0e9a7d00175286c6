"""segmentation-models-pytorch's feature pyramid head, as the published Pascal VOC code configures it."""

from collections.abc import Sequence

from jaxtyping import Float
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from torch import Tensor, nn

from tadp_ray.tasks.pyramid import check_doubling, unfit
from tadp_ray.tasks.segmentation.config import SmpFPNConfig

LEVELS = 4
"""Of the library's decoder, which names each of them."""


class SmpFPNHead(nn.Module):
    """Four feature levels, each half as large as the one before, to class logits at the largest level's size.

    Source: TADP's Pascal segmentation model; 1x1 laterals, nearest top-down; then 3, 2, 1, 0 conv-GroupNorm-ReLU steps of
    x2 bilinear (one without for the largest level), summed, channel dropout, 1x1 classifier. Weights start as torch's own
    layers do, since the published code builds these parts without the library's initialisation.

    Args:
        channels: of the levels, largest level first.
        strides: of the levels.
        classes: how many are told apart.
        config: widths.

    Raises:
        UserError: there are not four levels, or one is not half as large as the one before.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int, config: SmpFPNConfig) -> None:
        super().__init__()
        if len(strides) != LEVELS:
            raise unfit(config.kind, strides, f"{LEVELS} levels")
        check_doubling(config.kind, strides)
        self.decoder = FPNDecoder(
            list(channels), pyramid_channels=config.pyramid, segmentation_channels=config.channels
        )
        # Dropout is given from outside, so that it cannot depend on how a batch is shared out.
        self.decoder.dropout = nn.Identity()
        self.classifier = nn.Conv2d(config.channels, classes, kernel_size=1)

    def forward(
        self,
        features: Sequence[Float[Tensor, "batch _ _ _"]],
        dropout_mask: Float[Tensor, "batch channels"] | None = None,
        **_: object,
    ) -> Float[Tensor, "batch classes h w"]:
        """Logits (B, classes, h, w); `dropout_mask` (B, channels) multiplies the last feature map."""
        merged = self.decoder(features)
        return self.classifier(merged if dropout_mask is None else merged * dropout_mask[:, :, None, None])
