"""Draws the atlas that this package ships: each thing of things.py as each of five emoji families draws it.

PACKAGES is a folder in which these npm packages lie unpacked, at any depth:

  @iconify-json/noto 1.2.9               @iconify-json/twemoji 1.2.5
  @iconify-json/fluent-emoji-flat 1.2.6  @iconify-json/openmoji 1.2.29
  @iconify-json/fluent-emoji 1.2.7       emojibase-data 17.0.0

`npm install --prefix PACKAGES --ignore-scripts NAME@VERSION ...` puts them there. Drawing needs resvg-py, from the extra `atlas`
(`pip install resvg-py`).

Written to OUT: a sheet (PNG) for each licence, with a row for each subgroup and its families side by side, and index.json, which
says what is where. A drawing lies in a cell of 96 x 96 pixels, at its upper left, cropped to its outline, its longer side 96
pixels, in straight (not premultiplied) sRGB with alpha. The same packages and libraries give the same bytes. NOTICE.md beside
them is written by hand: change it when a package or its version changes.

FxEmoji (@iconify-json/fxemoji) is left out: its authors put the drawings under CC BY 4.0, and only the code under Apache-2.0, as
which the package is labelled; it lacks many of the things; and it is the family nearest to Twemoji, which shall be unseen.
"""

import argparse
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tadp_ray.errors import UserError
from tadp_ray.files import read_text, write_text
from tadp_ray.paper.pocket.things import THINGS, Thing

SIDE = 96
"""Pixels of a drawing's longer side."""
FINE = 4 * SIDE
"""Pixels of a whole icon before it is cropped and scaled; a drawing fills at least a quarter of its icon."""
OPAQUE = 128
"""Alpha at which a pixel belongs to the outline that a drawing is cropped to."""
NAMES_PACKAGE, NAMES_VERSION = "emojibase-data", "17.0.0"
Render = Callable[..., bytes]


@dataclass(frozen=True)
class Family:
    """The icons of one npm package, the sheet they go to, and the package that maps code points to their names."""

    package: str
    version: str
    sheet: str
    licence: str
    named_by: str | None = None
    """Another family with the same icon names, where the own package has no chars.json."""


FAMILIES: dict[str, Family] = {
    "noto": Family("@iconify-json/noto", "1.2.9", "permissive", "Apache-2.0"),
    "fluent-flat": Family("@iconify-json/fluent-emoji-flat", "1.2.6", "permissive", "MIT"),
    "fluent": Family("@iconify-json/fluent-emoji", "1.2.7", "permissive", "MIT", named_by="fluent-flat"),
    "twemoji": Family("@iconify-json/twemoji", "1.2.5", "twemoji", "CC-BY-4.0"),
    "openmoji": Family("@iconify-json/openmoji", "1.2.29", "openmoji", "CC-BY-SA-4.0"),
}


def draw_atlas(
    packages: Path,
    out: Path,
    families: Mapping[str, Family] = FAMILIES,
    things: Mapping[str, Mapping[str, Thing]] = THINGS,
) -> None:
    """Draw the things as each family draws them, and write the sheets and index.json to `out`.

    Raises:
        UserError: a package is missing or of another version, a thing is missing in one, or resvg-py is not installed.
    """
    render = _renderer()
    folders = {family.package: _package(packages, family.package, family.version) for family in families.values()}
    _check_words(_package(packages, NAMES_PACKAGE, NAMES_VERSION) / "en/data.json", things)
    flat = {name: thing for members in things.values() for name, thing in members.items()}
    drawings: dict[str, dict[str, Image.Image]] = {}
    for title, family in families.items():
        names = families[family.named_by] if family.named_by else family
        icons = _icons(folders[family.package], folders[names.package], flat)
        drawings[title] = {name: _drawing(svg, render) for name, svg in icons.items()}
    out.mkdir(parents=True, exist_ok=True)
    boxes: dict[str, dict[str, list[int]]] = {title: {} for title in families}
    for sheet in dict.fromkeys(family.sheet for family in families.values()):
        inside = [title for title, family in families.items() if family.sheet == sheet]
        picture = _sheet(things, {title: drawings[title] for title in inside}, boxes)
        picture.save(out / f"{sheet}.png", optimize=True)
    write_text(out / "index.json", _index(families, things, boxes))


def _renderer() -> Render:
    """Return resvg's function from SVG text to a PNG file."""
    try:
        from resvg_py import svg_to_bytes
    except ModuleNotFoundError:
        raise UserError("drawing the atlas needs resvg-py, which is not installed; pip install resvg-py") from None
    return svg_to_bytes


