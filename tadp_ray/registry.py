"""Registries of the names that recipes and commands may use. This package and plug-ins register names in the same way.

A module that registers names is light to import. It declares what the schema needs (keys, ranges, descriptions) and the path of
the implementation, `"package.module:attribute"`, which is imported on first use. `tadp_ray.plugins` loads these modules.

The schema (`tadp_ray.config`) reads the registries when it is imported. So a module that registers names imports only
`vocabulary` from `tadp_ray.config`, and no module that imports more of it.
"""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, TypeVar, get_args, get_origin

from tadp_ray.errors import UserError
from tadp_ray.plugins import Registry
from tadp_ray.wording import type_named

E = TypeVar("E")
C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])
Reads = Literal["text", "image", "nothing"]


def implementation(reference: Any) -> Any:
    """Import and return the object at `"module:attribute"`. Any object but a string is returned as it is.

    Raises:
        UserError: it cannot be imported.
    """
    if not isinstance(reference, str):
        return reference
    module, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{reference}, which is registered, cannot be imported ({type(error).__name__}: {error}); mend its package"
        ) from error


def check_interface(made: Any, interface: Any, place: str) -> None:
    """Check that what a plug-in has made has every attribute and method of an interface.

    Args:
        made: by the plug-in.
        interface: a `Protocol`, which may extend others.
        place: what has made it, e.g. `backbone 'plain_conv': load`.

    Raises:
        UserError: it lacks some.
    """
    own = [{**vars(kind).get("__annotations__", {}), **vars(kind)} for kind in reversed(interface.__mro__)]
    wanted = [name for name in dict.fromkeys(chain(*own)) if not name.startswith("_")]
    if lacking := [name for name in wanted if not hasattr(made, name)]:
        raise UserError(
            f"{place} returned {type_named(made)} without {', '.join(lacking)}; expected a {interface.__module__}."
            f"{interface.__name__}"
        )


def check_type(made: Any, expected: type, place: str) -> None:
    """Check the type of what a plug-in has made; `place` as for `check_interface` (UserError if it is another)."""
    if not isinstance(made, expected):
        raise UserError(f"{place} returned {type_named(made)}; expected a {expected.__module__}.{expected.__name__}")


def deferred(reference: str) -> Callable[..., Any]:
    """Return a function that calls the one at `"module:attribute"`, which is imported on the first call."""
    return lambda *arguments: implementation(reference)(*arguments)


def one_of(names: Iterable[str]) -> Any:
    """Return the `Literal` type of a key that takes one of these names."""
    literal: Any = Literal  # Any, so that type checkers accept names that are known at run time only.
    return literal[tuple(names)]


@dataclass(frozen=True)
class Metric:
    """A metric of a task over a data set."""

    name: str
    label: str = ""
    """Its name in tables and figures. Empty: `name`."""
    unit: str = ""
    """`%`, `m`. Empty: no unit."""
    lower_is_better: bool = False
    decimals: int = 2
    """Digits after the point in tables."""
    of_things: bool = False
    """Whether only data sets that tell things (countable objects) from stuff have it."""

    @property
    def title(self) -> str:
        """Label and unit, e.g. `mIoU (%)`."""
        return (self.label or self.name) + (f" ({self.unit})" if self.unit else "")


@dataclass(frozen=True)
class TaskEntry:
    """A task, as the schema needs it."""

    implementation: Any
    """(recipe) -> `tadp_ray.tasks.base.Task`."""
    metrics: tuple[Metric, ...]
    main: str
    """The main metric. It selects the best evaluation."""
    by_class: str = ""
    """The metric of single classes, e.g. `iou` in iou/road. Empty: classes are not scored."""
    whole_images_only: bool = False
    """Whether a model predicts each image once and whole: no sliding windows, size factors or mirrored images."""
    per_image: Any = None
    """A subclass of `tadp_ray.tasks.per_image.PerImage`, which needs no torch. None: no results by image."""
    score: Any = None
    """Implementation of `tadp-ray score` for the task, see `tadp_ray.tasks.options`. None: no such command."""
    picture: Any = None
    """Implementation of `tadp-ray picture` for the task. None: no such command."""


@dataclass(frozen=True)
class HeadEntry:
    """A head, a value of `model.head.kind`."""

    task: str
    config: Any
    implementation: Any
    """(channels, strides, classes, config) -> an `nn.Module`; see `tadp_ray.tasks.build`."""


