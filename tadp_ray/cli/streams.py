"""Output streams that survive a closed reader and an encoding without some characters."""

import codecs
import errno
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

ASCII = {
    "±": "+-",
    "–": "-",
    "—": "-",
    "…": "...",
    "×": "x",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "’": "'",
    "“": '"',
    "”": '"',
}
"""ASCII replacements."""
CLOSED = (errno.EPIPE, errno.EIO)
"""Error numbers of writing to a closed pipe or terminal."""


class RobustStream:
    """A text stream that discards text after its reader has closed, as with `| head` or a closed terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text; discard it if the reader has closed."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._discard(error)
            return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        try:
            self._stream.flush()
        except OSError as error:
            self._discard(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _discard(self, error: OSError) -> None:
        if error.errno not in CLOSED:
            raise error
        # Redirects buffered text and the output of child processes to /dev/null.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def or_devnull(stream: TextIO | None) -> TextIO:
    """Return the stream, or /dev/null if the command was started with it closed (`>&-`)."""
    return open(os.devnull, "w") if stream is None else stream


def takes_all(stream: TextIO) -> bool:
    """Return whether a stream's encoding has every character; a stream in memory has no encoding."""
    return codecs.lookup(getattr(stream, "encoding", None) or "utf-8").name == "utf-8"


@contextmanager
def robust_output() -> Iterator[None]:
    """In this block, ignore a closed reader, and replace characters that the terminal's encoding lacks."""
    own = [or_devnull(sys.stdout), or_devnull(sys.stderr)]
    for stream in own:
        if hasattr(stream, "reconfigure") and not takes_all(stream):
            stream.reconfigure(errors="tadp_ray.ascii")
    out, err = map(RobustStream, own)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            yield
        finally:
            out.flush()
            err.flush()


def replace_unencodable(error: UnicodeError) -> tuple[str, int]:
    """Error handler of codecs: replace characters that an encoding lacks: `±` by `+-`, `é` by `e`, others by `?`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(map(to_ascii, letters)), error.end


def to_ascii(letter: str) -> str:
    """Return a character in ASCII."""
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return ASCII.get(letter) or plain or "?"


codecs.register_error("tadp_ray.ascii", replace_unencodable)
