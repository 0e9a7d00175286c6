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
WHOLE, OWN = ["sweep", "cluster", "kueue"], ["existing/sweep", "existing/cluster"]
"""Variants that bring MLflow and volumes, and those for what is there."""
VARIANTS = [*WHOLE, *OWN, "existing/data"]
# The oldest and the newest whose schemas the manifests are held against.
KUBERNETES = ["1.32", "1.37"]

Manifest = dict[str, Any]
Rendered = Callable[[str], list[Manifest]]

variants = pytest.mark.parametrize("variant", VARIANTS)
clusters = pytest.mark.parametrize("variant", [*WHOLE, *OWN])


@variants
def test_kustomize_renders_the_same(variant: str, rendered: Rendered, filled: Path) -> None:
    """The other tests look at this folder's own rendering; where kubectl is installed, the two are compared."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not here")
    real = subprocess.run(["kubectl", "kustomize", filled / variant], capture_output=True, text=True, check=True)
    assert by_name(yaml.safe_load_all(real.stdout)) == by_name(rendered(variant))


@clusters
def test_ray_manifests_fit_kuberays_schemas(variant: str, rendered: Rendered, shared: Path) -> None:
    (ray,) = (one for one in rendered(variant) if one["apiVersion"].startswith("ray.io/"))
    assert not misfits(ray, shared)


@pytest.mark.slow
@variants
def test_the_other_manifests_fit_kubernetes_schemas(variant: str, rendered: Rendered) -> None:
    core = [one for one in rendered(variant) if not one["apiVersion"].startswith(("ray.io/", "kueue."))]
    assert len(core) > (10 if variant in WHOLE else 5)
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


@clusters
def test_rules_that_the_operators_check_in_code(variant: str, rendered: Rendered) -> None:
    """KubeRay's: names, restarts under autoscaler v2, authentication. Kueue's: a cluster of one size that ends."""
    manifests = rendered(variant)
    stays = variant.endswith("cluster")
    ray = only("RayCluster" if stays else "RayJob", manifests)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", ray["metadata"]["name"]) and len(ray["metadata"]["name"]) <= 47
    cluster = ray["spec"] if stays else ray["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert all(group["template"]["spec"]["restartPolicy"] == "Never" for group in groups)
    assert cluster["authOptions"]["mode"] == "token"
    assert all(
        group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] for group in cluster["workerGroupSpecs"]
    )
    if not stays:
        assert ray["spec"]["shutdownAfterJobFinishes"] and ray["spec"]["backoffLimit"] == 1
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


@pytest.mark.parametrize("variant", WHOLE)
def test_no_service_s_address_becomes_a_setting_of_mlflow(variant: str, rendered: Rendered) -> None:
    """Kubernetes tells containers of a Service `mlflow` by MLFLOW_PORT=tcp://..., and the server reads its port there."""
    assert "mlflow" in {own["metadata"]["name"] for own in rendered(variant) if own["kind"] == "Service"}
    (pod,) = (pod for _, pod in pods(rendered(variant)) if "mlflow" in {own["name"] for own in pod["containers"]})
    assert pod["enableServiceLinks"] is False


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


@clusters
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
            assert (
                entry["valueFrom"]["secretKeyRef"]["key"] in keys or entry["valueFrom"]["secretKeyRef"]["optional"]
            ), entry


