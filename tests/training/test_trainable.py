"""A training moves what its recipe says, writes that, and is loaded over the frozen weights that it was trained with."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from tadp_ray.errors import UserError
from tadp_ray.layout import CHECKPOINT, MODEL
from tadp_ray.tasks.segmentation.scoring import score_segmentation
from tadp_ray.training.check import check_head
from tadp_ray.training.checkpoint import FROZEN, load_weights, read_tensors
from tadp_ray.training.cost import step_cost
from tadp_ray.training.loop import Trainer
from tadp_ray.training.model import TADP
from tadp_ray.training.optim import make_optimizer
from tadp_ray.training.predict import predict_cell
from tadp_ray.training.run import build_model, train_cell
from tadp_ray.training.setup import Cache, TrainSetup

CPU = torch.device("cpu")
KINDS = ("full", "frozen", "attention_only", "lora")
LEARNT = {
    "full": lambda name: True,
    "frozen": lambda name: not name.startswith("backbone."),
    "attention_only": lambda name: not name.startswith("backbone.") or ".attentions." in name,
    "lora": lambda name: not name.startswith("backbone.") or ".lora_" in name,
}
"""Whether a parameter is trained, by kind."""


CACHE = Cache()


def setup_of(tiny_cell, **model: Any) -> TrainSetup:
    model = {"weights": "pocket", **model}
    return TrainSetup(tiny_cell(model=model, schedule={"warmup_iterations": 0}).recipe, 0, cache=CACHE)


def backward(setup: TrainSetup, model: TADP) -> None:
    """Forward and backward of a random batch."""
    rng = torch.Generator().manual_seed(0)
    latents = torch.randn(3, 4, 16, 16, generator=rng)
    context = torch.randn(3, setup.tokens, model.backbone.context_width, generator=rng)
    setup.task.loss(model(latents, context), torch.randint(3, (3, 64, 64), generator=rng)).backward()


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_moves_what_is_trained_and_nothing_else(tiny_cell, kind: str, adapter: bool) -> None:
    """The head, the norms of features and the adapter with every kind."""
    setup = setup_of(tiny_cell, trainable=kind, adapter=adapter, feature_norm=True)
    model = build_model(setup, CPU).train()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer, _ = make_optimizer(model, setup.recipe.schedule)
    backward(setup, model)
    optimizer.step()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {name for name in before if LEARNT[kind](name)}
    parts = {name.partition(".")[0] for name in moved}
    assert parts == {"head", "norms", *(["backbone"] * (kind != "frozen")), *(["adapter"] * adapter)}


def state(file: Path) -> dict[str, Tensor]:
    return read_tensors(file)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_what_is_trained_with_buffers_and_a_checksum(tiny_cell, kind: str) -> None:
    model = build_model(setup_of(tiny_cell, trainable=kind, feature_norm=True), CPU)
    learnt = {name for name, _ in model.named_parameters() if LEARNT[kind](name)}
    buffers = {name for name, _ in model.named_buffers()}
    assert buffers and model.state_dict().keys() == learnt | buffers | ({FROZEN} if kind != "full" else set())


@pytest.fixture
def stop_before_step(monkeypatch: pytest.MonkeyPatch):
    """Makes training die before a step."""

    def arm(steps: int) -> pytest.MonkeyPatch:
        step_once = Trainer._train_step

        def dying(self: Trainer, *args: Any) -> Tensor:
            if args[-1] == steps:
                raise RuntimeError("stopped")
            return step_once(self, *args)

        monkeypatch.setattr(Trainer, "_train_step", dying)
        return monkeypatch

    return arm


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_training_resumes_bit_equal_and_predicts_what_was_scored(
    tiny_cell, trained, stop_before_step, tmp_path: Path, kind: str
) -> None:
    """Its files hold no frozen weight; a sweep's plug-in weights are not needed, since the recipe names them."""
    (whole, expected), cut = (
        trained(model={"trainable": kind}),
        tiny_cell("cut", model={"trainable": kind}, compute={"checkpoint_every": 2}),
    )
    armed = stop_before_step(5)
    with pytest.raises(RuntimeError, match="stopped"):
        train_cell(cut, CPU)
    armed.undo()
    with safe_open(cut.folder / CHECKPOINT, "pt") as file:
        names = {name.removeprefix("model.") for name in file.keys() if name.startswith("model.")}
    final = train_cell(cut, CPU)
    assert final["miou"] == expected["miou"] and final["parameters"] == expected["parameters"]
    one, other = state(whole.folder / MODEL), state(cut.folder / MODEL)
    assert one.keys() == other.keys() == names and all(torch.equal(one[name], other[name]) for name in one)
    assert FROZEN in names and all(LEARNT[kind](name) for name in names)

    predict_cell(whole, whole.folder / MODEL, tmp_path / "files", CPU)
    classes = (tmp_path / "files/classes.txt").read_text().splitlines()
    scored = score_segmentation(tmp_path / "files/predictions", tmp_path / "files/targets", classes)
    assert scored["miou"] == pytest.approx(expected["miou"], rel=1e-12)