def _package(folder: Path, name: str, version: str) -> Path:
    """Return the folder of an unpacked npm package below `folder`, of exactly this version."""
    found = {}
    for path in sorted(folder.rglob("package.json")):
        about = _read_json(path)
        if isinstance(about, dict) and about.get("name") == name:
            found[about.get("version")] = path.parent
    if version not in found:
        there = f"only version {', '.join(map(str, found))} of {name}" if found else f"no package {name}"
        raise UserError(
            f"{folder}: holds {there}; unpack {name}@{version} there, since other versions draw other pictures"
        )
    return found[version]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON ({error}); unpack the package again") from None


def _check_words(path: Path, things: Mapping[str, Mapping[str, Thing]]) -> None:
    """Check that emojibase has each name and synonym as a word of the label or as a tag of the same code point."""
    entries = {_code_point(entry["hexcode"]): entry for entry in _read_json(path)}
    for members in things.values():
        for name, thing in members.items():
            entry = entries.get(thing.code_point, {"label": ""})
            words = {*entry["label"].lower().split(), *(tag.lower() for tag in entry.get("tags", ()))}
            if unknown := [word for word in (name, *thing.synonyms) if word not in words]:
                raise UserError(f"{path}: {thing.code_point} is not called {', '.join(unknown)}; change things.py")


def _code_point(text: str) -> str:
    """Return a code point in lower case, without the selector (fe0f) that asks for a coloured drawing."""
    return "-".join(part for part in text.lower().split("-") if part != "fe0f")


def _icons(package: Path, names: Path, things: Mapping[str, Thing]) -> dict[str, str]:
    """Return the SVG text of each thing; `names` is the package whose chars.json maps code points to icons' names."""
    path = package / "icons.json"
    collection, icons = _read_json(path), {}
    by_code_point = {_code_point(code): icon for code, icon in _read_json(names / "chars.json").items()}
    for name, thing in things.items():
        icon = collection["icons"].get(by_code_point.get(thing.code_point))
        if icon is None:
            raise UserError(f"{path}: no icon for {name} ({thing.code_point}); choose another thing in things.py")
        width, height = (icon.get(side, collection.get(side, 16)) for side in ("width", "height"))
        scale = FINE / max(width, height)
        icons[name] = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}" '
            f'width="{scale * width}" height="{scale * height}">{icon["body"]}</svg>'
        )
    return icons


def _drawing(svg: str, render: Render) -> Image.Image:
    """Return an icon, cropped to its outline and scaled; pixels of alpha 0 are black."""
    whole = Image.open(io.BytesIO(bytes(render(svg_string=svg, skip_system_fonts=True)))).convert("RGBA")
    outline = whole.getchannel("A").point(lambda alpha: 255 * (alpha >= OPAQUE))
    tight = whole.crop(outline.getbbox())
    width, height = (max(1, round(side * SIDE / max(tight.size))) for side in tight.size)
    # Pillow averages premultiplied colours, so that what is transparent adds none.
    return tight.resize((width, height), Image.Resampling.BOX)


def _sheet(
    things: Mapping[str, Mapping[str, Thing]],
    drawings: Mapping[str, Mapping[str, Image.Image]],
    boxes: dict[str, dict[str, list[int]]],
) -> Image.Image:
    """Return families side by side, a row for each subgroup; note each drawing's [left, top, width, height] in `boxes`."""
    wide = max(map(len, things.values()))
    sheet = Image.new("RGBA", (SIDE * wide * len(drawings), SIDE * len(things)))
    for block, (family, pictures) in enumerate(drawings.items()):
        for row, members in enumerate(things.values()):
            for column, name in enumerate(members):
                at = (SIDE * (block * wide + column), SIDE * row)
                sheet.paste(pictures[name], at)
                boxes[family][name] = [*at, *pictures[name].size]
    return sheet


def _index(
    families: Mapping[str, Family],
    things: Mapping[str, Mapping[str, Thing]],
    boxes: Mapping[str, Mapping[str, list[int]]],
) -> str:
    """Return index.json: a family a line and a thing a line, so that a change shows in a comparison of versions."""
    about = [
        f"{json.dumps(title)}: "
        + json.dumps(
            {"file": f"{own.sheet}.png", "package": own.package, "version": own.version, "licence": own.licence}
        )
        for title, own in families.items()
    ]
    lines = []
    for subgroup, members in things.items():
        for name, thing in members.items():
            places = {title: boxes[title][name] for title in families}
            entry = {"subgroup": subgroup, "synonyms": thing.synonyms, "code_point": thing.code_point, "boxes": places}
            lines.append(f"{json.dumps(name)}: {json.dumps(entry)}")
    return '{"families": {\n' + ",\n".join(about) + '\n},\n"things": {\n' + ",\n".join(lines) + "\n}}\n"


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(
        prog="python -m tadp_ray.paper.pocket.atlas",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("packages", metavar="PACKAGES", type=Path, help="folder with the unpacked npm packages")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write to, such as tadp_ray/assets/drawings")
    options = parser.parse_args()
    try:
        draw_atlas(options.packages, options.out)
    except UserError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
