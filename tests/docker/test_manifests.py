"""The Kubernetes manifests are whole, closed and consistent; no engine runs here, so this is all that is known of them."""

import copy
import itertools
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "docker/kuberay/base"
VARIANTS = ["sweep", "cluster", "kueue"]
# The oldest and the newest whose schemas the manifests are held against.
KUBERNETES = ["1.32", "1.37"]

Manifest = dict[str, Any]
Rendered = Callable[[str], list[Manifest]]

variants = pytest.mark.parametrize("variant", VARIANTS)


@variants
def test_kustomize_renders_the_same(variant: str, rendered: Rendered, filled: Path) -> None:
    """The other tests look at this folder's own rendering; where kubectl is installed, the two are compared."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not here")
    real = subprocess.run(["kubectl", "kustomize", filled / variant], capture_output=True, text=True, check=True)
    assert by_name(yaml.safe_load_all(real.stdout)) == by_name(rendered(variant))


@variants
def test_ray_manifests_fit_kuberays_schemas(variant: str, rendered: Rendered, shared: Path) -> None:
    (ray,) = (one for one in rendered(variant) if one["apiVersion"].startswith("ray.io/"))
    assert not misfits(ray, shared)


@variants
def test_the_other_manifests_fit_kubernetes_schemas(variant: str, rendered: Rendered) -> None:
    core = [one for one in rendered(variant) if not one["apiVersion"].startswith(("ray.io/", "kueue."))]
    assert len(core) > 10
    for manifest, version in itertools.product(core, KUBERNETES):
        kubernetes_validate.validate(manifest, version, strict=True)


BREAKS = {
    "a misspelt key": ("ttlSecondsAfterFinish", 60),
    "a word for a number": ("backoffLimit", "ten"),
    "a word of its own": ("rayClusterSpec.autoscalerOptions.version", "v3"),
    "a text for a list": ("rayClusterSpec.workerGroupSpecs", "cpu"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_ray_manifest_is_refused(name: str, rendered: Rendered, shared: Path) -> None:
    path, value = BREAKS[name]
    broken = copy.deepcopy(only("RayJob", rendered("sweep")))
    *groups, key = path.split(".")
    spot = broken["spec"]
    for group in groups:
        spot = spot[group]
    spot[key] = value
    assert any(key in said for said in misfits(broken, shared))


@pytest.mark.parametrize("kind", ["Deployment", "NetworkPolicy", "PersistentVolumeClaim"])
def test_a_broken_manifest_of_kubernetes_is_refused(kind: str, rendered: Rendered) -> None:
    broken = copy.deepcopy(next(one for one in rendered("sweep") if one["kind"] == kind))
    broken["spec"]["storageClas"] = "fast"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES[0], strict=True)


@variants
def test_rules_that_the_operators_check_in_code(variant: str, rendered: Rendered) -> None:
    """KubeRay's: names, restarts under autoscaler v2, authentication. Kueue's: a cluster of one size that ends."""
    manifests = rendered(variant)
    ray = only("RayCluster" if variant == "cluster" else "RayJob", manifests)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", ray["metadata"]["name"]) and len(ray["metadata"]["name"]) <= 47
    cluster = ray["spec"] if variant == "cluster" else ray["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert all(group["template"]["spec"]["restartPolicy"] == "Never" for group in groups)
    assert cluster["authOptions"]["mode"] == "token"
    assert all(
        group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] for group in cluster["workerGroupSpecs"]
    )
    if variant != "cluster":
        assert ray["spec"]["shutdownAfterJobFinishes"] and ray["spec"]["backoffLimit"] > 0
        assert ray["spec"]["submitterPodTemplate"]["spec"]["restartPolicy"] == "Never"
    if variant == "kueue":
        assert "enableInTreeAutoscaling" not in cluster and len(groups) <= 8
        assert (
            ray["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == only("LocalQueue", manifests)["metadata"]["name"]
        )
        queue = only("ClusterQueue", manifests)
        assert only("LocalQueue", manifests)["spec"]["clusterQueue"] == queue["metadata"]["name"]
    else:
        assert cluster["enableInTreeAutoscaling"] and cluster["autoscalerOptions"]["version"] == "v2"


@variants
def test_every_container_is_closed_and_bounded(variant: str, rendered: Rendered) -> None:
    """Not root, no capabilities, a root that cannot be written, limits: Kubernetes' restricted standard, and more."""
    for name, pod in pods(rendered(variant)):
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        steering = any(container["name"] == "ray-head" for container in pod["containers"])
        assert pod["automountServiceAccountToken"] is steering, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys(), name
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}, name
    options = found(rendered(variant), "autoscalerOptions")
    assert all(not one["securityContext"]["allowPrivilegeEscalation"] and one["resources"]["limits"] for one in options)


