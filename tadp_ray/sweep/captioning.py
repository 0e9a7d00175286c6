"""Captions images on Ray Data: actors with a captioner each process batches."""

import json
import logging
import os
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray.data
import ray.exceptions
from filelock import BaseFileLock
from rich.console import Console
from rich.progress import Progress

from tadp_ray.captions.resume_log import CaptionResults, ResumeLog, differences
from tadp_ray.captions.store import CaptionStore, read_store
from tadp_ray.data.images import read_image
from tadp_ray.errors import UserError
from tadp_ray.files import acquire_lock, file_digest
from tadp_ray.registry import CAPTIONERS, implementation
from tadp_ray.sweep.cluster import describe_nodes, ray_session, slots, warn_without_room
from tadp_ray.sweep.progress import LOG_SECONDS
from tadp_ray.wording import devices, pluralized

if TYPE_CHECKING:
    from tadp_ray.captions.captioner import CaptionerSettings


CAPTIONER_ERROR = "captioner error: "
"""Prefix of errors that are not caused by an image's file."""


@dataclass(frozen=True)
class Actors:
    """How many captioners run at once, and the resources of each."""

    count: int = 1
    cpus: int = 1
    gpus: float = 0


def caption_photographs(
    images: Mapping[str, Path], settings: "CaptionerSettings", out: Path, actors: Actors, address: str | None
) -> dict[str, str]:
    """Write the caption store `out` with a caption of every image; images captioned by an earlier run are skipped.

    Until all images are done, each batch is appended to a file beside the store. An existing store is extended: its
    captions stay unless their images have changed.

    Returns: errors of images without a caption, by id. The store holds them too, and the next run tries these images again.

    Raises:
        UserError: before captioning, if the captioner is missing, another run is using the store, the store has captions of
            another captioner, or the cluster is too small. Later, if every image failed or the captioners died.
    """
    captioner = {"name": settings.captioner, **captioner_class(settings).identify(settings)}
    lock = lock_store(out)
    try:
        done = read_captioned(out, captioner)
        unfinished = ResumeLog(partial_file(out), captioner)
        done.update(unfinished.described)
        with ThreadPoolExecutor() as pool:
            hashes = dict(zip(images, pool.map(hash_file, images.values()), strict=True))
        if work := batches(images, hashes, done, settings.batch):
            for batch in with_progress(describe(work, settings, actors, address), work):
                unfinished.add(batch)
                done.update(batch)
        failed = {name: error for name, error in done.failed.items() if name in images}
        if not done.captions:
            message = f"no image could be captioned; the first: {min(failed)}: {failed[min(failed)]}"
            # A captioner that fails on every image has a bug.
            raise RuntimeError(message) if failed[min(failed)].startswith(CAPTIONER_ERROR) else UserError(message)
        captions = {name: (text,) for name, text in done.captions.items()}
        header = {"captioner": {"model": settings.model, **captioner}, "failed": done.failed}
        CaptionStore(captions, header | {"images_sha256": done.images_sha256}).write(out)
        unfinished.path.unlink()
        return failed
    finally:
        # Nothing was captioned.
        if partial_file(out).is_file() and not partial_file(out).stat().st_size:
            partial_file(out).unlink()
        lock.release()


def partial_file(out: Path) -> Path:
    """Return the file that holds the captions of an unfinished run."""
    return out.with_name(f"{out.name}.partial")


