"""The code, libraries and hardware of a training."""

import math
import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tadp_ray.files import code_digest
from tadp_ray.plugins import plugin_code, plugin_versions

PACKAGES = {
    "tadp_ray": "tadp-ray",
    "torch": "torch",
    "ray": "ray",
    "mlflow": "mlflow",
    "diffusers": "diffusers",
    "transformers": "transformers",
    "tokenizers": "tokenizers",
    "peft": "peft",
    "mmseg": "onedl-mmsegmentation",
    "mmcv": "onedl-mmcv",
    "segmentation_models_pytorch": "segmentation-models-pytorch",
    "torchvision": "torchvision",
    "pycocotools": "pycocotools",
    "albumentations": "albumentations",
    "opencv": "opencv-python-headless",
    "pillow": "pillow",
    "numpy": "numpy",
}
"""What trains, reads images and scores."""

IMAGE_COMMIT = "TADP_COMMIT"
"""Environment variable with the commit that an image was built from: an image has no git. `docker/Dockerfile` sets it."""

IRRELEVANT = ("ray", "mlflow", "python")
"""Packages whose version changes no result."""
THEN = ", then "


@cache
def provenance() -> dict[str, str]:
    """Return tags of this process: `tadp.commit`, `tadp.code`, `tadp.code.PLUGIN`, `tadp.version.*` and `tadp.hardware.*`.

    A tag with an unknown value (no git, no NVIDIA driver) is omitted. The host's name is omitted for privacy.
    """
    tags = {f"tadp.version.{name}": found for name, package in PACKAGES.items() if (found := installed(package))}
    tags |= {f"tadp.version.{name}": found for name, found in plugin_versions().items()}
    tags |= {f"tadp.code.{name}": found for name, found in plugin_code().items()}
    tags |= {"tadp.version.python": platform.python_version(), "tadp.code": contents()}
    tags |= {f"tadp.hardware.{name}": fact for name, fact in hardware().items()}
    if commit := git_commit() or os.environ.get(IMAGE_COMMIT):
        # MLflow shows the commit from a tag with this name.
        tags |= {"tadp.commit": commit, "mlflow.source.git.commit": commit.partition("+")[0]}
    return tags


def code_of(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that can change results and are not in a fingerprint: code of this package and of plug-ins, and versions.

    The code is a hash of the source files, not the commit: a commit that changes only documentation does not change it, and
    uncommitted changes do.

    The local part of a version (`+cpu`, `+cu130`) names the hardware of the build, and is removed.
    """
    versions = {key.removeprefix("tadp.version."): tag for key, tag in tags.items() if key.startswith("tadp.version.")}
    named = {name: version.partition("+")[0] for name, version in versions.items() if name not in IRRELEVANT}
    code = {key.removeprefix("tadp."): tag for key, tag in tags.items() if f"{key}.".startswith("tadp.code.")}
    return {**code, **named}


def merged(first: Mapping[str, str], later: Mapping[str, str]) -> dict[str, str]:
    """Return the provenance of a training that was resumed with another one: both values where they differ."""
    both = {}
    for name in {**first, **later}:
        values = [*first.get(name, "unknown").split(THEN), later.get(name, "unknown")]
        both[name] = THEN.join(dict.fromkeys(values))
    return both


def contents() -> str:
    """Return a hash of this package's source files and their names."""
    return code_digest(Path(__file__).parents[1])


def installed(package: str) -> str | None:
    """Return an installed package's version, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_commit(source: Path = Path(__file__)) -> str | None:
    """Return the commit of the checkout that contains `source`, with `+dirty` if tracked files differ; None outside git."""
    # An installed copy may be inside another project's checkout, so check that git tracks this file.
    if git(source, "ls-files", "--error-unmatch", source.name) is None:
        return None
    commit, changes = git(source, "rev-parse", "HEAD"), git(source, "status", "--porcelain", "--untracked-files=no")
    # Not clean where git cannot tell.
    return f"{commit}+dirty" if commit and changes != "" else commit


def git(source: Path, *arguments: str) -> str | None:
    """Return the output of git in the folder of `source`, None if it fails or is not installed."""
    return output("git", "-C", str(source.parent), *arguments)


def output(*command: str) -> str | None:
    """Return a command's stripped output, None if it fails or does not exist."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def hardware() -> dict[str, str]:
    """Return the CPU model, cores, memory and NVIDIA GPUs of this machine, or what its container may use of them."""
    facts = {"cpu": cpu_model(), "cores": f"{min(os.cpu_count() or 1, container_limit('cpu')):g}"}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), container_limit("memory"))
        facts["memory_gib"] = f"{memory / 2**30:.1f}"
    if gpus := output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"):
        facts["gpus"] = ", ".join(gpus.splitlines())
    return facts


def container_limit(resource: str, root: Path = Path("/sys/fs/cgroup")) -> float:
    """Return how many cores (`cpu`) or bytes (`memory`) a container of Linux may use; infinity if nothing limits them."""
    file = root / f"{resource}.max"
    # The limit, and of cores the period to which it applies.
    limit, *period = file.read_text().split() if file.is_file() else ["max"]
    return math.inf if limit == "max" else float(limit) / float(*period or [1])


def cpu_model() -> str:
    """Return the processor's name from the operating system."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
