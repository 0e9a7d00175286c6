"""The shipped drawings: each thing in each family, cropped to its outline, named apart from all others, with its licence."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from tadp_ray.data.drawings import (
    FAMILIES,
    FOLDER,
    LICENCES,
    NAMES,
    PERMISSIVE,
    SUBGROUPS,
    SYNONYMS,
    digest,
    stamp,
)
from tadp_ray.data.scenes import BACKDROPS, GROUNDS
from tadp_ray.errors import UserError
from tadp_ray.paper.pocket.atlas import FAMILIES as DRAWN
from tadp_ray.paper.pocket.atlas import NAMES_PACKAGE, NAMES_VERSION
from tadp_ray.paper.pocket.things import THINGS


def test_the_atlas_holds_what_its_script_chooses() -> None:
    assert {subgroup: tuple(members) for subgroup, members in THINGS.items()} == SUBGROUPS
    assert {name: t.synonyms for members in THINGS.values() for name, t in members.items() if t.synonyms} == SYNONYMS
    assert {title: family.licence for title, family in DRAWN.items()} == LICENCES and tuple(DRAWN) == FAMILIES
    assert PERMISSIVE == ("noto", "fluent-flat", "fluent")


def test_every_subgroup_has_four_names_and_no_name_lies_within_another() -> None:
    assert len(SUBGROUPS) == 12 and {len(names) for names in SUBGROUPS.values()} == {4}
    assert NAMES == tuple(itertools.chain(*SUBGROUPS.values())) and len({*NAMES}) == 48
    words = [*NAMES, "sky", *GROUNDS, *BACKDROPS]
    assert not [(one, other) for one, other in itertools.permutations(words, 2) if one in other]
    assert all(name.isascii() and name.isalpha() and name.islower() for name in words)
    synonyms = list(itertools.chain(*SYNONYMS.values()))
    assert len({*synonyms}) == len(synonyms) and not {*synonyms} & {*words}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_name_is_drawn_and_cropped_to_its_outline(family: str) -> None:
    for name in NAMES:
        drawing = stamp(name, family)
        alpha = drawing[..., 3]
        assert drawing.dtype == np.uint8 and drawing.shape[2] == 4 and max(alpha.shape) == 96, name
        assert (alpha == 255).mean() > 0.15 and (alpha == 0).any(), name
        assert all(edge.max() >= 32 for edge in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1])), name
        assert not drawing[alpha == 0].any(), name
        assert drawing[alpha == 255, :3].std() > 10, name


def test_the_drawings_are_those_that_were_chosen() -> None:
    assert digest() == "95de41f5f8f3288a7835e62983eb91ce178ab0e0989fa6a8638e141664169669"


def test_what_a_stamp_gives_is_nobody_s_to_change() -> None:
    with pytest.raises(ValueError, match="read-only"):
        stamp("cow", "noto")[0, 0] = 0


def test_an_unknown_name_or_family_is_refused() -> None:
    with pytest.raises(UserError, match="no drawing of 'dragon'; there are cow, horse"):
        stamp("dragon", "noto")
    with pytest.raises(UserError, match="no family 'photo' of drawings; there are noto, fluent-flat"):
        stamp("cow", "photo")


def test_the_notice_names_every_family_with_package_version_and_licence() -> None:
    text = (FOLDER / "NOTICE.md").read_text(encoding="utf-8")
    rows = {line.split(" | ")[0].lstrip("| "): line for line in text.splitlines() if line.startswith("| ")}
    for title, family in DRAWN.items():
        for said in (f"`{family.sheet}.png`", f"`{family.package}` {family.version}", f"[{family.licence}](https://"):
            assert said in rows[title], (title, said)
    assert f"`{NAMES_PACKAGE}` {NAMES_VERSION}" in text
    assert "Permission is hereby granted" in text and "What was changed" in text
    assert "Copyright Twitter, Inc." in text and "All emojis designed by OpenMoji" in text


def test_the_folder_holds_a_sheet_for_each_licence_and_is_small() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert sizes.keys() == {"NOTICE.md", "index.json", "openmoji.png", "permissive.png", "twemoji.png"}
    assert sum(sizes.values()) < 1_300_000
    # No sheet mixes a family that may be trained on with one that may not.
    permissive = {title for title, family in DRAWN.items() if family.sheet == "permissive"}
    assert permissive == {*PERMISSIVE} and len({family.sheet for family in DRAWN.values()}) == 3


def test_the_reader_imports_no_torch() -> None:
    code = "import sys; from tadp_ray.data import drawings; drawings.digest(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout == "False\n", done.stderr
