"""The names that recipes and commands may use, by kind. This package and outside packages register theirs in the same way.

A module that registers is light to import. It says what the vocabulary must know of a name (keys, ranges, meanings) and where the
implementation lies, as `"package.module:attribute"`, which is imported when it is first used. The package's own modules are
`BUILT_IN`; an outside package names its module under the entry-point group `tadp_ray.plugins`.

The vocabulary (`tadp_ray.config`) reads the registries when it is imported. So a module that registers imports nothing of
`tadp_ray.config` but `vocabulary`, and nothing that needs more of it.
"""

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Literal, TypeVar, get_args

from tadp_ray.errors import UserError

GROUP = "tadp_ray.plugins"
BUILT_IN = (
    "tadp_ray.backbones.stable_diffusion.config",
    "tadp_ray.tasks.segmentation.config",
    "tadp_ray.tasks.depth.config",
    "tadp_ray.tasks.detection.config",
    "tadp_ray.data.config",
    "tadp_ray.captions.sources",
    "tadp_ray.captions.config",
    "tadp_ray.conditioning.config",
)
"""Modules of this package that register, in the order in which help and schemas list their names."""

E = TypeVar("E")
C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])


class Registry(Mapping[str, E], Generic[E]):
    """Entries of one kind by name, in the order of registration. Whoever reads it first has every plug-in loaded."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, E] = {}
        self._origins: dict[str, str] = {}

    def add(self, name: str, entry: E) -> None:
        """Register an entry.

        Raises:
            UserError: another has the name.
            RuntimeError: the vocabulary was built before; the package is no plug-in, or was imported too late.
        """
        if _plugins.state == "loaded":
            raise RuntimeError(
                f"{self.kind} {name!r} is registered after the vocabulary was built; name its module under the entry-point "
                f"group {GROUP}, or import it before anything else of tadp_ray"
            )
        if name in self._entries:
            raise UserError(
                f"{self.kind} {name!r} is registered by {self._origins[name]} and by {_plugins.loading}; rename or uninstall one"
            )
        self._entries[name], self._origins[name] = entry, _plugins.loading

    @property
    def registered(self) -> tuple[E, ...]:
        """The entries so far, for those who register more."""
        return tuple(self._entries.values())

    def __getitem__(self, name: str) -> E:
        _plugins.load(self.kind)
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        _plugins.load(self.kind)
        return iter(self._entries)

    def __len__(self) -> int:
        _plugins.load(self.kind)
        return len(self._entries)


class _Plugins:
    """Loads every module that registers, once per process."""

    def __init__(self) -> None:
        self.state: Literal["new", "loading", "loaded"] = "new"
        self.loading = "a module that was imported by hand"
        self.versions: dict[str, str] = {}

    def load(self, reader: str) -> None:
        """Have every name registered before a registry is read.

        Raises:
            UserError: a plug-in cannot be imported.
            RuntimeError: a module that registers needs what is being registered.
        """
        if self.state == "loading":
            raise RuntimeError(
                f"{self.loading} reads the {reader}s while plug-ins register theirs; a module that registers imports of "
                "tadp_ray.config only vocabulary, and names its implementation as 'module:attribute'"
            )
        if self.state == "loaded":
            return
        self.state = "loading"
        try:
            for module in BUILT_IN:
                self.loading = "tadp_ray"
                importlib.import_module(module)
            for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
                self._load_entry(entry)
        except BaseException:
            self.state = "new"
            raise
        self.state = "loaded"

    def _load_entry(self, entry: EntryPoint) -> None:
        package = entry.dist.name if entry.dist else entry.value
        self.loading = f"the package {package}"
        try:
            entry.load()
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"plug-in {entry.name} of {self.loading} cannot be loaded ({type(error).__name__}: {error}); mend or uninstall it"
            ) from error
        if entry.dist:
            self.versions[package] = entry.dist.version


_plugins = _Plugins()


def plugin_versions() -> dict[str, str]:
    """Version of every outside package that registers names, by the package's name."""
    _plugins.load("plug-in")
    return dict(_plugins.versions)


def implementation(reference: Any) -> Any:
    """What `"module:attribute"` names, imported now; anything but a text is the implementation itself."""
    if not isinstance(reference, str):
        return reference
    module, _, attribute = reference.partition(":")
    return getattr(importlib.import_module(module), attribute)


