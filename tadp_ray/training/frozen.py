"""Leaves frozen weights out of a model's state, so that checkpoints contain what is trained.

The state contains their checksum instead: what was trained on other frozen weights is not loaded.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from tadp_ray.training.checkpoint import FROZEN, checksum


def leave_out_frozen(model: nn.Module, part: str) -> None:
    """Leave the frozen parameters of a part out of a model's `state_dict`; without any, do nothing.

    Args:
        model: the whole model, whose state is written and loaded.
        part: name of the part in it.
    """
    parameters = model.get_submodule(part).named_parameters(part)
    frozen = {name for name, parameter in parameters if not parameter.requires_grad}
    if not frozen:
        return

    @cache
    def checksum_of_frozen() -> int:
        return checksum({name: model.get_parameter(name).detach().cpu() for name in frozen}, "")

    def leave_out(_: nn.Module, state: dict[str, Tensor], prefix: str, __: Mapping[str, Any]) -> None:
        for name in frozen:
            del state[prefix + name]
        state[prefix + FROZEN] = torch.tensor(checksum_of_frozen())

    def expect(_: nn.Module, keys: Any) -> None:
        keys.missing_keys[:] = [name for name in keys.missing_keys if name not in frozen]
        keys.unexpected_keys[:] = [name for name in keys.unexpected_keys if name != FROZEN]

    model.register_state_dict_post_hook(leave_out)
    model.register_load_state_dict_post_hook(expect)
