"""What a precision means, what obeys it, and what does not depend on it; deterministic algorithms."""

import platform
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from tadp_ray.config.cell import Cell
from tadp_ray.config.context import DEFAULT_CONTEXT
from tadp_ray.config.recipe import EvaluationConfig
from tadp_ray.errors import UserError
from tadp_ray.sweep.plan import Plan
from tadp_ray.tasks.base import bilinear
from tadp_ray.training import gpu
from tadp_ray.training.context_cache import ContextCache
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.evaluate import outputs
from tadp_ray.training.latents import evaluation_latents
from tadp_ray.training.perception import PerceptionTraining
from tadp_ray.training.precision import allow_tf32, autocast, deterministic_algorithms, fast_bfloat16
from tadp_ray.training.run import build_model, train_cell
from tadp_ray.training.setup import TrainSetup

CPU = torch.device("cpu")


def tf32() -> tuple[bool, bool]:
    """Whether matrix products and convolutions in float32 use TF32 on GPUs."""
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(
    ("precision", "on_gpus", "kind"),
    [("float32", False, torch.float32), ("tf32", True, torch.float32), ("bfloat16", True, torch.bfloat16)],
)
def test_a_precision_is_that_of_products_and_convolutions(precision: str, on_gpus: bool, kind: torch.dtype) -> None:
    allow_tf32(precision != "tf32")
    with autocast(CPU, precision):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
        convolved = torch.conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2))
    assert product.dtype == convolved.dtype == kind
    # The backward pass follows, which is outside of autocast.
    assert tf32() == (on_gpus, on_gpus)


def test_texts_are_encoded_in_float32_whatever_was_computed_before() -> None:
    """Cells of every precision share them."""
    seen = []
    cache = ContextCache(lambda prompts: seen.append(tf32()) or [torch.zeros(2, 3)])
    allow_tf32(True)
    assert cache(["a cat"]).shape == (1, 2, 3)
    assert seen == [(False, False)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_evaluation_computes_in_the_recipes_precision_and_averages_in_float32(precision: str) -> None:
    setup = SimpleNamespace(
        recipe=SimpleNamespace(
            evaluation=EvaluationConfig(),
            schedule=SimpleNamespace(precision=precision, images_per_pass=2),
            model=SimpleNamespace(context=DEFAULT_CONTEXT),
        ),
        task=SimpleNamespace(probabilities=torch.sigmoid, upsample=bilinear),
        evaluated_size=lambda index, factor=1.0: (32, 32),
        scored_size=lambda index: (32, 32),
        multiple=32,
        val=SimpleNamespace(ids=["a", "b", "c"]),
        val_prompts={"a": "", "b": "", "c": ""},
        contexts=lambda prompts: torch.ones(len(prompts), 4, 4),
    )
    kinds = []

    def model(latents: torch.Tensor, contexts: torch.Tensor, **_: object) -> torch.Tensor:
        mixed = latents @ contexts[:, None]
        kinds.append((len(mixed), mixed.dtype))
        return mixed

    model.backbone = SimpleNamespace(noise_samples=0)
    latents = {f"{index}/1/0": torch.full((1, 4, 4), float(index)) for index in range(3)}
    found = dict(outputs(model, setup, latents, range(3), CPU))
    assert kinds == [(2, getattr(torch, precision)), (1, getattr(torch, precision))]
    assert {output.dtype for output in found.values()} == {torch.float32}
    assert [float(output.mean()) for output in found.values()] == [0, 4, 8]


@pytest.mark.slow
def test_latents_of_evaluation_views_have_the_recipes_precision(tiny_cell: Callable[..., Cell]) -> None:
    """Cells of another precision have files of their own."""
    found = []
    for precision in ("float32", "tf32", "bfloat16"):
        cell = tiny_cell(schedule={"precision": precision})
        setup = TrainSetup(cell.recipe, 0)
        model = build_model(setup, CPU)
        found.append(dict(evaluation_latents(cell.digests, setup, model, CPU, ProcessGroup())))
    single, tf32_latents, half = found
    assert all(torch.equal(latent, tf32_latents[key]) for key, latent in single.items())  # a CPU has no TF32
    assert not any(torch.equal(latent, half[key]) for key, latent in single.items())
    assert all(torch.allclose(latent, half[key], atol=0.1) for key, latent in single.items())
    assert len(list((cell.recipe.compute.folder / "latents").iterdir())) == 3


@pytest.mark.slow
def test_a_deterministic_training_on_a_cpu_is_any_training(tiny_cell, trained) -> None:
    plain, expected = trained()
    cell = tiny_cell("deterministic", compute={"deterministic": True})
    assert plain.fingerprint == cell.fingerprint
    assert train_cell(cell, CPU)["miou"] == expected["miou"]
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_training_refuses_an_operation_without_a_deterministic_algorithm(
    tiny_cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(*_: object) -> torch.Tensor:
        return torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]))

    monkeypatch.setattr(PerceptionTraining, "_loss", put)
    with pytest.raises(UserError, match="compute.deterministic: true: put_ has no deterministic algorithm here"):
        train_cell(tiny_cell(compute={"deterministic": True}), CPU)
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match="^another error"), deterministic_algorithms(True):
        raise RuntimeError("another error")


