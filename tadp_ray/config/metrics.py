"""Names of metrics: those that a cell of a recipe has, before it is trained, and their titles."""

import itertools
import math
from collections.abc import Callable, Sequence

from tadp_ray.config.data import CaptionConfig
from tadp_ray.config.errors import nearest
from tadp_ray.config.recipe import MULTI_SCALE, Recipe
from tadp_ray.registry import METRICS, TASKS, Metric

OF_TRAINING = (
    *("best_step", "seconds", "text_seconds", "start_read_mib", "train_seconds_per_step", "checkpoint_seconds"),
    *("parameters", "peak_memory_gib", "loss", "learning_rate", "seconds_per_step"),
)
"""Metrics of every training: its cost, and the values of its last step."""
OF_GPUS = ("peak_gpu_memory_gib", "images_per_second", "matrix_peak_share")
"""Metrics of a training on GPUs: memory of the first, images of all, share of the measured FLOP/s of a matrix product."""
OF_CAPTIONS = tuple(
    f"caption/{split}_{figure}"
    for split, figure in itertools.product(("train", "val"), ("truncated", "precision", "recall"))
)

LESS_IS_BETTER = frozenset(
    {*OF_TRAINING, *OF_GPUS} - {"best_step", "learning_rate", "images_per_second", "matrix_peak_share"}
)
"""Of these, the ones that are costs or losses."""

OF_SCORED_CAPTIONS = tuple(name for name in OF_CAPTIONS if name.startswith("caption/val_"))
"""Those that further captions (`evaluation.captions`) have too, as in caption/val_recall/NAME."""


def metrics_of(task: str) -> tuple[Metric, ...]:
    """Return the metrics of a task: its own, then those that were registered in addition."""
    return (*TASKS[task].metrics, *(entry.metric for entry in METRICS.values() if entry.task == task))


def main_metric(task: str) -> str:
    """Return the main metric of a task, which selects the best evaluation."""
    return TASKS[task].main


def metrics_by_name() -> dict[str, Metric]:
    """Return the metrics of all tasks by name."""
    return {metric.name: metric for task in TASKS for metric in metrics_of(task)}


def base_metric(metric: str) -> Metric:
    """Return the metric in a name such as best_miou, miou/night or iou/road."""
    base = metric.removeprefix("best_").partition("/")[0]
    by_name = metrics_by_name()
    # A metric of single classes has the label and unit of the task's main metric.
    by_class = {entry.by_class: by_name[entry.main] for entry in TASKS.values() if entry.by_class}
    less = metric in LESS_IS_BETTER or (base == "caption" and "_truncated" in metric)
    return by_name.get(base) or by_class.get(base) or Metric(base, lower_is_better=less)


def lower_is_better(metric: str) -> bool:
    """Whether lower values of a metric are better."""
    return base_metric(metric).lower_is_better


def best_first(metric: str) -> Callable[[float], tuple[bool, float]]:
    """Return the key that sorts values of a metric from the best to the worst. NaN, which is no number, is last."""
    sign = 1 if lower_is_better(metric) else -1
    return lambda value: (math.isnan(value), sign * value)


def metric_title(metric: str) -> str:
    """Return the title of a metric, e.g. `best mIoU (%)` or `mIoU (%), several scales`; any other name unchanged."""
    base, _, where = metric.removeprefix("best_").partition("/")
    known = metrics_by_name().get(base)
    if known is None or where not in ("", MULTI_SCALE):
        return metric
    best = "best " if metric.startswith("best_") else ""
    return f"{best}{known.title}{', several scales' if where else ''}"


def known_metrics(recipe: Recipe, classes: Sequence[str], things: Sequence[str] = ()) -> list[str]:
    """Return every final metric that a cell of a recipe can have. A class that is in no image has none.

    Args:
        recipe: of the cell.
        classes: class names of the data set.
        things: those of countable objects, if the data set says so.
    """
    main, by_class = TASKS[recipe.task].main, TASKS[recipe.task].by_class
    told = recipe.evaluation.captions
    return [
        *(metric.name for metric in metrics_of(recipe.task) if things or not metric.of_things),
        f"best_{main}",
        *further_metrics(recipe),
        *OF_TRAINING,
        *(OF_GPUS if recipe.compute.gpus else ()),
        *of_captions(recipe.caption, OF_CAPTIONS),
        *(f"{metric}/{name}" for name, caption in told.items() for metric in of_captions(caption, OF_SCORED_CAPTIONS)),
        *(f"{by_class}/{name}" for name in classes if by_class),
    ]


def further_metrics(recipe: Recipe) -> list[str]:
    """Return the main metric's names in further evaluations: of other styles, of several sizes, with other captions."""
    sizes = [MULTI_SCALE] if recipe.evaluation.multi_scale else []
    names = [*getattr(recipe.data, "extra_styles", ()), *sizes, *recipe.evaluation.captions]
    return [f"{TASKS[recipe.task].main}/{name}" for name in names]


def of_captions(caption: CaptionConfig, metrics: Sequence[str]) -> list[str]:
    """Return those of some metrics of captions that a recipe's can have: the empty prompt has no precision."""
    return [name for name in metrics if caption.source != "null" or not name.endswith("_precision")]


def tasks_with(metric: str) -> list[str]:
    """Return the tasks that have a metric, such as best_miou, miou/night or iou/road; none for those of any training."""
    base = metric.removeprefix("best_").partition("/")[0]
    return [task for task in TASKS if base in (TASKS[task].by_class, *(own.name for own in metrics_of(task)))]


def missing_evaluation(metric: str, task: str) -> str:
    """Return the recipe keys that would make a metric of a further evaluation, such as miou/none; empty for another metric."""
    group, slash, name = metric.partition("/")
    if group != TASKS[task].main or not slash:
        return ""
    return (
        "evaluation.multi_scale"
        if name == MULTI_SCALE
        else f"evaluation.captions.{name} or data.extra_styles: [{name}]"
    )


def unknown_metric(metric: str, known: Sequence[str]) -> str | None:
    """Return an error that names the nearest known metric; None if the metric is known."""
    if metric in known:
        return None
    group = metric.partition("/")[0]
    # Classes are many, so they are listed only if the metric is one of a class.
    fitting = [name for name in known if "/" not in name or name.partition("/")[0] == group]
    return f"no cell ends with such a metric; {nearest(metric, fitting)}"


def impossible_metric(metric: str) -> str | None:
    """Return an error that names the nearest metric of any recipe; None if some recipe can have the metric."""
    mains = [task.main for task in TASKS.values()]
    group, slash, name = metric.partition("/")
    if slash and name and group in (*mains, *(task.by_class for task in TASKS.values())):
        return None
    if metric.rpartition("/")[0] in OF_SCORED_CAPTIONS and not metric.endswith("/"):
        return None
    of_all = (*OF_TRAINING, *OF_GPUS, *OF_CAPTIONS)
    return unknown_metric(metric, [*metrics_by_name(), *(f"best_{main}" for main in mains), *of_all])
