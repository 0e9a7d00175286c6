"""Weights go into the model they belong to, whole, or not at all."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tadp_ray.errors import UserError
from tadp_ray.training.checkpoint import load_weights


def test_a_head_of_another_class_list_is_named() -> None:
    weights = nn.Linear(4, 11).state_dict()
    with pytest.raises(UserError, match=r"m.safetensors: the weights do not fit.*weight \(11, 4\) \(here: \(19, 4\)\)"):
        load_weights(Path("m.safetensors"), nn.Linear(4, 19), weights)
    with pytest.raises(UserError, match=r"extra \(not in this model\)"):
        load_weights(Path("m.safetensors"), nn.Linear(4, 11), {**weights, "extra": torch.zeros(1)})
