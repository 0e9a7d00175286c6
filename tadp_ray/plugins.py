"""Loads the modules that register names: those of this package, and those of plug-ins.

A plug-in names its module under the entry-point group `tadp_ray.plugins`. All of them are loaded when a registry is read first;
after that, nothing can be registered.
"""

import importlib
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from itertools import accumulate
from pathlib import Path
from typing import Generic, Literal, TypeVar

from tadp_ray.errors import UserError
from tadp_ray.files import code_digest

GROUP = "tadp_ray.plugins"
BUILT_IN = (
    "tadp_ray.backbones.stable_diffusion.config",
    "tadp_ray.backbones.stable_diffusion_xl.config",
    "tadp_ray.backbones.pixart.config",
    "tadp_ray.tasks.segmentation.config",
    "tadp_ray.tasks.depth.config",
    "tadp_ray.tasks.detection.config",
    "tadp_ray.data.config",
    "tadp_ray.captions.sources",
    "tadp_ray.captions.config",
    "tadp_ray.conditioning.config",
)
"""Modules of this package that register names. Help texts and JSON Schemas list the names in this order."""

E = TypeVar("E")


class Registry(Mapping[str, E], Generic[E]):
    """Entries of one kind by name, in the order of registration. The first read loads every plug-in."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, E] = {}
        self._origins: dict[str, str] = {}

    def add(self, name: str, entry: E) -> None:
        """Register an entry.

        Raises:
            UserError: the name is taken.
            RuntimeError: the registries have been read; the package is not a plug-in, or was imported too late.
        """
        if _plugins.state == "loaded":
            raise RuntimeError(
                f"{self.kind} {name!r} is registered after the vocabulary was built; name its module under the "
                f"entry-point group {GROUP}"
            )
        if name in self._entries:
            raise UserError(
                f"{self.kind} {name!r} is registered by {self._origins[name]} and by {_plugins.loading}; rename or uninstall one"
            )
        self._entries[name], self._origins[name] = entry, _plugins.loading

    @property
    def registered(self) -> tuple[E, ...]:
        """The entries so far. Reading them loads no plug-in, so that registration can check against them."""
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
    """Loads every module that registers names, once per process."""

    def __init__(self) -> None:
        self.state: Literal["new", "loading", "loaded"] = "new"
        self.loading = "a module that was imported by hand"
        self.versions: dict[str, str] = {}
        self.files: dict[str, set[Path]] = {}

    def load(self, reader: str) -> None:
        """Load the built-in modules and the plug-ins, before a registry is read.

        Raises:
            UserError: a plug-in cannot be imported.
            RuntimeError: a module that registers names reads a registry while it is imported.
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
            self.files.setdefault(package, set()).update(root_of(entry.module))


_plugins = _Plugins()


def root_of(module: str) -> list[Path]:
    """Return the folder of the outermost regular package around an imported module, or the module's own file."""
    names = accumulate(module.split("."), lambda outer, name: f"{outer}.{name}")
    # A namespace package has no file, since several distributions share it.
    files = filter(None, (getattr(sys.modules.get(name), "__file__", None) for name in names))
    return [path.parent if path.name == "__init__.py" else path for path in map(Path, files)][:1]


def plugin_versions() -> dict[str, str]:
    """Return the version of every plug-in package by the package's name."""
    _plugins.load("plug-in")
    return dict(_plugins.versions)


@cache
def plugin_code() -> dict[str, str]:
    """Return a hash of the Python files of every plug-in package by the package's name."""
    _plugins.load("plug-in")
    return {package: code_digest(*files) for package, files in _plugins.files.items()}
