"""Downloads model files from the hub, and hashes files. Does not import torch."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, LocalEntryNotFoundError

from tadp_ray.errors import UserError
from tadp_ray.files import file_digest

_cached_only = False
"""Whether nothing is downloaded now."""


def quiet_transformers() -> None:
    """Keep transformers from printing progress bars, which break a sweep's display, and anything but errors."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


@contextmanager
def cached_only() -> Iterator[None]:
    """Download nothing in the block: hub repositories that are not in the cache are missing. For plans, which cost nothing."""
    global _cached_only
    before, _cached_only = _cached_only, True
    try:
        yield
    finally:
        _cached_only = before


def from_hub(repository: str, patterns: Sequence[str], missing: str, remedy: str) -> Path:
    """Return the folder with a hub repository's files that match the patterns; download them on first use.

    Raises:
        UserError: the download failed, or in `cached_only` there is none; the message is made of `missing`, the reason and the
            `remedy`.
    """
    try:
        return Path(downloaded(repository, patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        if _cached_only:
            raise UserError(
                f"{missing}, and the hub's cache {constants.HF_HUB_CACHE} holds no repository of this name, which a training "
                f"would download{remedy}"
            ) from None
        raise UserError(
            f"{missing}, and no hub repository of this name could be downloaded ({type(error).__name__}){remedy}"
        ) from None


def downloaded(repository: str, patterns: Sequence[str]) -> str:
    """Return the folder of a repository; that in the cache if a connection breaks, and not only if there is none at all."""
    try:
        return snapshot_download(repository, allow_patterns=patterns, local_files_only=_cached_only)
    except HfHubHTTPError:
        raise
    except HTTPError:
        return snapshot_download(repository, allow_patterns=patterns, local_files_only=True)


def contents_digest(files: Mapping[str, Path]) -> str:
    """Return a hash of the names and contents of files."""
    return hashlib.sha256(repr([(name, file_digest(file)) for name, file in files.items()]).encode()).hexdigest()
