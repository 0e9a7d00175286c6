"""How long would the paper's tables take on 1, 8 and 64 GPUs? A simulation of the sweep's scheduler. Needs no GPU.

    python benchmarks/scaling.py                            # the tables of docs/scaling.md
    python benchmarks/scaling.py --measured OUT/gpu.json    # the same from times that benchmarks/gpu.py measured on one card
    python benchmarks/scaling.py --set compile_s=60         # another value of one of the times
    python benchmarks/scaling.py --check runs --at-once 2   # a sweep that has run, simulated from its cells' own times

Steps and memory are those that dry runs use (`tadp_ray.sweep.throughput`): measured on an H200, and a step on an H100 takes so
many times longer as at the bounds of both cards. Other times were measured or are assumed, see `Times`.

In the simulation, cells wait in a queue for a slot, as in the sweep. Cells that share a card share its time equally, and all
share the storage. A checkpoint is copied while steps wait and written behind the training; the next one waits until it is there.
Photographs and masks of an evaluation are read while the card computes. Latents of the evaluation are encoded by the first cell
that needs them, while others wait.
"""

import argparse
import json
import math
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path

from tadp_ray.sweep.throughput import BOUNDS, COMPILED, MEASURED, STEP_FLOPS, Card, known_cards
from tadp_ray.training.journal import read_journal

BATCH, WINDOW = 16, 512
ENCODE_FLOP, FORWARD_FLOP, TRAIN_FLOP = 1.117e12, 0.803e12, 2.407e12
"""Counted for an image of 512 pixels: the VAE's encoder, and the U-Net without and with its backward pass."""
STEP_FLOP = 57.2e12
"""Counted for a step of 16 images, with the head; without what fused attention computes again, as `throughput.STEP_FLOPS` has."""
CHECKPOINT_GB, MODEL_GB, WEIGHTS_GB, LATENT_GB = 10.4, 3.5, 4.3, 65536e-9
"""Weights and moments; the trained weights; what a process loads at its start; the latent of one window."""
GRADIENT_GB = 3.46
PHOTOGRAPHS, HEIGHT, WIDTH, STRIDE = 2000, 512, 683, 341
"""ADE20K's validation images at their usual size, and the pixels between windows."""
SCALES = (1.0, 1.125, 1.25, 1.375, 1.5)
METRICS_EVERY, METRICS = 10, 3
"""Steps between two reports of a training, and values in one."""
SEND_EVERY = 5.0
"""Seconds between two requests to MLflow for one cell."""
BOUND_ROWS = {
    "strict float32": "float32",
    "float32 as torch has it": "torch",
    "tf32": "tf32",
    "bfloat16 by autocast": "bfloat16",
    "+ channels_last, VAE in bfloat16": "vae",
    "+ pointwise work fused": COMPILED,
}
OTHER_BOUNDS = {"H100": {"torch": 0.571, "vae": 0.176}, "H200": {"torch": 0.532, "vae": 0.145}}
"""Of ways that were not kept, as `BOUNDS` are."""
WAYS = ("tf32", "bfloat16", COMPILED)
"""How paper recipes can be trained: as shipped, and in the two faster ways."""
COMPILE_S = 166.0
"""Compiling the VAE and the model; measured on an H200 (docs/costs.md, commit 3504181)."""
UPDATE_S = {"H200": 0.007, "H100": 0.010}
"""AdamW; measured on an H200 (docs/costs.md), and longer on an H100 by the cards' speeds of copies, 4.3 and 3.0 TB/s."""


@dataclass(frozen=True)
class Times:
    """Seconds, unless the name says otherwise."""

    step_s: float
    """An optimizer step of 16 images."""
    encode_s: float
    """The VAE's encoding of one window of 512 pixels."""
    predict_s: float
    """U-Net and head on one window, several at once."""
    update_s: float
    """AdamW, the part of a step that does not shrink with the images."""
    compile_s: float = 0.0
    """Before a cell's first step; later cells may find it in the compiler's cache, which was not measured."""
    sweep_s: float = 39.0
    """From the command to the first cell; measured in the pocket world with a Ray Train worker on two CPU cores."""
    start_s: float = 1.4
    """From a cell's start to its first step, without loading weights and compiling; measured as `sweep_s`."""
    checkpoint_copy_s: float = 0.5
    """Steps wait so long for the copy of a checkpoint to pinned memory. Assumed."""
    load_s: float = 0.0186
    """Reading and augmenting a photograph, on one core; measured on a CPU."""
    read_s: float = 0.0095
    """Reading a photograph and its mask; measured on a CPU. Evaluations read the mask alone once latents are encoded."""
    loaders: float = 6.0
    """Loader processes of a worker, a number."""
    storage_gb_s: float = 2.0
    """GB/s that all cells share. Assumed."""
    links_gb_s: float = 300.0
    """GB/s between two cards of a machine. Assumed."""


