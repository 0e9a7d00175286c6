"""AdamW with one learning rate for the head and one for the backbone, and its schedule."""

from collections import defaultdict
from typing import Any

from torch import nn, optim
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.lr_scheduler import LambdaLR

from tadp_ray.config.recipe import ScheduleConfig
from tadp_ray.training.model import TADP

NORMS = (nn.GroupNorm, nn.LayerNorm, _NormBase)


def parameter_groups(model: TADP, schedule: ScheduleConfig) -> list[dict]:
    """Return the optimizer's parameter groups; the backbone's learning rate is multiplied by `backbone_lr_mult`.

    `weight_decay_rule: as_mmcv` has the effect of the published ADE20K rules, which match names. Parameters with "norm" in
    their name are the norms of the backbone's attention blocks; they keep the full rate and have no weight decay. All other
    norms have other names and do have weight decay.

    Args:
        model: all its parts but the backbone have the head's rate; of the context, those with an `lr_mult` that rate times it.
        schedule: learning rates and the rule of weight decay.
    """
    exempt = {id(p) for p in model.backbone.attention_norms()} if schedule.weight_decay_rule == "as_mmcv" else set()
    scaled: list[Any] = [part for part in model.modules() if hasattr(part, "lr_mult")]
    rates = {id(p): part.lr_mult for part in scaled for p in part.parameters()}
    norms = {id(p) for part in model.modules() if isinstance(part, NORMS) for p in part.parameters()}
    groups = defaultdict(list)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        norm, inside = id(parameter) in norms, name.startswith("backbone.")
        rate = schedule.learning_rate * (schedule.backbone_lr_mult if inside else rates.get(id(parameter), 1.0))
        match schedule.weight_decay_rule:
            case "all_but_norms":
                free = norm
            case "matrices":
                free = parameter.ndim == 1
            case "as_mmcv":
                free = id(parameter) in exempt
                rate = schedule.learning_rate if free else rate
        part = "backbone" if inside else "context" if name.startswith("context.") else "head"
        groups[part, rate, free].append(parameter)
    return [
        {"params": found, "lr": rate, "name": f"{part}, not decayed" if free else part}
        | ({"weight_decay": 0.0} if free else {})
        # The head's rate is the one that is reported, so it stands last.
        for (part, rate, free), found in sorted(groups.items(), key=lambda group: group[0][0] != "context")
    ]


def rate_factor(step: int, schedule: ScheduleConfig) -> float:
    """Return the learning rate at optimizer step `step`, counted from 0, relative to `learning_rate`.

    - polynomial: falls as (1 - step / iterations) ** power to `min_lr`. During the first W = `warmup_iterations` steps it is
      multiplied by 1 - (1 - step / W) * (1 - warmup_ratio), mmcv's linear warm-up in the published segmentation code.
    - triangular: rises from `min_lr` as (step / peak_step) ** power, then falls as 1 - (step / peak_step - 1) ** power
      (published NYUv2 code).
    - constant: 1, except during the warm-up.
    """
    lowest = schedule.min_lr / schedule.learning_rate
    if schedule.lr_schedule == "triangular":
        part = step / schedule.peak_step
        rise = part**schedule.power if part < 1 else 1 - (part - 1) ** schedule.power
        return lowest + (1 - lowest) * rise if part < 2 else lowest
    factor = 1.0 if schedule.lr_schedule == "constant" else (1 - step / schedule.iterations) ** schedule.power
    factor = max(lowest, factor)
    if step < schedule.warmup_iterations:
        factor *= 1 - (1 - step / schedule.warmup_iterations) * (1 - schedule.warmup_ratio)
    return factor


def make_optimizer(model: TADP, schedule: ScheduleConfig) -> tuple[optim.AdamW, LambdaLR]:
    """Return AdamW with default betas and epsilon, and its per-step schedule."""
    optimizer = optim.AdamW(parameter_groups(model, schedule), weight_decay=schedule.weight_decay, fused=True)
    return optimizer, LambdaLR(optimizer, lambda step: rate_factor(step, schedule))
