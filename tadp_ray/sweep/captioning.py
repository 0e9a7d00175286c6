"""Captions the photographs of a data set on Ray Data: actors that hold a captioner each, batch after batch."""

import json
import logging
import os
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray.data
import ray.exceptions
from filelock import BaseFileLock
from rich.console import Console
from rich.progress import Progress

from tadp_ray.captions.resume_log import Described, Partial, differences
from tadp_ray.captions.store import CaptionStore, read_store
from tadp_ray.data.images import read_image
from tadp_ray.errors import UserError
from tadp_ray.files import acquire_lock, file_digest
from tadp_ray.registry import CAPTIONERS, implementation
from tadp_ray.sweep.cluster import have, joined, slots
from tadp_ray.sweep.progress import LOG_SECONDS

if TYPE_CHECKING:
    from tadp_ray.captions.captioner import CaptionerSettings


STUMBLED = "the captioner stumbled: "
"""What stands before an error that is no fault of an image's file."""


@dataclass(frozen=True)
class Actors:
    """How many captioners work at once, and what each takes."""

    count: int = 1
    cpus: int = 1
    gpus: float = 0


def caption_photographs(
    images: Mapping[str, Path], settings: "CaptionerSettings", out: Path, actors: Actors, address: str | None
) -> dict[str, str]:
    """Write the caption store `out` with a caption of every image; those that an earlier run captioned are skipped.

    Until all are done the captions stand in a file beside it, on disk batch by batch. A store that is there already is
    added to: its captions stay as long as their images are the same.

    Returns: why images have no caption, by id; the store holds this too, and the next run tries them again.

    Raises:
        UserError: no captioner, another run at work, captions of another making there, or no room on the cluster; all
            before anything is captioned. Or every image failed, or the captioners died.
    """
    captioner = {"name": settings.captioner, **captioner_class(settings).identify(settings)}
    lock = claim(out)
    try:
        done = read_captioned(out, captioner)
        partial = Partial(partial_file(out), captioner)
        done.update(partial.described)
        with ThreadPoolExecutor() as pool:
            hashes = dict(zip(images, pool.map(hash_file, images.values()), strict=True))
        if work := batches(images, hashes, done, settings.batch):
            for batch in followed(describe(work, settings, actors, address), work):
                partial.add(batch)
                done.update(batch)
        failed = {name: why for name, why in done.failed.items() if name in images}
        if not done.captions:
            said = f"no image could be captioned; the first: {min(failed)}: {failed[min(failed)]}"
            # What the captioner stumbles over with every image is hardly the images' fault.
            raise RuntimeError(said) if failed[min(failed)].startswith(STUMBLED) else UserError(said)
        captions = {name: (text,) for name, text in done.captions.items()}
        header = {"captioner": {"model": settings.model, **captioner}, "failed": done.failed}
        CaptionStore(captions, header | {"images_sha256": done.images_sha256}).write(out)
        partial.path.unlink()
        return failed
    finally:
        # Refused before it wrote a line.
        if partial_file(out).is_file() and not partial_file(out).stat().st_size:
            partial_file(out).unlink()
        lock.release()


def partial_file(out: Path) -> Path:
    """Where the captions of an unfinished run stand."""
    return out.with_name(f"{out.name}.partial")


