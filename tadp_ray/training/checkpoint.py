"""One file holds all that an interrupted training needs to go on as if nothing had happened.

That is the trained weights, the optimizer's moments and the step. Data order, random views, latent noise and dropout are
functions of (seed, step), so that there is no random state to keep.
"""

import json
import logging
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tadp_ray.errors import UserError
from tadp_ray.files import drafted
from tadp_ray.tensors import not_finite
from tadp_ray.training.reporter import previous_checkpoint

log = logging.getLogger(__name__)


class Damaged(UserError):
    """A file does not hold what was written into it, or what was written is of no use."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON facts as one safetensors file, whole and on the disk, or not at all.

    Raises:
        UserError: there is no room for it, or it may not be written.
    """
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts)
    try:
        with drafted(path) as draft:
            save_file(held, draft, {"facts": text, "crc32": str(checksum(held, text))})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be written ({error}); make room or give access, then run this again") from None


def checksum(tensors: Mapping[str, Tensor], facts: str) -> int:
    """CRC-32 of facts, and of names, types, shapes and contents of tensors. Reads 1.5 GB a second."""
    total = zlib.crc32(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.contiguous().flatten().view(torch.uint8).numpy(), total)
    return total


class TensorFile(Mapping[str, Tensor]):
    """Tensors of a file from `write_tensors`, each read when it is asked for: what a node's processes share on disk.

    All of it is read once when it is opened, for its checksum: a flipped bit would pass for a measurement.

    Raises:
        Damaged: the file is damaged, was written by something else, or is not there any more.
        UserError: it cannot be read now, and may be whole.
    """

    def __init__(self, path: Path) -> None:
        try:
            # safetensors says of every file that it cannot open that there is none.
            path.open("rb").close()
            self._file = safe_open(path, framework="pt")
            self._names = tuple(self._file.keys())
            held = self._file.metadata() or {}
            text = held["facts"]
            whole = held["crc32"] == str(checksum(self, text))
        except SafetensorError as error:
            raise Damaged(f"{path}: damaged ({error})") from None
        except OSError as error:
            raise unreadable(path, error) from None
        except KeyError:
            raise Damaged(f"{path}: was not written by a training here") from None
        if not whole:
            raise Damaged(f"{path}: damaged (it does not hold what was written)")
        self.facts: dict[str, Any] = json.loads(text)

    def __getitem__(self, name: str) -> Tensor:
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def unreadable(path: Path, error: OSError) -> UserError:
    """What to say of a file that could not be read: `Damaged` only if it is gone, as the storage may be back in a moment."""
    try:
        path.stat()
    except FileNotFoundError:
        return Damaged(f"{path}: is not there any more")
    except OSError:
        pass
    return UserError(f"{path}: cannot be read ({error}); mend that, then run this again")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a file from `write_tensors`.

    Raises:
        Damaged, UserError: as `TensorFile`'s.
    """
    file = TensorFile(path)
    return dict(file), file.facts


def cached(
    path: Path, label: Mapping[str, Any], make: Callable[[], tuple[Mapping[str, Tensor], Mapping[str, Any]]]
) -> TensorFile:
    """Tensors and facts from a file with this label among its facts; made and written if there is none, or it is damaged.

    Only one process may call this at a time. Damage is logged.

    Raises:
        UserError: they cannot be written.
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
        Damaged: it is damaged, or has another label.
    """
    file = TensorFile(path)
    if other := {name: file.facts.get(name) for name, value in label.items() if file.facts.get(name) != value}:
        raise Damaged(f"{path}: of something else ({str(other):.90}, not {str(dict(label)):.90})")
    return file


def snapshot(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Copies, on the CPU, of all tensors of a checkpoint. What is frozen is no part of a model's state."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a snapshot, and keep the checkpoint before it beside it.

    Raises:
        UserError: as `write_tensors`.
    """
    if path.is_file():
        os.replace(path, previous_checkpoint(path))
    write_tensors(path, tensors, facts)


def resume(
    found: Sequence[Path], model: nn.Module, optimizer: Optimizer, lr_scheduler: LRScheduler, fingerprint: str
) -> tuple[Path, dict[str, Any]] | None:
    """Load the first of these checkpoints, newest first, that is whole; returns it and its facts, None if none is.

    Those that are not are logged and deleted.

    Raises:
        UserError: it belongs to another cell, or does not fit the model.
    """
    for place, path in enumerate(found):
        try:
            facts = load(path, model, optimizer, lr_scheduler, fingerprint)
        except Damaged as error:
            log.warning("%s; going on from %s", error, "the one before" if found[place + 1 :] else "the start")
            # The next one written keeps the one before it, which must be a whole one.
            path.unlink(missing_ok=True)
            continue
        return path, facts
    return None


def load(
    path: Path, model: nn.Module, optimizer: Optimizer, lr_scheduler: LRScheduler, fingerprint: str
) -> dict[str, Any]:
    """Put a checkpoint into model, optimizer and scheduler, and return its facts.

    Raises:
        Damaged: it does not hold what was written, or not only numbers.
        UserError: it belongs to another cell, or does not fit the model.
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
    # Learning rates are a function of the step; setting the scheduler there needs no state of its own.
    lr_scheduler.last_epoch = facts["step"]
    for group, rate in zip(optimizer.param_groups, lr_scheduler.base_lrs, strict=True):
        group["lr"] = rate * lr_scheduler.lr_lambdas[0](facts["step"])
    return facts


def load_weights(path: Path, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put weights into a model, all of them and no others.

    Raises:
        UserError: names or shapes differ, the first few named (a head of another class list, say).
    """
    own = model.state_dict()
    differing = [
        f"{name} {tuple(weights[name].shape) if name in weights else 'missing'} (here: {tuple(tensor.shape)})"
        for name, tensor in own.items()
        if name not in weights or weights[name].shape != tensor.shape
    ] + [f"{name} (not in this model)" for name in weights if name not in own]
    if differing:
        raise UserError(
            f"{path}: the weights do not fit this model, whose class list or settings differ: "
            + "; ".join(differing[:4])
        )
    with torch.no_grad():
        model.load_state_dict(dict(weights))
