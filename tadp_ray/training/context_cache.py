"""Contexts by prompt: each distinct prompt is encoded once, for all cells of a sweep and for later sweeps."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tadp_ray.captions.sources import Prompt
from tadp_ray.files import acquire_lock
from tadp_ray.layout import LOCK
from tadp_ray.training.checkpoint import Damaged, TensorFile, open_labelled, write_tensors

log = logging.getLogger(__name__)
PER_FILE = 1024
"""Contexts of one file, so that little is lost when encoding is interrupted."""


def key_of(prompt: Prompt) -> str:
    """What a prompt's context is kept under."""
    return hashlib.sha256(json.dumps(prompt).encode()).hexdigest()[:32]


class ContextCache:
    """Contexts on the CPU, in this process's memory or in files that all processes of a machine map.

    The text encoder is frozen, so that a prompt never changes its context.

    Args:
        encode: a prompt -> its context (L, D).
    """

    def __init__(self, encode: Callable[[Prompt], Tensor]) -> None:
        self._encode = encode
        self._made: dict[Prompt, Tensor] = {}
        self._kept: dict[str, TensorFile] = {}

    def __call__(self, prompts: Sequence[Prompt]) -> Tensor:
        """Contexts (B, L, D) of prompts, which must be of one length."""
        return torch.stack([self._one(prompt) for prompt in prompts])

    def warm(self, folder: Path, key: str, prompts: Iterable[Prompt]) -> None:
        """Read these prompts' contexts from a folder from now on, having encoded what is not there yet.

        One process encodes; the others wait for it. Damaged files, and those of another key, are made afresh.

        Args:
            folder: theirs.
            key: of all that a context depends on beside its prompt.
            prompts: whose contexts.

        Raises:
            UserError: they cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        lock = acquire_lock(folder / LOCK, patience=3600)
        try:
            self._open(folder, key)
            missing = sorted(prompt for prompt in {*prompts} if key_of(prompt) not in self._kept)
            for first in range(0, len(missing), PER_FILE):
                made = {key_of(prompt): self._made_of(prompt) for prompt in missing[first : first + PER_FILE]}
                write_tensors(folder / f"{next(iter(made))}.safetensors", made, {"contexts": key})
            self._open(folder, key)
        finally:
            lock.release()
        self._made.clear()

    def _open(self, folder: Path, key: str) -> None:
        for path in folder.glob("*.safetensors"):
            if path.stem not in self._kept:
                try:
                    file = open_labelled(path, {"contexts": key})
                    self._kept |= dict.fromkeys(file, file)
                except Damaged as error:
                    log.warning("%s; made afresh", error)
                    path.unlink(missing_ok=True)

    def _one(self, prompt: Prompt) -> Tensor:
        key = key_of(prompt)
        if key in self._kept:
            return self._kept[key][key]
        if prompt not in self._made:
            self._made[prompt] = self._made_of(prompt)
        return self._made[prompt]

    @torch.no_grad()
    def _made_of(self, prompt: Prompt) -> Tensor:
        # One prompt at a time: in a batch the last bits would depend on what else is new in it.
        return self._encode(prompt).cpu()