def test_a_gpus_metrics_are_of_what_was_measured(tiny_cell, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = TrainSetup(tiny_cell(compute={"gpus": 1, "num_train_workers": 2}).recipe, 0)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**29)
    # Latents of training views are looked up, so that the VAE's operations are not done.
    parts = [SimpleNamespace(name=name, forward=1_000_000) for name in ("VAE encoder", "text encoder", "backbone")]
    cost = SimpleNamespace(flops=8_000_000, images=4, parts=parts)
    monkeypatch.setattr(gpu, "step_cost", lambda *_: cost)
    monkeypatch.setattr(gpu, "matrix_peak", lambda device, precision: {"float32": 1e7}[precision])
    # Each of two workers has two million operations, a fifth of a second at its peak.
    assert gpu.gpu_metrics(setup, 0.5, CPU) == {
        "peak_gpu_memory_gib": 1.5,
        "images_per_second": 8,
        "matrix_peak_share": pytest.approx(0.4),
    }
    assert gpu.least_seconds(setup.recipe, cost, False, CPU) == pytest.approx(0.4)


def test_a_cpu_without_avx_512_is_told_to_be_slow_in_bfloat16(
    tiny_cell, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its products of bfloat16 matrices use no vector instructions; float32 cells and those on a GPU are as fast as elsewhere."""
    half, whole = tiny_cell(schedule={"precision": "bfloat16"}), tiny_cell()
    on_gpu = tiny_cell(schedule={"precision": "bfloat16"}, compute={"gpus": 1})
    assert fast_bfloat16(torch.device("cuda"))
    with monkeypatch.context() as arm:
        arm.setattr(platform, "machine", lambda: "aarch64")
        arm.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
        assert fast_bfloat16(CPU)
    for capability, told in (("DEFAULT", True), ("AVX2", True), ("AVX512", False)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda found=capability: found)
        caplog.clear()
        for cells in ((half, whole), (whole, on_gpu)):
            Plan("mine", "", "pocket", "", cells, cells).warn()
        lines = [record.message for record in caplog.records if "AVX-512" in record.message]
        assert len(lines) == told and all(line.startswith("schedule.precision=bfloat16: ") for line in lines)


def test_the_matrix_peak_is_that_of_the_fastest_product_after_a_first_one_and_measured_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A product of two matrices of 64 x 64 has 2 x 64 x 64 x 64 operations. The first one warms up, however fast it is."""
    spent = (0.125, 4.0, 0.5, 2.0, 8.0, 1.0)
    readings = iter([reading for began, took in enumerate(spent) for reading in (100.0 * began, 100.0 * began + took)])
    monkeypatch.setattr(gpu, "time", SimpleNamespace(perf_counter=lambda: next(readings)))
    for _ in range(2):
        assert gpu.matrix_peak(CPU, "bfloat16", side=64) == 1_048_576
    assert not [*readings]
