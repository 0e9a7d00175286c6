"""Files of models, from a hub repository or a folder, and the hashes of their contents. Needs no torch."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from tadp_ray.errors import UserError
from tadp_ray.files import file_digest


def from_hub(repository: str, patterns: Sequence[str], lacking: str, mend: str) -> Path:
    """The folder of a hub repository's files of these patterns, fetched on first use.

    Raises:
        UserError: they could not be fetched: what is `lacking`, why, and the `mend`.
    """
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{lacking}, and no hub repository of this name could be fetched ({type(error).__name__}){mend}"
        ) from None


def contents_digest(files: Mapping[str, Path]) -> str:
    """Content hash of named files."""
    return hashlib.sha256(repr([(name, file_digest(file)) for name, file in files.items()]).encode()).hexdigest()
