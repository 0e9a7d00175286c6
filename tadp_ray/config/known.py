"""The final metrics that a cell can have, known by its recipe before anything is trained."""

import itertools
from collections.abc import Sequence

from tadp_ray.config.errors import nearest
from tadp_ray.config.schema import Recipe
from tadp_ray.config.vocabulary import MAIN_METRIC, TaskName

FIGURES: dict[TaskName, tuple[str, ...]] = {
    "segmentation": ("miou", "accuracy"),
    "depth": ("delta1", "delta2", "delta3", "abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog"),
    "detection": ("ap", "ap50", "ap75", "ap_voc07", "ap50_voc07", "coco_ap", "coco_ap50", "coco_ap75"),
}
"""What a task is scored by over the data set."""
BY_CLASS: dict[TaskName, str] = {"segmentation": "iou", "detection": "ap50"}
"""What each class is scored by, as in iou/road."""
OF_TRAINING = (
    *("best_step", "seconds", "text_seconds", "start_read_mib", "train_seconds_per_step", "checkpoint_seconds"),
    *("parameters", "peak_memory_gib", "loss", "learning_rate", "seconds_per_step"),
)
"""What training cost, whatever the task, and where it stood at its last step."""
OF_CAPTIONS = tuple(
    f"caption/{split}_{figure}"
    for split, figure in itertools.product(("train", "val"), ("truncated", "precision", "recall"))
)


def known_metrics(recipe: Recipe, classes: Sequence[str]) -> list[str]:
    """Every final metric that a cell of a recipe can have; a class that no image shows has none after all.

    Args:
        recipe: of the cell.
        classes: names of the data set's.
    """
    task, main = recipe.task, MAIN_METRIC[recipe.task]
    besides = [*getattr(recipe.data, "extra_styles", ()), *(["multi_scale"] if recipe.evaluation.multi_scale else [])]
    by_class = [f"{BY_CLASS[task]}/{name}" for name in classes] if task in BY_CLASS else []
    captions = [name for name in OF_CAPTIONS if recipe.caption.source != "null" or not name.endswith("_precision")]
    elsewhere = [f"{main}/{name}" for name in besides]
    return [*FIGURES[task], f"best_{main}", *elsewhere, *OF_TRAINING, *captions, *by_class]


def unknown_metric(metric: str, known: Sequence[str]) -> str | None:
    """What is wrong with a metric that is none of the known, with the nearest; None if nothing is."""
    if metric in known:
        return None
    group = metric.partition("/")[0]
    # Classes are many: they are named where one of them was meant.
    fitting = [name for name in known if "/" not in name or name.partition("/")[0] == group]
    return f"no cell ends with such a metric; {nearest(metric, fitting)}"


def impossible_metric(metric: str) -> str | None:
    """What is wrong with a metric that no recipe can have, with the nearest; None if some could have it."""
    heads = {*BY_CLASS.values(), *MAIN_METRIC.values()}
    head, slash, name = metric.partition("/")
    if slash and name and head in heads:
        return None
    known = [*itertools.chain(*FIGURES.values()), *(f"best_{main}" for main in MAIN_METRIC.values())]
    return unknown_metric(metric, [*known, *OF_TRAINING, *OF_CAPTIONS])
