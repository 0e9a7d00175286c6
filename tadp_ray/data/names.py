"""What files are called: which of them a glob finds, which name tells each from the others, which one a list means."""

import glob
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from tadp_ray.errors import UserError
from tadp_ray.files import composed, read_lines, without_ending

SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini")
"""What Windows leaves in folders; .DS_Store and ._photo.jpg of macOS are hidden files, which no wildcard finds."""
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
"""A folder whose name ends so is a mistake."""


class Found(NamedTuple):
    """A file that a glob found."""

    wild: PurePosixPath
    """What the glob's wildcards stand for, without the file's ending, in NFC."""
    path: Path


def find_files(pattern: str, root: Path | None = None) -> list[Found]:
    """The files below a root that match a glob, in the order of their paths, without the operating system's own.

    Folders that the glob spells out are no part of what its wildcards stand for, so `*/rgb/*.png` and `*/labels/*.png` find
    files of the same names. Folders are passed over, but for one that is called like an image: it is among what is found, as
    a link to nothing is, so that whoever opens it says what it is.
    """
    *folders, last = Path(pattern).parts
    if last == "**":
        return find_files(f"{pattern}/*", root)
    steps = [
        "((?:[^/]+/)*)" if part == "**" else "([^/]+/)" if glob.has_magic(part) else f"{re.escape(part).rstrip('/')}/"
        for part in folders
    ]
    form = re.compile("".join(steps) + "([^/]+)", re.DOTALL)
    found = []
    for path in {Path(name) for name in glob.iglob(pattern, root_dir=root, recursive=True)}:
        whole = (root or Path()) / path
        if path.name.lower() in SYSTEM_FILES or (whole.is_dir() and path.suffix.lower() not in PICTURES):
            continue
        match = form.fullmatch(path.as_posix())
        wild = PurePosixPath(composed("".join(match.groups()) if match else path.as_posix()))
        found.append(Found(wild.with_name(wild.stem), whole))
    return sorted(found, key=lambda each: each.path)


def distinct(found: Iterable[Found], suffix: str = "") -> dict[PurePosixPath, Path]:
    """Files by what the wildcards stand for, without `suffix` behind it; files without that suffix are left out.

    Raises:
        UserError: two files have one name.
    """
    files: dict[PurePosixPath, Path] = {}
    for wild, path in found:
        if not wild.name.endswith(suffix):
            continue
        key = wild.with_name(wild.name.removesuffix(suffix) or wild.name)
        if (other := files.setdefault(key, path)) != path:
            raise UserError(
                f"{path}: is called {str(key)!r}, as {other} is; give a glob that matches one of the two, or take one away"
            )
    return files


def ids_of(keys: Iterable[PurePosixPath]) -> dict[PurePosixPath, str]:
    """An id for each file: its stem where stems tell all of them apart, or else its path, e.g. chur/0000."""
    keys = list(keys)
    twice = len({key.name for key in keys}) < len(keys)
    return {key: str(key) if twice else key.name for key in keys}


def pair_up(
    images: Mapping[PurePosixPath, Path], masks: Mapping[PurePosixPath, Path]
) -> dict[PurePosixPath, Path | None]:
    """The mask of each image: that of the same path, or of the same file name where one side has no folders.

    Raises:
        UserError: one side has no folders, and two files of the other have one name.
    """
    if not masks or is_flat(images) == is_flat(masks):
        return {key: masks.get(key) for key in images}
    for files in (images, masks):
        name, count = Counter(key.name for key in files).most_common(1)[0]
        if count > 1:
            one, other = [path for key, path in files.items() if key.name == name][:2]
            raise UserError(
                f"{one} and {other}: which image and label map belong together cannot be told, as one side has no "
                "folders and names occur twice; lay both sides out in the same folders"
            )
    by_name = {key.name: path for key, path in masks.items()}
    return {key: by_name.get(key.name) for key in images}


def is_flat(keys: Iterable[PurePosixPath]) -> bool:
    """Whether no wildcard stands for a folder."""
    return all(len(key.parts) == 1 for key in keys)


