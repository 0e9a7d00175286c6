"""Weights go into the model they belong to, whole, or not at all."""

import errno
import os
import resource
from pathlib import Path

import pytest
import torch
from torch import nn

from tadp_ray.errors import UserError
from tadp_ray.training.async_checkpointer import AsyncCheckpointer
from tadp_ray.training.checkpoint import Damaged, load_weights, read_tensors, write_tensors
from tadp_ray.training.reporter import NullReporter


def test_a_head_of_another_class_list_is_named() -> None:
    weights = nn.Linear(4, 11).state_dict()
    with pytest.raises(UserError, match=r"m.safetensors: the weights do not fit.*weight \(11, 4\) \(here: \(19, 4\)\)"):
        load_weights(Path("m.safetensors"), nn.Linear(4, 19), weights)
    with pytest.raises(UserError, match=r"extra \(not in this model\)"):
        load_weights(Path("m.safetensors"), nn.Linear(4, 11), {**weights, "extra": torch.zeros(1)})


def test_a_checkpoint_that_cannot_be_opened_now_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    write_tensors(path, {"a": torch.ones(2)}, {})
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    checkpointer = AsyncCheckpointer(path, "f", NullReporter(), lambda step, minutes: True)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        with pytest.raises(UserError, match=os.strerror(errno.EMFILE)) as caught:
            checkpointer.resume(model, optimizer, rates)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert not isinstance(caught.value, Damaged) and path.is_file()
    path.write_bytes(b"")
    assert not checkpointer.resume(model, optimizer, rates).step and not path.exists()
    with pytest.raises(Damaged, match="is not there any more"):
        read_tensors(path)
