"""Writes checkpoints and weights in the background: a step waits for a copy of its tensors, not for the disk."""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tadp_ray.errors import UserError
from tadp_ray.tensors import not_finite
from tadp_ray.training import checkpoint
from tadp_ray.training.reporter import Reporter, checkpoints
from tadp_ray.training.state import TrainState

log = logging.getLogger(__name__)


class AsyncCheckpointer:
    """Reads and writes the checkpoints of one training; a background thread writes one at a time.

    Use it as a context manager: its exit waits until nothing is being written. The caller's lock on the training's folder
    may be released only after that.

    Args:
        path: file of the newest checkpoint; the previous one is kept beside it.
        fingerprint: fingerprint of the training.
        reporter: receives a report of each checkpoint.
        is_due: (step, minutes since the last checkpoint or the start) -> whether to write one.
    """

    def __init__(self, path: Path, fingerprint: str, reporter: Reporter, is_due: Callable[[int, float], bool]) -> None:
        self._path, self._fingerprint, self._reporter, self._is_due = path, fingerprint, reporter, is_due
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None
        self._step: int | None = None
        """The step of the checkpoint that is being written; None: it is no checkpoint."""
        self._began = self._newest = time.monotonic()

    def resume(self, model: nn.Module, optimizer: Optimizer, lr_scheduler: LambdaLR) -> TrainState:
        """Load the newest complete checkpoint into model, optimizer and scheduler; return its state, or a fresh one.

        Damaged checkpoints are logged and deleted.

        Raises:
            UserError: the checkpoint belongs to another training, or does not fit the model.
        """
        found = checkpoints(self._path.parent, self._path.name)
        for place, path in enumerate(found):
            try:
                facts = checkpoint.load(path, model, optimizer, lr_scheduler, self._fingerprint)
            except checkpoint.Damaged as error:
                log.warning("%s; going on from %s", error, "the one before" if found[place + 1 :] else "the start")
                # The next checkpoint keeps the previous one beside it, which must be a complete one.
                path.unlink(missing_ok=True)
                continue
            state = TrainState(**facts["state"])
            self._reporter.report(state.step, {}, path)
            return state
        return TrainState()

    def due(self, step: int) -> bool:
        """Return whether a checkpoint is due."""
        return self._is_due(step, (time.monotonic() - self._newest) / 60)

    def save(self, model: nn.Module, optimizer: Optimizer, state: TrainState) -> str | None:
        """Start to write a checkpoint, once the previous one is complete.

        Returns: None, or the name of a tensor that is not finite; then nothing is written, since training cannot resume
        from such a state.

        Raises:
            UserError: the previous checkpoint could not be written.
        """
        self.poll(wait=True)
        tensors = checkpoint.snapshot(model, optimizer)
        if broken := not_finite(tensors):
            return broken
        kept = replace(state, earlier=state.earlier + time.monotonic() - self._began)
        facts = {"fingerprint": self._fingerprint, "step": state.step, "state": asdict(kept)}
        self._writing = self._thread.submit(checkpoint.write, self._path, tensors, facts)
        self._step, self._newest = state.step, time.monotonic()
        return None

    def save_weights(self, path: Path, model: nn.Module, facts: Mapping[str, Any]) -> None:
        """Start to write a model's weights to a file of their own, once what is being written is complete.

        Raises:
            UserError: that could not be written.
        """
        self.poll(wait=True)
        tensors = checkpoint.copies(model.state_dict())
        self._writing, self._step = self._thread.submit(checkpoint.write_tensors, path, tensors, facts), None

    def poll(self, wait: bool = False) -> None:
        """Report the checkpoint that was being written, if it is complete.

        Raises:
            UserError: it, or the weights, could not be written.
        """
        if self._writing is not None and (wait or self._writing.done()):
            writing, self._writing = self._writing, None
            writing.result()
            if self._step is not None:
                self._reporter.report(self._step, {}, self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._thread.shutdown()
        try:
            self.poll(wait=True)
        except (UserError, OSError):
            # An error that ended the training takes precedence over an error of its last checkpoint.
            if error is None:
                raise
