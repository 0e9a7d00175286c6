"""Downloads model files from the hub, and hashes files. Does not import torch."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from tadp_ray.errors import UserError
from tadp_ray.files import file_digest


def from_hub(repository: str, patterns: Sequence[str], missing: str, remedy: str) -> Path:
    """Return the folder with a hub repository's files that match the patterns; download them on first use.

    Raises:
        UserError: the download failed; the message is made of `missing`, the reason and the `remedy`.
    """
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{missing}, and no hub repository of this name could be downloaded ({type(error).__name__}){remedy}"
        ) from None


def contents_digest(files: Mapping[str, Path]) -> str:
    """Return a hash of the names and contents of files."""
    return hashlib.sha256(repr([(name, file_digest(file)) for name, file in files.items()]).encode()).hexdigest()
