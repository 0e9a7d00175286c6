"""An unfinished run's captions are read back as far as they were written, and only by a run of the same making."""

from pathlib import Path

import pytest

from tadp_ray.captions.resume_log import CaptionResults, ResumeLog
from tadp_ray.errors import UserError

MADE = {"model_sha256": "ab", "min_tokens": 20}


def test_a_torn_line_is_forgotten_and_the_rest_goes_on(tmp_path: Path) -> None:
    first = ResumeLog(tmp_path / "p", MADE)
    first.add(CaptionResults({"a": "a cat\u2028\n", "b": ""}, {"a": "1", "b": "2"}))
    first.add(CaptionResults(failed={"c": "broken"}))
    whole = (tmp_path / "p").read_bytes()
    (tmp_path / "p").write_bytes(whole + b'{"captions": {"d": "a d')
    again = ResumeLog(tmp_path / "p", MADE)
    assert again.described == first.described and (tmp_path / "p").read_bytes() == whole
    again.add(CaptionResults({"c": "a cow"}, {"c": "3"}, {"a": "gone"}))
    assert ResumeLog(tmp_path / "p", MADE).described == CaptionResults(
        {"b": "", "c": "a cow"}, {"b": "2", "c": "3"}, {"a": "gone"}
    )


def test_captions_of_another_making_are_refused(tmp_path: Path) -> None:
    ResumeLog(tmp_path / "p", {**MADE, "min_tokens": 0})
    mine = ResumeLog(tmp_path / "p", MADE)  # what was begun and said nothing binds nobody
    mine.add(CaptionResults({"a": "a cat"}, {"a": "1"}))
    with pytest.raises(UserError, match=r"p: an unfinished run .*\(min_tokens: 20 there, 40 here\); finish it with"):
        ResumeLog(tmp_path / "p", {**MADE, "min_tokens": 40})
    with (tmp_path / "p").open("a") as file:
        file.write("{}}\n")
    with pytest.raises(UserError, match="p: a line of this unfinished run is broken"):
        ResumeLog(tmp_path / "p", MADE)
    (tmp_path / "p").write_text("my notes")
    with pytest.raises(UserError, match="p: not the captions of an unfinished run"):
        ResumeLog(tmp_path / "p", MADE)
    assert (tmp_path / "p").read_text() == "my notes"
