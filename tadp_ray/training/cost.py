"""Counts the cost of one optimizer step before training, by tracing the step on tensors without data."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from tadp_ray.backbones.base import Backbone, Pretrained
from tadp_ray.conditioning.base import ImageEncoder
from tadp_ray.config.recipe import Recipe
from tadp_ray.tasks.build import task_of
from tadp_ray.training.model import make_model
from tadp_ray.training.optim import parameter_groups
from tadp_ray.training.precision import autocast
from tadp_ray.training.step_cost import ModuleCost, StepCost

FLOAT32_ON_GPUS = (F.group_norm, F.layer_norm, F.softmax, torch.softmax, Tensor.softmax)
"""Operations of these networks that autocast computes in float32 on GPUs, but not on CPUs."""


def step_cost(
    recipe: Recipe,
    pretrained: Pretrained,
    classes: int,
    tokens: int,
    view: tuple[int, int],
    encoders: Sequence[ImageEncoder] = (),
) -> StepCost:
    """Return the cost of one step of a cell.

    Args:
        recipe: recipe of the cell.
        pretrained: the frozen networks; only their architecture is used.
        classes: number of classes.
        tokens: length of the context of a caption.
        view: (height, width) of a training view in pixels.
        encoders: the image encoder of each source of the context that reads images; only their architecture is used.
    """
    schedule, world, task = recipe.schedule, recipe.compute.world_size, task_of(recipe)
    images = schedule.images_per_pass // world
    meta = pretrained.to_meta()
    model = make_model(meta, recipe.model, classes, tokens, view, encoders).train().to("meta")
    encoders = [encoder.to_meta() for encoder in encoders]
    networks = [*meta.networks, *(encoder.network for encoder in encoders if encoder.network)]

    # Fake tensors on the CPU, whose attention is fused as on GPUs; on the meta device it is not. Fake tensors on GPUs have no
    # backward pass on a machine without one.
    with FakeTensorMode(allow_non_fake_inputs=True):
        for network in (model, *networks):
            move_to_cpu(network)
        pixels = torch.empty(images, 3, *view)
        context = torch.empty(images, tokens, model.backbone.context_width)
        samples = model.backbone.noise_samples
        saved = SavedTensors(model)

        # forward and backward, one network after the other
        _, text = count_flops(lambda: meta.text_encoder and meta.text_encoder(whole_text(meta.text_encoder)))
        as_on_device = AutocastOfGpus() if recipe.compute.gpus and schedule.precision == "bfloat16" else nullcontext()
        with autocast(pixels.device, schedule.precision), as_on_device:
            latents, encoded = count_flops(lambda: model.backbone.encode_image(pixels).mean)
            noise = latents.new_empty(images, samples, *latents.shape[1:]) if samples else None
            embeddings, embedded = count_flops(lambda: [encoder(pixels) for encoder in encoders])
            with saved_tensors_hooks(saved.add, lambda tensor: tensor):
                told = model.context(model.adapter(context), embeddings)
                features, backbone = count_flops(lambda: model.backbone(latents, told, noise))
                inputs = [feature.detach().requires_grad_(feature.requires_grad) for feature in features]
                loss, head = count_flops(lambda: task.counted_loss(model.head, model.norms(inputs), view))
        _, head_back = count_flops(loss.backward)
        # Without a trained parameter in it or before it, the backbone has no backward pass. A head may leave levels unread.
        learned = [(own, given.grad) for own, given in zip(features, inputs, strict=True) if given.grad is not None]
        outputs, gradients = [own for own, _ in learned], [gradient for _, gradient in learned]
        _, backbone_back = count_flops(lambda: torch.autograd.backward(outputs, gradients))

    heads = sum(num_parameters(part) for part in (model.adapter, model.norms, model.head, model.context))
    embedders = sum(num_parameters(encoder.network) for encoder in encoders)
    context_encoder = ModuleCost("context encoder", embedders, embedded // images, 0)
    parts = (
        ModuleCost("VAE encoder", num_parameters(meta.image_encoder), encoded // images, 0),
        ModuleCost("text encoder", num_parameters(meta.text_encoder), text, 0),
        *[context_encoder] * bool(encoders),
        ModuleCost("backbone", num_parameters(model.backbone), backbone // images, backbone_back // images),
        ModuleCost("head", heads, head // images, head_back // images),
    )
    groups = parameter_groups(model, schedule)
    not_recomputed = "counted as if compute.gradient_checkpointing were off" * recipe.compute.gradient_checkpointing
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = num_parameters(model) - trained + sum(map(num_parameters, networks))
    if recipe.compute.gpus:
        # It leaves the GPU once it has encoded the captions.
        frozen -= num_parameters(meta.text_encoder)
    return StepCost(
        parts=parts,
        groups=tuple((group["name"], sum(p.numel() for p in group["params"]), group["lr"]) for group in groups),
        images=schedule.batch_size,
        state_bytes=4 * 4 * trained,
        frozen_bytes=4 * frozen,
        activation_bytes=sum(saved.bytes.values()),
        note="; ".join(filter(None, (task.not_counted, not_recomputed))),
    )


def whole_text(text_encoder: Any) -> Tensor:
    """Return token ids (1, L) of a text encoder's full length."""
    return torch.zeros(1, text_encoder.config.max_position_embeddings, dtype=torch.int64)


def move_to_cpu(network: nn.Module) -> None:
    """Replace the parameters and buffers of a network on the meta device by fake ones on the CPU; shared ones stay shared."""
    moved: dict[nn.Parameter, nn.Parameter] = {}
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if parameter not in moved:
                    empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                    moved[parameter] = nn.Parameter(empty, parameter.requires_grad)
                module._parameters[name] = moved[parameter]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


class AutocastOfGpus(TorchFunctionMode):
    """In the `with` block, operations of `FLOAT32_ON_GPUS` take their tensors in float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operation."""
        if func in FLOAT32_ON_GPUS:
            args = [each.float() if isinstance(each, Tensor) else each for each in args]
        return func(*args, **(kwargs or {}))


def count_flops(function: Callable[[], Any]) -> tuple[Any, int]:
    """Return the result of a function and its floating-point operations."""
    with FlopCounterMode(display=False) as counter:
        result = function()
    return result, counter.get_total_flops()


def num_parameters(network: nn.Module | Backbone | None) -> int:
    """Return the number of parameters of a network; 0 for None."""
    return sum(p.numel() for p in network.parameters()) if network else 0


class SavedTensors:
    """Sizes of the distinct tensors that autograd saves for the backward pass, without the model's weights."""

    def __init__(self, model: nn.Module) -> None:
        # By storage, since a transposed weight is another tensor.
        self._weights = {tensor.untyped_storage()._cdata for tensor in model.parameters()}
        self._alive: list[Tensor] = []
        self.bytes: dict[int, int] = {}

    def add(self, tensor: Tensor) -> Tensor:
        """Add a saved tensor, and return it."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._weights:
            self._alive.append(tensor)  # a storage's address is unique only while it is alive
            self.bytes[storage._cdata] = storage.nbytes()
        return tensor
