"""The script that draws the atlas, on two small made-up packages."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tadp_ray.errors import UserError
from tadp_ray.paper.pocket import atlas
from tadp_ray.paper.pocket.atlas import Family, draw_atlas
from tadp_ray.paper.pocket.things import Thing

FAMILIES = {
    "plain": Family("@icons/plain", "1.0.0", "free", "MIT"),
    "shiny": Family("@icons/shiny", "2.1.0", "free", "MIT", named_by="plain"),
    "other": Family("@icons/plain", "1.0.0", "shared", "CC-BY-4.0"),
}
THINGS = {"shapes": {"plank": Thing("1f4a1"), "disc": Thing("2b55", ("circle",))}, "rest": {"pair": Thing("1f46f")}}
LABELS = [
    {"hexcode": "1F4A1", "label": "Long plank"},
    {"hexcode": "2B55-FE0F", "label": "disc", "tags": ["circle"]},
    {"hexcode": "1F46F", "label": "twins", "tags": ["pair"]},
]


def rectangle(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}"/>'


def pack(folder: Path, name: str, version: str, files: dict[str, Any]) -> None:
    """Write an unpacked npm package."""
    for file, content in {"package.json": {"name": name, "version": version}, **files}.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(content))


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    bodies = {
        "long": rectangle(4, 8, 24, 12, "#ff0000"),
        "round": '<circle cx="16" cy="16" r="12" fill="#0000ff"/>',
        "two": rectangle(2, 0, 4, 16, "#00ff00") + rectangle(10, 0, 8, 16, "#0000ff"),
    }
    icons = {name: {"body": body} for name, body in bodies.items()}
    shiny = icons | {"long": {"body": rectangle(0, 0, 60, 15, "#102030"), "width": 64}}
    names = {"1f4a1": "long", "2b55-fe0f": "round", "1f46f": "two"}
    plain = {"icons.json": {"icons": icons, "width": 32, "height": 32}, "chars.json": names}
    pack(folder / "plain", "@icons/plain", "1.0.0", plain)
    shiny_files = {"icons.json": {"icons": shiny, "width": 32, "height": 32}}
    pack(folder / "node_modules/@icons/shiny", "@icons/shiny", "2.1.0", shiny_files)
    pack(folder / "words", "emojibase-data", "17.0.0", {"en/data.json": LABELS})
    return folder


@pytest.fixture
def resvg(needs_extra: Callable[[str, str], None]) -> None:
    needs_extra("atlas", "resvg-py")


@pytest.mark.usefixtures("resvg")
def test_drawings_are_cropped_scaled_and_laid_out_by_subgroup_and_family(packages: Path, tmp_path: Path) -> None:
    draw_atlas(packages, tmp_path / "out", FAMILIES, THINGS)
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert index["families"]["shiny"] == {
        "file": "free.png",
        "package": "@icons/shiny",
        "version": "2.1.0",
        "licence": "MIT",
    }
    assert index["things"]["plank"] == {
        "subgroup": "shapes",
        "synonyms": [],
        "code_point": "1f4a1",
        "boxes": {"plain": [0, 0, 96, 48], "shiny": [192, 0, 96, 24], "other": [0, 0, 96, 48]},
    }
    assert index["things"]["pair"]["boxes"] == {
        "plain": [0, 96, 96, 96],
        "shiny": [192, 96, 96, 96],
        "other": [0, 96, 96, 96],
    }
    free, shared = (np.array(Image.open(tmp_path / f"out/{name}.png")) for name in ("free", "shared"))
    assert free.shape == (192, 384, 4) and shared.shape == (192, 192, 4)
    assert (shared == free[:, :192]).all()
    assert (free[:48, :96] == (255, 0, 0, 255)).all() and not free[48:96, :96].any()
    assert (free[:24, 192:288] == (16, 32, 48, 255)).all()
    # A disc: its corners are empty, its middle is full, its area is pi / 4.
    disc = free[:96, 96:192]
    assert not disc[0, 0].any() and (disc[48, 48] == (0, 0, 255, 255)).all()
    assert (disc[..., 3] / 255).mean() == pytest.approx(np.pi / 4, abs=0.01)
    # Two bars of 4 and 8 with a gap of 4 between them, and no colour where nothing is drawn.
    bars = free[96:192, :96]
    assert (bars[:, :24] == (0, 255, 0, 255)).all() and (bars[:, 48:] == (0, 0, 255, 255)).all()
    assert not bars[:, 24:48].any()


@pytest.mark.usefixtures("resvg")
def test_the_same_packages_give_the_same_bytes(packages: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        draw_atlas(packages, tmp_path / name, FAMILIES, THINGS)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("first", "second"))
    assert first == second and first.keys() == {"free.png", "shared.png", "index.json"}


@pytest.mark.usefixtures("resvg")
def test_a_package_of_another_version_is_refused_and_so_is_none(packages: Path, tmp_path: Path) -> None:
    pack(packages / "plain", "@icons/plain", "1.0.1", {})
    with pytest.raises(
        UserError, match=r"holds only version 1\.0\.1 of @icons/plain; unpack @icons/plain@1\.0\.0 there"
    ):
        draw_atlas(packages, tmp_path / "out", FAMILIES, THINGS)
    with pytest.raises(UserError, match="holds no package @iconify-json/noto; unpack @iconify-json/noto@1.2.9 there"):
        draw_atlas(packages, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("resvg")
@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (Thing("1f46f", ("couple",)), "1f46f is not called couple; change things.py"),
        (Thing("1f600"), "1f600 is not called pair; change things.py"),
    ],
)
def test_words_are_emojibase_s(thing: Thing, message: str, packages: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        draw_atlas(packages, tmp_path / "out", FAMILIES, {"rest": {"pair": thing}})


@pytest.mark.usefixtures("resvg")
def test_a_thing_that_a_family_does_not_draw_is_named(packages: Path, tmp_path: Path) -> None:
    path = packages / "node_modules/@icons/shiny/icons.json"
    collection = json.loads(path.read_text())
    del collection["icons"]["round"]
    path.write_text(json.dumps(collection))
    with pytest.raises(UserError, match=r"shiny/icons\.json: no icon for disc \(2b55\); choose another thing"):
        draw_atlas(packages, tmp_path / "out", FAMILIES, THINGS)


def test_without_resvg_the_command_names_the_extra(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    monkeypatch.setattr(sys, "argv", ["atlas", str(packages), str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        atlas.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said == "drawing the atlas needs resvg-py, which is not installed; pip install resvg-py\n"
