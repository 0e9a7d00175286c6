"""Checkpoints: one file from which an interrupted training resumes exactly.

It contains the model's state, the optimizer's moments and the step. Frozen weights are not part of a model's state
(`training/frozen.py`). Data order, random views, latent noise and dropout
are functions of (seed, step), so no random state is stored.
"""

import json
import logging
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tadp_ray.errors import UserError
from tadp_ray.files import drafted
from tadp_ray.tensors import not_finite
from tadp_ray.training.reporter import previous_checkpoint

log = logging.getLogger(__name__)

FROZEN = "frozen_crc32"
"""The checksum of a model's frozen weights in its state."""


class Damaged(UserError):
    """A file is damaged or missing, or its content is unusable."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON facts to one safetensors file, atomically and synced to disk.

    Raises:
        UserError: the disk is full, or the file may not be written.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts)
    try:
        with drafted(path) as draft:
            save_file(stored, draft, {"facts": text, "crc32": str(checksum(stored, text))})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be written ({error}); make room or give access, then run this again") from None


def checksum(tensors: Mapping[str, Tensor], facts: str) -> int:
    """Return the CRC-32 of facts and of the tensors' names, types, shapes and contents. Reads 1.5 GB per second."""
    total = zlib.crc32(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.contiguous().flatten().view(torch.uint8).numpy().data, total)
    return total


class TensorFile(Mapping[str, Tensor]):
    """Tensors of a file from `write_tensors`, each read on access; the processes of a node share the file.

    Opening reads the whole file once to verify its checksum: a flipped bit would change results unnoticed.

    Raises:
        Damaged: the file is damaged, was written by another program, or no longer exists.
        UserError: the file cannot be read now, but may be complete.
    """

    def __init__(self, path: Path) -> None:
        with readable(path):
            self._file = safe_open(path, framework="pt")
            self._names = tuple(self._file.keys())
            metadata = self._file.metadata() or {}
            if not {"facts", "crc32"} <= metadata.keys():
                raise Damaged(f"{path}: was not written by a training here")
            text = metadata["facts"]
            intact = metadata["crc32"] == str(checksum(self, text))
        if not intact:
            raise Damaged(f"{path}: damaged (it does not hold what was written)")
        self.facts: dict[str, Any] = json.loads(text)

    def __getitem__(self, name: str) -> Tensor:
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class TensorFiles(Mapping[str, Tensor]):
    """The tensors of several files, each read on access."""

    def __init__(self, files: Iterable[TensorFile]) -> None:
        self._files = {name: file for file in files for name in file}

    def __getitem__(self, name: str) -> Tensor:
        return self._files[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Read a file of tensors in the `with` block.

    Raises:
        Damaged, UserError: as for `TensorFile`.
    """
    try:
        # safetensors reports every file that it cannot open as missing.
        path.open("rb").close()
        yield
    except SafetensorError as error:
        raise Damaged(f"{path}: damaged ({error})") from None
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> UserError:
    """Return the error of an unreadable file: `Damaged` only if it is gone, since the storage may recover."""
    try:
        path.stat()
    except FileNotFoundError:
        return Damaged(f"{path}: is not there any more")
    except OSError:
        pass
    return UserError(f"{path}: cannot be read ({error}); fix that, then run this again")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and facts of a file from `write_tensors`.

    Raises:
        Damaged, UserError: as for `TensorFile`.
    """
    file = TensorFile(path)
    return dict(file), file.facts


def cached(
    path: Path, label: Mapping[str, Any], make: Callable[[], tuple[Mapping[str, Tensor], Mapping[str, Any]]]
) -> TensorFile:
    """Open a file of tensors with this label among its facts; make and write it first if it is missing or damaged.

    Only one process may call this at a time. Damage is logged.

    Raises:
        UserError: the file cannot be written.
    """
    if path.exists():
        try:
            return open_labelled(path, label)
        except Damaged as error:
            log.warning("%s; made afresh", error)
    tensors, facts = make()
    write_tensors(path, tensors, {**facts, **label})
    return TensorFile(path)


def open_labelled(path: Path, label: Mapping[str, Any]) -> TensorFile:
    """Open a file of tensors with this label among its facts.

    Raises:
        Damaged: the file is damaged, or has another label.
    """
    file = TensorFile(path)
    if other := {name: file.facts.get(name) for name, value in label.items() if file.facts.get(name) != value}:
        raise Damaged(f"{path}: belongs to something else ({str(other):.90}, not {str(dict(label)):.90})")
    return file


def snapshot(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Copy all tensors of a checkpoint to the CPU."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    return copies(tensors)


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU."""
    made = {name: copied(tensor.detach()) for name, tensor in tensors.items()}
    if any(tensor.is_cuda for tensor in tensors.values()):
        torch.cuda.synchronize()
    return made


def copied(tensor: Tensor) -> Tensor:
    """Return a copy on the CPU. One of a GPU's tensor is in pinned memory, which torch keeps for the next copy of its size.

    It is complete once the GPU is synchronized.
    """
    if not tensor.is_cuda:
        return tensor.to("cpu", copy=True)
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a snapshot, and keep the previous checkpoint beside it.

    Raises:
        UserError: as for `write_tensors`.
    """
    if path.is_file():
        os.replace(path, previous_checkpoint(path))
    write_tensors(path, tensors, facts)


def load(
    path: Path, model: nn.Module, optimizer: Optimizer, lr_scheduler: LambdaLR, fingerprint: str
) -> dict[str, Any]:
    """Load a checkpoint into model, optimizer and scheduler, and return its facts.

    Raises:
        Damaged: the file is damaged, or a tensor is not finite.
        UserError: the checkpoint belongs to another training, or does not fit the model.
    """
    tensors, facts = read_tensors(path)
    if name := not_finite(tensors):
        raise Damaged(f"{path}: not a number in {name}")
    if facts.get("fingerprint") != fingerprint:
        raise UserError(
            f"{path}: checkpoint of another cell ({str(facts.get('fingerprint'))[:16]}, this is {fingerprint[:16]}): "
            "some setting, data or weights differ. Delete it to train this cell afresh"
        )
    load_weights(path, model, {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    # Learning rates are a function of the step, so the scheduler needs no stored state.
    lr_scheduler.last_epoch = facts["step"]
    for group, rate in zip(optimizer.param_groups, lr_scheduler.base_lrs, strict=True):
        group["lr"] = rate * lr_scheduler.lr_lambdas[0](facts["step"])
    return facts


def load_weights(path: Path, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights into a model; names and shapes, and the checksum of frozen weights, must match exactly.

    Raises:
        UserError: names or shapes differ, as with a head for other classes; the message lists the first four. Or the weights
            were trained on other frozen ones.
    """
    expected = model.state_dict()
    differing = [
        f"{name} {tuple(weights[name].shape) if name in weights else 'missing'} (here: {tuple(tensor.shape)})"
        for name, tensor in expected.items()
        if name not in weights or weights[name].shape != tensor.shape
    ] + [f"{name} (not in this model)" for name in weights if name not in expected]
    if differing:
        raise UserError(
            f"{path}: the weights do not fit this model, whose class list or settings differ: "
            + "; ".join(differing[:4])
        )
    if FROZEN in expected and weights[FROZEN] != expected[FROZEN]:
        raise UserError(
            f"{path}: the weights were trained on other frozen weights than this model's (CRC-32 {int(weights[FROZEN])}, here "
            f"{int(expected[FROZEN])}): give the pretrained weights of then, or train this cell anew"
        )
    with torch.no_grad():
        model.load_state_dict(dict(weights))
