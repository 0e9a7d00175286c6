"""Counts in words."""

import re


def pluralized(count: int, noun: str) -> str:
    """Return `3 seeds` or `1 seed`, `1 box`, `1 class`, `1 entry`, of a regular plural; thousands have commas."""
    if count == 1:
        noun = re.sub("(?<=x)es$|(?<=ss)es$|s$", "", re.sub("ies$", "y", noun))
    return f"{count:,} {noun}"
