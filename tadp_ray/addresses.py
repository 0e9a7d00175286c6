"""Removes passwords, keys and tokens from addresses before they are shown or stored."""

import re

WORD = re.compile(r"\S+")
NAME = re.compile(r"[^/:@?#]*")
PORT = re.compile(r":\d{1,5}(?=[/?#]|$)")
WEB = re.compile(r"\bhttps?$", re.IGNORECASE)
OBJECTS = re.compile(r"\b(?:s3[an]?|gs|gcs|r2)$", re.IGNORECASE)
PARAMETER = re.compile(r"[?&;#]([^?&;#=]*)=")
VALUE = re.compile(r"[^&'\"]*")
SECRET_NAMES = re.compile(
    "password|passwd|pwd|passphrase|secret|token|key|sig|credential|authorization|odbc_connect", re.IGNORECASE
)
"""Matches names of parameters with secrets."""


def masked(text: str) -> str:
    """Replace passwords, access keys and secret parameters in the addresses of a text by `***`."""
    return WORD.sub(lambda found: without_parameters(without_names(found.group())), text)


def holds_secret(text: str) -> bool:
    """Return whether an address in a text contains a password, an access key or a secret parameter."""
    return "://" in text and masked(text) != text


def without_names(word: str) -> str:
    """Replace the secrets between `://` and `@` in a word; user names stay.

    A secret may contain "/" and "@": it extends from a colon to the last "@", unless a port follows the colon. The user of an
    object store is an access key, and a user without a password before a web address is a token.
    """
    last, shown, done, place = word.rfind("@"), "", 0, word.find("://")
    while 0 <= place < last:
        start = place + 3
        end = end_of(NAME, word, start)
        # Long enough for all schemes that matter.
        scheme = word[max(0, place - 9) : place]
        keyed = OBJECTS.search(scheme)
        if word[end] == ":" and not PORT.match(word, end):
            return shown + word[done:start] + ("***" if keyed else f"{word[start:end]}:***") + word[last:]
        if word[end] == "@" and end > start and (keyed or WEB.search(scheme)):
            shown, done = f"{shown}{word[done:start]}***", end
        place = word.find("://", end)
    return shown + word[done:]


def without_parameters(word: str) -> str:
    """Replace the values of secret parameters in a word."""
    shown, done = "", 0
    found = PARAMETER.search(word)
    while found:
        end = found.end()
        if SECRET_NAMES.search(found[1]):
            shown, done = f"{shown}{word[done:end]}***", end_of(VALUE, word, end)
            end = done
        found = PARAMETER.search(word, end)
    return shown + word[done:]


def end_of(pattern: re.Pattern[str], word: str, start: int) -> int:
    """Return the end of a pattern's match at `start`; `start` itself without a match."""
    found = pattern.match(word, start)
    return found.end() if found else start
