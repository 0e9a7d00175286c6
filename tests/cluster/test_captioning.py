"""Captions on real Ray Data: whatever is killed, each caption is written once and is the undisturbed one."""

import json
import re
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from tadp_ray.captions.captioner import Captioner, CaptionerSettings
from tadp_ray.captions.store import read_store
from tadp_ray.sweep.captioning import describe_batch

pytestmark = pytest.mark.cluster
IMAGES, BROKEN = 18, "05"


@pytest.fixture
def start(command, tiny_blip: Path, tmp_path: Path):
    """Starts to caption a folder of noise, one file of which is cut short."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(IMAGES):
        pixels = rng.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{number:02}.png")
    broken = tmp_path / f"images/{BROKEN}.png"
    broken.write_bytes(broken.read_bytes()[:200])
    lengths = ["--min-tokens", "30", "--max-tokens", "35", "--batch", "2", "--actors", "1"]
    words = ["caption", "blip", "images", "--model", str(tiny_blip), *lengths, "--out", "out.jsonl"]
    return lambda: command(*words, folder=tmp_path)


def written(partial: Path) -> list[str]:
    """Lines of batches in the unfinished run's file."""
    return partial.read_text().splitlines()[1:] if partial.is_file() else []


def captioning(driver: psutil.Process) -> list[psutil.Process]:
    """The processes in which a command's actors caption."""
    return [child for child in driver.children(recursive=True) if child.name().startswith("ray::Map")]


def undisturbed(folder: Path, model: Path) -> dict[str, str]:
    """The captions that the same batches get without Ray."""
    captioner = Captioner(CaptionerSettings("blip", str(model), min_tokens=30, max_tokens=35), torch.device("cpu"))
    rows = [{"id": file.stem, "file": str(file), "sha256": ""} for file in sorted((folder / "images").iterdir())]
    batches = [describe_batch(captioner, rows[start : start + 2]) for start in range(0, IMAGES, 2)]
    return {name: text for batch in batches for name, text in batch.captions.items()}


def test_killed_half_way_each_caption_is_written_once(start, tmp_path: Path, tiny_blip: Path, wait_for) -> None:
    hit = start()
    partial = tmp_path / "out.jsonl.partial"
    wait_for(lambda: len(written(partial)) >= 2 or not hit.running)
    actors = captioning(hit.process)
    assert actors
    hit.process.kill()
    hit.end()
    # Some others of Ray's processes stay for minutes.
    assert not psutil.wait_procs(actors, timeout=900)[1]
    before = written(partial)
    kept = [name for line in before if line.endswith("}") for name in json.loads(line)["captions"]]
    assert 4 <= len(kept) < IMAGES - 1
    with partial.open("a") as file:
        file.write('{"captions": {"torn')

    hit = start()
    wait_for(lambda: len(written(partial)) > len(before) + 1 or not hit.running)
    for actor in captioning(hit.process):
        actor.kill()
    code, said = hit.end()
    assert code == 1 and f"captioning {IMAGES - len(kept)} images" in said, said
    assert f"{IMAGES - 1} of {IMAGES} images captioned" in said and not partial.exists()
    assert re.search(rf"{BROKEN} failed: .*{BROKEN}.png: cannot be read", said)
    store = read_store(tmp_path / "out.jsonl")
    assert {name: texts[0] for name, texts in store.captions.items()} == undisturbed(tmp_path, tiny_blip)
    assert len({*store.captions.values()}) > 3 and [*store.header["failed"]] == [BROKEN]
    assert store.header["images_sha256"].keys() == store.captions.keys()
