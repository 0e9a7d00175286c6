"""What is called in the background is called to the end of its block."""

import logging

import pytest

from tadp_ray.sweep.periodic import run_periodically


def test_an_error_that_nobody_expected_is_told_once_and_ends_nothing(
    caplog: pytest.LogCaptureFixture, wait_for
) -> None:
    calls: list[None] = []

    def fail() -> None:
        calls.append(None)
        raise (OSError if len(calls) < 3 else EOFError)("away")

    with caplog.at_level(logging.WARNING), run_periodically(0.001, fail, (OSError,)):
        wait_for(lambda: len(calls) > 9)
    assert [record.getMessage() for record in caplog.records] == [
        "in the background: EOFError: away; tried again every 0.001 seconds"
    ]
