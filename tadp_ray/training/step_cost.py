"""What a step costs, as `tadp_ray.training.cost` counts it. Needs no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModuleCost:
    """The cost of one network of the model."""

    name: str
    parameters: int
    forward: int
    """Floating-point operations of matrix products and convolutions per image; a multiply-add counts as two."""
    backward: int


@dataclass(frozen=True)
class StepCost:
    """The cost of one optimizer step of a cell over all its workers."""

    parts: tuple[ModuleCost, ...]
    """The frozen encoders of latents (a VAE's) and text, and of the context's images if there is one; then backbone and head."""
    groups: tuple[tuple[str, int, float], ...]
    """(name, parameters, learning rate) of the optimizer's groups."""
    images: int
    """Images per step."""
    state_bytes: int
    """Trained weights, their gradients and AdamW's two moments, per worker."""
    frozen_bytes: int
    """Frozen weights, per worker; on a GPU, without the text encoder's."""
    activation_bytes: int
    """Activations saved for the backward pass of one forward pass, per worker."""
    note: str = ""
    """What the count leaves out."""

    @property
    def memory_bytes(self) -> int:
        """Memory of weights, gradients, moments and activations.

        Not all are in memory at once, since gradients replace activations; temporary buffers come on top.
        """
        return self.frozen_bytes + self.state_bytes + self.activation_bytes

    @property
    def trained(self) -> int:
        """Number of trained parameters."""
        return sum(count for _, count, _ in self.groups)

    @property
    def training_disk_bytes(self) -> int:
        """Most bytes of a cell's folder while it trains: three checkpoints, one of which is being written, and the best weights.

        A checkpoint has the trained weights and AdamW's two moments. All are in float32.
        """
        return 4 * self.trained * (3 * 3 + 1)

    @property
    def finished_disk_bytes(self) -> int:
        """Most bytes of a finished cell's folder: the final weights and the best ones."""
        return 4 * self.trained * 2

    @property
    def flops(self) -> int:
        """Operations of a step, without the text encoder, since each caption is encoded once per training."""
        return self.images * sum(part.forward + part.backward for part in self.parts if part.name != "text encoder")
