"""A cell gives the same numbers however it is interrupted, shared out or repeated."""

import gc
import itertools
import math
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tadp_ray.backbones.stable_diffusion import load
from tadp_ray.config.cell import Cell
from tadp_ray.config.metrics import known_metrics
from tadp_ray.data.datasets import class_names, thing_names
from tadp_ray.errors import UserError
from tadp_ray.layout import BEST, CHECKPOINT, MODEL, PER_IMAGE
from tadp_ray.sweep.disk import disk_use
from tadp_ray.sweep.kinds import kind_of
from tadp_ray.tasks.depth.scoring import score_depth
from tadp_ray.tasks.detection.scoring import score_detection
from tadp_ray.tasks.per_image import read_per_image
from tadp_ray.tasks.segmentation.metrics import SegmentationMetrics
from tadp_ray.tasks.segmentation.scoring import score_segmentation
from tadp_ray.training import perception
from tadp_ray.training import run as run_module
from tadp_ray.training.checkpoint import read_tensors, write_tensors
from tadp_ray.training.journal import final_metrics, read_journal
from tadp_ray.training.loop import Trainer
from tadp_ray.training.predict import predict_cell
from tadp_ray.training.reporter import Journal
from tadp_ray.training.run import keep_best, train_cell
from tadp_ray.training.setup import Cache
from tadp_ray.training.state import TrainState

CPU = torch.device("cpu")
COSTS = (
    "seconds",
    "text_seconds",
    "start_read_mib",
    "train_seconds_per_step",
    "checkpoint_seconds",
    "peak_memory_gib",
)


def numbers(metrics: dict[str, float]) -> dict[str, float]:
    """Metrics without what the machine's speed enters."""
    return {name: value for name, value in metrics.items() if name not in COSTS}


def loss(cell: Cell) -> float:
    """The last loss of a cell."""
    return [r["metrics"]["loss"] for r in read_journal(cell.folder) if "loss" in r.get("metrics", {})][-1]


class Stopped(RuntimeError):
    """Stands for a killed process."""


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch):
    """Makes training die before an optimizer step."""

    def arm(steps: int | None) -> None:
        step_once = Trainer._train_step

        def dying(self: Trainer, *args: Any) -> torch.Tensor:
            if args[-1] == steps:
                raise Stopped
            return step_once(self, *args)

        monkeypatch.undo() if steps is None else monkeypatch.setattr(Trainer, "_train_step", dying)

    return arm


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"model": {"timestep": [1, 200], "noise_samples": 2}}], ids=["", "noised"])
def test_interrupted_and_resumed_is_never_interrupted(tiny_cell, trained, stop_after, changes) -> None:
    """Bit-equal weights and metrics, though the last steps before the stop are lost."""
    (whole, expected), cut = trained(**changes), tiny_cell("cut", compute={"checkpoint_every": 2}, **changes)
    assert whole.fingerprint == cut.fingerprint
    stop_after(5)
    with pytest.raises(Stopped):
        train_cell(cut, CPU)
    stop_after(None)
    assert (cut.folder / CHECKPOINT).is_file()
    resumed = train_cell(cut, CPU)
    assert numbers(resumed) == numbers(expected)
    *_, start, end = (record["time"] for record in read_journal(cut.folder) if record["type"] != "metrics")
    assert resumed["seconds"] > end - start, "counts earlier sessions, too"

    left, right = load_file(whole.folder / MODEL), load_file(cut.folder / MODEL)
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    assert not (cut.folder / CHECKPOINT).exists()
    kinds = [record["type"] for record in read_journal(cut.folder) if record["type"] != "metrics"]
    assert kinds == ["started", "failed", "started", "finished"]


def test_a_finished_cell_is_not_trained_again(trained, monkeypatch: pytest.MonkeyPatch) -> None:
    cell, first = trained()
    monkeypatch.setattr(run_module, "run", lambda *_: pytest.fail("trained again"))
    assert train_cell(cell, CPU) == first == final_metrics(cell.folder, cell.fingerprint)
    assert {"miou", "accuracy", "best_miou", "best_step", "iou/sky", "caption/val_recall", "parameters"} <= first.keys()
    assert (cell.folder / "predictions.png").is_file()