@variants
def test_nodes_may_be_preempted_and_the_head_stays(variant: str, rendered: Rendered) -> None:
    named = dict(pods(rendered(variant)))
    for group in ("cpu", "gpu"):
        assert {one["key"] for one in named[group]["tolerations"]} >= {"cloud.google.com/gke-spot"}
        assert named[group]["terminationGracePeriodSeconds"] >= 30
    assert "tolerations" not in named["head"]
    assert "nvidia.com/gpu" in named["gpu"]["containers"][0]["resources"]["limits"]
    assert named["cpu"]["containers"][0]["resources"]["limits"].keys() == {"cpu", "memory"}


@variants
def test_secrets_stand_in_the_secret_alone(variant: str, rendered: Rendered) -> None:
    manifests = rendered(variant)
    keys = set(only("Secret", manifests)["data"])
    others = json.dumps([one for one in manifests if one["kind"] != "Secret"])
    assert not [key for key in keys if f"mine-{key}" in others]
    for entry in (entry for env in found(manifests, "env") for entry in env):
        if re.search("PASSWORD|SECRET|TOKEN|KEY", entry["name"]):
            assert entry["valueFrom"]["secretKeyRef"]["name"] == "tadp-secrets", entry
            assert entry["valueFrom"]["secretKeyRef"]["key"] in keys, entry