def claim(out: Path) -> BaseFileLock:
    """A lock on the store to be written, held until it is released.

    Raises:
        UserError: it cannot be written there, or another run is at work on it.
    """
    if out.is_dir():
        raise UserError(f"--out {out}: this is a folder; name a file, e.g. {out / 'blip.jsonl'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return acquire_lock(partial_file(out))
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written there ({error.strerror}); name another place") from None


def read_captioned(out: Path, captioner: Mapping[str, Any]) -> Described:
    """What a finished store at `out` holds, nothing if there is none.

    Raises:
        UserError: it is of another making.
    """
    if not out.exists():
        return Described()
    store = read_store(out)
    there = store.header.get("captioner")
    there = {key: there[key] for key in there if key != "model"} if isinstance(there, dict) else {}
    if differing := differences(there, captioner):
        raise UserError(f"--out {out}: holds captions of another making ({differing}); name another file")
    texts = {name: captions[0] for name, captions in store.captions.items()}
    return Described(texts, dict(store.header["images_sha256"]), dict(store.header["failed"]))


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes; empty if it cannot be read, which the captioner will say."""
    try:
        return file_digest(path)
    except OSError:
        return ""


def batches(
    images: Mapping[str, Path], hashes: Mapping[str, str], done: Described, size: int
) -> list[list[dict[str, str]]]:
    """What is left to caption.

    The whole list is cut before what is done is taken out of it: a run that goes on after a kill makes the very batches that
    it would have made undisturbed, and so the same captions to the last rounding.
    """
    rows = [{"id": name, "file": str(file), "sha256": hashes[name]} for name, file in images.items()]
    cut = [rows[start : start + size] for start in range(0, len(rows), size)]
    left = [[row for row in batch if not done_with(row, done)] for batch in cut]
    return [batch for batch in left if batch]


def done_with(row: Mapping[str, str], done: Described) -> bool:
    """Whether an image has a caption that describes its file as it is now."""
    return row["id"] in done.captions and done.images_sha256[row["id"]] == row["sha256"]


def describe(
    work: Sequence[list[dict[str, str]]], settings: "CaptionerSettings", actors: Actors, address: str | None
) -> Iterator[Described]:
    """Captions of each batch as they come.

    Raises:
        UserError: the captioners do not fit on the cluster, cannot load their model, or died.
    """
    # Each of Ray Data's actors draws an error about restarts from Ray's core, and restarts all the same (Ray issue 57733).
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    with joined(address, dashboard=False) as nodes:
        if slots(nodes, actors.cpus, actors.gpus) < actors.count:
            raise UserError(
                f"{actors.count} captioner(s) of {actors.cpus} CPUs and {actors.gpus:g} GPUs do not fit on this "
                f"cluster's nodes ({have(nodes)}); lower --actors, --cpus or --gpus"
            )
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        # What goes wrong is told once, below.
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        # A row and a block a batch: each is handed out, and comes back, as soon as it is done.
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
                yield Described(**accepted(json.loads(row["batch"])))
        except ray.exceptions.RayError as error:
            # A bug shows its whole traceback; a process that died has none.
            if isinstance(error, ray.exceptions.RayTaskError) or "creation task" in str(error):
                raise
            said = str(error).strip().splitlines()[-1]
            raise UserError(
                f"the captioners stopped: {said}; what they said is kept, the same command goes on"
            ) from None


def captioner_class(settings: "CaptionerSettings") -> Any:
    """The class that is registered under a captioner's name."""
    return implementation(CAPTIONERS[settings.captioner].implementation)


def accepted(answer: dict[str, Any]) -> dict[str, Any]:
    """What an actor answers, if it could load its model.

    Raises:
        UserError: it could not; says why.
    """
    if "error" in answer:
        raise UserError(answer["error"])
    return answer


class Actor:
    """One captioner in a process of its own. Load errors are returned, since a restart cannot fix them."""

    def __init__(self, settings: "CaptionerSettings", device: str) -> None:
        import torch

        self._captioner, self._error = None, ""
        try:
            self._captioner = captioner_class(settings)(settings, torch.device(device))
        except UserError as error:
            self._error = str(error)

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[str]]:
        """Caption the one batch that Ray Data hands over."""
        (batch,) = rows["batch"]
        if self._captioner is None:
            return {"batch": [json.dumps({"error": self._error})]}
        return {"batch": [json.dumps(asdict(describe_batch(self._captioner, json.loads(batch))))]}


def describe_batch(captioner: Any, batch: Iterable[dict[str, str]]) -> Described:
    """What a captioner says of images; of an image that it fails on, why."""
    said, pixels = Described(), {}
    for row in batch:
        try:
            pixels[row["id"]] = read_image(Path(row["file"]))
            said.images_sha256[row["id"]] = row["sha256"]
        except UserError as error:
            said.failed[row["id"]] = str(error)
    try:
        said.captions = dict(zip(pixels, captioner(list(pixels.values())) if pixels else (), strict=True))
    except Exception:
        # Some image of these is at fault, or they are too many for the memory: each by itself tells.
        for name, image in pixels.items():
            try:
                (said.captions[name],) = captioner([image])
            except Exception as error:
                (*_, place) = traceback.extract_tb(error.__traceback__)
                said.failed[name] = f"{STUMBLED}{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
    said.images_sha256 = {name: said.images_sha256[name] for name in said.captions}
    return said


def followed(said: Iterable[Described], work: Sequence[Sequence[Any]]) -> Iterator[Described]:
    """Pass batches on, and show how many images are done: a bar in a terminal, a line every half minute in a log file."""
    aside, told, done, total = (
        Console(stderr=True, markup=False, highlight=False),
        time.monotonic(),
        0,
        sum(map(len, work)),
    )
    aside.print(f"captioning {total} images")
    with Progress(console=aside, transient=True, disable=not aside.is_terminal) as bar:
        task = bar.add_task("captioning", total=total)
        for batch in said:
            yield batch
            done += len(batch.captions) + len(batch.failed)
            bar.update(task, completed=done)
            if not aside.is_terminal and time.monotonic() - told > LOG_SECONDS:
                told = time.monotonic()
                aside.print(f"{done}/{total} images captioned")
