"""The noise of a view depends on seed, image and window, and that of a pass on seed and number; on nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tadp_ray.config.cell import Cell
from tadp_ray.training.evaluate import outputs
from tadp_ray.training.latents import view_latents
from tadp_ray.training.rng import draw_pass, view_noise
from tadp_ray.training.run import build_model
from tadp_ray.training.setup import TrainSetup

CPU = torch.device("cpu")
NOISY: dict[str, Any] = {"timestep": [1, 200], "noise_samples": 2}
WINDOWS: dict[str, Any] = {"mode": "slide", "crop": 32, "stride": 32, "scales": [1.0, 1.5], "flip": True}


def inputs_of(cell: Cell, indices: list[int]) -> dict[bytes, Tensor]:
    """The noise that the backbone is given for each window of some images, by the window's latent."""
    setup = TrainSetup(cell.recipe, cell.seed)
    model, seen = build_model(setup, CPU).eval(), {}
    # Encoded in one batch size, so that the same window has the same latent.
    latents = view_latents(setup, model, CPU, indices)

    def keep(_: object, inputs: tuple[Tensor, ...]) -> None:
        views, _, noise = inputs
        seen.update({view.numpy().tobytes(): drawn for view, drawn in zip(views, noise, strict=True)})

    model.backbone.register_forward_pre_hook(keep)
    assert [index for index, _ in outputs(model, setup, latents, indices, CPU)] == indices
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("evaluation", [{}, WINDOWS], ids=["whole", "windows"])
def test_noise_of_views_does_not_depend_on_batches(tiny_cell: Callable[..., Cell], evaluation: dict[str, Any]) -> None:
    """Two at a time, or four at a time, which starts elsewhere; another seed draws other noise."""
    settings = {"model": NOISY, "evaluation": evaluation, "data": {"size": 32}}
    small = inputs_of(tiny_cell(schedule={"micro_batch": 2}, **settings), [0, 1, 2, 3, 4])
    large = inputs_of(tiny_cell(schedule={"micro_batch": 4}, **settings), [1, 2, 3])
    other = inputs_of(tiny_cell(schedule={"micro_batch": 4}, seed=1, **settings), [1, 2, 3])
    per_image = len(small) // 5
    assert len(large) == 3 * per_image and per_image == (2 + 8 if evaluation else 1)
    assert all(torch.equal(small[view], noise) for view, noise in large.items())
    assert len({noise.numpy().tobytes() for noise in small.values()}) == len(small)
    assert not any(torch.equal(noise, other[view]) for view, noise in large.items() if view in other)
    assert all(noise.shape == (2, *noise.shape[1:]) for noise in small.values())


def test_noise_of_a_view_follows_seed_image_and_window() -> None:
    def drawn(seed: int = 0, image: str = "a", view: int = 0, samples: int = 1) -> Tensor:
        return view_noise(seed, image, view, samples, (4, 8, 8))

    assert torch.equal(drawn(), drawn())
    found = [drawn(), drawn(seed=1), drawn(image="b"), drawn(view=1)]
    assert len({noise.numpy().tobytes() for noise in found}) == 4
    many = drawn(samples=100)
    assert abs(many.mean()) < 0.03 and abs(many.std() - 1) < 0.03


def test_workers_share_the_noise_of_a_pass_out() -> None:
    """And what was drawn before there was added noise stays the same."""

    def drawn(share: slice, samples: int = 3, number: int = 7) -> tuple[Tensor | None, ...]:
        return draw_pass(5, number, 4, (4, 8, 8), 16, 0.1, samples, share)

    whole = drawn(slice(0, 4))
    halves = drawn(slice(0, 2)), drawn(slice(2, 4))
    for one, *parts in zip(whole, *halves, strict=True):
        assert torch.equal(torch.cat(parts), one)
    assert whole[2].shape == (4, 3, 4, 8, 8)
    *before, none = drawn(slice(0, 4), samples=0)
    assert none is None and all(torch.equal(a, b) for a, b in zip(before, whole, strict=False))
    assert not torch.equal(drawn(slice(0, 4), number=8)[2], whole[2])
