"""A cache of contexts by prompt: each prompt is encoded once for all cells of a sweep and for later sweeps."""

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tadp_ray.captions.sources import Prompt
from tadp_ray.conditioning.text_encoder import Encoder
from tadp_ray.errors import UserError
from tadp_ray.files import locked
from tadp_ray.layout import LOCK
from tadp_ray.tensors import tensor_names
from tadp_ray.training.checkpoint import Damaged, TensorFile, open_labelled, readable, write_tensors
from tadp_ray.training.precision import allow_tf32

log = logging.getLogger(__name__)
PER_FILE = 1024
"""Contexts per file; an interruption loses no more than these."""
TURN_SECONDS = 0.5
"""Between two files of one process, longer than others wait until they ask for the lock again."""


def key_of(prompt: Prompt) -> str:
    """Return the key of a prompt's context."""
    return hashlib.sha256(json.dumps(prompt).encode()).hexdigest()[:32]


class ContextCache:
    """Contexts on the CPU, in this process's memory or in memory-mapped files shared by all processes of a machine.

    The text encoder is frozen, so the context of a prompt never changes.

    Args:
        encode: maps prompts to their contexts (L, D).
    """

    def __init__(self, encode: Encoder) -> None:
        self._encode = encode
        self._encoded: dict[Prompt, Tensor] = {}
        self._files: dict[str, TensorFile] = {}
        self._names: dict[Path, frozenset[str]] = {}
        """The keys of the contexts in each file of the folder, whether it is read or not."""

    def __call__(self, prompts: Sequence[Prompt]) -> Tensor:
        """Return the contexts (B, L, D) of prompts.

        Raises:
            UserError: they differ in length.
        """
        keys = {prompt: key_of(prompt) for prompt in prompts}
        new = [prompt for prompt, key in keys.items() if key not in self._files and prompt not in self._encoded]
        if new:
            self._encoded |= zip(new, self._encode_all(new), strict=True)
        contexts = [
            self._files[keys[prompt]][keys[prompt]] if keys[prompt] in self._files else self._encoded[prompt]
            for prompt in prompts
        ]
        for prompt, context in zip(prompts, contexts, strict=True):
            if len(context) != len(contexts[0]):
                raise UserError(
                    f"caption.encoding: the context of {prompts[0]!r} has {len(contexts[0])} vectors and that of {prompt!r} has "
                    f"{len(context)}; an encoding must give all prompts as many"
                )
        return torch.stack(contexts)

    def warm(self, folder: Path, key: str, prompts: Iterable[Prompt]) -> None:
        """Encode the prompts whose contexts are not in a folder yet, and read contexts from there from now on.

        Processes that need them take turns, a file each. Files that are damaged or have another key are written again; of the
        others, those with these prompts are read.

        Args:
            folder: folder of the contexts.
            key: hash of everything that a context depends on besides its prompt.
            prompts: prompts to encode.

        Raises:
            UserError: the contexts cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        needed = {key_of(prompt): prompt for prompt in sorted({*prompts})}
        while written := self._encode_file(folder, key, needed):
            if written == PER_FILE:
                time.sleep(TURN_SECONDS)
        self._encoded.clear()

    def _encode_file(self, folder: Path, key: str, needed: Mapping[str, Prompt]) -> int:
        """Write one file of the contexts that the folder lacks; return their number."""
        # For one file, since a large text encoder takes hours for all of a data set's captions.
        with locked(folder / LOCK, patience=3600):
            self._open(folder, key, needed)
            missing = [name for name in needed if name not in self._files][:PER_FILE]
            if missing:
                contexts = zip(missing, self._encode_all([needed[name] for name in missing]), strict=True)
                write_tensors(folder / f"{missing[0]}.safetensors", dict(contexts), {"contexts": key})
        return len(missing)

    def _open(self, folder: Path, key: str, needed: Mapping[str, Prompt]) -> None:
        """Open the files with contexts that are needed. Opening reads a whole file, and there may be those of many cells."""
        for path in folder.glob("*.safetensors"):
            try:
                if path not in self._names:
                    with readable(path):
                        self._names[path] = frozenset(tensor_names(path))
                wanted = self._names[path] - self._files.keys()
                if not wanted.isdisjoint(needed):
                    file = open_labelled(path, {"contexts": key})
                    self._files |= dict.fromkeys(file, file)
            except Damaged as error:
                log.warning("%s; made afresh", error)
                path.unlink(missing_ok=True)

    @torch.no_grad()
    def _encode_all(self, prompts: Sequence[Prompt]) -> list[Tensor]:
        # In float32, since cells of every precision share contexts.
        allow_tf32(False)
        return [context.to("cpu", copy=True) for context in self._encode(prompts)]