def test_weights_go_on_no_other_frozen_weights_and_what_is_missing_is_named(tiny_cell) -> None:
    here, there = (
        build_model(setup_of(tiny_cell, trainable="frozen", unet_init=start), CPU) for start in ("pretrained", "random")
    )
    weights = here.state_dict()
    load_weights(Path("m"), here, weights)
    with pytest.raises(
        UserError, match=r"^m: the weights were trained on other frozen weights .* \(CRC-32 \d+, here \d+\)"
    ):
        load_weights(Path("m"), there, weights)
    head = next(name for name in weights if name.startswith("head."))
    for name in (head, FROZEN):
        with pytest.raises(UserError, match=f"{name} missing"):
            load_weights(Path("m"), here, {own: tensor for own, tensor in weights.items() if own != name})
    full = build_model(setup_of(tiny_cell), CPU)
    with pytest.raises(UserError, match="do not fit this model"):
        load_weights(Path("m"), full, weights)
    with pytest.raises(UserError, match=r"do not fit .*\(not in this model\)"):
        load_weights(Path("m"), here, full.state_dict() | {FROZEN: weights[FROZEN]})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "adapter"), [("frozen", False), ("frozen", True), ("attention_only", False), ("lora", False)]
)
def test_the_cost_of_a_step_is_that_of_what_is_trained(tiny_cell, kind: str, adapter: bool) -> None:
    """AdamW's state is of trained parameters, and the backward pass stops where no gradient is needed."""
    chosen, whole = (setup_of(tiny_cell, trainable=kept, adapter=adapter) for kept in (kind, "full"))
    cost, full = (
        step_cost(setup.recipe, setup.pretrained, len(setup.classes), setup.tokens, setup.view)
        for setup in (chosen, whole)
    )
    parameters = list(build_model(chosen, CPU).parameters())
    count = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    frozen = sum(parameter.numel() for parameter in parameters) - count
    assert cost.trained == count and cost.state_bytes == 16 * count
    assert cost.frozen_bytes == full.frozen_bytes + 4 * frozen
    backbone, expected = cost.parts[2], full.parts[2]
    added = sum(p.numel() for name, p in build_model(chosen, CPU).named_parameters() if ".lora_" in name)
    assert backbone.parameters == expected.parameters + added and (added > 0) == (kind == "lora")
    assert expected.forward <= backbone.forward < 1.1 * expected.forward
    if (kind, adapter) == ("frozen", False):
        assert backbone.backward == 0 and cost.activation_bytes < 0.5 * full.activation_bytes
    else:
        assert 0.3 * expected.backward < backbone.backward < 0.9 * expected.backward


def test_a_target_that_matches_nothing_is_refused_before_training(tiny_cell) -> None:
    setup = setup_of(tiny_cell, trainable={"kind": "lora", "targets": ["to_qq"]})
    with pytest.raises(UserError, match=r"^model.trainable.targets='to_qq': no layer .*; did you mean 'to_q'\?$"):
        check_head(setup)
