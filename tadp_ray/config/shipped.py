"""Finds the files that this package ships (experiments, recipes, sweeps and others) by their names."""

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
    """The kind in the singular, which is also the name of its JSON Schema."""
    pattern: str
    command: str
    """Usage of a name."""


KINDS = {
    "experiments": Kind("experiment", "experiments/*.yaml", "tadp-ray sweep NAME"),
    "recipes": Kind(
        "recipe",
        "experiments/recipes/*.yaml",
        "tadp-ray train NAME, or tadp-ray sweep --recipe NAME --axis KEY=A,B",
    ),
    "sweeps": Kind("sweep", "sweeps/*.yaml", "sweep: NAME in an experiment's file"),
    "searches": Kind("search", "sweeps/search_*.yaml", "tadp-ray search RECIPE NAME --out FILE"),
    "analyses": Kind("analysis", "experiments/analyses/*.yaml", "tadp-ray analyze run NAME"),
    "personalizations": Kind("personalization", "experiments/personalization/*.yaml", "tadp-ray personalize NAME"),
}
NAMED_FILE = re.compile(r"\b(?:experiments(?:/recipes|/analyses|/personalization)?|sweeps)/([\w${}]+)\.yaml\b")
"""The path of a shipped file in a comment. Its name may contain shell variables."""


def root() -> Path:
    """Return the folder of experiments/ and sweeps/: in an installed package `shipped`, in a checkout the root.

    Raises:
        UserError: the package was copied without them.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "shipped", package.parent):
        if (folder / "experiments").is_dir() and (folder / "sweeps").is_dir():
            return folder
    raise UserError(f"{package}: experiments/ and sweeps/ are neither in it nor beside it; install tadp-ray as a whole")


def visible_files(folder: Path, pattern: str = "*.yaml") -> list[Path]:
    """Return the sorted files in a folder that match a pattern, without hidden ones, such as editors' locks."""
    return sorted(file for file in folder.glob(pattern) if not file.name.startswith("."))


@cache
def shipped(kind: str) -> dict[str, Path]:
    """Return the shipped files of a kind by name."""
    folder = root()
    files = {file.stem: file for file in visible_files(folder, KINDS[kind].pattern)}
    # Searches are in the folder of the sweeps. Their names start with search_.
    return {name: file for name, file in files.items() if kind != "sweeps" or not name.startswith("search_")}


def file_of(text: Path, kind: str, of: Path | None = None) -> Path:
    """Return the file of a path or of a shipped file's name. An existing path takes precedence over a name.

    Args:
        text: a path, or the name of a shipped file.
        kind: of the file, a key of `KINDS`.
        of: the file that contains `text`; paths are relative to its folder.

    Raises:
        ConfigError: the name is unknown, or the path does not exist and its stem is a shipped file's name. Any other path
            is returned unchecked; the reader reports it.
    """
    place = text if of is None else of.parent / text
    if os.path.isfile(place):
        return place
    names, origin = shipped(kind), "" if of is None else f"{of}: "
    if len(text.parts) == 1 and not text.suffix:
        if text.name in names:
            return names[text.name]
        problem = f"{text}: neither a file nor a shipped {KINDS[kind].one}, which tadp-ray ls lists"
        other = next((other for name, other in KINDS.items() if text.name in shipped(name)), None)
        hint = f"it is a shipped {other.one}: {other.command}" if other else nearest(text.name, list(names))
        raise ConfigError([f"{origin}{problem}; {hint}"])
    if text.stem in names:
        raise ConfigError([f"{origin}{text}: no such file; a shipped {KINDS[kind].one} is called {text.stem}"])
    return place


def is_experiment(file: Path) -> bool:
    """Return whether an argument names an experiment: a file or a shipped one, or what looks like the path of a file."""
    return (
        file.is_file() or file.name in shipped("experiments") or file.suffix in (".yaml", ".yml") or len(file.parts) > 1
    )


def name_of(file: Path, kind: str) -> str:
    """Return the name by which commands accept a file in any folder: that of a shipped file, else its path."""
    return file.stem if shipped(kind).get(file.stem) == file else str(file)


def find(name: str) -> tuple[str, Path]:
    """Return the kind and the file of a shipped name. NAME is searched in the order of `KINDS`, KIND/NAME in one kind.

    Raises:
        UserError: there is none. The message contains the nearest name.
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
    """Yield (kind, file) of every other shipped file that a file's values refer to."""
    if "extends" in raw:
        yield kind, raw["extends"]
    for recipe in raw.get("recipes", {}).values():
        yield "recipes", recipe
    if kind == "experiments":
        sweep = raw["sweep"]
        for file in sweep.values() if isinstance(sweep, dict) else (sweep,):
            yield "sweeps", file


def copied(kind: str, file: Path, out: Path) -> str:
    """Return the text of a copy of a shipped file. It refers to other shipped files by name, so it works in any folder.

    Args:
        kind: of the file, a key of `KINDS`.
        file: a shipped file.
        out: path of the copy, which replaces the original's in the commands of its comments.
    """
    from tadp_ray.config.yaml12 import parse_yaml, read_text

    text = read_text(file)
    for _, reference in references(parse_yaml(text, str(file)), kind):
        line = rf"^(\s*\w+: ){re.escape(reference)}$"
        text = re.sub(line, rf"\g<1>{Path(reference).stem}", text, flags=re.MULTILINE)
    lines = text.splitlines(keepends=True)
    schema = root() / "experiments/schemas" / f"{KINDS[kind].one}.json"
    lines[0] = f"# yaml-language-server: $schema={schema}\n"
    path = file.relative_to(root()).as_posix()

    def renamed(match: re.Match[str]) -> str:
        return shlex.quote(str(out)) if match[0] == path else match[1]

    return "".join(NAMED_FILE.sub(renamed, line) if line.startswith("#") else line for line in lines)


def summary(kind: str, file: Path) -> tuple[str, str]:
    """Return the question or first sentence of a shipped file, and the paper's tables or figures that it reproduces."""
    # Imported here, since every command imports this module and few read a file.
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
    """Return the first sentence of a file's comment, which follows the line with its schema."""
    words = []
    for line in text.splitlines()[1:]:
        if not line.startswith("# "):
            break
        words.append(line.removeprefix("# "))
    return re.split(r"\. |[.:]$", " ".join(words))[0]
