"""Captions of a run that is not over yet: append-only, on disk batch by batch, read again when the run goes on."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tadp_ray.errors import UserError
from tadp_ray.files import sync

BEGINNING = b'{"partial_captions": 1'


@dataclass
class Described:
    """What was said of images, by id."""

    captions: dict[str, str] = field(default_factory=dict)
    images_sha256: dict[str, str] = field(default_factory=dict)
    """Of the file that each caption describes."""
    failed: dict[str, str] = field(default_factory=dict)
    """Why an image has no caption."""

    def update(self, newer: "Described") -> None:
        """Add what was said later, which takes the place of what was said or not said before."""
        for name in newer.failed:
            self.captions.pop(name, None)
            self.images_sha256.pop(name, None)
        for name in newer.captions:
            self.failed.pop(name, None)
        self.captions |= newer.captions
        self.images_sha256 |= newer.images_sha256
        self.failed |= newer.failed


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """`min_tokens: 20 there, 40 here; ...`: in what two captioners differ; empty if in nothing."""
    keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    return "; ".join(f"{key}: {there.get(key)} there, {here.get(key)} here" for key in keys)


class Partial:
    """The file itself: a header line, then a line a batch. A batch is written whole or, by the next run, forgotten.

    Args:
        path: created unless it is there.
        captioner: what made the captions; JSON.

    Raises:
        UserError: what is there was made by another captioner, or is no such file.
    """

    def __init__(self, path: Path, captioner: Mapping[str, Any]) -> None:
        self.path, self.described = path, Described()
        path.touch()
        sync(path.parent)
        content = path.read_bytes()
        if not (content.startswith(BEGINNING) or BEGINNING.startswith(content)):
            raise UserError(f"{path}: not the captions of an unfinished run; move it away, or write to another --out")
        # The last line of a killed run may be torn.
        *whole, torn = content.split(b"\n")
        # A header alone binds nobody.
        os.truncate(path, len(content) - len(torn) if whole[1:] else 0)
        if not whole[1:]:
            self._append({"partial_captions": 1, "captioner": captioner})
            return
        try:
            there = json.loads(whole[0])["captioner"]
            batches = [Described(**json.loads(line)) for line in whole[1:]]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: a line of this unfinished run is broken ({error}); delete the file, and all is captioned anew"
            ) from None
        if differing := differences(there, captioner):
            raise UserError(
                f"{path}: an unfinished run has written captions of another making ({differing}); finish it with its own "
                "settings, write to another --out, or delete that file"
            )
        for batch in batches:
            self.described.update(batch)

    def add(self, batch: Described) -> None:
        """Append a batch; it is on disk when this returns."""
        self._append(asdict(batch))
        self.described.update(batch)

    def _append(self, record: Mapping[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