@variants
def test_all_that_is_named_is_there(variant: str, rendered: Rendered) -> None:
    """Secrets, claims, volumes, services behind addresses, and pods behind every selector."""
    manifests = rendered(variant)
    names = {(one["kind"], one["metadata"]["name"]) for one in manifests}
    assert all(
        ("PersistentVolumeClaim", one["claimName"]) in names for one in found(manifests, "persistentVolumeClaim")
    )
    for auth in found(manifests, "authOptions"):
        assert ("Secret", auth["secretName"]) in names and "auth_token" in only("Secret", manifests)["data"]
    for name, pod in pods(manifests):
        mounted = {mount["name"] for one in pod["containers"] for mount in one["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]} | ({"data"} if name == "postgres" else set())
    values = {entry["name"]: entry.get("value", "") for env in found(manifests, "env") for entry in env}
    for host in (values["PGHOST"], re.fullmatch(r"http://(\w+):5000", values["MLFLOW_TRACKING_URI"])[1]):
        assert ("Service", host) in names
    # KubeRay puts these labels on its pods.
    labels = [{"ray.io/is-ray-node": "yes", "ray.io/node-type": kind} for kind in ("head", "worker")]
    labels += found(manifests, "labels")
    selectors = [*found(manifests, "podSelector"), *found(manifests, "selector")]
    # Let in if they come: the operator, and jobs that are submitted to a cluster that stays.
    guests = [{"app.kubernetes.io/name": "kuberay-operator"}, {"app": "submitter"}]
    for selector in selectors:
        wanted = selector.get("matchLabels", selector)
        assert wanted in guests or any(wanted.items() <= one.items() for one in labels), selector


@variants
def test_nothing_is_reachable_from_outside(variant: str, rendered: Rendered) -> None:
    manifests = rendered(variant)
    assert all(one["spec"]["type"] == "ClusterIP" for one in manifests if one["kind"] == "Service")
    assert not any(one["kind"] in ("Ingress", "HTTPRoute") for one in manifests)
    assert all(kind == "ClusterIP" for kind in found(manifests, "serviceType"))
    policies = {one["metadata"]["name"]: one["spec"] for one in manifests if one["kind"] == "NetworkPolicy"}
    assert policies["closed"]["podSelector"] == {} and "ingress" not in policies["closed"]
    open_doors = [rule for policy in policies.values() for rule in policy.get("ingress", ()) if not rule.get("from")]
    assert not open_doors
    assert only("Namespace", manifests)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@variants
def test_versions_are_those_of_the_project(variant: str, rendered: Rendered) -> None:
    constraints = (ROOT / "constraints.txt").read_text()
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for version in found(rendered(variant), "rayVersion"):
        assert f"\nray=={version}\n" in constraints
    images = set(found(rendered(variant), "image"))
    own = {image.removeprefix("mine-REGISTRY/") for image in images if image.startswith("mine-REGISTRY/")}
    assert own == {f"tadp-ray:{release}-cpu", f"tadp-ray:{release}-gpu", f"tadp-mlflow:{release}"}
    assert all(re.search(r":\d+\.\d+", image) for image in images)


def test_the_sweep_is_the_command_of_the_readme(rendered: Rendered) -> None:
    words = only("RayJob", rendered("sweep"))["spec"]["entrypoint"].split()
    assert words[:3] == ["python", "-m", "tadp_ray.sweep"] and (ROOT / words[3]).is_file()


@pytest.mark.parametrize("folder", ["docker", "docker/kuberay/base"])
def test_a_missing_value_is_named(folder: str, tmp_path: Path) -> None:
    """Of files that are not there, of placeholders left as they are, of one empty value; and nothing when all are set."""
    for example in (ROOT / folder).glob("*.env.example"):
        shutil.copy(example, tmp_path)
    keys = [key for example in tmp_path.iterdir() for key in re.findall(r"^(\w+)=", example.read_text(), re.MULTILINE)]
    assert len(keys) > 5
    assert all(f"{key}: a manifest value is missing" in check(tmp_path, 1) for key in keys)
    for example in list(tmp_path.iterdir()):
        shutil.copy(example, example.with_suffix(""))
    assert all(f"{key}: a manifest value is missing" in check(tmp_path, 1) for key in keys)
    for example in tmp_path.glob("*.env.example"):
        example.with_suffix("").write_text(example.read_text().replace("CHANGE-ME", "mine"))
    assert check(tmp_path, 0) == "every value is set\n"
    file = next(tmp_path.glob("*.env.example")).with_suffix("")
    file.write_text(file.read_text().replace("=mine", "=", 1))
    assert check(tmp_path, 1).count("a manifest value is missing") == 1


def test_a_folder_without_examples_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        said = subprocess.run([sys.executable, ROOT / "docker/check.py", folder], capture_output=True, text=True)
        assert said.returncode == 1 and said.stdout == "" and f"{folder}: holds no *.env.example" in said.stderr


def check(folder: Path, code: int) -> str:
    """What the command says of a folder."""
    said = subprocess.run([sys.executable, ROOT / "docker/check.py", folder], capture_output=True, text=True)
    assert said.returncode == code, said.stderr
    return said.stdout


def test_the_examples_ask_for_what_the_manifests_read(rendered: Rendered) -> None:
    text = (BASE / "kustomization.yaml").read_text()
    read = set(re.findall(r"data\.(\w+)", text))
    assert read == set(re.findall(r"^(\w+)=", (BASE / "settings.env.example").read_text(), re.MULTILINE))
    used = {entry["key"] for entry in found(rendered("sweep"), "secretKeyRef")} | {"auth_token"}
    assert used == set(re.findall(r"^(\w+)=", (BASE / "secrets.env.example").read_text(), re.MULTILINE))


def by_name(manifests: Any) -> dict[tuple[str, str], Manifest]:
    """Manifests by what they are."""
    return {(one["kind"], one["metadata"]["name"]): one for one in manifests}


def only(kind: str, manifests: list[Manifest]) -> Manifest:
    """The one manifest of a kind."""
    (one,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return one


def found(node: Any, key: str) -> list[Any]:
    """Whatever stands behind a key, anywhere."""
    inner = list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []
    own = [node[key]] if isinstance(node, dict) and key in node else []
    return own + [one for item in inner for one in found(item, key)]


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, dict]]:
    """Every pod that the manifests describe: its role or worker group, and its specification."""
    for one in manifests:
        if one["kind"] in ("Deployment", "StatefulSet"):
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]
        if one["kind"] == "RayJob":
            yield "submitter", one["spec"]["submitterPodTemplate"]["spec"]
        if one["kind"] in ("RayCluster", "RayJob"):
            cluster = one["spec"].get("rayClusterSpec", one["spec"])
            yield "head", cluster["headGroupSpec"]["template"]["spec"]
            for group in cluster["workerGroupSpecs"]:
                yield group["groupName"], group["template"]["spec"]


def misfits(manifest: Manifest, shared: Path) -> list[str]:
    """Where a manifest does not fit the schema of its kind."""
    schema = schema_of(shared / f"kuberay/ray.io_{manifest['kind'].lower()}s.yaml", manifest["apiVersion"])
    errors = Draft202012Validator(schema).iter_errors(manifest)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]


@cache
def schema_of(file: Path, version: str) -> dict:
    """The schema in a custom resource definition."""
    definition = yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (served,) = (one for one in definition["spec"]["versions"] if one["name"] == version.removeprefix("ray.io/"))
    return closed(served["schema"]["openAPIV3Schema"])


def closed(schema: Any) -> Any:
    """The schema without room for unknown keys, which KubeRay's definitions leave and Kubernetes silently drops."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and schema.get("type") == "object":
        schema.setdefault("additionalProperties", False)
    return schema