def lock_store(out: Path) -> BaseFileLock:
    """Lock the store to be written.

    Raises:
        UserError: it cannot be written, or another run holds the lock.
    """
    if out.is_dir():
        raise UserError(f"--out {out}: this is a folder; name a file, e.g. {out / 'blip.jsonl'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return acquire_lock(partial_file(out))
    except (FileExistsError, NotADirectoryError):
        raise UserError(
            f"--out {out}: {out.parent} is not a folder but a file; move it, or name another folder"
        ) from None
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written there ({error.strerror}); name another file") from None


def read_captioned(out: Path, captioner: Mapping[str, Any]) -> CaptionResults:
    """Return the content of a finished store at `out`; empty if there is none.

    Raises:
        UserError: it was made by another captioner, or from another store.
    """
    if not out.exists():
        return CaptionResults()
    store = read_store(out)
    if {"nouns_of", "imported_from"} & store.header.keys():
        raise UserError(f"--out {out}: was made from another store, and not by a captioner; name another file")
    there = store.header.get("captioner")
    there = {key: there[key] for key in there if key != "model"} if isinstance(there, dict) else {}
    if differing := differences(there, captioner):
        raise UserError(f"--out {out}: holds captions of another captioner ({differing}); name another file")
    texts = {name: captions[0] for name, captions in store.captions.items()}
    return CaptionResults(texts, dict(store.header["images_sha256"]), dict(store.header["failed"]))


def hash_file(path: Path) -> str:
    """Return the sha256 of a file; empty if it cannot be read, which the captioner will report."""
    try:
        return file_digest(path)
    except OSError:
        return ""


def batches(
    images: Mapping[str, Path], hashes: Mapping[str, str], done: CaptionResults, size: int
) -> list[list[dict[str, str]]]:
    """Return the batches of images that are left to caption.

    Batches are formed before finished images are removed: a resumed run has the same batches as an uninterrupted one, and
    so the same captions to the last rounding.
    """
    rows = [{"id": name, "file": str(file), "sha256": hashes[name]} for name, file in images.items()]
    all_batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    left = [[row for row in batch if not is_done(row, done)] for batch in all_batches]
    return [batch for batch in left if batch]


def is_done(row: Mapping[str, str], done: CaptionResults) -> bool:
    """Return whether an image has a caption for the current content of its file."""
    return row["id"] in done.captions and done.images_sha256[row["id"]] == row["sha256"]


def describe(
    work: Sequence[list[dict[str, str]]], settings: "CaptionerSettings", actors: Actors, address: str | None
) -> Iterator[CaptionResults]:
    """Yield the captions of each batch as they are made.

    Raises:
        UserError: the captioners do not fit on the cluster, cannot load their model, or died.
    """
    # Ray's core logs an error about restarts for each of Ray Data's actors, and restarts them all the same (Ray issue 57733).
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    need = f"a captioner of {devices(actors.cpus, actors.gpus)}"
    room = partial(slots, cpus=actors.cpus, gpus=actors.gpus)
    with ray_session(address) as nodes, warn_without_room(address, need, room):
        if room(nodes) < actors.count:
            raise UserError(
                f"{pluralized(actors.count, 'captioners')} of {devices(actors.cpus, actors.gpus)} do not fit on this "
                f"cluster's nodes ({describe_nodes(nodes)}); lower --actors, --cpus or --gpus"
            )
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        # Errors are reported once, below.
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        # One row and one block per batch, so that each is returned as soon as it is done.
        rows = ray.data.from_items([{"batch": json.dumps(batch)} for batch in work], override_num_blocks=len(work))
        described = rows.map_batches(
            Actor,
            fn_constructor_args=(settings, "cuda" if actors.gpus else "cpu"),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(actors.count, len(work))),
            num_cpus=actors.cpus,
            num_gpus=actors.gpus,
        )
        try:
            for row in described.iter_rows():
                output = json.loads(row["batch"])
                if "error" in output:
                    raise UserError(output["error"])
                yield CaptionResults(**output)
        except ray.exceptions.RayError as error:
            # A bug keeps its traceback; a process that died has none.
            if isinstance(error, ray.exceptions.RayTaskError) or "creation task" in str(error):
                raise
            reason = str(error).strip().splitlines()[-1]
            raise UserError(
                f"the captioners stopped: {reason}; finished captions are kept, run the same command again to resume"
            ) from None


def captioner_class(settings: "CaptionerSettings") -> Any:
    """Return the class that is registered under the captioner's name."""
    return implementation(CAPTIONERS[settings.captioner].implementation)


class Actor:
    """One captioner in its own process. Load errors are returned, since a restart cannot fix them."""

    def __init__(self, settings: "CaptionerSettings", device: str) -> None:
        import torch

        self._captioner, self._error = None, ""
        try:
            self._captioner = captioner_class(settings)(settings, torch.device(device))
        except UserError as error:
            self._error = str(error)

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[str]]:
        """Caption one batch."""
        (batch,) = rows["batch"]
        if self._captioner is None:
            return {"batch": [json.dumps({"error": self._error})]}
        return {"batch": [json.dumps(asdict(describe_batch(self._captioner, json.loads(batch))))]}


def describe_batch(captioner: Any, batch: Iterable[dict[str, str]]) -> CaptionResults:
    """Return the captions of images, and the errors of images that cannot be captioned."""
    result, pixels = CaptionResults(), {}
    for row in batch:
        try:
            pixels[row["id"]] = read_image(Path(row["file"]))
            result.images_sha256[row["id"]] = row["sha256"]
        except UserError as error:
            result.failed[row["id"]] = str(error)
    try:
        result.captions = dict(zip(pixels, captioner(list(pixels.values())) if pixels else (), strict=True))
        alone = {}
    except Exception:
        # One image fails, or the batch needs too much memory, which is held until this block ends.
        alone = pixels
    for name, image in alone.items():
        try:
            (result.captions[name],) = captioner([image])
        except Exception as error:
            (*_, frame) = traceback.extract_tb(error.__traceback__)
            result.failed[name] = (
                f"{CAPTIONER_ERROR}{type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"
            )
    result.images_sha256 = {name: result.images_sha256[name] for name in result.captions}
    return result


def with_progress(results: Iterable[CaptionResults], work: Sequence[Sequence[Any]]) -> Iterator[CaptionResults]:
    """Yield batches and show progress: a bar in a terminal, a line every half minute in a log file."""
    console, total = Console(stderr=True, markup=False, highlight=False), sum(map(len, work))
    last_line, done = time.monotonic(), 0
    console.print(f"captioning {pluralized(total, 'images')}")
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("captioning", total=total)
        for batch in results:
            yield batch
            done += len(batch.captions) + len(batch.failed)
            bar.update(task, completed=done)
            if not console.is_terminal and time.monotonic() - last_line > LOG_SECONDS:
                last_line = time.monotonic()
                console.print(f"{done}/{total} images captioned")
