"""Marks the parameters of a denoiser that are trained, and adds LoRA's."""

from collections.abc import Sequence

import torch
from torch import nn

from tadp_ray.backbones.latent.config import LoRAConfig, TrainableConfig
from tadp_ray.config.errors import nearest
from tadp_ray.errors import UserError

ATTENTION = ".attentions."
"""In the names of all that is in an attention block of a U-Net: diffusers always calls them `attentions`."""


def set_trained(
    denoiser: nn.Module, trainable: TrainableConfig | LoRAConfig, attention: Sequence[str] = (ATTENTION,)
) -> None:
    """Let the trained parameters of a denoiser require gradients, and no others; LoRA's layers are added.

    Args:
        denoiser: a U-Net or a transformer.
        trainable: what is trained.
        attention: parts of names, one of which all that `attention_only` trains has in its name.

    Raises:
        UserError: a target of LoRA matches no layer.
    """
    denoiser.requires_grad_(False)
    if isinstance(trainable, LoRAConfig):
        add_lora(denoiser, trainable)
        return
    for name, parameter in denoiser.named_parameters():
        of_attention = any(part in name for part in attention)
        parameter.requires_grad_(trainable.kind == "full" or (trainable.kind == "attention_only" and of_attention))


def add_lora(denoiser: nn.Module, lora: LoRAConfig) -> None:
    """Add LoRA's layers, which alone are trained. At first the denoiser computes what it did before.

    As in diffusers' training scripts, A is drawn from a normal distribution. The numbers that are drawn after it, for the head,
    are those of a training without LoRA.

    Source: Hu et al., LoRA, 2021; the library peft.

    Raises:
        UserError: a target matches no layer.
    """
    # Only a recipe with LoRA needs it.
    from peft import LoraConfig, inject_adapter_in_model

    layers = target_layers(denoiser, lora.targets)
    with torch.random.fork_rng(devices=[]):
        inject_adapter_in_model(
            LoraConfig(
                r=lora.rank,
                lora_alpha=lora.alpha or lora.rank,
                target_modules=layers,
                init_lora_weights="gaussian",
            ),
            denoiser,
        )


def target_layers(denoiser: nn.Module, targets: tuple[str, ...]) -> list[str]:
    """Return the names of the linear layers and convolutions whose names are, or end in, one of the targets.

    Raises:
        UserError: a target matches none; the message contains the nearest names.
    """
    layers = [name for name, part in denoiser.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    for target in targets:
        if not any(f".{name}".endswith(f".{target}") for name in layers):
            # The last word of a name, and one more before a number.
            words = (name.split(".") for name in layers)
            ends = {".".join(own[-2:] if own[-1].isdecimal() else own[-1:]) for own in words}
            raise UserError(
                f"model.trainable.targets={target!r}: no layer of this denoiser has this name, or a name that ends so; "
                + nearest(target, sorted(ends))
            )
    return [name for name in layers if any(f".{name}".endswith(f".{target}") for target in targets)]