def score_files(task: str, folder: Path) -> dict[str, float]:
    """The figures of what was predicted into files."""
    classes = (folder / "classes.txt").read_text().splitlines()
    if task == "detection":
        return score_detection(folder / "predictions.json", folder / "targets.json", classes)
    places = folder / "predictions", folder / "targets"
    if task == "depth":
        return score_depth(*places, 1, 1, max_depth=80)
    return score_segmentation(*places, classes)


@pytest.mark.slow
def test_a_finished_cell_leaves_what_each_image_adds_to_its_score_and_predicts_the_same_again(
    tiny_cell, trained, tmp_path
) -> None:
    """By all ids, with the prompt and how well its names fit; and as files that anybody's are scored by; whatever the task."""
    found = {}
    for task, changes, metric in (
        ("segmentation", SAID, "miou"),
        ("depth", DEPTH, "rmse"),
        ("detection", BOXES, "ap50"),
    ):
        cell, metrics = trained(**changes)
        images = found[task] = read_per_image(cell.folder / PER_IMAGE, cell.fingerprint)
        assert images.ids == tuple(f"val-0-{i:06d}" for i in range(5))
        assert images.scores(metric, np.ones((1, 5)))[0] == pytest.approx(metrics[metric], rel=1e-9)
        assert all(image["prompt"] for image in images.images) and set(images.column("precision")) == {1.0}
        assert predict_cell(cell, cell.folder / MODEL, tmp_path / task, CPU) == 5
        assert score_files(task, tmp_path / task)[metric] == pytest.approx(metrics[metric], rel=1e-12)
        assert sorted(path.stem for path in (tmp_path / task / "images").iterdir()) == list(images.ids)
    with pytest.raises(UserError, match="weights of another cell"):
        predict_cell(tiny_cell(), cell.folder / MODEL, tmp_path, CPU)
    with pytest.raises(UserError, match="no such file; the cell's weights were moved or deleted"):
        predict_cell(tiny_cell(), tmp_path / MODEL, tmp_path, CPU)
    shown = (found["segmentation"].areas("truth") > 0).sum(1)
    said = found["segmentation"].column("recall") * shown
    np.testing.assert_allclose(said, said.round(), atol=1e-9)
    assert said.sum() / shown.sum() == pytest.approx(metrics["caption/val_recall"])


@pytest.mark.slow
def test_seed_and_words_change_the_result(tiny_cell, trained, monkeypatch: pytest.MonkeyPatch) -> None:
    first = numbers(trained()[1])
    shared = Cache()
    assert numbers(train_cell(tiny_cell("b"), CPU, cache=shared)) == first
    # The cells of a cache share its frozen weights.
    monkeypatch.setattr(load, "load_diffusion", lambda *_: pytest.fail("weights were read again"))
    assert numbers(train_cell(tiny_cell("c", seed=1), CPU, cache=shared)) != first
    assert numbers(train_cell(tiny_cell("d", caption={"source": "null"}), CPU, cache=shared)) != first


WORKER = """
import sys, torch, torch.distributed as dist
from pathlib import Path
from tadp_ray.config.cell import Cell
from tadp_ray.training.loop import Trainer
from tadp_ray.training.run import keep_best, train_cell

step_once = Trainer._train_step


def dying(self, loss_of, step):
    if cell is stopped and step == 5:
        raise RuntimeError("stopped")
    return step_once(self, loss_of, step)


Trainer._train_step = dying
dist.init_process_group("gloo")
together, grown, stopped = (Cell.model_validate_json(Path(name).read_text()) for name in sys.argv[1:])
for cell in (together, grown, stopped):
    try:
        train_cell(cell, torch.device("cpu"))
    except RuntimeError:
        assert cell is stopped
"""