def one_of(names: Iterable[str]) -> Any:
    """The type of a key that takes one of these names."""
    literal: Any = Literal  # so that type checkers take the names as values
    return literal[tuple(names)]


@dataclass(frozen=True)
class Metric:
    """A figure that a task is scored by over a data set."""

    name: str
    label: str = ""
    """As tables and figures call it; none: its name."""
    unit: str = ""
    """`%`, `m`; none: it has none."""
    lower_is_better: bool = False
    decimals: int = 2
    """That tables show."""

    @property
    def title(self) -> str:
        """`mIoU (%)`."""
        return (self.label or self.name) + (f" ({self.unit})" if self.unit else "")


@dataclass(frozen=True)
class TaskEntry:
    """What the vocabulary knows of a task."""

    implementation: Any
    """(recipe) -> `tadp_ray.tasks.base.Task`."""
    metrics: tuple[Metric, ...]
    main: str
    """The metric that a model is known by; it tells the best evaluation."""
    by_class: str = ""
    """What each class is scored by, as `iou` in iou/road; none: classes are not scored."""
    whole_images_only: bool = False
    """Whether an image is looked at once and whole: no windows, no size factors, no mirror images."""
    per_image: Any = None
    """A class of `tadp_ray.tasks.per_image.PerImage`, which needs no torch; none: nothing is told apart by image."""
    score: Any = None
    """What `tadp-ray score` does for the task, see `tadp_ray.tasks.options`; none: it has no such command."""
    picture: Any = None
    """What `tadp-ray picture` does for the task; none: it has no such command."""


@dataclass(frozen=True)
class HeadEntry:
    """A head that `model.head.kind` names."""

    task: str
    config: Any
    implementation: Any
    """(channels, strides, classes, config) -> an `nn.Module`; see `tadp_ray.tasks.registry`."""


@dataclass(frozen=True)
class MetricEntry:
    """A metric beside a task's own ones."""

    task: str
    metric: Metric
    implementation: Any
    """(class names) -> a score that `accumulate`s, `reduce`s and `compute`s it; see `tadp_ray.tasks.base.Metrics`."""


@dataclass(frozen=True)
class DatasetEntry:
    """A data set that `data.kind` names."""

    config: Any
    """Its keys; None: a published set, which has a root (`tadp_ray.config.data.PublishedData`)."""
    implementation: Any
    """Opens it; see `tadp_ray.data.datasets.DatasetSource`."""
    scored_only: bool = False
    """Whether it is another domain's (`data.target_domain.kind`), on which no model is trained."""


@dataclass(frozen=True)
class BackboneEntry:
    """A family of backbones, as `model.backbone` names it."""

    config: Any
    """Its keys, to which those of every model come (`tadp_ray.config.model.ModelConfig`)."""
    implementation: Any
    """A `tadp_ray.backbones.base.Family`."""


@dataclass(frozen=True)
class CaptionSourceEntry:
    """Where the texts of images come from, as `caption.source` names it."""

    implementation: Any
    """(`tadp_ray.captions.sources.Request`) -> `tadp_ray.captions.sources.Captions`."""
    description: str
    keys: tuple[str, ...] = ()
    """The keys of the recipe's `caption` that it heeds, of those that not every source does: precision, recall, sentence ..."""
    uses_ground_truth: bool = False
    """Whether its texts are made of the names of what an image really shows; whatever shows results says so."""


@dataclass(frozen=True)
class EncodingEntry:
    """How a prompt becomes a context, as `caption.encoding` names it."""

    implementation: Any
    """(tokenizer, text encoder, recipe's `caption`, class names) -> a function of a prompt that gives its context (L, D)."""
    description: str
    of_names: bool = False
    """Whether its prompts are tuples of names rather than texts."""
    sources: tuple[str, ...] = ()
    """The caption sources that fit; none: all do."""


@dataclass(frozen=True)
class CaptionerEntry:
    """What describes images, as `tadp-ray caption NAME` calls it."""

    implementation: Any
    """A class as `tadp_ray.captions.captioner.Captioner` is."""
    model: str
    """Folder or hub id that it loads unless another is named."""
    description: str


