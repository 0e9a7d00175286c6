"""What one optimizer step costs, counted before anything is spent: the step is traced on tensors without contents."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from tadp_ray.backbones.base import Pretrained
from tadp_ray.config.schema import Recipe
from tadp_ray.tasks.registry import task_of
from tadp_ray.training.model import make_model
from tadp_ray.training.optim import parameter_groups


@dataclass(frozen=True)
class ModuleCost:
    """One network of the model."""

    name: str
    parameters: int
    forward: int
    """Floating-point operations per image of matrix products and convolutions; a multiply-add is two."""
    backward: int


@dataclass(frozen=True)
class StepCost:
    """One optimizer step of a cell over all its workers."""

    parts: tuple[ModuleCost, ...]
    """Encoders of images and text, which are frozen; backbone and head, which are trained."""
    groups: tuple[tuple[str, int, float], ...]
    """(name, parameters, learning rate) of the optimizer's groups."""
    images: int
    """Of a step."""
    state_bytes: int
    """Trained weights, their gradients and AdamW's two moments, in each worker."""
    frozen_bytes: int
    """Weights of what is frozen, in each worker."""
    activation_bytes: int
    """What each worker keeps of one forward pass for the backward pass."""
    note: str = ""
    """What is left out."""

    @property
    def memory_bytes(self) -> int:
        """Of all these together; what a step holds for moments only comes on top."""
        return self.frozen_bytes + self.state_bytes + self.activation_bytes

    @property
    def trained(self) -> int:
        """Parameters that are trained."""
        return sum(count for _, count, _ in self.groups)

    @property
    def frozen(self) -> int:
        """Parameters that are not."""
        return sum(part.parameters for part in self.parts[:2])

    @property
    def flops(self) -> int:
        """Of the whole step; each caption is encoded once per training, so the text encoder is no part of it."""
        return self.images * sum(part.forward + part.backward for part in self.parts if part.name != "text encoder")


def step_cost(recipe: Recipe, pretrained: Pretrained, classes: int, tokens: int, view: tuple[int, int]) -> StepCost:
    """Trace one step of a cell.

    Args:
        recipe: of the cell.
        pretrained: whose architecture counts, not its weights.
        classes: of the data set.
        tokens: of a context.
        view: (height, width) of a training view in pixels.
    """
    schedule, world, task = recipe.schedule, recipe.compute.world_size, task_of(recipe)
    images = schedule.images_per_pass // world
    blank = pretrained.to_meta()
    with torch.device("meta"):
        pixels = torch.empty(images, 3, *view)
        ids = torch.zeros(1, blank.tokens, dtype=torch.int64)
    model = make_model(blank, recipe.model, classes, tokens, view).train().to("meta")
    noise = torch.empty(images, *model.backbone.latent_shape(pixels), device="meta")
    context = torch.empty(images, tokens, model.backbone.context_width, device="meta")
    kept = Kept(model)

    # forward and backward, one network after the other
    latents, encoded = counted(lambda: model.backbone.encode_image(pixels, noise))
    _, text = counted(lambda: blank.text_encoder and blank.text_encoder(ids))
    with saved_tensors_hooks(kept.note, lambda tensor: tensor):
        adapted = model.adapter(context)
        features, backbone = counted(lambda: model.backbone(latents, adapted))
        inputs = [feature.detach().requires_grad_() for feature in features]
        loss, head = counted(lambda: task.counted_loss(model.head, model.norms(inputs), view))
    _, head_back = counted(loss.backward)
    _, backbone_back = counted(lambda: torch.autograd.backward(features, [feature.grad for feature in inputs]))

    heads = sum(size_of(part) for part in (model.adapter, model.norms, model.head))
    parts = (
        ModuleCost("image encoder", size_of(blank.image_encoder), encoded // images, 0),
        ModuleCost("text encoder", size_of(blank.text_encoder), text, 0),
        ModuleCost("backbone", size_of(model.backbone), backbone // images, backbone_back // images),
        ModuleCost("head", heads, head // images, head_back // images),
    )
    groups = parameter_groups(model, schedule)
    trained = sum(p.numel() for p in model.parameters())
    return StepCost(
        parts=parts,
        groups=tuple((group["name"], sum(p.numel() for p in group["params"]), group["lr"]) for group in groups),
        images=schedule.batch_size,
        state_bytes=4 * 4 * trained,
        frozen_bytes=4 * sum(map(size_of, blank.networks)),
        activation_bytes=sum(kept.bytes.values()),
        note=task.not_counted,
    )


def counted(work: Callable[[], Any]) -> tuple[Any, int]:
    """What some work gives, and its floating-point operations."""
    with FlopCounterMode(display=False) as counter:
        result = work()
    return result, counter.get_total_flops()


def size_of(network: torch.nn.Module | None) -> int:
    """Parameters of a network; none without one."""
    return sum(p.numel() for p in network.parameters()) if network else 0


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