@pytest.mark.slow
def test_two_processes_train_what_one_does(tiny_cell, stop_after, distributed, tmp_path: Path) -> None:
    """Same images, noise, dropout and statistics; only the order of additions differs.

    An interrupted cell may go on with more processes, or with fewer: the global batch stays.
    """
    accumulating, two = {"schedule": {"micro_batch": 2}}, {"num_train_workers": 2}
    alone, together = tiny_cell("alone", **accumulating), tiny_cell("together", **accumulating, compute=two)
    assert alone.fingerprint == together.fingerprint
    expected = train_cell(alone, CPU)
    cells = [together]
    for name in ("grown", "shrunk"):
        cells.append(tiny_cell(name, **accumulating, compute={"checkpoint_every": 2, **two}))
    grown, shrunk = cells[1:]
    stop_after(5)
    with pytest.raises(Stopped):
        train_cell(grown, CPU)
    stop_after(None)

    (tmp_path / "worker.py").write_text(WORKER)
    files = [tmp_path / f"{index}.json" for index in range(len(cells))]
    for cell, file in zip(cells, files, strict=True):
        file.write_text(cell.model_dump_json())
    distributed(2, tmp_path / "worker.py", *files)
    assert final_metrics(shrunk.folder, shrunk.fingerprint) is None
    train_cell(shrunk, CPU)

    # Gradients are compared elsewhere. Weights are not compared: AdamW makes whole steps of what is rounding alone, as in
    # the biases before a batch norm.
    whole = read_per_image(alone.folder / PER_IMAGE, alone.fingerprint)
    for cell in cells:
        assert loss(cell) == pytest.approx(loss(alone), rel=1e-3)
        assert final_metrics(cell.folder, cell.fingerprint)["miou"] == pytest.approx(expected["miou"], abs=1)
        shares = read_per_image(cell.folder / PER_IMAGE, cell.fingerprint)
        assert shares.ids == whole.ids and (shares.areas("truth") == whole.areas("truth")).all()
    for cell in (grown, shrunk):
        resumed = [record["step"] for record in read_journal(cell.folder) if "checkpoint" in record]
        assert resumed == [2, 4, 4]


def test_recomputed_activations_change_no_number(tiny_cell, trained) -> None:
    (plain, expected), thrifty = trained(), tiny_cell("thrifty", compute={"gradient_checkpointing": True})
    assert plain.fingerprint == thrifty.fingerprint
    assert numbers(expected) == numbers(train_cell(thrifty, CPU))


def test_lower_precision_trains_nearly_alike(tiny_cell, trained) -> None:
    (whole, _), half = trained(), tiny_cell("half", schedule={"precision": "bfloat16"})
    train_cell(half, CPU)
    assert loss(half) != loss(whole) and loss(half) == pytest.approx(loss(whole), rel=0.05)


SAID = {"caption": {"recall": 0.5}}
DEPTH = {
    **SAID,
    "task": "depth",
    "model": {
        "weights": "pocket",
        "attention_maps": "none",
        "head": {"kind": "vpd_depth", "fused": 32, "channels": 16, "max_depth": 80},
    },
}
BOXES = {
    **SAID,
    "task": "detection",
    "model": {
        "head": {"kind": "faster_rcnn", "channels": 16, "representation": 32, "anchors": [8, 16, 32, 48]},
    },
}
PASCAL = {
    "augment": {"scale": [0.5, 2.0], "crop": 32, "stretch": 32, "colour": "hsv"},
    "model": {"head": {"kind": "smp_fpn", "pyramid": 32, "channels": 64}},
    "evaluation": {"interval": 3, "score_at": "view", "multi_scale": [1.0, 2.0]},
    "data": {"extra_styles": ["night"]},
}
SEVERAL = {
    "model": {
        "latent": "vpd",
        "adapter": True,
        "pixel_normalization": "imagenet",
        "head": {"channels": 16},
    },
    "caption": {"source": "class_names", "encoding": "class_embeddings", "templates": "single"},
    "evaluation": {"interval": 3, "mode": "slide", "crop": 32, "stride": 16, "scales": [1.0, 1.5], "flip": True},
}


