"""Names that nobody could tell apart, or nobody could read, are refused where they are given."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tadp_ray.config.classes import misnamed, parse_classes
from tadp_ray.data.config import FolderData
from tadp_ray.errors import UserError

BAD = {
    "twins": (["cat", "dog", "cat"], "name 2, 'cat', reads like 'cat' (name 0); rename one of them"),
    "capitals": (["Car", "car"], "name 1, 'car', reads like 'Car' (name 0)"),
    "sharp s": (["Stra\u00dfe", "STRASSE"], "name 1, 'STRASSE', reads like"),
    "spelling": (["caf\u00e9", "cafe\u0301"], "name 1, 'cafe\u0301', reads like 'caf\u00e9' (name 0)"),
    "background": (
        ["_Background_", "cat"],
        "name 0, '_Background_', is no other class than background; write 'background'",
    ),
    "blanks": (["traffic light", "traffic  light"], "name 1, 'traffic  light', reads like"),
    "no width": (["cat", "c\u200bat"], "name 1, 'c\\u200bat', reads like 'cat'"),
    "empty": (["cat", ""], "name 1 is '', without a character to read"),
    "blank": (["cat", " \u200b"], "name 1 is ' \\u200b', without a character to read"),
    "space in front": (["cat", " dog"], "name 1, ' dog', has spaces at an end"),
    "no-break space behind": (["cat", "dog\u00a0"], "name 1, 'dog\\xa0', has spaces at an end"),
    "control": (["cat", "do\x07g"], "name 1, 'do\\x07g', holds the character '\\x07'"),
    "line end": (["cat", "dog\u2028"], "holds the character '\\u2028'"),
    "half a character": (["cat", "\ud83d"], "holds the character '\\ud83d'"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_name_is_named(kind: str) -> None:
    names, said = BAD[kind]
    (problem,) = misnamed(names)
    assert problem.startswith(said) or said in problem
    split = {"images": "a/*", "masks": "b/*"}
    with pytest.raises(ValidationError) as refused:
        FolderData(kind="folder", root=Path("x"), train=split, val=split, classes=names)
    assert problem in refused.value.errors()[0]["msg"]


def test_all_bad_names_are_named_at_once_and_good_ones_pass() -> None:
    assert len(misnamed(["a", "a", "", "b\0"])) == 3
    good = ["/m/01yrx", "\u0434\u043e\u043c", "\u0434\u044b\u043c", "a photo", "traffic light", "naive", "na\u00efve"]
    # Persian and emoji join letters by marks of no width.
    good += ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f468\u200d\U0001f469"]
    assert misnamed(good) == []


def test_more_than_255_classes_are_refused() -> None:
    split = {"images": "a/*", "masks": "b/*"}
    names = [f"name {number}" for number in range(256)]
    assert len(FolderData(kind="folder", root=Path("x"), train=split, val=split, classes=names[:-1]).classes) == 255
    with pytest.raises(ValidationError, match="256 classes: at most 255 can be told apart, as a mask has 8 bits"):
        FolderData(kind="folder", root=Path("x"), train=split, val=split, classes=names)


def test_names_on_the_command_line_are_held_to_the_same(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_bytes("\ufeffcat\r\ntraffic light\r\n\r\n".encode())
    assert parse_classes(str(file)) == ["cat", "traffic light"] == parse_classes("cat, traffic light,")
    assert parse_classes("cat,") == ["cat"]
    (tmp_path / "two,1").mkdir()
    (tmp_path / "two,1/names.txt").write_text("cat\ndog\n")
    assert parse_classes(str(tmp_path / "two,1/names.txt")) == ["cat", "dog"]
    file.write_text("cat\ndog\nCat\n")
    for given, said in (
        (str(file), "name 2, 'Cat', reads like 'cat'"),
        ("cat,,dog", "name 1 is '', without"),
        (",", "name 0 is '', without"),
        (str(tmp_path), "expected names separated by commas or a file"),
        ("x" * 5000, "expected names separated by commas or a file"),
    ):
        with pytest.raises(UserError) as refused:
            parse_classes(given)
        assert said in str(refused.value)
    file.write_text("\n \n")
    with pytest.raises(UserError, match="no names"):
        parse_classes(str(file))
