"""Recognizes and reads the caption file formats of other tools."""

import csv
import io
import json
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

from tadp_ray.errors import UserError
from tadp_ray.files import read_text, why_unreadable
from tadp_ray.wording import pluralized

ID_KEYS = ("file_name", "image", "image_id", "id")
"""Accepted keys of an image's name, in a table's header or in an object."""
TEXT_KEYS = ("caption", "text")
LIST_KEY = "captions"
"""Accepted keys of several captions of one image."""
SEPARATORS = (",", ";", "\t")
"""Accepted separators of a table's columns."""
EXAMPLES = (
    'CSV with the header image,caption, one object {"image": ..., "caption": ...} a line, or one object {id: "text"}'
)
KINDS = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"RIFF", "a WebP image or a sound"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive, such as an Excel sheet or a PyTorch file"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"PAR1", "a Parquet table"),
    (b"\x80", "a Python pickle"),
)
"""First bytes of files that are not text, and what they are."""


def caption_text(path: Path) -> str:
    """Read a caption file's text.

    Raises:
        UserError: there is no such file, it cannot be read, or it is no text; the message says what it is instead.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; name a file of captions that exists")
    if why := why_unreadable(path):
        raise UserError(f"{path}: {why}; name a file of captions")
    with path.open("rb") as file:
        head = file.read(4)
    if kind := next((kind for first, kind in KINDS if head.startswith(first)), None):
        raise UserError(f"{path}: not a caption store but {kind}; name a text file: {EXAMPLES}")
    text = read_text(path)
    if not text.strip():
        raise UserError(f"{path}: this caption store is empty; write or copy it again")
    return text


def parse(text: str, path: Path, first_line: int = 1) -> Any:
    """Parse a JSON object or list.

    Raises:
        UserError: it is something else, broken, nested too deeply, or says a key twice, of which readers drop the first.
    """
    if not text.lstrip().startswith(("{", "[")):
        raise UserError(
            f"{path}, line {first_line}: neither JSON nor a table with a column {', '.join(ID_KEYS)}: {text.lstrip()!r:.60}; "
            f"write {EXAMPLES}"
        )
    try:
        return json.loads(text, object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise UserError(
            f"{path}, line {line}, column {error.colno}: broken JSON ({error.msg}); the file may have been cut short, "
            "write or copy it again"
        ) from None
    except KeyError as error:
        raise UserError(f"{path}: {error.args[0]!r} occurs twice; keep one of the two entries") from None
    except (RecursionError, ValueError):
        raise UserError(f"{path}, line {first_line}: nested too deeply or a number too long for captions") from None


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise KeyError(key)
        found[key] = value
    return found


def check_text(text: str, path: Path, place: str) -> str:
    """Raise UserError for text that cannot be encoded as UTF-8: half of a surrogate pair in JSON."""
    half = next((character for character in text if "\ud800" <= character <= "\udfff"), None)
    if half:
        raise UserError(
            f"{path}, {place}: {text!a:.60} holds half a character, {half!a}, whose other half was cut off; write the file "
            "anew as UTF-8, or take it out"
        )
    return text


def lines_of(text: str) -> list[str]:
    """Return the lines of a text without blank ones at its end. Not splitlines: JSON may contain other Unicode line breaks."""
    return text.rstrip("\r\n \t").split("\n")


def rows(text: str, path: Path) -> tuple[str, Iterator[tuple[str, Any, Any]]] | dict[str, Any]:
    """Return what the form of another tool's file is, and its (position, image, caption or list of captions).

    Returns the object of a file that is one, with an entry by the id of each image.

    Raises:
        UserError: it is broken JSON, or neither JSON nor a table; the iterator raises it for an entry of another shape.
    """
    first, *others = lines_of(text.lstrip("\r\n"))
    is_json = first.lstrip().startswith(("{", "["))
    if not is_json and (separator := separator_of(first)):
        return "a table", table_rows(text, path, separator)
    if first.lstrip().startswith("{") and _is_line(first, bool(others)):
        return "one object a line", object_rows(_objects(text, path), path)
    match parse(text, path):
        case list(entries):
            numbered = ((f"entry {number}", entry) for number, entry in enumerate(entries, 1))
            return "a JSON list", object_rows(numbered, path)
        case {"images": list(images), "annotations": list(annotations)}:
            return "captions in COCO's form", coco_rows(images, annotations, path)
        case by_id:
            return by_id


def _is_line(first: str, others: bool) -> bool:
    """Return whether a first line is an object of its own: it is whole, and other lines follow or it names an image."""
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return others or column(value, ID_KEYS) is not None


def separator_of(header: str) -> str | None:
    """Return what separates the columns of a table with this header line; None if it names no column of images."""
    return next((mark for mark in SEPARATORS if column(columns(header, mark), ID_KEYS)), None)


def columns(header: str, separator: str) -> list[str]:
    """Return the names in a table's header line; empty if it is not a header."""
    try:
        return [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
    except csv.Error:
        return []


def column(names: Container[str], known: tuple[str, ...]) -> str | None:
    """Return the first accepted one of some names."""
    return next((name for name in known if name in names), None)


def table_rows(text: str, path: Path, separator: str) -> Iterator[tuple[str, str, str]]:
    """Yield (position, image, caption) of each row of a table.

    Raises:
        UserError: it has no column of captions, or a row has more or fewer fields than the header.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        # Blank lines may come before it.
        header = [name.strip() for name in next(filter(None, reader))]
        image, caption = column(header, ID_KEYS), column(header, TEXT_KEYS)
        if image is None or caption is None:
            raise UserError(
                f"{path}, line {reader.line_num}: the table's columns are {', '.join(header)}; name that of the captions caption "
                "or text"
            )
        if header.count(caption) > 1 or header.count(image) > 1:
            raise UserError(
                f"{path}, line {reader.line_num}: the table's columns are {', '.join(header)}; remove the second column of the "
                "same name"
            )
        for row in reader:
            place = f"line {reader.line_num}"
            if not row:
                continue
            if len(row) != len(header):
                raise UserError(
                    f"{path}, {place}: {len(row)} fields where the header has {len(header)}; put quotes around text with "
                    f"{separator!r}"
                )
            yield place, row[header.index(image)], row[header.index(caption)]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not a CSV table ({error}); write it again") from None


def _objects(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (position, JSON value) of each line that is not blank."""
    for number, line in enumerate(lines_of(text), 1):
        if line.strip():
            yield f"line {number}", parse(line, path, number)


def object_rows(entries: Iterable[tuple[str, Any]], path: Path) -> Iterator[tuple[str, Any, Any]]:
    """Yield (position, image, caption or list of captions) of each object, whose position is given.

    Raises:
        UserError: an entry is something else.
    """
    for place, entry in entries:
        image, caption = (
            column(entry, keys) if isinstance(entry, dict) else None for keys in (ID_KEYS, (*TEXT_KEYS, LIST_KEY))
        )
        if image is None or caption is None:
            raise UserError(
                f"{path}, {place}: expected an object with an image's name ({', '.join(ID_KEYS)}) and a caption "
                f"({', '.join(TEXT_KEYS)}), not {json.dumps(entry, ensure_ascii=False)!s:.80}"
            )
        yield place, entry[image], entry[caption]


def coco_rows(images: list[Any], annotations: list[Any], path: Path) -> Iterator[tuple[str, str, Any]]:
    """Yield (position, file name, caption) of each annotation of COCO's captions.

    Raises:
        UserError: an image has no id and file name, or an annotation no caption of one of the images.
    """
    names: dict[Any, str] = {}
    for number, image in enumerate(images, 1):
        match image:
            case {"id": int() | str() as key, "file_name": str(name)} if names.setdefault(key, name) == name:
                pass
            case _:
                raise UserError(
                    f"{path}, images, entry {number}: expected an id of its own and a file_name, not {image!r:.80}"
                )
    for number, annotation in enumerate(annotations, 1):
        match annotation:
            case {"image_id": int() | str() as key, "caption": caption} if key in names:
                yield f"annotations, entry {number}", names[key], caption
            case _:
                raise UserError(
                    f"{path}, annotations, entry {number}: expected the image_id of one of {pluralized(len(names), 'images')} "
                    f"and a caption, not {annotation!r:.80}"
                )