def times_of(card: Card, way: str) -> Times:
    """Return the times of a card; evaluations, which are not compiled, compute as fast as steps that are not."""
    step, plain = (STEP_FLOPS / card.speeds[own].flops for own in (way, "bfloat16" if way == COMPILED else way))
    rate = STEP_FLOP / plain
    head = (STEP_FLOP / BATCH - ENCODE_FLOP - TRAIN_FLOP) / 3
    compile_s = COMPILE_S if way == COMPILED else 0.0
    return Times(step, ENCODE_FLOP / rate, (FORWARD_FLOP + head) / rate, UPDATE_S[card.name], compile_s)


def windows(scales: Iterable[float], flips: int = 1) -> int:
    """Return the number of sliding windows over the validation images."""
    return PHOTOGRAPHS * flips * sum(math.prod(map(starts, (HEIGHT * scale, WIDTH * scale))) for scale in scales)


def starts(length: float) -> int:
    """Return the number of windows along a side."""
    return max(math.ceil((round(length) - WINDOW) / STRIDE), 0) + 1


class Resource:
    """Something whose work is shared equally among those who want it, as one card or the storage."""

    def __init__(self, rate: float = 1.0, shared: bool = True) -> None:
        self.rate, self.shared = rate, shared


@dataclass(eq=False)
class Work:
    """An amount of a resource; None: an event, which somebody ends."""

    resource: Resource | None = None
    amount: float = 0.0
    done: bool = False


Process = Generator[Work, None, None]
"""Yields the work that it waits for."""


@dataclass
class Simulation:
    """Runs processes whose works share resources."""

    now: float = 0.0
    working: list[Work] = field(default_factory=list)
    waiting: list[tuple[Process, Work]] = field(default_factory=list)
    log: list[tuple[float, dict[Resource, int]]] = field(default_factory=list)
    """From when on how many works were at each resource."""

    def begin(self, work: Work) -> Work:
        """Start a work that nobody waits for yet."""
        self.working.append(work)
        return work

    def run(self, processes: Iterable[Process]) -> float:
        """Run all to their end; return the time."""
        for process in processes:
            self._resume(process)
        while self.working:
            counts = self._counts()
            self.log.append((self.now, counts))
            rates = [
                work.resource.rate / (counts[work.resource] if work.resource.shared else 1) for work in self.working
            ]
            span = min(work.amount / rate for work, rate in zip(self.working, rates, strict=True))
            self.now += span
            for work, rate in zip(self.working, rates, strict=True):
                work.amount -= span * rate
                work.done = work.amount <= 1e-9
            self.working = [work for work in self.working if not work.done]
            self._wake()
        assert not self.waiting
        return self.now

    def _counts(self) -> dict[Resource, int]:
        counts: dict[Resource, int] = {}
        for work in self.working:
            counts[work.resource] = counts.get(work.resource, 0) + 1
        return counts

    def _wake(self) -> None:
        """Resume the processes whose work is done, and those that they wake."""
        while ready := [pair for pair in self.waiting if pair[1].done]:
            self.waiting = [pair for pair in self.waiting if not pair[1].done]
            for process, _ in ready:
                self._resume(process)

    def _resume(self, process: Process) -> None:
        for work in process:
            if not work.done:
                if work.resource and work not in self.working:
                    self.begin(work)
                self.waiting.append((process, work))
                return

    def busy(self, resources: Sequence[Resource]) -> float:
        """Return the mean share of the time in which these resources had work."""
        spans = [after - before for (before, _), (after, _) in pairwise([*self.log, (self.now, {})])]
        used = [sum(resource in counts for resource in resources) for _, counts in self.log]
        return sum(span * count for span, count in zip(spans, used, strict=True)) / (self.now * len(resources))