@pytest.mark.parametrize(
    ("changes", "figures"),
    [
        (DEPTH, {"rmse", "best_rmse", "delta1", "silog"}),
        pytest.param(BOXES, {"ap50", "best_ap50", "ap", "coco_ap"}, marks=pytest.mark.slow),
        pytest.param(PASCAL, {"miou", "best_miou", "miou/night", "miou/multi_scale"}, marks=pytest.mark.slow),
        pytest.param(SEVERAL, {"miou", "best_miou"}, marks=pytest.mark.slow),
    ],
)
def test_every_task_is_interrupted_and_resumed_like_segmentation(
    tiny_cell, trained, stop_after, changes, figures
) -> None:
    (whole, expected), cut = trained(**changes), tiny_cell("cut", **changes, compute={"checkpoint_every": 2})
    known = known_metrics(whole.recipe, class_names(whole.recipe.data), thing_names(whole.recipe.data))
    assert figures <= expected.keys() <= {*known}
    assert (whole.folder / "predictions.png").is_file()
    stop_after(5)
    with pytest.raises(Stopped):
        train_cell(cut, CPU)
    stop_after(None)
    assert numbers(train_cell(cut, CPU)) == pytest.approx(numbers(expected), rel=0, abs=0, nan_ok=True)


@pytest.mark.slow
def test_what_trains_a_cell_loads_no_library_before_it_is_used() -> None:
    """Processes that predict, or find a cell finished, need few of them, and loading all takes seconds."""
    libraries = {"albumentations", "diffusers", "matplotlib", "mlflow", "mmseg", "pandas", "ray", "scipy", "sklearn"}
    libraries |= {"pycocotools", "segmentation_models_pytorch", "torch._inductor", "torchvision", "transformers"}
    script = (
        "import sys, tadp_ray.training.run\nfrom tadp_ray.training.precision import deterministic_algorithms\n"
        f"with deterministic_algorithms(False): print({libraries!r} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=900)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr


@pytest.mark.slow
def test_the_core_trains_without_ray_and_mlflow(tiny_cell, tmp_path: Path) -> None:
    """Three steps in a process that cannot import either, and that loads no library of other tasks, heads or commands."""
    cell = tiny_cell(schedule={"iterations": 3})
    (tmp_path / "cell.json").write_text(cell.model_dump_json())
    script = (
        "import sys; sys.modules['ray'] = sys.modules['mlflow'] = None\n"
        "import torch\nfrom pathlib import Path\n"
        "from tadp_ray.config.cell import Cell\nfrom tadp_ray.training.run import train_cell\n"
        "print(train_cell(Cell.model_validate_json(Path(sys.argv[1]).read_text()), torch.device('cpu'))['miou'])\n"
        "print({'pandas', 'pycocotools', 'segmentation_models_pytorch', 'sklearn', 'sqlalchemy'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "cell.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    miou, others = done.stdout.splitlines()
    assert float(miou) == final_metrics(cell.folder, cell.fingerprint)["miou"]
    assert others == "set()"


@pytest.mark.slow
def test_a_flipped_bit_in_latents_changes_no_number(tiny_cell, capsys) -> None:
    """Those of training and evaluation views are shared by all later cells: checked whenever opened, and made afresh."""
    first, second = tiny_cell(), tiny_cell(seed=1)
    expected = train_cell(tiny_cell("elsewhere", seed=1), CPU)
    train_cell(first, CPU)
    files = sorted((first.recipe.compute.folder / "latents").glob("*/*.safetensors"))
    assert len(files) == 2
    whole = {file: {name: latent.clone() for name, latent in load_file(file).items()} for file in files}
    for file in files:
        content = bytearray(file.read_bytes())
        content[-1] ^= 0x40  # the exponent of one number
        file.write_bytes(content)
    capsys.readouterr()
    assert numbers(train_cell(second, CPU)) == numbers(expected)
    said = sorted(capsys.readouterr().err.splitlines())
    assert said == [f"{file}: damaged (it does not hold what was written); made afresh" for file in files]
    for file in files:
        made = load_file(file)
        assert made.keys() == whole[file].keys()
        assert all(torch.equal(made[name], latent) for name, latent in whole[file].items())


def test_the_journal_of_another_training_is_refused_and_says_nothing_of_this_one(tiny_cell) -> None:
    """A folder copied by hand, or one whose name of 16 letters is the same by chance."""
    done, other = tiny_cell("a"), tiny_cell("b", seed=1)
    with Journal(done.folder, done.fingerprint) as journal:
        journal.finish(6, {"miou": 50.0})
    shutil.copytree(done.folder, other.folder)
    assert final_metrics(done.folder, done.fingerprint) == {"miou": 50.0}
    assert final_metrics(other.folder, other.fingerprint) is None
    said = (
        f"journal.jsonl: of another training \\({done.fingerprint[:16]}, this is {other.fingerprint[:16]}\\); move this"
    )
    before = (other.folder / "journal.jsonl").read_bytes()
    with pytest.raises(UserError, match=said):
        train_cell(other, CPU)
    assert (other.folder / "journal.jsonl").read_bytes() == before


@pytest.mark.slow
def test_a_checkpoint_of_another_cell_is_refused(tiny_cell, stop_after) -> None:
    cell, other = tiny_cell("a", compute={"checkpoint_every": 2}), tiny_cell("b", seed=1)
    stop_after(5)
    with pytest.raises(Stopped):
        train_cell(cell, CPU)
    stop_after(None)
    other.folder.mkdir(parents=True)
    shutil.copy(cell.folder / CHECKPOINT, other.folder / CHECKPOINT)
    with pytest.raises(UserError, match=f"checkpoint of another cell.*{cell.fingerprint[:16]}.*Delete it"):
        train_cell(other, CPU)


@pytest.mark.slow
def test_a_cell_writes_no_more_than_its_plan_counts(tiny_cell, stop_after, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = tiny_cell(compute={"checkpoint_every": 1})
    use = disk_use([cell], [kind_of([cell], {}, Cache)], 2, None)
    written = lambda: sum(file.stat().st_size for file in cell.folder.glob("*.safetensors"))
    first_is_best = lambda metric: lambda value: 0
    monkeypatch.setattr(perception, "best_first", first_is_best)
    stop_after(5)
    with pytest.raises(Stopped):
        train_cell(cell, CPU)
    # Two checkpoints and the best weights; a third checkpoint is there while it is written. Of so small weights, the names are a
    # tenth of a file.
    assert written() == pytest.approx(use.training * 28 / 40, rel=0.15)
    stop_after(None)
    monkeypatch.setattr(perception, "best_first", first_is_best)
    train_cell(cell, CPU)
    assert written() == pytest.approx(use.finished, rel=0.15)
    assert use.most == use.training and use.cells == 1 and use.free is None


def test_the_best_weights_are_kept_beside_the_last(tiny_cell, monkeypatch: pytest.MonkeyPatch) -> None:
    later = itertools.count()
    monkeypatch.setattr(perception, "best_first", lambda metric: lambda value: 0)  # the first evaluation stays the best
    cell = tiny_cell()
    assert train_cell(cell, CPU)["best_step"] == 3
    assert [read_tensors(cell.folder / name)[1]["step"] for name in (BEST, MODEL)] == [3, 6]
    monkeypatch.setattr(perception, "best_first", lambda metric: lambda value: next(later))
    other = tiny_cell("other")
    assert train_cell(other, CPU)["best_step"] == 6 and not (other.folder / BEST).exists()


def test_a_number_is_better_than_none(tiny_cell, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter((math.nan, 20.0))
    compute = SegmentationMetrics.compute
    monkeypatch.setattr(SegmentationMetrics, "compute", lambda self: compute(self) | {"miou": next(values)})
    metrics = train_cell(tiny_cell(), CPU)
    assert (metrics["best_miou"], metrics["best_step"]) == (20.0, 6)


def test_a_diverging_cell_says_so(tiny_cell) -> None:
    cell = tiny_cell(
        schedule={"learning_rate": 1.0, "backbone_lr_mult": 10.0, "iterations": 20, "warmup_iterations": 0}
    )
    with pytest.raises(UserError, match=r"the loss is .*; lower schedule.learning_rate=1.0"):
        train_cell(cell, CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_never_silently_a_cpu(tiny_cell) -> None:
    with pytest.raises(UserError, match="sees no GPU here; install a torch .* or set compute.gpus: 0"):
        train_cell(tiny_cell(), torch.device("cuda"))


@pytest.mark.parametrize(("device", "compiler"), [("cuda", "gcc"), ("cpu", r"g\+\+")])
def test_a_compiled_training_without_a_compiler_ends_at_once(
    tiny_cell, monkeypatch: pytest.MonkeyPatch, device: str, compiler: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("shutil.which", lambda _: None)
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=f"compute.compile: true, but there is no {compiler} here, which torch needs"):
        train_cell(tiny_cell(compute={"compile": True}), torch.device(device))


def test_a_compiled_training_without_python_s_headers_ends_at_once(
    tiny_cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": str(tmp_path)})
    with pytest.raises(UserError, match=r"there is no Python\.h \(python3-dev\) here"):
        train_cell(tiny_cell(compute={"compile": True}), torch.device("cuda"))


@pytest.mark.parametrize(("gpus", "share"), [(0.5, 0.5), (1, 1.0)])
def test_cells_that_share_a_gpu_leave_each_other_its_memory(
    tiny_cell, monkeypatch: pytest.MonkeyPatch, gpus: float, share: float
) -> None:
    shares = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda.memory, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch._C, "_cuda_setMemoryFraction", lambda part, device: shares.append(part), raising=False)
    monkeypatch.setattr("tadp_ray.training.run._run", lambda *_: {"miou": 1.0})
    assert train_cell(tiny_cell(compute={"gpus": gpus}), torch.device("cuda")) == {"miou": 1.0}
    assert shares == [share]


def test_a_gpu_that_is_too_small_is_no_bug(tiny_cell, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhaust(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of")

    monkeypatch.setattr("tadp_ray.training.run._run", exhaust)
    told = r"does not suffice \(CUDA out of memory. Tried to allocate 2.00 GiB\); lower schedule.micro_batch=\d+, or set compute"
    with pytest.raises(UserError, match=told):
        train_cell(tiny_cell(), CPU)


@pytest.mark.parametrize(("step", "kept"), [(3, True), (5, False)])
def test_weights_of_another_evaluation_are_not_kept_as_the_best(tmp_path: Path, step: int, kept: bool) -> None:
    """As a process leaves them that was killed after an evaluation and before its next checkpoint."""
    write_tensors(tmp_path / BEST, {"a": torch.ones(1)}, {"step": step})
    keep_best(tmp_path / BEST, TrainState(step=6, best=1.0, best_step=3))
    assert (tmp_path / BEST).is_file() == kept


def test_one_process_at_a_time_trains_a_cell(tmp_path: Path) -> None:
    with Journal(tmp_path, "f"):
        with pytest.raises(UserError, match="another process is using this folder"):
            Journal(tmp_path, "f", patience=0.0)
    # A lock ends with its holder.
    with Journal(tmp_path, "f", patience=0.0):
        pass


@pytest.mark.slow
def test_a_process_forgets_the_networks_of_its_earlier_cells(
    tiny_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in cycles, and Python would keep a dozen of them until it collects garbage by itself."""
    build, weights, alive = run_module.build_model, list[weakref.ref](), list[int]()

    def noted(*arguments: Any) -> torch.nn.Module:
        alive.append(sum(weight() is not None for weight in weights))
        made = build(*arguments)
        weights.extend(map(weakref.ref, made.parameters()))
        return made

    monkeypatch.setattr(run_module, "build_model", noted)
    gc.disable()
    try:
        for seed in range(2):
            train_cell(tiny_cell(seed=seed, schedule={"iterations": 2, "warmup_iterations": 0}), CPU)
    finally:
        gc.enable()
    assert alive == [0, 0]


@pytest.mark.slow
def test_images_may_have_no_score_of_things_but_have_the_main_one(
    tiny_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = tiny_cell(schedule={"iterations": 2, "warmup_iterations": 0}, evaluation={"interval": 1})
    monkeypatch.setattr(SegmentationMetrics, "compute", lambda _: {"mIoU": 1.0, "accuracy": 2.0})
    with pytest.raises(
        UserError, match=r"'segmentation': compute .* returned mIoU, accuracy without the main metric; name it miou,"
    ):
        train_cell(cell, CPU)
    monkeypatch.setattr(SegmentationMetrics, "compute", lambda _: {"miou": 1.0, "accuracy": 2.0})
    assert "miou_things" not in train_cell(cell, CPU)
