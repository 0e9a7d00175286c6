"""The log of an unfinished captioning run: each batch is appended to a file, which a resumed run reads."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tadp_ray.errors import UserError
from tadp_ray.files import sync

MAGIC = b'{"partial_captions": 1'


@dataclass
class CaptionResults:
    """Captions and errors by image id."""

    captions: dict[str, str] = field(default_factory=dict)
    images_sha256: dict[str, str] = field(default_factory=dict)
    """Hash of each captioned image file."""
    failed: dict[str, str] = field(default_factory=dict)
    """Errors of images without a caption."""

    def update(self, newer: "CaptionResults") -> None:
        """Add newer results, which replace older ones."""
        for name in newer.failed:
            self.captions.pop(name, None)
            self.images_sha256.pop(name, None)
        for name in newer.captions:
            self.failed.pop(name, None)
        self.captions |= newer.captions
        self.images_sha256 |= newer.images_sha256
        self.failed |= newer.failed


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Return how two captioners differ: `min_tokens: 20 there, 40 here; ...`; empty if they do not."""
    keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    return "; ".join(f"{key}: {there.get(key)} there, {here.get(key)} here" for key in keys)


class ResumeLog:
    """The log file: a header line, then a line per batch. The next run drops an incomplete last line.

    Args:
        path: created if needed.
        captioner: facts that identify the captioner; JSON.

    Raises:
        UserError: the file was written by another captioner, or is not such a log.
    """

    def __init__(self, path: Path, captioner: Mapping[str, Any]) -> None:
        self.path, self.described = path, CaptionResults()
        path.touch()
        sync(path.parent)
        content = path.read_bytes()
        if not (content.startswith(MAGIC) or MAGIC.startswith(content)):
            raise UserError(f"{path}: not the captions of an unfinished run; move it away, or write to another --out")
        # The last line of a killed run may be incomplete.
        *complete, rest = content.split(b"\n")
        # A log without batches is started again.
        os.truncate(path, len(content) - len(rest) if complete[1:] else 0)
        if not complete[1:]:
            self._append({"partial_captions": 1, "captioner": captioner})
            return
        try:
            there = json.loads(complete[0])["captioner"]
            batches = [CaptionResults(**json.loads(line)) for line in complete[1:]]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: a line of this unfinished run is broken ({error}); delete the file to caption all images again"
            ) from None
        if differing := differences(there, captioner):
            raise UserError(
                f"{path}: an unfinished run has written captions of another captioner ({differing}); finish it with its own "
                "settings, write to another --out, or delete that file"
            )
        for batch in batches:
            self.described.update(batch)

    def add(self, batch: CaptionResults) -> None:
        """Append a batch and sync it to the disk."""
        self._append(asdict(batch))
        self.described.update(batch)

    def _append(self, record: Mapping[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
