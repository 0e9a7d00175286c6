"""Counts and values in words, and names in a text."""

import re
from collections.abc import Iterable
from typing import Any


def pluralized(count: float, noun: str) -> str:
    """Return `3 seeds` or `1 seed`, `1 box`, `1 class`, `1 entry`, of a regular plural; thousands have commas, and 1.0 is 1."""
    if count == 1:
        noun = re.sub("(?<=x)es$|(?<=ss)es$|s$", "", re.sub("ies$", "y", noun))
    return f"{count:,g} {noun}" if isinstance(count, float) else f"{count:,} {noun}"


def with_article(noun: str) -> str:
    """Return `a recipe` or `an experiment`."""
    return f"{'an' if noun[0] in 'aeiouAEIOU' else 'a'} {noun}"


def type_named(value: Any) -> str:
    """Return the type of a value in words: `a list`, `an int`, `None`."""
    return "None" if value is None else with_article(type(value).__name__)


def first_few(names: Iterable[str], limit: int = 5, separator: str = ", ") -> str:
    """`a, b, c and 7 more`."""
    names = list(names)
    return separator.join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def devices(cpus: float, gpus: float) -> str:
    """Return `1 CPU and 0 GPUs`."""
    return f"{pluralized(cpus, 'CPUs')} and {pluralized(gpus, 'GPUs')}"


def shown(value: Any) -> str:
    """Return a value as text, fractions with four digits, and a dash for None."""
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def mib(size: float) -> str:
    """Format bytes as MiB."""
    return f"{size / 2**20:,.0f} MiB"


def gib(size: float) -> str:
    """Format bytes as GiB."""
    return f"{size / 2**30:,.1f} GiB"


def names_listed(text: str) -> tuple[str, ...]:
    """Return the names between the commas of a text."""
    return tuple(name.strip() for name in text.split(","))