@variants
def test_all_that_is_named_is_there(variant: str, rendered: Rendered) -> None:
    """Secrets, claims, volumes, services behind addresses, and pods behind every selector."""
    manifests = rendered(variant)
    names = {(one["kind"], one["metadata"]["name"]) for one in manifests}
    there = {"mine-RUNS_CLAIM", "mine-DATA_CLAIM"} if variant not in WHOLE else set()
    for claim in found(manifests, "persistentVolumeClaim"):
        assert ("PersistentVolumeClaim", claim["claimName"]) in names or claim["claimName"] in there
    for auth in found(manifests, "authOptions"):
        assert ("Secret", auth["secretName"]) in names and "auth_token" in only("Secret", manifests)["data"]
    for name, pod in pods(manifests):
        mounted = {mount["name"] for one in pod["containers"] for mount in one["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]} | ({"data"} if name == "postgres" else set())
    values = {entry["name"]: entry.get("value", "") for env in found(manifests, "env") for entry in env}
    if variant in WHOLE:
        for host in (values["PGHOST"], re.fullmatch(r"http://(\w+):5000", values["MLFLOW_TRACKING_URI"])[1]):
            assert ("Service", host) in names
    # KubeRay puts these labels on its pods, beside their own.
    kuberay = [{"ray.io/is-ray-node": "yes", "ray.io/node-type": kind} for kind in ("head", "worker")]
    labels = [one | {"app": "tadp-ray"} for one in kuberay]
    labels += found(manifests, "labels")
    selectors = [*found(manifests, "podSelector"), *found(manifests, "selector")]
    # Let in if they come: the operator, and jobs that are submitted to a cluster that stays. Variants share their policies.
    guests = [{"app.kubernetes.io/component": "kuberay-operator"}, {"app": "tadp-submitter"}]
    guests += [{"app": "tadp-data"}] if variant in OWN else []
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
    if variant in WHOLE:
        assert policies["closed"]["podSelector"] == {} and "ingress" not in policies["closed"]
        assert only("Namespace", manifests)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    else:
        assert policies.keys() >= {"tadp-ray", "tadp-ray-head", "tadp-submitter", "tadp-data"}
        assert all("Ingress" in policy["policyTypes"] for policy in policies.values())
    open_doors = [rule for policy in policies.values() for rule in policy.get("ingress", ()) if not rule.get("from")]
    assert not open_doors


@variants
def test_images_of_ones_own_are_asked_for_with_the_registrys_password_and_anew(
    variant: str, rendered: Rendered
) -> None:
    """A new build may have the tag of the old one."""
    for name, pod in pods(rendered(variant)):
        own = [one for one in pod["containers"] if one["image"].startswith("mine-REGISTRY/")]
        assert all(one["imagePullPolicy"] == "Always" for one in own), name
        assert not own or pod["imagePullSecrets"] == [{"name": "tadp-registry"}], name


@variants
def test_versions_are_those_of_the_project(variant: str, rendered: Rendered) -> None:
    constraints = (ROOT / "constraints.txt").read_text()
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for version in found(rendered(variant), "rayVersion"):
        assert f"\nray=={version}\n" in constraints
    images = set(found(rendered(variant), "image"))
    own = {image.removeprefix("mine-REGISTRY/") for image in images if image.startswith("mine-REGISTRY/")}
    ray = {f"tadp-ray:{release}-cpu"} | ({f"tadp-ray:{release}-gpu"} if variant != "existing/data" else set())
    assert own == ray | ({f"tadp-mlflow:{release}"} if variant in WHOLE else set())
    assert all(re.search(r":\d+\.\d+", image) for image in images)


def test_the_sweep_is_the_command_of_the_readme(rendered: Rendered) -> None:
    words = only("RayJob", rendered("sweep"))["spec"]["entrypoint"].split()
    assert words[:3] == ["python", "-m", "tadp_ray.sweep"] and (ROOT / words[3]).is_file()


@pytest.mark.parametrize("variant", [*OWN, "existing/data"])
def test_what_is_there_is_named_and_what_is_others_is_left(variant: str, rendered: Rendered) -> None:
    """Claims, MLflow and who signs in there; in a shared namespace no other pod is selected, and nothing is made twice."""
    manifests = rendered(variant)
    assert not {"Namespace", "PersistentVolumeClaim", "Deployment", "StatefulSet"} & {one["kind"] for one in manifests}
    assert not any("namespace" in one["metadata"] for one in manifests)
    selected = [one["spec"]["podSelector"]["matchLabels"]["app"] for one in manifests if one["kind"] == "NetworkPolicy"]
    services = [one["spec"]["selector"]["app"] for one in manifests if one["kind"] == "Service"]
    assert {*selected, *services} <= {"tadp-ray", "tadp-submitter", "tadp-data"}
    for name, pod in pods(manifests):
        claims = {
            one["name"]: one["persistentVolumeClaim"]["claimName"]
            for one in pod["volumes"]
            if len(one) == 2 and "persistentVolumeClaim" in one
        }
        # A volume that is mounted to be read alone keeps its files' owners.
        kept = {one["claimName"]: one.get("readOnly", False) for one in found(pod, "persistentVolumeClaim")}
        assert name == "submitter" or kept == {"mine-RUNS_CLAIM": False, "mine-DATA_CLAIM": name != "data"}, name
        assert claims == ({"runs": "mine-RUNS_CLAIM", "data": "mine-DATA_CLAIM"} if name != "submitter" else {}), name
        assert name == "submitter" or pod["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
        writes = {
            one["mountPath"] for each in pod["containers"] for one in each["volumeMounts"] if "readOnly" not in one
        }
        assert ("/data" in writes) is (name == "data"), name
    if variant in OWN:
        named = dict(pods(manifests))
        assert {"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"} in named["gpu"]["tolerations"]
        env = {one["name"]: one for one in named["head"]["containers"][0]["env"]}
        assert env.pop("MLFLOW_TRACKING_URI")["value"] == "mine-MLFLOW_URI"
        assert int(env.pop("RAY_JOB_STOP_WAIT_TIME_S")["value"]) > 60
        keys = {
            name.rpartition("_")[2].replace("NAME", "").lower(): one["valueFrom"]["secretKeyRef"]
            for name, one in env.items()
        }
        assert {name: one["key"] for name, one in keys.items()} == {
            "user": "mlflow_user",
            "password": "mlflow_password",
            "token": "mlflow_token",
        }


def test_the_sweep_of_ones_own_is_run(rendered: Rendered) -> None:
    """The experiment is a setting, and may be a file of the ConfigMap that the head mounts."""
    assert (
        only("RayJob", rendered("existing/sweep"))["spec"]["entrypoint"] == "python -m tadp_ray.sweep mine-EXPERIMENT"
    )
    for variant in (*WHOLE, *OWN):
        head = dict(pods(rendered(variant)))["head"]
        (own,) = (one["configMap"] for one in head["volumes"] if one["name"] == "own")
        assert own == {"name": "own-experiments", "optional": True}
        assert {"name": "own", "mountPath": "/app/own", "readOnly": True} in head["containers"][0]["volumeMounts"]


@pytest.mark.parametrize("folder", ["docker", "docker/kuberay/base", "docker/kuberay/existing/base"])
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
        text = re.sub(r"(?m)^(\w+)=CHANGE-ME", r"\1=mine-\1", example.read_text())
        example.with_suffix("").write_text(text)
    assert check(tmp_path, 0) == "every value is set\n"
    file = next(tmp_path.glob("*.env.example")).with_suffix("")
    file.write_text(re.sub(r"(?m)^(\w+)=mine-\w+", r"\1=", file.read_text(), count=1))
    assert check(tmp_path, 1).count("a manifest value is missing") == 1


def test_one_claim_for_both_volumes_is_refused(tmp_path: Path) -> None:
    """Pods that mount a claim twice do not start before Kubernetes 1.35."""
    for example in (ROOT / "docker/kuberay/existing/base").glob("*.env.example"):
        shutil.copy(example, tmp_path)
        (tmp_path / example.name).with_suffix("").write_text(example.read_text().replace("CHANGE-ME", "mine"))
    assert "DATA_CLAIM: is RUNS_CLAIM, which Kubernetes before 1.35" in check(tmp_path, 1)


def test_a_folder_without_examples_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        said = subprocess.run([sys.executable, ROOT / "docker/check.py", folder], capture_output=True, text=True)
        assert said.returncode == 1 and said.stdout == "" and f"{folder}: holds no *.env.example" in said.stderr


def check(folder: Path, code: int) -> str:
    """What the command says of a folder."""
    said = subprocess.run([sys.executable, ROOT / "docker/check.py", folder], capture_output=True, text=True)
    assert said.returncode == code, said.stderr
    return said.stdout


@pytest.mark.parametrize(("variants", "base"), [(["sweep"], "base"), ([*OWN, "existing/data"], "existing/base")])
def test_the_examples_ask_for_what_the_manifests_read(variants: list[str], base: str, rendered: Rendered) -> None:
    """What is optional stands there as a comment."""
    folder = ROOT / "docker/kuberay" / base
    read = set(re.findall(r"data\.(\w+)\}", (folder / "kustomization.yaml").read_text()))
    assert read == set(re.findall(r"^(\w+)=", (folder / "settings.env.example").read_text(), re.MULTILINE))
    refs = [entry for variant in variants for entry in found(rendered(variant), "secretKeyRef")]
    asked = (folder / "secrets.env.example").read_text()
    needed = {entry["key"] for entry in refs if "optional" not in entry} | {"auth_token"}
    assert needed == set(re.findall(r"^(\w+)=", asked, re.MULTILINE))
    assert {entry["key"] for entry in refs} - needed == set(re.findall(r"^# (\w+)=", asked, re.MULTILINE))


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
        if one["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield one["metadata"]["name"].removeprefix("tadp-"), one["spec"]["template"]["spec"]
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
