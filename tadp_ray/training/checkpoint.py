"""One file holds all that an interrupted training needs to go on as if nothing had happened.

That is the trained weights, the optimizer's moments and the step. Data order, random views, latent noise and dropout are
functions of (seed, step), so that there is no random state to keep.
"""

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
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
from tadp_ray.training.reporter import before


class Damaged(UserError):
    """A file does not hold what was written into it."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON facts as one safetensors file, whole and on the disk, or not at all.

    Raises:
        UserError: there is no room for it, or it may not be written.
    """
    held = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    try:
        with drafted(path) as draft:
            save_file(held, draft, {"facts": json.dumps(facts)})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be written ({error}); make room or give access, then run this again") from None


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a file from `write_tensors`.

    Raises:
        Damaged: the file is damaged or was written by something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise Damaged(f"{path}: not a readable checkpoint ({error}); delete it to train this cell afresh") from None
    if "crc32" in facts and facts["crc32"] != checksum(tensors):
        raise Damaged(f"{path}: its contents are not what was written; delete it to train this cell afresh")
    return tensors, facts


def checksum(tensors: Mapping[str, Tensor]) -> int:
    """CRC-32 of names and contents."""
    total = 0
    for name in sorted(tensors):
        contents = tensors[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        total = zlib.crc32(contents, zlib.crc32(name.encode(), total))
    return total


class TensorFile(Mapping[str, Tensor]):
    """Tensors of a file from `write_tensors`, each read when it is asked for: what a node's processes share on disk.

    Raises:
        UserError: the file is damaged or was written by something else.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = safe_open(path, framework="pt")
            self._names = tuple(self._file.keys())
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: not readable ({error}); delete it to have it made afresh") from None

    def __getitem__(self, name: str) -> Tensor:
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


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
        os.replace(path, before(path))
    write_tensors(path, tensors, {**facts, "crc32": checksum(tensors)})


def resume(
    found: Sequence[Path], model: nn.Module, optimizer: Optimizer, schedule: LRScheduler, fingerprint: str
) -> tuple[Path, dict[str, Any]] | None:
    """Load the first of these checkpoints, newest first, that is whole; returns it and its facts, None if there are none.

    Raises:
        Damaged: none is whole.
        UserError: it belongs to another cell, or does not fit the model.
    """
    for place, path in enumerate(found):
        try:
            facts = load(path, model, optimizer, schedule, fingerprint)
        except Damaged:
            if path == found[-1]:
                raise
            continue
        # The next one written keeps the one before it, which must be this one and no torn one.
        for torn in found[:place]:
            torn.unlink(missing_ok=True)
        return path, facts
    return None


def load(path: Path, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler, fingerprint: str) -> dict[str, Any]:
    """Put a checkpoint into model, optimizer and schedule, and return its facts.

    Raises:
        Damaged: it does not hold what was written.
        UserError: it belongs to another cell, or does not fit the model.
    """
    tensors, facts = read_tensors(path)
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
    # The schedule is a function of the step; setting it there needs no state of its own.
    schedule.last_epoch = facts["step"]
    for group, rate in zip(optimizer.param_groups, schedule.base_lrs, strict=True):
        group["lr"] = rate * schedule.lr_lambdas[0](facts["step"])
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