BACKBONES: Registry[BackboneEntry] = Registry("backbone")
TASKS: Registry[TaskEntry] = Registry("task")
HEADS: Registry[HeadEntry] = Registry("head")
METRICS: Registry[MetricEntry] = Registry("metric")
DATASETS: Registry[DatasetEntry] = Registry("data set")
CAPTION_SOURCES: Registry[CaptionSourceEntry] = Registry("caption source")
ENCODINGS: Registry[EncodingEntry] = Registry("encoding")
CAPTIONERS: Registry[CaptionerEntry] = Registry("captioner")


def register_backbone(name: str, implementation: Any) -> Callable[[C], C]:
    """Register the keys of a family of backbones, a group whose `backbone` is this one; see `BackboneEntry`."""

    def register(config: C) -> C:
        check_kind(config, "backbone", name)
        BACKBONES.add(name, BackboneEntry(config, implementation))
        return config

    return register


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
    """Register a task; the arguments are those of `TaskEntry`."""
    if main not in (metric.name for metric in metrics):
        raise ValueError(f"task {name!r}: its main metric {main!r} is none of its metrics")
    for metric in metrics:
        check_meaning(metric)
    TASKS.add(name, TaskEntry(implementation, metrics, main, by_class, whole_images_only, per_image, score, picture))


def register_head(kind: str, *, task: str, implementation: Any) -> Callable[[C], C]:
    """Register the keys of a head, a group whose `kind` is this one; `implementation` as in `HeadEntry`."""

    def register(config: C) -> C:
        check_kind(config, "kind", kind)
        HEADS.add(kind, HeadEntry(task, config, implementation))
        return config

    return register


def register_metric(task: str, metric: Metric) -> Callable[[Any], Any]:
    """Register the class of a score that computes one more metric of a task, or the text that names it."""

    def register(make: Any) -> Any:
        check_meaning(metric)
        METRICS.add(metric.name, MetricEntry(task, metric, make))
        return make

    return register


def register_dataset(kind: str, implementation: Any) -> Callable[[C], C]:
    """Register the keys of a data set, a group whose `kind` is this one; `implementation` as in `DatasetEntry`."""

    def register(config: C) -> C:
        check_kind(config, "kind", kind)
        DATASETS.add(kind, DatasetEntry(config, implementation))
        return config

    return register


def register_published_dataset(kind: str, implementation: Any, scored_only: bool = False) -> None:
    """Register a `tadp_ray.data.files.PublishedSet`, or the text that names it: files in a fixed layout below a root."""
    DATASETS.add(kind, DatasetEntry(None, implementation, scored_only))


def register_caption_source(
    name: str, description: str, keys: tuple[str, ...] = (), uses_ground_truth: bool = False
) -> Callable[[F], F]:
    """Register a function as a source of captions; the arguments are those of `CaptionSourceEntry`."""

    def register(function: F) -> F:
        CAPTION_SOURCES.add(name, CaptionSourceEntry(function, description, keys, uses_ground_truth))
        return function

    return register


def register_encoding(
    name: str, description: str, implementation: Any, *, of_names: bool = False, sources: tuple[str, ...] = ()
) -> None:
    """Register an encoding of prompts; the arguments are those of `EncodingEntry`."""
    ENCODINGS.add(name, EncodingEntry(implementation, description, of_names, sources))


def register_captioner(name: str, description: str, implementation: Any, model: str) -> None:
    """Register a captioner; the arguments are those of `CaptionerEntry`."""
    CAPTIONERS.add(name, CaptionerEntry(implementation, model, description))


def check_meaning(metric: Metric) -> None:
    """Refuse a metric that is called as another and is shown or ordered otherwise (UserError): tables know them by name."""
    known = [
        *(each for task in TASKS.registered for each in task.metrics),
        *(entry.metric for entry in METRICS.registered),
    ]
    if any(each.name == metric.name and each != metric for each in known):
        raise UserError(f"metric {metric.name!r} is registered twice with different meanings; rename one")


def check_kind(config: Any, key: str, name: str) -> None:
    """Refuse a group of keys that does not say which kind it is.

    Raises:
        TypeError: its `key` is not annotated `Literal[name]`.
    """
    annotation = config.model_fields[key].annotation if key in config.model_fields else None
    if get_args(annotation) != (name,):
        raise TypeError(f"{config.__name__} must hold the key {key}: Literal[{name!r}], by which it is chosen")
    # A default would make two groups say the same, and have the same fingerprint, where both keep to their defaults.
    if not config.__module__.startswith("tadp_ray.") and not config.model_fields[key].is_required():
        raise TypeError(f"{config.__name__}.{key} must have no default")
