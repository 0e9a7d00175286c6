"""Which code, which libraries and which machine a training ran with."""

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tadp_ray.registry import plugin_versions

PACKAGES = {
    "tadp_ray": "tadp-ray",
    "torch": "torch",
    "ray": "ray",
    "mlflow": "mlflow",
    "diffusers": "diffusers",
    "transformers": "transformers",
    "mmseg": "onedl-mmsegmentation",
    "numpy": "numpy",
}

IDLE = ("ray", "mlflow", "python")
"""Versions that change no number."""
THEN = ", then "


@cache
def provenance() -> dict[str, str]:
    """Tags that say where numbers come from: `tadp.commit`, `tadp.code`, `tadp.version.*`, `tadp.hardware.*` of this machine.

    A tag whose fact is unknown (no git, no NVIDIA driver) is left out. The host's name is nobody's business.
    """
    tags = {f"tadp.version.{name}": found for name, package in PACKAGES.items() if (found := installed(package))}
    tags |= {f"tadp.version.{name}": found for name, found in plugin_versions().items()}
    tags |= {"tadp.version.python": platform.python_version(), "tadp.code": contents()}
    tags |= {f"tadp.hardware.{name}": fact for name, fact in hardware().items()}
    if commit := git_commit():
        # MLflow's page has a place of its own for the commit, too.
        tags |= {"tadp.commit": commit, "mlflow.source.git.commit": commit.partition("+")[0]}
    return tags


def code_of(tags: Mapping[str, str]) -> dict[str, str]:
    """What of these tags can change a number and stands in no fingerprint: this package's code, and versions of what trains.

    A commit that changes a text alone changes no code, and two states of changed files are two codes.

    The local part of a version (`+cpu`, `+cu130`) says for which machine a package was built, and is left out.
    """
    versions = {key.removeprefix("tadp.version."): tag for key, tag in tags.items() if key.startswith("tadp.version.")}
    named = {name: version.partition("+")[0] for name, version in versions.items() if name not in IDLE}
    return {"code": tags["tadp.code"], **named} if "tadp.code" in tags else named


def merged(first: Mapping[str, str], later: Mapping[str, str]) -> dict[str, str]:
    """The provenance of a training that was begun with one and went on with another: both values where they differ."""
    both = {}
    for name in {**first, **later}:
        values = [*first.get(name, "unknown").split(THEN), later.get(name, "unknown")]
        both[name] = THEN.join(dict.fromkeys(values))
    return both


def contents() -> str:
    """Hash of this package's source files, by name."""
    root = Path(__file__).parents[1]
    files = [(str(file.relative_to(root)), file.read_bytes()) for file in sorted(root.rglob("*.py"))]
    return hashlib.sha256(repr(files).encode()).hexdigest()[:12]


def installed(package: str) -> str | None:
    """An installed package's version."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_commit(source: Path = Path(__file__)) -> str | None:
    """Commit of the checkout that holds `source`, with `+dirty` if tracked files differ; None outside git."""
    # An installed copy may lie inside somebody else's checkout: ask whether git knows this very file.
    if git(source, "ls-files", "--error-unmatch", source.name) is None:
        return None
    commit, changes = git(source, "rev-parse", "HEAD"), git(source, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+dirty" if commit and changes else commit


def git(source: Path, *words: str) -> str | None:
    """What git answers about the folder of `source`, None if it fails or is not installed."""
    return output("git", "-C", str(source.parent), *words)


def output(*command: str) -> str | None:
    """A command's stripped output, None if it fails or does not exist."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else None


def hardware() -> dict[str, str]:
    """CPU model, cores, memory and NVIDIA GPUs of the machine this runs on."""
    facts = {"cpu": cpu_model(), "cores": str(os.cpu_count())}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_gib"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f}"
    if gpus := output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"):
        facts["gpus"] = ", ".join(gpus.splitlines())
    return facts


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
