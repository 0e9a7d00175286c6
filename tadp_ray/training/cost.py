"""What one optimizer step costs, counted before anything is spent: the step is traced on tensors without contents."""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from tadp_ray.models.diffusion import Diffusion
from tadp_ray.models.tadp import TADP
from tadp_ray.training.study import Study


@dataclass(frozen=True)
class StepCost:
    """One optimizer step of a cell over all its workers."""

    trained: int
    """Parameters that are trained: U-Net and head."""
    frozen: int
    """Parameters that are not: VAE and text encoder."""
    flops: int
    """Floating-point operations of matrix products and convolutions, forward and backward; a multiply-add is two."""
    state_bytes: int
    """Trained weights, their gradients and AdamW's two moments, in each worker."""
    activation_bytes: int
    """What each worker keeps of one forward pass for the backward pass."""


def step_cost(study: Study) -> StepCost:
    """Trace one step of a cell."""
    recipe, frozen = study.recipe, study.diffusion
    schedule, world = recipe.schedule, recipe.compute.world_size
    images = schedule.images_per_pass // world
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(frozen.vae.config).requires_grad_(False)
        unet = UNet2DConditionModel.from_config(frozen.unet.config)
        pixels = torch.empty(images, 3, *view_size(study))
        mask = torch.empty(images, *pixels.shape[2:], dtype=torch.int64)
        context = torch.empty(images, frozen.tokens, unet.config.cross_attention_dim)
    traced = Diffusion(vae, unet, frozen.text_encoder, frozen.tokenizer)
    model = TADP(traced, len(study.train.classes), recipe.model).train().to("meta")
    kept = Kept(model)
    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(kept.note, lambda tensor: tensor):
        noise = torch.empty(images, *model.latent_shape(pixels), device="meta")
        logits = model(model.encode_images(pixels, noise), context)
        study.task.loss(logits, mask).backward()
    trained = sum(p.numel() for p in model.parameters())
    return StepCost(
        trained=trained,
        frozen=sum(p.numel() for part in (vae, frozen.text_encoder) for p in part.parameters()),
        flops=counter.get_total_flops() * world * (schedule.batch_size // schedule.images_per_pass),
        state_bytes=4 * 4 * trained,
        activation_bytes=sum(kept.bytes.values()),
    )


def view_size(study: Study) -> tuple[int, int]:
    """(height, width) of a training view."""
    crop = study.recipe.augment.crop
    return (crop, crop) if crop else study.train.sizes[0]


class Kept:
    """Sizes of the distinct tensors that autograd keeps, the model's own weights aside."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._own = {id(tensor) for tensor in model.parameters()}
        self._alive: list[Tensor] = []
        self.bytes: dict[int, int] = {}

    def note(self, tensor: Tensor) -> Tensor:
        """Autograd keeps a tensor."""
        if id(tensor) not in self._own:
            self._alive.append(tensor)  # an address is only unique among the living
            self.bytes[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor
