"""How far a training has come."""

from dataclasses import dataclass, field


@dataclass
class TrainState:
    """Everything of a training that is neither a weight nor a moment of the optimizer; kept in its checkpoint."""

    step: int = 0
    """Optimizer steps done."""
    loss: float = 0.0
    """The newest that was reported."""
    best: float = 0.0
    """The main metric at its best evaluation."""
    best_step: int = 0
    """0: there was no evaluation yet."""
    latest: dict[str, float] = field(default_factory=dict)
    """Metrics of the newest evaluation."""
    seconds: float = 0.0
    """What the steps took, without evaluations."""
    stalled: float = 0.0
    """Seconds of them that steps waited for checkpoints."""
