"""Values of axes as text: short headings, and what a command line may write for one of them."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from tadp_ray.config.errors import ConfigError
from tadp_ray.config.yaml12 import WORDS, parse_yaml

UNQUOTED = re.compile(r"[^\W\d]([\w./ -]*[\w./-])?")
"""Texts that YAML reads as they are."""


def last_part(key: str) -> str:
    """Return the last part of a dotted key, e.g. `recall` for caption.recall."""
    return key.rpartition(".")[2]


def text_of(value: JsonValue) -> str:
    """Return a value as YAML writes it, e.g. null, true or [1, 50]; of a group `oracle recall 0.5` for its values."""
    if isinstance(value, dict):
        return " ".join(words_of(leaves(value))) or "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(text_of, value))}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def leaves(group: Mapping[str, JsonValue], prefix: str = "") -> dict[str, JsonValue]:
    """Return the values in a group by their dotted keys."""
    found: dict[str, JsonValue] = {}
    for key, value in group.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return found


def words_of(values: Mapping[str, JsonValue]) -> Iterator[str]:
    """Yield each value as text; a number, a list or a boolean with its key, since it says nothing alone."""
    for key, value in values.items():
        yield text_of(value) if value is None or isinstance(value, str) else f"{last_part(key)} {text_of(value)}"


def yaml_of(value: JsonValue) -> str:
    """Return a value in YAML, in one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {yaml_of(own)}' for key, own in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(yaml_of, value))}]"
    if isinstance(value, str) and UNQUOTED.fullmatch(value) and value not in WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


def headings_of(values: Sequence[JsonValue]) -> list[str]:
    """Return a short text for each value of an axis: of a group, what not all groups say; more if two would be alike."""
    groups = [leaves(value) for value in values if isinstance(value, dict)]
    shared = [pair for pair in groups[0].items() if all(pair in own.items() for own in groups)] if groups[1:] else []

    def differing(value: JsonValue) -> str:
        if not isinstance(value, dict):
            return text_of(value)
        return " ".join(words_of({key: own for key, own in leaves(value).items() if (key, own) not in shared}))

    for texts in (list(map(differing, values)), list(map(text_of, values))):
        if all(texts) and len({*texts}) == len(texts):
            return texts
    return list(map(yaml_of, values))


def comparable(value: Any) -> Any:
    """Return a value that equals another's if both mean the same: 1 is 1.0 and not true, and null is the word null."""
    if isinstance(value, dict):
        return {key: comparable(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return list(map(comparable, value))
    return text_of(value) if value is None or isinstance(value, bool) else value


def is_meant(word: str, value: JsonValue, heading: str) -> bool:
    """Return whether a word of a command line is a value: its heading, its text, or the value in YAML."""
    if word in (heading, text_of(value)):
        return True
    try:
        return comparable(parse_yaml(word, "")) == comparable(value)
    except ConfigError:
        return False


def meant(text: str, axes: Mapping[str, Sequence[JsonValue]]) -> tuple[str, JsonValue] | None:
    """Return the axis and the value that a text of a command line names; None if there is no such value.

    Args:
        text: a value as for `is_meant`, alone or after its axis: `caption.recall=0.5`, `recall=0.5`, `recall 0.5` or `0.5`.
        axes: the values of each axis.

    Raises:
        ConfigError: several axes have the name or the value.
    """
    text = text.strip()
    name, sign, rest = (part.strip() for part in text.partition("="))
    keyed = [name] if name in axes else [axis for axis in axes if last_part(axis) == name]
    words = dict.fromkeys(keyed, rest) if sign and keyed else dict.fromkeys(axes, text)
    found = {
        axis: value
        for axis, word in words.items()
        for value, heading in zip(axes[axis], headings_of(axes[axis]), strict=True)
        if is_meant(word, value, heading) or is_meant(word.removeprefix(f"{last_part(axis)} "), value, heading)
    }
    several = keyed if sign and len(keyed) > 1 else list(found) if len(found) > 1 else []
    if several:
        raise ConfigError([f"{text}: may be of {' or '.join(several)}; name one of them in full"])
    return next(iter(found.items()), None)


def split_words(text: str) -> list[str]:
    """Return the parts of a text between its commas, but for those in brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]
