"""Values and counts in words."""

from typing import Any


def shown(value: Any) -> str:
    """Return a value as text, fractions with four digits, and a dash for None."""
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def pluralized(count: int, noun: str) -> str:
    """Return `3 seeds` or `1 seed`."""
    return f"{count} {noun.removesuffix('s') if count == 1 else noun}"
