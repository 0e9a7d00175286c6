"""Files of other origin, damaged in every way that chance finds: read, or refused in words; never a traceback."""

import json
import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from tadp_ray.backbones.stable_diffusion.learned_tokens import read_learned
from tadp_ray.captions.convert import import_store
from tadp_ray.captions.store import CaptionStore, read_store
from tadp_ray.errors import UserError
from tadp_ray.tasks.per_image import read_per_image, write_per_image
from tadp_ray.training.checkpoint import read_tensors, write
from tadp_ray.training.journal import final_metrics

SPICE = (
    *(
        text.encode()
        for text in ('"', "\\", "\\ud83d", "\\u0000", "{", "}", "[", "]", ",", ":", "\n", "\r", "\t", "null")
    ),
    *(
        text.encode()
        for text in ("NaN", "-1e999", "1" * 5000, "[" * 2000, '{"a":' * 2000, "\u2028", "\x85", "\ufeff", "é")
    ),
    *(
        b"\x00",
        b"\xff",
        b"\xff\xfe",
        b"\x80\x02",
        b"PK\x03\x04",
        b"\x89PNG",
        bytes(8),
        b"\xff" * 8,
        struct.pack("<Q", 2**62),
    ),
    *(
        b'"captions"',
        b'"caption_store": 1',
        b'"id"',
        b"image,caption\n",
        b'"F32"',
        b'"data_offsets"',
        b"[0,9999999999999]",
    ),
)
"""What is put into files."""


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A file with one to four changes: cut, a bit flipped, something put in, a part doubled, taken out or moved."""
    for _ in range(rng.randint(1, 4)):
        first, last = sorted(rng.randint(0, len(content)) for _ in range(2))
        match rng.randrange(6):
            case 0:
                content = content[:last]
            case 1 if content:
                place = rng.randrange(len(content))
                content = content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
            case 2:
                content = content[:first] + rng.choice(SPICE) + content[first:]
            case 3:
                content = content[:last] + content[first:]
            case 4:
                content = content[:first] + content[last:]
            case 5:
                content = content[:first] + content[last:] + content[first:last]
    return content


def stores(folder: Path) -> list[bytes]:
    """One of every form."""
    CaptionStore({"a": ("a cat, é", "x"), "b.png": ("y\u2028z",)}, {"by": "hand"}, names={"a": ("cat",)}).write(
        folder / "store"
    )
    return [
        (folder / "store").read_bytes(),
        b'{"a": {"captions": ["a cat", "x"], "class_label": 3},\n "b": {"captions": ["y"]}}',
        b'{"a": "a cat", "b": "x"}',
        b'image,caption\na.png,"a cat, asleep"\nb.png,x\n',
        b'{"file_name": "a", "text": "a cat"}\n{"file_name": "b", "text": "x"}\n',
    ]


def read_both(path: Path) -> None:
    """As a training reads a store, and as an import does; what is read can be written and hashed."""
    for read in (read_store, import_store):
        try:
            store = read(path)
        except UserError:
            continue
        store.digest()
        store.write(path.with_name("again"))
        assert read_store(path.with_name("again")).captions == store.captions


def embeddings(folder: Path) -> list[bytes]:
    """As diffusers and another tool write them."""
    vector, found = torch.arange(4.0), []
    params = torch.nn.ParameterDict({"*": torch.nn.Parameter(vector[None])})
    for held in ({"<a>": vector}, {"string_to_param": params, "name": "n", "step": 3}, vector):
        torch.save(held, folder / "made")
        found.append((folder / "made").read_bytes())
    return found


def checkpoint_of(folder: Path) -> list[bytes]:
    """A small checkpoint."""
    tensors = {
        "model.weight": torch.randn(3, 4),
        "optimizer.0.step": torch.tensor(3.0),
        "model.half": torch.ones(2).half(),
    }
    write(folder / "made", tensors, {"fingerprint": "f", "step": 3, "course": {"step": 3}})
    return [(folder / "made").read_bytes()]


def per_image_of(folder: Path) -> list[bytes]:
    """A small file."""
    write_per_image(folder / "made", "f", "depth", ["a"], [{"id": "a", "rmse": 1.0}, {"id": "b", "prompt": "x\u2028y"}])
    return [(folder / "made").read_bytes()]


def journal_of(_: Path) -> list[bytes]:
    """A finished one."""
    started = {"time": 1795728581.25, "type": "started", "fingerprint": "f"}
    metrics = {"time": 1795728582.25, "type": "metrics", "step": 1, "metrics": {"loss": 1.0}}
    finished = {"time": 1795728583.25, "type": "finished", "step": 2, "metrics": {"miou": 5.0}}
    return ["".join(f"{json.dumps(record)}\n" for record in (started, metrics, finished)).encode()]


KINDS: dict[str, tuple[Callable[[Path], list[bytes]], str, Callable[[Path], object]]] = {
    "store": (stores, "file", read_both),
    "embedding": (embeddings, "file.pt", read_learned),
    "safe embedding": (lambda _: [save({"<a>": torch.arange(4.0)[None]})], "file.safetensors", read_learned),
    "checkpoint": (checkpoint_of, "file", read_tensors),
    "per image": (per_image_of, "file", lambda path: read_per_image(path, "f")),
    "journal": (journal_of, "journal.jsonl", lambda path: final_metrics(path.parent, "f")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    make, name, read = KINDS[kind]
    sources, refused = make(tmp_path), 0
    path = tmp_path / name
    for source in sources:
        path.write_bytes(source)
        read(path) if source is not sources[-1] or kind != "embedding" else None
    for seed in range(150):
        rng = random.Random(f"{kind}/{seed}")
        content = damaged(rng.choice(sources), rng)
        path.write_bytes(content)
        try:
            read(path)
        except UserError as error:
            refused += 1
            assert str(error).encode() and "weights_only" not in str(error), seed
        except Exception as error:
            raise AssertionError(f"seed {seed} of {kind}: {content[:300]!r}") from error
    if kind in ("checkpoint", "per image"):  # they bear checksums
        assert refused == 150 - sum(unchanged(sources[0], f"{kind}/{seed}") for seed in range(150))


def unchanged(source: bytes, seed: str) -> bool:
    """Whether the changes of a seed undo each other."""
    rng = random.Random(seed)
    rng.choice([source])
    return damaged(source, rng) == source


@pytest.mark.parametrize("length", [2**62, 2**63 + 1, 2**32, 10**8, 0, 1])
@pytest.mark.parametrize("name", ["file.safetensors", "checkpoint"])
def test_a_header_that_lies_about_lengths_takes_no_memory(length: int, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    content = save({"<a>": torch.arange(4.0)[None]})
    path.write_bytes(struct.pack("<Q", length) + content[8:])
    check_thrifty(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]},
        {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]},
        {"dtype": "U16", "shape": [8], "data_offsets": [0, 16]},
        {"dtype": "X9", "shape": [4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
    ],
)
def test_a_tensor_that_lies_about_its_size_takes_no_memory(entry: dict, tmp_path: Path) -> None:
    header = json.dumps({"<a>": entry}).encode()
    path = tmp_path / "file.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    check_thrifty(path)


def check_thrifty(path: Path) -> None:
    """Refused by both readers, and before anything of the promised size is asked for."""
    tracemalloc.start()
    try:
        for read in (read_tensors, read_learned):
            with pytest.raises(UserError):
                read(path)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()
