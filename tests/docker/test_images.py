"""The images and the cluster for one machine: pinned, closed, on loopback, without a secret. Nothing here builds them."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
SERVICES = COMPOSE["services"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text()

services = pytest.mark.parametrize("name", SERVICES)


def stages() -> dict[str, str]:
    """The Dockerfile's stages by name."""
    parts = re.split(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_everything_is_installed_by_the_constraints() -> None:
    installs = re.findall(r"pip install ((?:[^&\n\\]|\\\n)+)", DOCKERFILE)
    assert len(installs) >= 4
    assert all("--constraint constraints.txt" in words for words in installs)
    for extra in ("psycopg2-binary", "boto3", "botocore", "s3transfer", "Flask-WTF"):
        assert re.search(rf"^{extra}==", CONSTRAINTS, re.MULTILINE | re.IGNORECASE), f"{extra} is not pinned"


def test_the_python_is_the_one_that_the_versions_were_tried_with() -> None:
    (version,) = re.findall(r"^ARG PYTHON=(\d+\.\d+)\.\d+$", DOCKERFILE, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tried = [line.rpartition(" :: ")[2] for line in project["classifiers"] if line.startswith("Programming Language")]
    assert version == tried[0] and f"(Python {', '.join(tried[:-1])} and {tried[-1]})" in CONSTRAINTS
    assert project["requires-python"] == f">={version}"


def test_dependencies_come_before_the_source_and_compilers_stay_behind() -> None:
    assert stages()["ray"].index("COPY --from=dependencies") < stages()["ray"].index("COPY tadp_ray")
    assert [name for name, text in stages().items() if "build-essential" in text] == ["build"]
    assert not any(re.search(rf"^FROM build.* AS {name}$", DOCKERFILE, re.MULTILINE) for name in ("ray", "mlflow"))


def test_the_image_keeps_the_commit_that_it_is_built_from() -> None:
    """The environment variable is the one that provenance reads; every build of ours passes the commit on."""
    from tadp_ray.training.provenance import IMAGE_COMMIT

    text = stages()["ray"]
    assert text.index("COPY tadp_ray") < text.index("ARG COMMIT=\n") < text.index(f"ENV {IMAGE_COMMIT}=${{COMMIT}}")
    built = [one["build"] for one in SERVICES.values() if one.get("build", {}).get("target") == "ray"]
    assert len(built) == 4 and all(one["args"]["COMMIT"] == "${COMMIT:-}" for one in built)
    documented = re.findall(r"^#   docker build .*--target ray.*$", DOCKERFILE, re.MULTILINE)
    assert len(documented) == 2 and all("--build-arg COMMIT=$COMMIT" in line for line in documented)


@pytest.mark.parametrize("target", ["ray", "mlflow", "objects"])
def test_images_run_without_root_and_tell_whether_they_are_well(target: str) -> None:
    text = stages()[target]
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == ["1000"]
    assert "HEALTHCHECK" in text


def test_no_secret_and_no_checkout_gets_into_an_image() -> None:
    assert not re.search(r"^(ARG|ENV)?\s*\w*(PASSWORD|TOKEN|SECRET|_KEY)\w*=", DOCKERFILE, re.MULTILINE)
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert allowed[1] == "*" and not any(line.startswith("!") and "docker" in line for line in allowed)
    copied = re.findall(r"^COPY (?!--from|<<)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    assert names <= {line[1:] for line in allowed if line.startswith("!")}
    assert all((ROOT / name).exists() for name in names)


@services
def test_services_are_closed_and_bounded(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"] and "/tmp" in service["tmpfs"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert not {"privileged", "network_mode", "pid"} & service.keys()


@services
def test_ports_are_on_loopback(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))


@services
def test_images_are_pinned_or_built_here(name: str) -> None:
    service = SERVICES[name]
    assert re.search(r":\d+\.\d+", service["image"])
    if "build" in service:
        assert service["build"]["target"] in stages()
        assert (ROOT / "docker" / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        assert service["image"].split(":")[1].split("-")[0] == release
    else:
        assert service["user"] != "root" and "healthcheck" in service


@services
def test_a_service_waits_until_those_it_needs_are_well(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        assert needed in SERVICES and how == {"condition": "service_healthy"}


def test_secrets_come_from_the_environment_and_their_lack_is_told() -> None:
    """Compose itself refuses to start and names what is missing."""
    asked: set[str] = set()
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|TOKEN|SECRET|ACCESS_KEY", key):
                asked.add(re.fullmatch(r"\$\{(\w+):\?docker/\.env lacks it\}", value)[1])
    example = (ROOT / "docker/.env.example").read_text()
    assert asked == set(re.findall(r"^(\w+)=CHANGE-ME$", example, re.MULTILINE))


def test_all_nodes_and_the_sweep_share_the_runs() -> None:
    ray = {name: one for name, one in SERVICES.items() if one.get("build", {}).get("target") == "ray"}
    assert ray.keys() == {"head", "worker", "gpu-worker", "sweep"}
    assert all(one["volumes"] == ["runs:/app/runs"] for one in ray.values())
    assert all(one["environment"]["RAY_AUTH_MODE"] == "token" for one in ray.values())
    volumes: set[Any] = {mount.split(":")[0] for one in SERVICES.values() for mount in one.get("volumes", ())}
    assert volumes == COMPOSE["volumes"].keys()
    address = SERVICES["sweep"]["environment"]["MLFLOW_TRACKING_URI"]
    allowed = re.search(r"MLFLOW_SERVER_ALLOWED_HOSTS=(\S+)", DOCKERFILE)[1].split(",")
    assert address.removeprefix("http://") in allowed
    assert (ROOT / SERVICES["sweep"]["command"][0]).is_file()
