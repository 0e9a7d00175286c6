"""AdamW with one learning rate for the head and one for the U-Net, warmed up linearly and decayed polynomially."""

from torch import nn, optim
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.lr_scheduler import LambdaLR

from tadp_ray.config.schema import ScheduleConfig

NORMS = (nn.GroupNorm, nn.LayerNorm, _NormBase)


def parameter_groups(unet: nn.Module, head: nn.Module, schedule: ScheduleConfig) -> list[dict]:
    """Four groups: U-Net and head, each with and without weight decay (norms are not decayed; facts of the code).

    The U-Net's rate is `unet_scale` times the head's. Frozen parameters are in no group.
    """
    groups = []
    for module, rate in ((unet, schedule.learning_rate * schedule.unet_scale), (head, schedule.learning_rate)):
        norms = {id(p) for part in module.modules() if isinstance(part, NORMS) for p in part.parameters()}
        trained = [p for p in module.parameters() if p.requires_grad]
        groups.append({"params": [p for p in trained if id(p) not in norms], "lr": rate})
        groups.append({"params": [p for p in trained if id(p) in norms], "lr": rate, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def rate_factor(step: int, schedule: ScheduleConfig) -> float:
    """Learning rate at optimizer step `step` (counted from 0), relative to the base rate.

    Polynomial decay to zero; during the first `warmup_iterations` also times 1-(1-i/W)*(1-ratio) (mmcv's linear
    warm-up, which the published segmentation code uses).
    """
    factor = (1 - step / schedule.iterations) ** schedule.power
    if step < schedule.warmup_iterations:
        factor *= 1 - (1 - step / schedule.warmup_iterations) * (1 - schedule.warmup_ratio)
    return factor


def make_optimizer(unet: nn.Module, head: nn.Module, schedule: ScheduleConfig) -> tuple[optim.AdamW, LambdaLR]:
    """AdamW (default betas and epsilon) and its per-iteration schedule."""
    groups = parameter_groups(unet, head, schedule)
    optimizer = optim.AdamW(groups, weight_decay=schedule.weight_decay, fused=True)
    return optimizer, LambdaLR(optimizer, lambda step: rate_factor(step, schedule))
