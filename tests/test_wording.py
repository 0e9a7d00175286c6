"""Counts are in the singular and in the plural."""

import pytest

from tadp_ray.wording import devices, pluralized


@pytest.mark.parametrize(
    ("noun", "one"),
    [
        ("seeds", "1 seed"),
        ("boxes", "1 box"),
        ("classes", "1 class"),
        ("cases", "1 case"),
        ("entries", "1 entry"),
        ("CPUs", "1 CPU"),
        ("other captions", "1 other caption"),
    ],
)
def test_one_is_singular_and_all_else_plural(noun: str, one: str) -> None:
    assert pluralized(1, noun) == one
    assert pluralized(0, noun) == f"0 {noun}" and pluralized(2000, noun) == f"2,000 {noun}"


def test_devices_may_be_fractions() -> None:
    assert devices(1, 0) == "1 CPU and 0 GPUs" and devices(2.0, 1.0) == "2 CPUs and 1 GPU"
    assert devices(8, 0.5) == "8 CPUs and 0.5 GPUs"
