"""How tests are run; fixtures that more than one room's tests use are in `tests/fixtures`."""

import gc
import os
import signal
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jaxtyping
import pytest

from tadp_ray.garbage import collect_rarely

pytest_plugins = ["tests.fixtures.cells", "tests.fixtures.gpu", "tests.fixtures.networks", "tests.fixtures.programs"]
# The shapes that their signatures state are checked whenever a test calls them.
MODEL_CORE = (
    *("training.model", "conditioning.text_encoder", "conditioning.context", "tasks.norms"),
    *("backbones.stable_diffusion.backbone", "backbones.stable_diffusion.features"),
    *("tasks.segmentation.semantic_fpn", "tasks.segmentation.smp_fpn", "tasks.segmentation.losses"),
    *("tasks.depth.vpd_head", "tasks.depth.losses", "tasks.detection.faster_rcnn"),
)
jaxtyping.install_import_hook([f"tadp_ray.{module}" for module in MODEL_CORE], "beartype.beartype")
# Tests run side by side: threads of their own would wait for each other, at full speed. Read when torch is loaded.
THREADS = {"OMP_NUM_THREADS": "1"}
# Ray makes its workers give way to all other processes: beside another test they would come to a standstill. And processes that
# are slow to start on a busy machine are not dead.
RAY = {
    "RAY_worker_niceness": "0",
    "RAY_worker_register_timeout_seconds": "900",
    "RAY_agent_register_timeout_ms": "900000",
    # Workers that wait for work, of which each sweep's workers, with an environment of their own, are none.
    "RAY_prestart_worker_first_driver": "0",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """An option that renews the golden losses."""
    parser.addoption("--write-golden", action="store_true", help="write the numbers of tests/golden anew")


def pytest_configure(config: pytest.Config) -> None:
    """Allow, by name, what other people's packages warn of: MLflow 3.17 on SQLAlchemy 2.1. Heed Ctrl-C."""
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")
    # And its stores keep their connections to a database until the process ends, of which Python 3.13 tells.
    config.addinivalue_line("filterwarnings", "ignore:unclosed database in <sqlite3.Connection:ResourceWarning")
    # Starting Ray's nodes may forget a socket that was never bound, in an object that is collected at any time.
    config.addinivalue_line("filterwarnings", r"ignore:unclosed <socket.*laddr=\('0.0.0.0', 0\)>:ResourceWarning")
    # What a shell puts into the background ignores Ctrl-C, what nohup starts a closed terminal, and so would every command that
    # a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    collect_rarely()
    # What this user's commands have kept is neither used nor changed.
    cache = tempfile.TemporaryDirectory(prefix="tadp_ray_cache")
    config.add_cleanup(cache.cleanup)
    os.environ |= THREADS | RAY | {"XDG_CACHE_HOME": cache.name}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold the longest tests, so that one of two processes does not end with them alone."""
    marks = {mark: {item.path for item in items if item.get_closest_marker(mark)} for mark in ("cluster", "slow")}
    items.sort(key=lambda item: [item.path not in paths for paths in marks.values()])


def pytest_collection_finish() -> None:
    """What was imported stays, and is not searched for garbage again: tests that collect it would take seconds more."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Some of what was imported tells of what is left of it at the end."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the project; tests that need it are skipped where it is missing."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"reference data is not here: {folder}")
    return folder


@pytest.fixture(scope="session")
def needs_extra() -> Callable[[str, str], None]:
    """`needs_extra("nouns", "HanTa")`: skips a test where an extra's package is not installed; a broken one fails it."""

    def check(extra: str, package: str) -> None:
        try:
            version(package)
        except PackageNotFoundError:
            pytest.skip(f"{package} is not installed; the extra {extra} has it")

    return check
