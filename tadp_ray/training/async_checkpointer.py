"""Checkpoints are written beside the training: a step waits for a copy of its tensors, not for the disk."""

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from torch import nn
from torch.optim import Optimizer

from tadp_ray.errors import UserError
from tadp_ray.tensors import not_finite
from tadp_ray.training import checkpoint
from tadp_ray.training.reporter import Reporter


class AsyncCheckpointer:
    """Writes the checkpoints of one training, one at a time, in a thread of its own.

    A context: who leaves it knows that nothing is being written any more. The training's lock ends there.
    """

    def __init__(self, path: Path, reporter: Reporter) -> None:
        self._path, self._reporter = path, reporter
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[int] | None = None
        self._newest = time.monotonic()

    @property
    def age_minutes(self) -> float:
        """Since the newest checkpoint, or since the start."""
        return (time.monotonic() - self._newest) / 60

    def save(self, model: nn.Module, optimizer: Optimizer, facts: Mapping[str, Any]) -> bool:
        """Have a checkpoint written, when the one before has been.

        `facts` hold the fingerprint, the step and whatever else a resume must know.

        Returns: False if a tensor is not finite; then nothing is written, as no training can go on from there.

        Raises:
            UserError: the one before could not be written.
        """
        self.poll(wait=True)
        tensors = checkpoint.snapshot(model, optimizer)
        if not_finite(tensors):
            return False
        self._writing = self._thread.submit(self._write, tensors, facts)
        self._newest = time.monotonic()
        return True

    def poll(self, wait: bool = False) -> None:
        """Report the checkpoint that was being written, if it is there now.

        Raises:
            UserError: it could not be written.
        """
        if self._writing is not None and (wait or self._writing.done()):
            writing, self._writing = self._writing, None
            self._reporter.report(writing.result(), {}, self._path)

    def _write(self, tensors: dict[str, Any], facts: Mapping[str, Any]) -> int:
        checkpoint.write(self._path, tensors, facts)
        return facts["step"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._thread.shutdown()
        try:
            self.poll(wait=True)
        except (UserError, OSError):
            # What ended the training is told before what kept its last checkpoint from the disk.
            if error is None:
                raise
