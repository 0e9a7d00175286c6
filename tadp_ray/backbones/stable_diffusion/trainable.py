"""Marks the parameters of a U-Net that are trained."""

from diffusers import UNet2DConditionModel

from tadp_ray.backbones.stable_diffusion.config import TrainableConfig

ATTENTION = ".attentions."
"""In the names of all that is in an attention block: diffusers always calls them `attentions`."""


def set_trained(unet: UNet2DConditionModel, trainable: TrainableConfig) -> None:
    """Let the trained parameters of a U-Net require gradients, and no others."""
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(trainable.kind == "full" or (trainable.kind == "attention_only" and ATTENTION in name))