class Names:
    """What a line of a list may call each file: its path or the end of it, its name, or its stem.

    Args:
        files: path by id, relative to `root`.
        root: the folder that they lie in; a line may name the folders above it, too.
    """

    def __init__(self, files: Mapping[str, PurePath], root: Path | None = None) -> None:
        self._above = () if root is None else folders_of(root.absolute() / "x")
        self._files = {file_id: PurePosixPath(composed(path.as_posix())) for file_id, path in files.items()}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for file_id, path in self._files.items():
            for name in {path.name, path.stem}:
                self._by_name[name].append(file_id)

    def meant(self, line: str) -> list[str]:
        """Ids of the files that a line may mean: none, one, or several, all equally well."""
        wanted = PurePosixPath(composed(line))
        for name in dict.fromkeys((wanted.name, without_ending(wanted.name))):
            named = [file_id for file_id in self._by_name.get(name, ()) if self._agrees(file_id, folders_of(wanted))]
            # A name with its ending beats one without, and a path that is written out beats its end.
            for exact in (
                [file_id for file_id in named if self._files[file_id] == wanted],
                [file_id for file_id in named if self._files[file_id].name == name],
            ):
                if len(exact) == 1:
                    return exact
            if named:
                return named
        return []

    def _agrees(self, file_id: str, wanted: tuple[str, ...]) -> bool:
        """Whether the folders that a line names are the last ones of a file's, or end in all of them below the root."""
        own = folders_of(self._files[file_id])
        if len(wanted) > len(own):
            return wanted[len(wanted) - len(own) :] == own
        return not wanted or (self._above + own)[-len(wanted) :] == wanted


def folders_of(path: PurePath) -> tuple[str, ...]:
    """The folders of a path, as parts."""
    return tuple(part for part in path.parts[:-1] if part not in ("/", "."))


def lines_of(path: Path) -> list[str]:
    """Lines of a list file that say something, without the spaces around them.

    Raises:
        UserError: there are none, or the file is no text.
    """
    if not (lines := read_lines(path)):
        raise UserError(f"{path}: this list is empty; name one image a line")
    return lines


def read_list(path: Path) -> list[str]:
    """Ids that a published list names, none of which holds a space: each line's first column without folder and ending.

    Raises:
        UserError: there are none, or the file is no text.
    """
    return [without_ending(PurePosixPath(line.split()[0]).name) for line in lines_of(path)]


def chosen(path: Path, images: Names, beside: Names) -> list[str]:
    """Ids of the images that a list names, one a line, each once. A line may name a file that belongs to it behind.

    Args:
        path: the list.
        images: to choose from.
        beside: what may stand behind an image's name, by the same ids; a blank parts the two. Whatever else stands there, such
            as VOC's 1 and -1, is passed over.

    Raises:
        UserError: a line means no image, or several.
    """
    ids: dict[str, None] = {}
    missing, several = [], []
    for line in lines_of(path):
        meant = images.meant(line) or columns(line, images, beside) or first_column(line, images, beside)
        if len(meant) > 1:
            several.append(f"{path}: {line!r} may mean {' or '.join(meant[:3])}; write more of its path")
        missing += [line] * (not meant)
        ids |= dict.fromkeys(meant)
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        several.insert(0, f"{path}: names no image that is there: {', '.join(missing[:5])}{more}")
    if several:
        raise UserError("\n".join(several[:20]))
    return list(ids)


def first_column(line: str, images: Names, beside: Names) -> list[str]:
    """Ids of the images that a line may mean by what stands before its first blank, if nothing behind names a file."""
    first, *others = line.split()
    return [] if any(images.meant(other) or beside.meant(other) for other in others) else images.meant(first)


def columns(line: str, images: Names, beside: Names) -> list[str]:
    """Ids of the images that a line may mean by what stands before a blank, if what stands behind belongs to them."""
    found: dict[str, None] = {}
    for blank in re.finditer(r"\s+", line):
        behind = beside.meant(line[blank.end() :])
        found |= dict.fromkeys(name for name in images.meant(line[: blank.start()]) if name in behind)
    return list(found)
