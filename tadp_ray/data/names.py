"""File names: the files of a glob, their ids, and the lines of list files."""

import glob
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from tadp_ray.errors import UserError, raise_problems
from tadp_ray.files import composed, folders_of, read_lines, without_ending
from tadp_ray.wording import first_few

SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini")
"""Files that Windows creates; .DS_Store and ._photo.jpg of macOS are hidden files, which wildcards do not match."""
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
"""Image extensions; a folder with one is a mistake."""


class Found(NamedTuple):
    """A file that matches a glob."""

    wild: PurePosixPath
    """The part that the glob's wildcards match, without the file's extension, in NFC."""
    path: Path


def find_files(pattern: str, root: Path | None = None) -> list[Found]:
    """Return the files below a root that match a glob, sorted by path, without files of the operating system.

    The fixed folders of a glob do not belong to the matched part, so `*/rgb/*.png` and `*/labels/*.png` find files with the
    same names. Folders are skipped, except one with an image extension. It is returned like a broken link, so that opening it
    reports the mistake.
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
        if path.name.lower() in SYSTEM_FILES or (whole.is_dir() and path.suffix.lower() not in PICTURE_SUFFIXES):
            continue
        if any("\ud800" <= character <= "\udfff" for character in str(path)):
            raise UserError(f"{str(whole)!a}: its name is no UTF-8, as of a file from an old archive; rename it")
        match = form.fullmatch(path.as_posix())
        wild = PurePosixPath(composed("".join(match.groups()) if match else path.as_posix()))
        found.append(Found(wild.with_name(wild.stem), whole))
    return sorted(found, key=lambda each: each.path)


def distinct(found: Iterable[Found], suffix: str = "") -> dict[PurePosixPath, Path]:
    """Return files by the part that the wildcards match, without `suffix`; files without the suffix are left out.

    Raises:
        UserError: two files have the same name.
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
    """Return an id for each file: its stem if all stems are different, else its path, e.g. chur/0000."""
    keys = list(keys)
    twice = len({key.name for key in keys}) < len(keys)
    return {key: str(key) if twice else key.name for key in keys}


def pair_up(
    images: Mapping[PurePosixPath, Path], masks: Mapping[PurePosixPath, Path]
) -> dict[PurePosixPath, Path | None]:
    """Return the mask of each image: the one with the same path, or with the same file name if one side has no folders.

    Raises:
        UserError: one side has no folders, and two files of the other have the same name.
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
    """Return whether no wildcard matches a folder."""
    return all(len(key.parts) == 1 for key in keys)


class Names:
    """Finds the files of a list's lines, by their path or its end, their name, or their stem.

    Args:
        files: path by id, relative to `root`.
        root: the folder of the files; a line may contain the folders above it, too.
    """

    def __init__(self, files: Mapping[str, PurePath], root: Path | None = None) -> None:
        self._above = () if root is None else folders_of(root.absolute() / "x")
        self._files = {file_id: PurePosixPath(composed(path.as_posix())) for file_id, path in files.items()}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for file_id, path in self._files.items():
            for name in {path.name, path.stem}:
                self._by_name[name].append(file_id)

    def meant(self, line: str) -> list[str]:
        """Return the ids of the files that a line may mean: none, one, or several equally good ones."""
        wanted = PurePosixPath(composed(line))
        for name in dict.fromkeys((wanted.name, without_ending(wanted.name))):
            named = [file_id for file_id in self._by_name.get(name, ()) if self._agrees(file_id, folders_of(wanted))]
            # A name with extension is better than one without, and a full path is better than its end.
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
        """Return whether a line's folders are the last folders of the file's path, or end with all of them below the root."""
        own = folders_of(self._files[file_id])
        if len(wanted) > len(own):
            return wanted[len(wanted) - len(own) :] == own
        return not wanted or (self._above + own)[-len(wanted) :] == wanted


def lines_of(path: Path) -> list[str]:
    """Return the stripped, non-empty lines of a list file.

    Raises:
        UserError: there are none, or the file is not text.
    """
    if not (lines := read_lines(path)):
        raise UserError(f"{path}: this list is empty; name one image a line")
    return lines


def read_list(path: Path) -> list[str]:
    """Return the ids of a published list, which contain no spaces: each line's first column without folder and extension.

    Raises:
        UserError: there are none, or the file is not text.
    """
    return [without_ending(PurePosixPath(line.split()[0]).name) for line in lines_of(path)]


def chosen(path: Path, images: Names, beside: Names) -> list[str]:
    """Return the ids of the images in a list, one per line, each once. A second column may name the image's label map.

    Args:
        path: the list.
        images: to choose from.
        beside: label maps by the same ids, which may follow the image after a space. Other columns, such as VOC's 1 and -1, are
            ignored.

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
        several.insert(0, f"{path}: lists images that do not exist: {first_few(missing)}")
    raise_problems(several)
    return list(ids)


def first_column(line: str, images: Names, beside: Names) -> list[str]:
    """Return the ids of the images that a line's first column may mean, if no other column names a file."""
    first, *others = line.split()
    return [] if any(images.meant(other) or beside.meant(other) for other in others) else images.meant(first)


def columns(line: str, images: Names, beside: Names) -> list[str]:
    """Return the ids of the images that the text before a space may mean, if the text after it names their label map."""
    found: dict[str, None] = {}
    for blank in re.finditer(r"\s+", line):
        behind = beside.meant(line[blank.end() :])
        found |= dict.fromkeys(name for name in images.meant(line[: blank.start()]) if name in behind)
    return list(found)
