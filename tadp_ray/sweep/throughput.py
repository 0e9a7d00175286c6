"""What GPUs take for a step: measured for Stable Diffusion 1.5, and predicted from that for others. Needs no torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tadp_ray.config.recipe import Recipe
from tadp_ray.errors import UserError

STEP_FLOPS = 58.2e12
"""Of the measured step, as a dry run counts it: `ade20k_fast_4k_oracle`, 16 images of 512 pixels. Fused attention computes some
products again in the backward pass, which benchmarks/scaling.py does not count."""
COMPILED = "bfloat16, compiled"
BOUNDS = {
    "H100": {"float32": 1.176, "tf32": 0.282, "bfloat16": 0.207, COMPILED: 0.115},
    "H200": {"float32": 1.140, "tf32": 0.240, "bfloat16": 0.167, COMPILED: 0.103},
}
"""Seconds that the measured step takes on the roofline of a card, by the way it is computed (docs/scaling.md)."""


@dataclass(frozen=True)
class MeasuredStep:
    """What the measured step took on an H200, and the memory that a dry run counts for it."""

    seconds: float
    memory_gib: float
    """Of its tensors, at most."""
    counted_gib: float
    """As a dry run counts it, and the text encoder, which the measured step has on the GPU."""

    @property
    def memory_ratio(self) -> float:
        """Bytes that tensors took for each byte that a dry run counts."""
        return self.memory_gib / self.counted_gib


MEASURED = {
    "float32": MeasuredStep(1.907, 79.4, 44.6),
    "tf32": MeasuredStep(0.733, 49.4, 44.6),
    "bfloat16": MeasuredStep(0.306, 38.4, 36.7),
    COMPILED: MeasuredStep(0.227, 35.2, 36.7),
}
"""docs/costs.md, commit 3504181; in bfloat16, not compiled, 26c3905."""
GPU_JSON_ROWS = {
    "float32": ("full_size", "float32, strict"),
    "tf32": ("full_size", "tf32"),
    "bfloat16": ("full_size", "bfloat16, VAE held in it"),
    COMPILED: ("compiled", "VAE and model compiled"),
}
"""Where benchmarks/gpu.py writes the same steps: section and name of the row."""
STEP_IMAGES = 16
SAME_STEP = 0.02
"""Steps whose operations differ by less, as a fraction, are the same one."""


@dataclass(frozen=True)
class Speed:
    """How many operations of a training a card computes in a second, and where the number is from."""

    flops: float
    """Floating-point operations of a step, as `StepCost` counts them, per second."""
    source: str
    """The measured step in words, or how the speed was predicted."""
    step_flops: float | None = None
    """Operations of the measured step. None: predicted."""
    memory_ratio: float | None = None
    """As of `MeasuredStep`. None: not measured."""

    def source_of(self, flops: float) -> str:
        """Return where the time of a step of so many operations is from."""
        if self.step_flops is None:
            return self.source
        if abs(flops / self.step_flops - 1) < SAME_STEP:
            return f"measured, {self.source}"
        few = "; it takes longer where kernels are launched more slowly than computed" * (flops < self.step_flops / 2)
        return f"extrapolated by operations from {self.source}{few}"


@dataclass(frozen=True)
class Card:
    """A kind of GPU."""

    name: str
    memory_gib: float | None
    """None: not known."""
    speeds: Mapping[str, Speed]
    """By the way a step is computed: a precision of `schedule.precision`, or `COMPILED`."""

    def speed(self, recipe: Recipe) -> Speed | None:
        """Return the speed of a recipe's steps; None if nothing is known of its precision."""
        compiled = recipe.compute.compile and recipe.schedule.precision == "bfloat16" and self.speeds.get(COMPILED)
        return compiled or self.speeds.get(recipe.schedule.precision)


def known_cards() -> list[Card]:
    """Return the cards of which there are numbers: the H200 measured, the H100 predicted."""
    step = "a step of Stable Diffusion 1.5 with 16 images in {way}"
    measured = {
        way: Speed(STEP_FLOPS / took.seconds, f"{step.format(way=way)}, docs/costs.md", STEP_FLOPS, took.memory_ratio)
        for way, took in MEASURED.items()
    }
    predicted = {
        way: Speed(
            STEP_FLOPS / seconds * (share := BOUNDS["H200"][way] / MEASURED[way].seconds),
            f"predicted, {share:.0%} of the roofline, the share that the H200 reached in {way}, docs/scaling.md",
            memory_ratio=MEASURED[way].memory_ratio,
        )
        for way, seconds in BOUNDS["H100"].items()
    }
    return [Card("H200", 139, measured), Card("H100", 78, predicted)]


def measured_card(file: Path) -> Card:
    """Return the card that benchmarks/gpu.py has measured.

    Args:
        file: its gpu.json.

    Raises:
        UserError: the file is not one, or holds no step of the full size.
    """
    try:
        found: Any = json.loads(file.read_bytes())
        rows = {way: row_of(found, *place) for way, place in GPU_JSON_ROWS.items()}
        speeds = {
            way: Speed(
                (flops := STEP_FLOPS * row["images"] / STEP_IMAGES) / row["step_s"],
                f"a step of Stable Diffusion 1.5 with {row['images']} images in {way}, {file}",
                flops,
                # What a dry run counts for fewer images is not known here.
                row["memory_gib"] / MEASURED[way].counted_gib if row["images"] == STEP_IMAGES else None,
            )
            for way, row in rows.items()
            if row
        }
        name = found["machine"]["card"]
        if found["full_size"]["flops"] < STEP_FLOPS / 2:
            raise ValueError("of --small")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise UserError(
            f"--measured {file}: not the gpu.json that benchmarks/gpu.py writes on a machine with a GPU "
            f"({type(error).__name__}: {error})"
        ) from None
    if not speeds:
        raise UserError(f"--measured {file}: holds no step of the full size; run benchmarks/gpu.py with more --seconds")
    return Card(name, next((card.memory_gib for card in known_cards() if card.name in name), None), speeds)


def row_of(found: Mapping[str, Any], section: str, name: str) -> Mapping[str, Any] | None:
    """Return the row of a way in a section of gpu.json; None if it was not measured."""
    rows = found.get(section, {}).get("rows", [])
    return next((row for row in rows if row["name"] == name and "step_s" in row), None)
