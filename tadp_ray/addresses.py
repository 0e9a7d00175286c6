"""Addresses as they may be shown and kept: without the passwords, keys and tokens that people write into them."""

import re

WORDS = "password|passwd|pwd|passphrase|secret|token|key|sig|credential|authorization"

# What is masked, and what stands there instead. A secret may hold "/" and "@": all up to the last "@" of the word is
# taken, unless what follows the colon is a port.
_OBJECTS = r"\b((?:s3[an]?|gs|gcs|r2)://)"
_HIDDEN = r":(?!\d{1,5}[/?#\s])\S*@"
_RULES = (
    # Whoever opens an object store is named by a key, and who stands alone before a web address is a token.
    (re.compile(rf"{_OBJECTS}(?:[^/\s:@?#]*{_HIDDEN}|[^/\s:@?#]+@)", re.IGNORECASE), r"\1***@"),
    (re.compile(rf"(://[^/\s:@?#]*){_HIDDEN}"), r"\1:***@"),
    (re.compile(r"\b(https?://)[^/\s:@?#]+@", re.IGNORECASE), r"\1***@"),
    (re.compile(rf"([?&;#][\w.\-%]*(?:{WORDS})[\w.\-%]*=)[^&\s'\"]*", re.IGNORECASE), r"\1***"),
)


def masked(text: str) -> str:
    """A text, its addresses without what is secret in them: passwords, access keys, and parameters that are called so."""
    for pattern, shown in _RULES:
        text = pattern.sub(shown, text)
    return text


def holds_secret(text: str) -> bool:
    """Whether an address in a text holds a password, an access key or a parameter that is called so."""
    return "://" in text and masked(text) != text
