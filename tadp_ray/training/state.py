"""The progress of a training."""

from dataclasses import dataclass, field


@dataclass
class TrainState:
    """The state of a training besides weights and optimizer moments; stored in its checkpoints."""

    step: int = 0
    """Optimizer steps done."""
    loss: float = 0.0
    """The last reported loss."""
    best: float = 0.0
    """The best value of the main metric."""
    best_step: int = 0
    """Step of the best value; 0: no evaluation yet."""
    latest: dict[str, float] = field(default_factory=dict)
    """Metrics of the newest evaluation."""
    seconds: float = 0.0
    """Duration of all steps, without evaluations."""
    stalled: float = 0.0
    """Of these, the seconds spent waiting for checkpoints."""
    earlier: float = 0.0
    """Seconds that earlier sessions took until the checkpoint from which this one goes on, with their evaluations."""
