"""The model of the paper: a text-conditioned backbone and a task head on its features."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tadp_ray.backbones.base import Backbone, Pretrained
from tadp_ray.backbones.families import family_of
from tadp_ray.conditioning.text_encoder import TextAdapter
from tadp_ray.config.model import ModelConfig
from tadp_ray.tasks.norms import FeatureNorms
from tadp_ray.tasks.registry import build_head
from tadp_ray.training.frozen import leave_out_frozen


class TADP(nn.Module):
    """Backbone and head, trained together. Frozen weights of the backbone are not part of the state.

    Args:
        backbone: used by this model only.
        classes: number of classes.
        config: settings of the text adapter, the feature normalization and the head.
    """

    def __init__(self, backbone: Backbone, classes: int, config: ModelConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.adapter = TextAdapter(backbone.context_width) if config.adapter else nn.Identity()
        self.norms = FeatureNorms(backbone.channels) if config.feature_norm else nn.Identity()
        self.head = build_head(backbone.channels, backbone.strides, classes, config.head)
        leave_out_frozen(self, "backbone")

    def forward(
        self,
        latents: Float[Tensor, "batch c h w"],
        context: Float[Tensor, "batch tokens width"],
        dropout_mask: Float[Tensor, "batch channels"] | None = None,
        targets: list[dict] | None = None,
        noise: Float[Tensor, "batch samples c h w"] | None = None,
    ) -> Any:
        """Return the head's output: logits or metres (B, C, h, w), or boxes, or the detection losses in training.

        Args:
            latents: (B, C, h, w) from the backbone's `encode_image`.
            context: (B, L, D) from the text encoder.
            dropout_mask: (B, head channels), divided by the share of channels kept; None: no dropout.
            targets: boxes of each image, for a head that samples proposals in training.
            noise: standard normal, (B, S, C, h, w), for a backbone whose `noise_samples` S is not 0.
        """
        features = self.norms(self.backbone(latents, self.adapter(context), noise))
        size = self.backbone.image_size(latents)
        return self.head(features, dropout_mask=dropout_mask, image_size=size, targets=targets)


def make_model(pretrained: Pretrained, config: ModelConfig, classes: int, tokens: int, view: tuple[int, int]) -> TADP:
    """Build a model on a pretrained backbone, with a fresh head.

    Args:
        pretrained: the frozen networks; those to be trained are copied.
        config: settings of the model.
        classes: number of classes.
        tokens: length of a context.
        view: (height, width) of a training view in pixels.
    """
    return TADP(family_of(config).make_backbone(pretrained, config, tokens, view), classes, config)
