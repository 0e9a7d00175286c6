"""Addresses as they may be shown and kept: without the passwords, keys and tokens that people write into them."""

import re

WORD = re.compile(r"\S+")
NAME = re.compile(r"[^/:@?#]*")
PORT = re.compile(r":\d{1,5}(?=[/?#]|$)")
WEB = re.compile(r"\bhttps?$", re.IGNORECASE)
OBJECTS = re.compile(r"\b(?:s3[an]?|gs|gcs|r2)$", re.IGNORECASE)
PARAMETER = re.compile(r"[?&;#]([^?&;#=]*)=")
VALUE = re.compile(r"[^&'\"]*")
SPOKEN = re.compile("password|passwd|pwd|passphrase|secret|token|key|sig|credential|authorization", re.IGNORECASE)
"""What parameters with a secret are called."""


def masked(text: str) -> str:
    """A text, its addresses without what is secret in them: passwords, access keys, and parameters that are called so."""
    return WORD.sub(lambda found: without_parameters(without_names(found.group())), text)


def holds_secret(text: str) -> bool:
    """Whether an address in a text holds a password, an access key or a parameter that is called so."""
    return "://" in text and masked(text) != text


def without_names(word: str) -> str:
    """A word, `***` for what stands between `://` and `@` and is not the name of somebody or something.

    A secret may hold "/" and "@": after a colon, all up to the last "@" is taken, unless a port follows the colon. Whoever
    opens an object store is named by a key, and who stands alone before a web address is a token.
    """
    last, shown, done, place = word.rfind("@"), "", 0, word.find("://")
    while 0 <= place < last:
        start = place + 3
        end = end_of(NAME, word, start)
        # Enough of what stands before for the schemes that count.
        scheme = word[max(0, place - 9) : place]
        keyed = OBJECTS.search(scheme)
        if word[end] == ":" and not PORT.match(word, end):
            return shown + word[done:start] + ("***" if keyed else f"{word[start:end]}:***") + word[last:]
        if word[end] == "@" and end > start and (keyed or WEB.search(scheme)):
            shown, done = f"{shown}{word[done:start]}***", end
        place = word.find("://", end)
    return shown + word[done:]


def without_parameters(word: str) -> str:
    """A word, `***` for the values of parameters that are called as secrets are."""
    shown, done = "", 0
    found = PARAMETER.search(word)
    while found:
        end = found.end()
        if SPOKEN.search(found[1]):
            shown, done = f"{shown}{word[done:end]}***", end_of(VALUE, word, end)
            end = done
        found = PARAMETER.search(word, end)
    return shown + word[done:]


def end_of(pattern: re.Pattern[str], word: str, start: int) -> int:
    """Where what a pattern takes of a word from `start` on ends; it may take nothing."""
    found = pattern.match(word, start)
    return found.end() if found else start