@dataclass(frozen=True)
class Training:
    """A cell: its steps, the steps between evaluations and between checkpoints, and whether several sizes are evaluated."""

    steps: int
    evaluate_every: int
    checkpoint_every: int = 400
    multi_scale: bool = False


FAST = Training(4000, 400)
LONGER = Training(8000, 800)
FULL = Training(80000, 8000)
TABLES = {
    "Table S2": (FAST,) * 9,
    # Its rows VPD A32 and VPD(R) are the same trainings.
    "Table S1": (replace(FAST, multi_scale=True), replace(LONGER, multi_scale=True)) * 5,
    "three schedules": (FAST, LONGER, FULL) * 3,
}
"""Cells by experiment, in the order of the sweep."""


@dataclass(frozen=True)
class Layout:
    """How cells are packed on cards."""

    name: str
    gpus: int
    cells_per_gpu: int = 1
    gpus_per_cell: int = 1


LAYOUTS = (
    Layout("one cell a GPU", 1),
    Layout("two cells a GPU", 1, cells_per_gpu=2),
    Layout("one cell a GPU", 8),
    Layout("two cells a GPU", 8, cells_per_gpu=2),
    Layout("two GPUs a cell", 8, gpus_per_cell=2),
    Layout("one cell a GPU", 64),
    Layout("two GPUs a cell", 64, gpus_per_cell=2),
    Layout("four GPUs a cell", 64, gpus_per_cell=4),
)


