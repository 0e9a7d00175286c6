"""Reads and writes YAML 1.2 with the core schema and merge keys: `5e-4` is a number; `yes`, `1:30` and dates are strings.

A file is read event by event, so that one that is too large, too deep or refers to itself is refused before it is built.
"""

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)
from ruamel.yaml.representer import SafeRepresenter

from tadp_ray.config.errors import ConfigError

MAX_BYTES = 256 * 1024
"""Maximum size of a file. A recipe has 2 KiB."""
MAX_VALUES = 10_000
"""Maximum number of keys and values of a file, aliases expanded."""
MAX_DEPTH = 32
"""Maximum nesting of groups and lists. A recipe has 4."""
MAX_DIGITS = 40
MERGE = "<<"
WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
INTEGER = re.compile(r"[-+]?[0-9]+")
BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
INVALID_CHARACTER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Control characters and surrogates, which are invalid in any value."""


def read_text(path: Path) -> str:
    """Read the text of a YAML file.

    Raises:
        ConfigError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    if len(data) > MAX_BYTES:
        raise ConfigError([f"{path}: more than {MAX_BYTES // 1024} KiB; no file of settings is that large"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        found = "UTF-16" if wide else f"byte {error.start + 1} fits no UTF-8"
        raise ConfigError([f"{path}: expected UTF-8 text, found {found}; save it as UTF-8"]) from None


def parse_yaml(text: str, origin: str) -> Any:
    """Return the document of a YAML text as JSON values; None if it is empty. Keys are strings as written.

    Args:
        text: YAML 1.2 with at most one document.
        origin: name of the text in errors.

    Raises:
        ConfigError: the text is invalid. The message contains `origin`, line and column.
    """
    return _Reader(text, origin).document()


def plain(word: str) -> Any:
    """Return the value of an unquoted scalar in YAML 1.2's core schema.

    Raises:
        ValueError: it is an integer of more than `MAX_DIGITS` characters.
    """
    if word in WORDS:
        return WORDS[word]
    if INTEGER.fullmatch(word):
        if len(word) > MAX_DIGITS:
            raise ValueError(f"a number of {len(word)} digits")
        return int(word)
    if BASED.fullmatch(word):
        return int(word, 0)
    if FLOAT.fullmatch(word):
        return float(word)
    return float(word.replace(".", "", 1)) if SPECIAL.fullmatch(word) else word


class _Reader:
    """Builds JSON values from the events of a YAML text."""

    def __init__(self, text: str, origin: str) -> None:
        self._origin = origin
        self._events = self._checked(text)
        self._anchors: dict[str, Any] = {}
        self._open: set[str] = set()
        self._values = 0

    def document(self) -> Any:
        """Return the value of the whole text."""
        next(self._events)
        first = next(self._events)
        if isinstance(first, StreamEndEvent):
            return None
        if isinstance(first, DocumentStartEvent) and first.version not in (None, (1, 2)):
            raise self._error(first.start_mark, "expected YAML 1.2, leave the %YAML line out")
        value = self._value(next(self._events), 0)
        next(self._events)
        after = next(self._events)
        if not isinstance(after, StreamEndEvent):
            raise self._error(after.start_mark, "expected one document, found another (---)")
        return value

    def _checked(self, text: str) -> Iterator[Event]:
        """Yield the parser's events; its errors become ConfigError."""
        try:
            yield from YAML(typ="safe", pure=True, plug_ins=[]).parse(text)
        except MarkedYAMLError as error:
            message = " ".join(part for part in (error.context, error.problem) if part)
            raise self._error(error.problem_mark or error.context_mark, f"not valid YAML: {message}") from None
        except YAMLError as error:
            raise ConfigError([f"{self._origin}: not valid YAML: {str(error).partition(chr(10))[0]}"]) from None
        except (ValueError, OverflowError):
            # The parser passes the number after \U to chr() unchecked.
            raise ConfigError([f"{self._origin}: not valid YAML: an escape (\\U...) names no character"]) from None

    def _error(self, mark: StringMark | None, message: str) -> ConfigError:
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return ConfigError([f"{self._origin}: {place}{message}"])

    def _value(self, event: Event, depth: int) -> Any:
        """Return the value that starts with an event, at a nesting of `depth`."""
        self._count(event, 1, depth)
        if isinstance(event, AliasEvent):
            return self._repeated(event, depth)
        if event.tag is not None:
            raise self._error(event.start_mark, f"the tag {event.tag} means nothing here; leave it out")
        if event.anchor:
            self._open.add(event.anchor)
        if isinstance(event, ScalarEvent):
            value = self._scalar(event)
        else:
            value = (self._mapping if isinstance(event, MappingStartEvent) else self._sequence)(depth)
        if event.anchor:
            self._open.discard(event.anchor)
            self._anchors[event.anchor] = value
        return value

    def _count(self, event: Event, values: int, depth: int) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            raise self._error(event.start_mark, f"more than {MAX_VALUES} keys and values up to here, aliases repeated")
        if depth > MAX_DEPTH:
            raise self._error(event.start_mark, f"more than {MAX_DEPTH} groups and lists inside one another")

    def _repeated(self, event: AliasEvent, depth: int) -> Any:
        """Return the value of an alias."""
        if event.anchor in self._open:
            raise self._error(event.start_mark, f"*{event.anchor} stands inside what it refers to")
        if event.anchor not in self._anchors:
            raise self._error(event.start_mark, f"*{event.anchor}: nothing above is called &{event.anchor}")
        value = self._anchors[event.anchor]
        values, deep = _extent(value)
        self._count(event, values - 1, depth + deep)
        return value

    def _scalar(self, event: ScalarEvent) -> Any:
        """Return the value of a scalar. Only unquoted scalars are numbers, booleans or null."""
        if invalid := INVALID_CHARACTER.search(event.value):
            raise self._error(event.start_mark, f"the character U+{ord(invalid[0]):04X} belongs in no text")
        if not event.implicit[0]:
            return event.value
        try:
            return plain(event.value)
        except ValueError as error:
            raise self._error(event.start_mark, str(error)) from None

    def _sequence(self, depth: int) -> list[Any]:
        items = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._value(event, depth + 1))
        return items

    def _mapping(self, depth: int) -> dict[str, Any]:
        """Return a mapping. Its keys override those of merged groups (`<<`), of which the first takes precedence."""
        keys: dict[str, Any] = {}
        below: list[Mapping[str, Any]] | None = None
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._key(event, depth)
            merges = key == MERGE and event.implicit[0]
            if key in keys or (merges and below is not None):
                raise self._error(event.start_mark, f"key {key!r} stands here twice")
            value = self._value(next(self._events), depth + 1)
            if not merges:
                keys[key] = value
                continue
            below = value if isinstance(value, list) else [value]
            if not all(isinstance(group, dict) for group in below):
                raise self._error(event.start_mark, "<<: expected a group of keys (*anchor), or a list of groups")
        merged: dict[str, Any] = {}
        for group in reversed(below or []):
            merged |= group
        return merged | keys

    def _key(self, event: Event, depth: int) -> str:
        self._count(event, 1, depth)
        if not isinstance(event, ScalarEvent) or event.tag is not None:
            raise self._error(event.start_mark, "expected a word as key")
        self._scalar(event)
        if event.value != event.value.strip() or not event.value:
            raise self._error(event.start_mark, f"key {event.value!r}: a key is not empty and has no spaces around it")
        if event.anchor:
            self._anchors[event.anchor] = event.value
        return event.value


def _extent(value: Any) -> tuple[int, int]:
    """Return (number of keys and values, nesting of groups and lists) of a value."""
    if not isinstance(value, dict | list):
        return 1, 0
    inner = [_extent(item) for item in (value.values() if isinstance(value, dict) else value)]
    keys = len(value) if isinstance(value, dict) else 0
    return 1 + keys + sum(count for count, _ in inner), 1 + max((deep for _, deep in inner), default=0)


class _Writer(SafeRepresenter):
    """Quotes strings that would otherwise be read as another type."""

    def represent_str(self, data: str) -> Any:
        """Represent a string, quoted if it would be read as a number, a boolean or null."""
        quoted = data in WORDS or any(kind.fullmatch(data) for kind in (INTEGER, BASED, FLOAT, SPECIAL))
        # Only double quotes keep Unicode's other line breaks.
        style = '"' if any(end in data for end in "\x85\u2028\u2029") else "'" if quoted else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Writer.add_representer(str, _Writer.represent_str)


def dump_yaml(values: Mapping[str, Any]) -> str:
    """Return JSON values as YAML text with the keys in order; `parse_yaml` returns the same values."""
    yaml = YAML(typ="safe", pure=True, plug_ins=[])
    yaml.Representer = _Writer
    yaml.default_flow_style, yaml.width, yaml.sort_base_mapping_type_on_output = False, 120, False
    text = io.StringIO()
    yaml.dump(values, text)
    return text.getvalue()