@dataclass(frozen=True)
class MetricEntry:
    """An additional metric of a task."""

    task: str
    metric: Metric
    implementation: Any
    """(class names) -> an object with `accumulate`, `reduce` and `compute`; see `tadp_ray.tasks.base.Accumulated`."""


@dataclass(frozen=True)
class DatasetEntry:
    """A data set, a value of `data.kind`."""

    config: Any
    """Its keys. None: a published data set, which has the keys of `tadp_ray.config.data.PublishedData`."""
    implementation: Any
    """A `tadp_ray.data.datasets.DatasetSource`, or a `tadp_ray.data.files.PublishedSet` where `config` is None."""
    scored_only: bool = False
    """Whether it is a target domain (`data.target_domain.kind`), for evaluation only."""


@dataclass(frozen=True)
class BackboneEntry:
    """A family of backbones, a value of `model.backbone`."""

    config: Any
    """Its keys; `tadp_ray.config.model.ModelConfig` adds those of every model."""
    implementation: Any
    """A `tadp_ray.backbones.base.Family`."""


@dataclass(frozen=True)
class CaptionSourceEntry:
    """A source of captions, a value of `caption.source`."""

    implementation: Any
    """(`tadp_ray.captions.sources.Request`) -> `tadp_ray.captions.sources.Captions`."""
    description: str
    keys: tuple[str, ...] = ()
    """The keys of the recipe's `caption` that this source reads and others do not: precision, recall, sentence ..."""
    uses_ground_truth: bool = False
    """Whether its captions are made from ground-truth class names. Results are then marked as an oracle's."""


@dataclass(frozen=True)
class EncodingEntry:
    """An encoding of prompts, a value of `caption.encoding`."""

    implementation: Any
    """(tokenizer, text encoder, recipe's `caption`, class names) -> a function from a prompt to its context (L, D)."""
    description: str
    of_names: bool = False
    """Whether a prompt is a tuple of class names instead of a text."""
    sources: tuple[str, ...] = ()
    """The caption sources that it can encode. Empty: all."""


@dataclass(frozen=True)
class ContextSourceEntry:
    """A source of context vectors, a value of `kind` in `model.context.sources`."""

    config: Any
    """Its keys. A key `encoder` is a location: the source's digests stand for it in the fingerprint."""
    implementation: Any
    """A `tadp_ray.conditioning.base.ContextSource`."""
    reads: Reads
    """What its vectors depend on: the caption's context, the image, or nothing but the training."""


@dataclass(frozen=True)
class CaptionerEntry:
    """A captioner, `NAME` in `tadp-ray caption NAME`."""

    implementation: Any
    """A class that implements `tadp_ray.captions.captioner.Captioner`."""
    model: str
    """Folder or hub id of its default model."""
    description: str


BACKBONES: Registry[BackboneEntry] = Registry("backbone")
TASKS: Registry[TaskEntry] = Registry("task")
HEADS: Registry[HeadEntry] = Registry("head")
METRICS: Registry[MetricEntry] = Registry("metric")
DATASETS: Registry[DatasetEntry] = Registry("data set")
CAPTION_SOURCES: Registry[CaptionSourceEntry] = Registry("caption source")
ENCODINGS: Registry[EncodingEntry] = Registry("encoding")
CONTEXT_SOURCES: Registry[ContextSourceEntry] = Registry("context source")
CAPTIONERS: Registry[CaptionerEntry] = Registry("captioner")


def _register_keys(registry: Registry[E], key: str, name: str, entry: Callable[[Any], E]) -> Callable[[C], C]:
    """Return the decorator of a key group whose `key` is `Literal[name]`; `entry` makes its entry in the registry."""

    def register(config: C) -> C:
        check_kind(config, key, name)
        registry.add(name, entry(config))
        return config

    return register


def register_backbone(name: str, implementation: Any) -> Callable[[C], C]:
    """Register the key group of a family of backbones; its key `backbone` is `Literal[name]`. See `BackboneEntry`."""
    return _register_keys(BACKBONES, "backbone", name, lambda config: BackboneEntry(config, implementation))


def register_task(
    name: str,
    implementation: Any,
    *,
    metrics: tuple[Metric, ...],
    main: str,
    by_class: str = "",
    whole_images_only: bool = False,
    per_image: Any = None,
    score: Any = None,
    picture: Any = None,
) -> None:
    """Register a task; see `TaskEntry` for the arguments."""
    if main not in (metric.name for metric in metrics):
        raise ValueError(f"task {name!r}: its main metric {main!r} is none of its metrics")
    for metric in metrics:
        check_meaning(metric)
    TASKS.add(name, TaskEntry(implementation, metrics, main, by_class, whole_images_only, per_image, score, picture))