class Sweep:
    """A sweep in a simulation."""

    def __init__(self, cells: Sequence[Training], layout: Layout, times: Times) -> None:
        self.times, self.workers = times, layout.gpus_per_cell
        self.simulation, self.queue = Simulation(), deque(cells)
        self.storage, self.host = Resource(times.storage_gb_s), Resource(shared=False)
        # Cards that train a cell together are one whose times are shorter.
        self.cards = [Resource() for _ in range(layout.gpus // layout.gpus_per_cell)]
        self.cells_per_card = layout.cells_per_gpu
        self.encoded: dict[str, Work] = {}
        self.written_gb = 0.0

    def run(self) -> float:
        """Return the seconds from the command to the last cell's end."""
        slots = [self._slot(card) for _ in range(self.cells_per_card) for card in self.cards]
        return self.times.sweep_s + self.simulation.run(slots)

    def _slot(self, card: Resource) -> Process:
        """Train cells as long as there are any; the process keeps what it has loaded."""
        if self.queue:
            yield Work(self.storage, WEIGHTS_GB)
        while self.queue:
            yield from self._cell(card, self.queue.popleft())

    def _cell(self, card: Resource, cell: Training) -> Process:
        times, written = self.times, Work(done=True)
        yield Work(self.host, times.start_s + times.compile_s)
        yield from self._latents(card, "one size", windows([1.0]))
        step = self.step_s
        stops = {*range(0, cell.steps, cell.evaluate_every), *range(0, cell.steps, cell.checkpoint_every), cell.steps}
        for before, after in pairwise(sorted(stops)):
            yield Work(card, (after - before) * step)
            if after % cell.evaluate_every == 0:
                yield from self._evaluation(card, windows([1.0]))
                # The best model; at the last step it is the trained one.
                yield self._write(MODEL_GB)
            if after % cell.checkpoint_every == 0 and after < cell.steps:
                yield written
                yield Work(self.host, times.checkpoint_copy_s)
                written = self.simulation.begin(self._write(CHECKPOINT_GB))
        if cell.multi_scale:
            count = windows(SCALES, flips=2)
            yield from self._latents(card, "several sizes", count)
            yield from self._evaluation(card, count)
        yield written

    @property
    def step_s(self) -> float:
        """A step of all workers of a cell: gradients are exchanged behind the backward pass, in the worst case."""
        times, workers = self.times, self.workers
        exchange = 2 * (workers - 1) / workers * GRADIENT_GB / times.links_gb_s
        computed = (times.step_s - times.update_s) / workers + times.update_s + exchange
        return max(computed, BATCH / workers * times.load_s / times.loaders)

    def _latents(self, card: Resource, name: str, count: int) -> Process:
        """Encode windows, by one worker, or wait for the cell that does."""
        if name in self.encoded:
            yield self.encoded[name]
            return
        self.encoded[name] = event = Work()
        yield from self._beside_reading(Work(card, count * self.times.encode_s), PHOTOGRAPHS)
        yield self._write(count * LATENT_GB)
        event.done = True

    def _evaluation(self, card: Resource, count: int) -> Process:
        computed = Work(card, count * self.times.predict_s / self.workers)
        yield from self._beside_reading(computed, PHOTOGRAPHS / self.workers)

    def _beside_reading(self, computed: Work, photographs: float) -> Process:
        """Compute while photographs are read, and wait for both."""
        read = self.simulation.begin(Work(self.host, photographs * self.times.read_s))
        yield computed
        yield read

    def _write(self, gigabytes: float) -> Work:
        self.written_gb += gigabytes
        return Work(self.storage, gigabytes)


@dataclass(frozen=True)
class Choice:
    """A column of the table of hours."""

    times: Times
    cell_gib: float
    card_gib: float


def table_of_bounds() -> list[str]:
    """Return the table of steps by the way they are computed."""
    lines = ["| a step of 16 images, ms at the bound | H100 | H200 |", "|:--|--:|--:|"]
    bounds = [BOUNDS[name] | OTHER_BOUNDS[name] for name in ("H100", "H200")]
    for told, way in BOUND_ROWS.items():
        lines.append(f"| {told} | " + " | ".join(f"{1000 * own[way]:.0f}" for own in bounds) + " |")
    return lines


def table_of_steps() -> list[str]:
    """Return the table of the steps that dry runs use, and of the hours that they tell for Table S2."""
    h200, h100 = known_cards()
    lines = [
        "| a step of 16 images | H200, ms | H200, GiB | H100, ms | 36,000 steps, H200, h | 36,000 steps, H100, h |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    for way in MEASURED:
        first, second = (STEP_FLOPS / card.speeds[way].flops for card in (h200, h100))
        hours = sum(cell.steps for cell in TABLES["Table S2"]) / 3600
        lines.append(
            f"| {way} | {1000 * first:.0f} | {MEASURED[way].memory_gib} | {1000 * second:.0f} "
            f"| {hours * first:.2f} | {hours * second:.2f} |"
        )
    return lines


def table_of_hours(choices: dict[str, Choice]) -> list[str]:
    """Return the table of hours by experiment, layout and card."""
    lines = [
        "| hours | GPUs | packing | " + " | ".join(choices) + " |",
        "|:--|--:|:--|" + "--:|" * len(choices),
    ]
    for table, cells in TABLES.items():
        for layout in LAYOUTS:
            hours = [
                f"{Sweep(cells, layout, choice.times).run() / 3600:.2f}"
                if layout.cells_per_gpu * choice.cell_gib <= choice.card_gib
                else "no room"
                for choice in choices.values()
            ]
            lines.append(f"| {table} | {layout.gpus} | {layout.name} | " + " | ".join(hours) + " |")
    return lines


def table_of_demands(times: Times) -> list[str]:
    """Return what the machines around the cards must give while Table S2 is trained, one cell a GPU and a cell for each GPU."""
    lines = [
        "| GPUs | images/s | loader cores | GB written | GB/s | GPUs at work, % | MLflow, values/s | MLflow, requests/s |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for gpus in (1, 8, 64):
        sweep = Sweep((FAST,) * max(9, gpus), Layout("", gpus), times)
        seconds = sweep.run()
        images, busy = gpus * BATCH / times.step_s, 100 * sweep.simulation.busy(sweep.cards)
        lines.append(
            f"| {gpus} | {images:.0f} | {images * times.load_s:.1f} | {sweep.written_gb:.0f} "
            f"| {sweep.written_gb / seconds:.2f} | {busy:.0f} "
            f"| {gpus * METRICS / METRICS_EVERY / times.step_s:.0f} | {gpus / SEND_EVERY:.1f} |"
        )
    return lines


def table_of_changes(times: Times) -> list[str]:
    """Return how the hours of 4,000 steps a cell, on one GPU and on 64, change with what can be changed."""
    cached, fast = {"compile_s": 0.0}, {"storage_gb_s": 20.0}
    rare = replace(FAST, checkpoint_every=2000)
    choices = {
        "as above": ({}, FAST),
        "every cell finds what is compiled in the cache (0 s, assumed)": (cached, FAST),
        "storage of 20 GB/s": (fast, FAST),
        "a checkpoint every 2,000 steps": ({}, rare),
        "all three": (cached | fast, rare),
    }
    lines = ["| | nine cells, 1 GPU, h | 64 cells, 64 GPUs, h |", "|:--|--:|--:|"]
    for name, (changes, cell) in choices.items():
        changed = replace(times, **changes)
        hours = [Sweep((cell,) * count, Layout("", gpus), changed).run() / 3600 for count, gpus in ((9, 1), (64, 64))]
        lines.append(f"| {name} | " + " | ".join(f"{value:.2f}" for value in hours) + " |")
    return lines


def check(storage: Path, at_once: int) -> str:
    """Simulate a sweep that has run from the seconds of its cells, and return both spans."""
    spans = []
    for folder in (storage / "cells").iterdir():
        records = list(read_journal(folder))
        if [record["type"] for record in records].count("started") == 1 and records[-1]["type"] == "finished":
            spans.append((records[0]["time"], records[-1]["time"]))
    if not spans:
        raise SystemExit(f"{storage}/cells: none is finished without a restart")
    spans.sort()
    host, queue = Resource(shared=False), deque(end - start for start, end in spans)

    def slot() -> Process:
        while queue:
            yield Work(host, queue.popleft())

    simulated = Simulation().run(slot() for _ in range(at_once))
    measured = max(end for _, end in spans) - spans[0][0]
    return f"{len(spans)} cells, {at_once} at once: {simulated:.1f} s simulated, {measured:.1f} s measured"


def columns() -> dict[str, Choice]:
    """Return the columns of the table of hours: both cards in each way, the H200 last."""
    return {
        f"{card.name} {way}": Choice(times_of(card, way), MEASURED[way].memory_gib, card.memory_gib)
        for card in reversed(known_cards())
        for way in WAYS
    }


def measured(path: Path) -> dict[str, Choice]:
    """Return the card of a gpu.json with its fastest step; what was not measured is as without it."""
    found = json.loads(path.read_text())
    name = found["machine"].get("card", "a CPU")
    card = next((card for card in known_cards() if card.name in name), None)
    if card is None:
        raise SystemExit(f"{path}: measured on {name}, not on one of {', '.join(card.name for card in known_cards())}")
    fastest = found["scaling"].get("step_s")
    for section, way in (("full_size", "bfloat16"), ("compiled", COMPILED)):
        for row in found.get(section, {}).get("rows", []):
            if "step_s" in row and row["step_s"] == fastest:
                compiling = {"compile_s": row["first_s"]} if way == COMPILED else {}
                times = replace(times_of(card, way), **compiling, **found["scaling"])
                return {f"{name}, measured": Choice(times, row["memory_gib"], card.memory_gib)}
    raise SystemExit(f"{path}: holds no step of {BATCH} images; run benchmarks/gpu.py with more --seconds")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, help="gpu.json of benchmarks/gpu.py: times of one card, all measured")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="one of the times, e.g. start_s=60")
    parser.add_argument("--check", type=Path, metavar="STORAGE", help="a finished sweep's compute.storage")
    parser.add_argument("--at-once", type=int, default=1, help="cells of that sweep at once")
    options = parser.parse_args()
    if options.check:
        print(check(options.check, options.at_once))
        return

    choices = measured(options.measured) if options.measured else columns()
    known = {entry.name for entry in fields(Times)}
    changes = {name: float(value) for name, _, value in (text.partition("=") for text in options.set)}
    if unknown := changes.keys() - known:
        parser.error(f"--set {', '.join(sorted(unknown))}: the times are {', '.join(sorted(known))}")
    choices = {name: replace(choice, times=replace(choice.times, **changes)) for name, choice in choices.items()}

    last = list(choices)[-1]
    parts = {
        "Bounds": table_of_bounds(),
        "Steps": table_of_steps(),
        "Hours": table_of_hours(choices),
        f"What the machines must give, {last}": table_of_demands(choices[last].times),
        f"What would change Table S2, {last}": table_of_changes(choices[last].times),
    }
    for title, lines in parts.items():
        print(f"\n## {title}\n\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
