"""The keys of a sweep: axes with their values."""

import itertools
import math
from collections import Counter
from collections.abc import Mapping

from pydantic import Field, JsonValue, model_validator

from tadp_ray.config.values import text_of
from tadp_ray.config.vocabulary import CAPTION, StrictModel

MAX_POINTS = 10_000
"""Maximum number of cells of a table."""


class Sweep(StrictModel):
    """The axes of a sweep: recipe keys and their values. There is one cell for each combination of values and each seed."""

    axes: dict[str, tuple[JsonValue, ...] | dict[str, dict[str, JsonValue]]] = Field(
        min_length=1,
        description="dotted recipe key -> its values, e.g. caption.precision: [0.5, 1.0]; or a name of your choice -> named "
        "variants, each with values by recipe key, e.g. text: {none: {caption.source: 'null'}, oracle: {}}. In a string, {axis} "
        f"is replaced by the value of another axis, except {CAPTION} in modifiers",
    )

    @model_validator(mode="after")
    def _distinct(self) -> "Sweep":
        points = math.prod(map(len, self.axes.values()))
        if points > MAX_POINTS:
            raise ValueError(f"the axes make {points} combinations, {MAX_POINTS} are the most; sweep fewer values")
        for key, values in self.values.items():
            if not values:
                raise ValueError(f"axis {key} has no values")
            if any(isinstance(value, float) and not math.isfinite(value) for value in values):
                raise ValueError(f"axis {key} takes finite numbers only: {list(values)}")
            if any(value in values[:i] for i, value in enumerate(values)):
                raise ValueError(f"axis {key} names a value twice: {list(values)}")
        keys = [sorted(self.keys_of(axis)) for axis in self.axes]
        for key, count in Counter(itertools.chain(*keys)).items():
            if count > 1:
                raise ValueError(f"{key} is set by {count} axes")
        variants = [own for values in self.axes.values() if isinstance(values, dict) for own in values.values()]
        together = [
            *(pair for own in variants for pair in itertools.combinations(own, 2)),
            *(pair for one, other in itertools.combinations(keys, 2) for pair in itertools.product(one, other)),
        ]
        # What is set last is merged into the recipe last.
        for first, last in together:
            if first.startswith(f"{last}."):
                raise ValueError(f"{first} is set before its group {last}, which would replace it; name {last} first")
        return self

    @property
    def values(self) -> dict[str, tuple[JsonValue, ...]]:
        """The values of each axis: those of a recipe key, or names of variants."""
        return {axis: tuple(values) for axis, values in self.axes.items()}

    def keys_of(self, axis: str) -> set[str]:
        """Return the dotted recipe keys that an axis sets."""
        values = self.axes[axis]
        return {key for variant in values.values() for key in variant} if isinstance(values, dict) else {axis}

    @property
    def keys(self) -> set[str]:
        """The dotted recipe keys that the axes set."""
        return set().union(*map(self.keys_of, self.axes))

    def changes(self, point: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Return the values by recipe key at one combination of axis values.

        In a variant's strings, {axis} is replaced by the value of another axis.
        """
        changed: dict[str, JsonValue] = {}
        for axis, value in point.items():
            values = self.axes[axis]
            if isinstance(values, dict):
                changed |= {key: filled(inner, point) for key, inner in values[str(value)].items()}
            else:
                changed[axis] = value
        return changed


def filled(value: JsonValue, point: Mapping[str, JsonValue]) -> JsonValue:
    """Return a value with {axis} in its strings replaced by the value of the axis, but for {caption}, a modifier's own."""
    if isinstance(value, dict):
        return {key: filled(inner, point) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, point) for inner in value]
    if isinstance(value, str):
        for axis, chosen in point.items():
            if (placeholder := f"{{{axis}}}") != CAPTION:
                value = value.replace(placeholder, text_of(chosen))
    return value
