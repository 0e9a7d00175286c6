"""The files that come with this package: experiments, recipes, sweeps and others, each known by its bare name."""

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tadp_ray.config.errors import ConfigError, nearest
from tadp_ray.errors import UserError


@dataclass(frozen=True)
class Kind:
    """One kind of shipped file."""

    one: str
    """What one of them is called; its JSON Schema is, too."""
    pattern: str
    command: str
    """What takes a name."""


KINDS = {
    "experiments": Kind("experiment", "experiments/*.yaml", "tadp-ray sweep NAME"),
    "recipes": Kind(
        "recipe", "experiments/recipes/*.yaml", "tadp-ray train NAME, tadp-ray sweep EXPERIMENT --recipe NAME"
    ),
    "sweeps": Kind("sweep", "sweeps/*.yaml", "sweep: NAME in an experiment's file"),
    "searches": Kind("search", "sweeps/search_*.yaml", "tadp-ray search RECIPE NAME --out FILE"),
    "analyses": Kind("analysis", "experiments/analyses/*.yaml", "tadp-ray analyze run NAME"),
    "personalizations": Kind("personalization", "experiments/personalization/*.yaml", "tadp-ray personalize NAME"),
}
NAMED_FILE = re.compile(r"\b(?:experiments(?:/recipes|/analyses|/personalization)?|sweeps)/([\w${}]+)\.yaml\b")
"""A shipped file in a comment, its name perhaps made of a shell's variables."""


def root() -> Path:
    """The folder that holds experiments/ and sweeps/: inside an installed package, beside the package in a checkout.

    Raises:
        UserError: somebody copied the package without them.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "shipped", package.parent):
        if (folder / "experiments").is_dir() and (folder / "sweeps").is_dir():
            return folder
    raise UserError(f"{package}: experiments/ and sweeps/ are neither in it nor beside it; install tadp-ray as a whole")


@cache
def shipped(kind: str) -> dict[str, Path]:
    """The files of a kind by their names."""
    folder = root()
    files = {file.stem: file for file in sorted(folder.glob(KINDS[kind].pattern))}
    # Searches lie among the sweeps, and are told apart by their names.
    return {name: file for name, file in files.items() if kind != "sweeps" or not name.startswith("search_")}


def file_of(text: Path, kind: str, of: Path | None = None) -> Path:
    """The file that a path or a bare name stands for; a path that exists wins over a name.

    Args:
        text: a path, or the name of a shipped file.
        kind: of the file, a key of `KINDS`.
        of: the file that says so; its paths start at its folder.

    Raises:
        ConfigError: there is neither such a file nor such a name. A path that does not exist is left to who reads it,
            unless it ends like a shipped one's.
    """
    place = text if of is None else of.parent / text
    if os.path.isfile(place):
        return place
    names, origin = shipped(kind), "" if of is None else f"{of}: "
    if len(text.parts) == 1 and not text.suffix:
        if text.name in names:
            return names[text.name]
        said = f"{text}: neither a file nor a shipped {KINDS[kind].one}, which tadp-ray ls lists"
        raise ConfigError([f"{origin}{said}; {nearest(text.name, list(names))}"])
    if text.stem in names:
        raise ConfigError([f"{origin}{text}: no such file; a shipped {KINDS[kind].one} is called {text.stem}"])
    return place


def find(name: str) -> tuple[str, Path]:
    """The kind and the file of a shipped name, the first of `KINDS` that has it; KIND/NAME says which.

    Raises:
        UserError: there is none; names the nearest.
    """
    folder, sign, stem = name.rpartition("/")
    kinds = [folder] if sign else list(KINDS)
    if kinds[0] not in KINDS:
        raise UserError(f"{name}: no kind of shipped file; {nearest(folder, list(KINDS))}")
    for kind in kinds:
        if stem in shipped(kind):
            return kind, shipped(kind)[stem]
    known = sorted({stem for kind in kinds for stem in shipped(kind)})
    raise UserError(f"{name}: no shipped file, which tadp-ray ls lists; {nearest(stem, known)}")


def references(raw: dict[str, Any], kind: str) -> Iterator[tuple[str, str]]:
    """The other files that a file's values refer to, each with its kind."""
    if "extends" in raw:
        yield kind, raw["extends"]
    for recipe in raw.get("recipes", {}).values():
        yield "recipes", recipe
    if kind == "experiments":
        sweep = raw["sweep"]
        for file in sweep.values() if isinstance(sweep, dict) else (sweep,):
            yield "sweeps", file


def copied(kind: str, file: Path, out: Path) -> str:
    """The text of a shipped file to be edited elsewhere: it refers to other shipped files by their names.

    Args:
        kind: of the file, a key of `KINDS`.
        file: a shipped one.
        out: where the copy will be; commands in its comments say so.
    """
    from tadp_ray.config.yaml12 import parse_yaml, read_text

    text = read_text(file)
    for _, reference in references(parse_yaml(text, str(file)), kind):
        line = rf"^(\s*\w+: ){re.escape(reference)}$"
        text = re.sub(line, rf"\g<1>{Path(reference).stem}", text, flags=re.MULTILINE)
    lines = text.splitlines(keepends=True)
    schema = root() / "experiments/schemas" / f"{KINDS[kind].one}.json"
    lines[0] = f"# yaml-language-server: $schema={schema}\n"
    own = file.relative_to(root()).as_posix()

    def renamed(found: re.Match[str]) -> str:
        return shlex.quote(str(out)) if found[0] == own else found[1]

    return "".join(NAMED_FILE.sub(renamed, line) if line.startswith("#") else line for line in lines)


def summary(kind: str, file: Path) -> tuple[str, str]:
    """What a shipped file asks or is, and which table or figure of the paper it answers, if it says so."""
    # Every command looks names up; few read a file for that.
    from tadp_ray.config.yaml12 import parse_yaml, read_text

    text = read_text(file)
    if kind not in ("experiments", "analyses"):
        return first_sentence(text), ""
    raw = parse_yaml(text, str(file))
    if kind == "analyses":
        return raw["question"], raw["figure"]
    sources = [raw[part].get("published", {}).get("source", "") for part in ("table", "figure") if part in raw]
    return raw["question"], ", ".join(re.findall(r"(?:Tables?|Figures?) S\d+(?: and S\d+)?", " ".join(sources)))


def first_sentence(text: str) -> str:
    """The first sentence of a file's comment, behind the line that names its schema."""
    words = []
    for line in text.splitlines()[1:]:
        if not line.startswith("# "):
            break
        words.append(line.removeprefix("# "))
    return re.split(r"\. |[.:]$", " ".join(words))[0]