def register_head(kind: str, *, task: str, implementation: Any) -> Callable[[C], C]:
    """Register the key group of a head; its key `kind` is `Literal[kind]`. See `HeadEntry`."""
    return _register_keys(HEADS, "kind", kind, lambda config: HeadEntry(task, config, implementation))


def register_metric(task: str, metric: Metric) -> Callable[[Any], Any]:
    """Register an additional metric of a task: decorate its class, or pass its path as `"module:attribute"`."""

    def register(make: Any) -> Any:
        check_meaning(metric)
        METRICS.add(metric.name, MetricEntry(task, metric, make))
        return make

    return register


def register_dataset(kind: str, implementation: Any) -> Callable[[C], C]:
    """Register the key group of a data set; its key `kind` is `Literal[kind]`. See `DatasetEntry`."""
    return _register_keys(DATASETS, "kind", kind, lambda config: DatasetEntry(config, implementation))


def register_published_dataset(kind: str, implementation: Any, scored_only: bool = False) -> None:
    """Register a `tadp_ray.data.files.PublishedSet` (files in a fixed layout below a root), or its `"module:attribute"`."""
    DATASETS.add(kind, DatasetEntry(None, implementation, scored_only))


def register_caption_source(
    name: str, description: str, keys: tuple[str, ...] = (), uses_ground_truth: bool = False
) -> Callable[[F], F]:
    """Register a function as a source of captions; see `CaptionSourceEntry` for the arguments."""

    def register(function: F) -> F:
        CAPTION_SOURCES.add(name, CaptionSourceEntry(function, description, keys, uses_ground_truth))
        return function

    return register


def register_encoding(
    name: str, description: str, implementation: Any, *, of_names: bool = False, sources: tuple[str, ...] = ()
) -> None:
    """Register an encoding of prompts; see `EncodingEntry` for the arguments."""
    ENCODINGS.add(name, EncodingEntry(implementation, description, of_names, sources))


def register_context_source(kind: str, implementation: Any, *, reads: Reads) -> Callable[[C], C]:
    """Register the key group of a source of contexts; its key `kind` is `Literal[kind]`. See `ContextSourceEntry`."""
    return _register_keys(
        CONTEXT_SOURCES, "kind", kind, lambda config: ContextSourceEntry(config, implementation, reads)
    )


def register_captioner(name: str, description: str, implementation: Any, model: str) -> None:
    """Register a captioner; see `CaptionerEntry` for the arguments."""
    CAPTIONERS.add(name, CaptionerEntry(implementation, model, description))


def check_meaning(metric: Metric) -> None:
    """Check a metric against the registered ones, since tables identify metrics by name.

    Raises:
        UserError: one of the same name is defined differently.
    """
    known = [
        *(each for task in TASKS.registered for each in task.metrics),
        *(entry.metric for entry in METRICS.registered),
    ]
    if any(each.name == metric.name and each != metric for each in known):
        raise UserError(f"metric {metric.name!r} is registered twice with different meanings; rename one")


def check_kind(config: Any, key: str, name: str) -> None:
    """Check that a key group names its kind, and that its values are hashable, since caches are looked up by them.

    Raises:
        TypeError: its `key` is not annotated `Literal[name]`, or has a default outside this package; or a value may be
            unhashable.
    """
    annotation = config.model_fields[key].annotation if key in config.model_fields else None
    if get_args(annotation) != (name,):
        raise TypeError(f"{config.__name__} must hold the key {key}: Literal[{name!r}], by which it is chosen")
    # With a default, two kinds left at their defaults would have the same values and the same fingerprint.
    if not config.__module__.startswith("tadp_ray.") and not config.model_fields[key].is_required():
        raise TypeError(f"{config.__name__}.{key} must have no default")
    for own, field in config.model_fields.items():
        if unhashable(field.annotation):
            raise TypeError(
                f"{config.__name__}.{own} must be hashable, since caches are looked up by it; declare a tuple, not a list"
            )


def unhashable(annotation: Any) -> bool:
    """Return whether values of a type, or values in them, may be unhashable."""
    kinds = (annotation, get_origin(annotation))
    nested = (field.annotation for field in getattr(annotation, "model_fields", {}).values())
    return any(isinstance(kind, type) and kind.__hash__ is None for kind in kinds) or any(
        map(unhashable, (*get_args(annotation), *nested))
    )
