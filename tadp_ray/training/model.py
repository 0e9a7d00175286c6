"""The model of the paper: a text-conditioned backbone and a task head on its features."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tadp_ray.backbones.base import Backbone, Pretrained
from tadp_ray.backbones.families import family_of
from tadp_ray.conditioning.base import ImageEncoder
from tadp_ray.conditioning.context import Context
from tadp_ray.conditioning.sources import context_length
from tadp_ray.conditioning.text_encoder import TextAdapter
from tadp_ray.config.model import ModelConfig
from tadp_ray.tasks.build import build_head
from tadp_ray.tasks.norms import FeatureNorms
from tadp_ray.training.frozen import leave_out_frozen


class TADP(nn.Module):
    """Backbone and head, trained together. Frozen weights of the backbone are not part of the state.

    Args:
        backbone: used by this model only.
        classes: number of classes.
        config: settings of the context, the text adapter, the feature normalization and the head.
        encoders: the image encoder of each source of the context that reads images; frozen, and no part of the model.
    """

    def __init__(
        self, backbone: Backbone, classes: int, config: ModelConfig, encoders: Sequence[ImageEncoder] = ()
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.adapter = TextAdapter(backbone.context_width) if config.adapter else nn.Identity()
        self.norms = FeatureNorms(backbone.channels) if config.feature_norm else nn.Identity()
        self.head = build_head(backbone.channels, backbone.strides, classes, config.head)
        # Last, so that the other parts have the same first weights whatever the context.
        self.context = Context(config.context, backbone.context_width, encoders)
        leave_out_frozen(self, "backbone")

    def forward(
        self,
        latents: Float[Tensor, "batch c h w"],
        context: Float[Tensor, "batch tokens width"],
        dropout_mask: Float[Tensor, "batch channels"] | None = None,
        targets: list[dict] | None = None,
        noise: Float[Tensor, "batch samples c h w"] | None = None,
        embeddings: Sequence[Tensor] = (),
    ) -> Any:
        """Return the head's output: logits or metres (B, C, h, w), or boxes, or the detection losses in training.

        Args:
            latents: (B, C, h, w) from the backbone's `encode_image`.
            context: of the captions, (B, L, D) from the text encoder; (B, 0, 0) if no source of the context reads text.
            dropout_mask: (B, head channels), divided by the share of channels kept; None: no dropout.
            targets: boxes of each image, for a head that samples proposals in training.
            noise: standard normal, (B, S, C, h, w), for a backbone whose `noise_samples` S is not 0.
            embeddings: (B, E) from the image encoder of each source of the context that reads images.
        """
        told = self.context(self.adapter(context), embeddings)
        features = self.norms(self.backbone(latents, told, noise))
        size = self.backbone.image_size(latents)
        return self.head(features, dropout_mask=dropout_mask, image_size=size, targets=targets)


def make_model(
    pretrained: Pretrained,
    config: ModelConfig,
    classes: int,
    tokens: int,
    view: tuple[int, int],
    encoders: Sequence[ImageEncoder] = (),
) -> TADP:
    """Build a model on a pretrained backbone, with a fresh head.

    Args:
        pretrained: the frozen networks; those to be trained are copied.
        config: settings of the model.
        classes: number of classes.
        tokens: length of the context of a caption.
        view: (height, width) of a training view in pixels.
        encoders: the image encoder of each source of the context that reads images.
    """
    length = context_length(config.context, tokens)
    return TADP(family_of(config).make_backbone(pretrained, config, length, view), classes, config, encoders)
