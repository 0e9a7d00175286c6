"""Values in words."""

from typing import Any


def shown(value: Any) -> str:
    """Return a value as text, fractions with four digits, and a dash for None."""
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
