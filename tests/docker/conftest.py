"""The manifests as kustomize would render them, in as much of its language as they use."""

import base64
import copy
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"

Manifest = dict[str, Any]


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of docker/kuberay in which the user has set every value, to `mine-` and its name."""
    folder = tmp_path_factory.mktemp("docker") / "kuberay"
    shutil.copytree(DOCKER / "kuberay", folder, ignore=shutil.ignore_patterns("*.env"))
    for example in folder.rglob("*.env.example"):
        text = re.sub(r"^(\w+)=CHANGE-ME$", r"\1=mine-\1", example.read_text(), flags=re.MULTILINE)
        example.with_suffix("").write_text(text)
    return folder


@pytest.fixture(scope="session")
def rendered(filled: Path) -> Callable[[str], list[Manifest]]:
    """The manifests that a variant (a folder beside base) sends to the cluster."""
    return lambda variant: [one for one in render(filled / variant) if not is_local(one)]


def render(folder: Path) -> list[Manifest]:
    """A folder's resources, with what its kustomization.yaml generates, replaces and patches."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    found: list[Manifest] = []
    for name in kustomization["resources"]:
        path = folder / name
        # What stands behind two anchors of a file is changed at one of them alone.
        found += render(path) if path.is_dir() else json.loads(json.dumps([*yaml.safe_load_all(path.read_text())]))
    found += [generated("ConfigMap", one, folder) for one in kustomization.get("configMapGenerator", ())]
    found += [generated("Secret", one, folder) for one in kustomization.get("secretGenerator", ())]
    for patch in kustomization.get("patches", ()):
        change = patch["patch"] if "patch" in patch else (folder / patch["path"]).read_text()
        found = patched(found, patch, yaml.safe_load(change))
    for one in found:
        if "namespace" in kustomization and one["kind"] != "Namespace":
            one["metadata"]["namespace"] = kustomization["namespace"]
    for replacement in kustomization.get("replacements", ()):
        replace(found, replacement)
    return found


def generated(kind: str, generator: dict, folder: Path) -> Manifest:
    """A ConfigMap or Secret made of .env files."""
    lines = [line for name in generator["envs"] for line in (folder / name).read_text().splitlines()]
    data = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    assert generator["options"]["disableNameSuffixHash"], "Ray's manifests would not find a hashed name"
    metadata = {"name": generator["name"]}
    if annotations := generator["options"].get("annotations"):
        metadata["annotations"] = annotations
    if kind == "Secret":
        data = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": data} | (
        {"type": "Opaque"} if kind == "Secret" else {}
    )


def is_local(manifest: Manifest) -> bool:
    """Whether kustomize keeps it to itself."""
    return manifest["metadata"].get("annotations", {}).get("config.kubernetes.io/local-config") == "true"


def patched(manifests: list[Manifest], patch: dict, change: Any) -> list[Manifest]:
    """Manifests without the deleted one, or with the changes of a list of operations (RFC 6902)."""
    if isinstance(change, dict):
        assert change.pop("$patch") == "delete"
        gone = chosen(manifests, {"kind": change["kind"], "name": change["metadata"]["name"]})
        assert len(gone) == 1, f"{change} is to be deleted and is not there"
        return [one for one in manifests if one is not gone[0]]
    for one in chosen(manifests, patch["target"]):
        for step in change:
            ((place, key),) = spots(one, step["path"].split("/")[1:])
            if step["op"] == "remove":
                del place[key]
            elif key == "-":
                place.append(step["value"])
            else:
                place[key] = step["value"]
    return manifests


def replace(manifests: list[Manifest], replacement: dict) -> None:
    """Copy one field into others; with a delimiter only into one part of their text, the first if none is named."""
    (source,) = chosen(manifests, replacement["source"])
    ((place, key),) = spots(source, replacement["source"]["fieldPath"].split("."))
    value = copy.deepcopy(place[key])
    for target in replacement["targets"]:
        options = target.get("options", {})
        for one in chosen(manifests, target["select"]):
            for path in target["fieldPaths"]:
                for spot, name in spots(one, path.split(".")):
                    spot[name] = part_replaced(spot[name], value, options) if "delimiter" in options else value


def part_replaced(text: str, value: str, options: dict) -> str:
    """A text with another part."""
    parts = text.split(options["delimiter"])
    parts[options.get("index", 0)] = value
    return options["delimiter"].join(parts)


def chosen(manifests: list[Manifest], select: dict) -> list[Manifest]:
    """The manifests of a kind, and of a name if one is given."""
    return [
        one
        for one in manifests
        if one["kind"] == select["kind"] and select.get("name") in (None, one["metadata"]["name"])
    ]


def spots(node: Any, path: list[str]) -> Iterator[tuple[Any, Any]]:
    """Where a path ends, each as something to index and its index."""
    first, *rest = path
    if first == "*":
        keys = list(range(len(node)))
    elif first.startswith("["):
        name, value = first[1:-1].split("=")
        keys = [index for index, item in enumerate(node) if item[name] == value]
    else:
        keys = [int(first)] if isinstance(node, list) and first != "-" else [first]
    for key in keys:
        if rest:
            yield from spots(node[key], rest)
        else:
            yield node, key
