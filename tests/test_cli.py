"""What the commands say, and that they say it before anything is spent."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tadp_ray.conditioning.text_encoder import read_class_embeddings
from tadp_ray.files import acquire_lock
from tadp_ray.paper.pocket import gate
from tadp_ray.tracking.findings import findings
from tests.fixtures.cli import invoke

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--set", "schedule.iteration=3"], "did you mean 'iterations'?"),
        (["--set", "caption.precision=0"], "sweep.yaml varies this key; select its values with --only"),
        (["--set", "schedule.learning_rate=-1"], "schedule.learning_rate=-1: Input should be greater than 0"),
        (["--seeds", "0,x"], "expected distinct integers"),
        (["--seeds", "0,00"], "expected distinct integers"),
        (["--set", "model.weights=./nowhere"], "there is no such folder or file"),
        (["--tracking-uri", "http://127.0.0.1:9"], "MLflow at http://127.0.0.1:9 does not answer"),
        (["--recipe", "missing.yaml"], "missing.yaml: no such file"),
    ],
)
def test_bad_input_is_refused_in_one_message(experiment: Path, tmp_path: Path, flags: list[str], said: str) -> None:
    result = invoke("sweep", experiment, "--set", f"compute.storage={tmp_path}/runs", *flags)
    assert result.exit_code == 2 and result.stderr.startswith("error: ") and said in result.stderr
    assert "Traceback" not in result.output and not (tmp_path / "runs").exists()


def test_two_sweeps_on_the_same_storage_are_refused(experiment: Path, tmp_path: Path, store) -> None:
    (tmp_path / "runs").mkdir()
    lock = acquire_lock(tmp_path / "runs/sweep.lock")
    flags = ["--set", f"compute.storage={tmp_path}/runs", "--tracking-uri", store.uri]
    result = invoke("sweep", experiment, *flags)
    lock.release()
    assert result.exit_code == 2 and "another process is using this folder" in result.stderr
    assert store.client.search_experiments(filter_string="name = 'tiny'") == []


def test_a_table_without_a_sweep_says_where_to_look(experiment: Path, store) -> None:
    result = invoke("table", experiment, "--tracking-uri", store.uri)
    assert result.exit_code == 2 and "holds no sweep of tiny at pocket scale" in result.stderr


@pytest.mark.parametrize(
    "words", [["table", "experiments/prec_recall.yaml"], ["report", "out"], ["predict", "run", "out"]]
)
def test_a_store_that_is_not_there_is_missed_and_not_made(words: list[str], tmp_path: Path) -> None:
    result = invoke(*words, "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db")
    assert result.exit_code == 2 and f"{tmp_path}/mlflow.db: there is no such store" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_only_a_finished_cell_predicts(store, tmp_path: Path) -> None:
    (tmp_path / "used/images").mkdir(parents=True)
    result = invoke("predict", "0" * 32, tmp_path / "used", "--tracking-uri", store.uri)
    assert result.exit_code == 2 and f"{tmp_path}/used: not empty" in result.output, result.output
    result = invoke("predict", "0" * 32, tmp_path / "out", "--tracking-uri", store.uri)
    assert result.exit_code == 2 and f"holds no run {'0' * 32}" in result.stderr
    run = store.client.create_run(store.experiment_id("tiny"), run_name="tiny (pocket)").info.run_id
    result = invoke("predict", run, tmp_path / "out", "--tracking-uri", store.uri)
    assert result.exit_code == 2 and "(tiny (pocket), RUNNING) is not a finished cell" in result.stderr


@pytest.mark.slow
def test_the_paper_s_training_is_planned_without_its_data_and_weights() -> None:
    """Stable Diffusion 1.5 at 512 x 512: 859.5 M U-Net parameters, 1.12 TFLOP for the VAE, 0.80 forward and 1.67 backward.

    Fused attention computes its scores again in the backward pass."""
    result = invoke("train", ROOT / "experiments/recipes/ade20k_fast_4k.yaml", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "is missing; using the sizes of Stable Diffusion 1.5" in result.stdout
    parts, groups = (
        {line[:24].strip(): line[24:].replace(",", "").split() for line in lines.splitlines()}
        for lines in result.stdout.split("optimizer group")
    )
    assert parts["VAE encoder"][1:] == ["1116.658", "0.000"]
    assert parts["backbone"] == ["859508800", "803.179", "1665.580"]
    assert groups["backbone"] == ["859309120", "1.60e-05"] and groups["head"][1] == "1.60e-04"
    assert "one step of 16 images" in result.stdout and "weight_decay_rule: all_but_norms" in result.stdout


def test_class_embeddings_are_written_for_named_classes(tmp_path: Path) -> None:
    file = tmp_path / "three.safetensors"
    assert invoke("caption", "class-embeddings", file, "--classes", "cat, dog, sky").exit_code == 0
    assert read_class_embeddings(file, ["cat", "dog", "sky"], 64).keys() == {"cat", "dog", "sky"}
    result = invoke("caption", "class-embeddings", file, "--data", "ade")
    assert result.exit_code == 2 and "'ade' is not a published data set; " in result.stderr


def test_class_embeddings_replace_no_file_that_is_read_and_end_as_recipes_read_them(tmp_path: Path) -> None:
    names, listed = tmp_path / "names.txt", tmp_path / "names.safetensors"
    for file in (names, listed):
        file.write_text("cat\ndog\n")
    for file, said in (
        (names, f"{names}: is a .safetensors file; let its name end in that, e.g. names.safetensors"),
        (tmp_path / "e.pth", "e.pth: is a .safetensors file"),
        (listed, f"{listed}: is a file that is read, which would be lost; name another file"),
    ):
        result = invoke("caption", "class-embeddings", file, "--classes", listed)
        assert result.exit_code == 2 and said in result.stderr
    assert names.read_text() == listed.read_text() == "cat\ndog\n" and not (tmp_path / "e.pth").exists()
    made = tmp_path / "new/e.safetensors"
    assert invoke("caption", "class-embeddings", made, "--classes", names, "--single").exit_code == 0 and made.is_file()


def test_a_style_that_cannot_be_measured_is_an_error_without_a_table(tmp_path: Path) -> None:
    result = invoke("pocket", "style", tmp_path)
    assert result.exit_code == 2 and "holds no finished personalization" in result.stderr and not result.stdout


def test_pictures_of_the_world(tmp_path: Path) -> None:
    assert invoke("pocket", "show", tmp_path / "new/scenes.png", "--count", 4, "--size", 32).exit_code == 0
    assert (tmp_path / "new/scenes.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_the_pocket_report_holds_gate_and_pictures(tmp_path: Path, store, monkeypatch) -> None:
    # What is found is not looked at here, so that little is drawn and measured.
    monkeypatch.setattr(gate, "DRAWING_STEPS", 2)
    scenes = gate.held_out
    monkeypatch.setattr(gate, "held_out", lambda size, count=32: scenes(size, count))
    monkeypatch.setattr(gate, "DRAWINGS", 24)
    result = invoke("pocket", "report", tmp_path, "--json", "--log", "--tracking-uri", store.uri)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads((tmp_path / "report.json").read_text())
    found = json.loads(result.stdout)["gate"]
    assert found["attention/pointing"] > found["attention/chance"]
    assert "What the pocket model knows" in (tmp_path / "report.md").read_text()
    kept = findings(store, tmp_path / "kept")["pocket_gate"]
    assert kept.numbers == found and len(kept.claims) == 4 and kept.pictures == ("drawings.png", "attention.png")
    for name in ("drawings.png", "attention.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["report", "schema", "dashboard"])
def test_light_commands_load_neither_torch_nor_ray(command: str, tmp_path: Path, empty_database: Path) -> None:
    words = {
        "report": ["--experiments", str(ROOT / "experiments"), "--tracking-uri", f"sqlite:///{empty_database}"],
        "schema": [str(tmp_path)],
        "dashboard": ["--tracking-uri", "http://127.0.0.1:9"],
    }[command]
    script = (
        "import sys\nfrom tadp_ray.cli import app\n"
        f"try: app({[command, *words]!r})\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'ray'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=900, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


HEAVY = ("torch", "ray", "mlflow", "numpy", "pandas", "scipy", "PIL", "matplotlib", "sklearn", "pyarrow", "sqlalchemy")
HEAVY += ("transformers", "diffusers", "huggingface_hub", "albumentations", "cv2", "jinja2", "ruamel")


def loaded(words: list[object], folder: Path) -> tuple[str, list[str]]:
    """What a command says, and the modules among `HEAVY` that it loads."""
    script = (
        "import sys\nfrom tadp_ray.cli import app\n"
        f"try: app({[str(word) for word in words]!r})\nexcept SystemExit: pass\n"
        f"print(sorted({{*{HEAVY!r}}} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=900, cwd=folder)
    return done.stdout + done.stderr, eval(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["sweep", "--help"], ["pocket", "--help"]])
def test_help_and_version_load_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    said, modules = loaded(words, tmp_path)
    assert modules == [] and ("Usage: " in said or "tadp-ray 0." in said), said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "said"),
    [
        ("address", "--address 127.0.0.1:9: no Ray cluster answers there"),
        ("file", "did you mean 'question'?"),
        ("storage", "another process is using this folder"),
    ],
)
def test_what_is_wrong_is_told_before_anything_heavy_is_loaded(
    problem: str, said: str, experiment: Path, tmp_path: Path
) -> None:
    flags = ["--set", f"compute.storage={tmp_path}/runs", "--tracking-uri", f"sqlite:///{tmp_path}/new.db"]
    if problem == "file":
        experiment.write_text(experiment.read_text().replace("question:", "questoin:"))
    (tmp_path / "runs").mkdir()
    lock = acquire_lock(tmp_path / "runs/sweep.lock") if problem == "storage" else None
    flags += ["--address", "127.0.0.1:9"] if problem == "address" else []
    output, modules = loaded(["sweep", experiment, *flags], tmp_path)
    if lock:
        lock.release()
    assert said in output, output
    assert not {"torch", "ray", "mlflow", "transformers", "diffusers", "scipy", "pandas"} & {*modules}
    assert not (tmp_path / "new.db").exists()


def test_a_sweep_names_its_phases_from_the_start(experiment: Path, tmp_path: Path) -> None:
    result = invoke(
        "sweep", experiment, "--set", f"compute.storage={tmp_path}/runs", "--tracking-uri", "http://127.0.0.1:9"
    )
    said = result.stdout.splitlines()
    assert said == [f"checking {experiment}", "hashing data", "hashing weights", "opening MLflow's store"]
