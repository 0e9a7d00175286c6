"""Hundreds of damaged files, seeded: each is read, or refused by a UserError that names it; never anything else."""

import io
import json
import random
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tadp_ray.config.classes import parse_classes
from tadp_ray.data.images import class_table, read_image, read_mask, read_metres, read_rgba
from tadp_ray.data.names import Names, chosen
from tadp_ray.data.nyuv2 import read_rooms
from tadp_ray.data.pascal import read_boxes
from tadp_ray.errors import UserError
from tadp_ray.tasks.depth.scoring import score_depth
from tadp_ray.tasks.detection.scoring import score_detection

TABLE = class_table(5, (255,), False)
NAMES = {name: Path(name) for name in ("my photo 1", "frame_0.5s", "a")}
Read = Callable[[Path], Any]


def saved(pixels: np.ndarray, ending: str, **options: object) -> bytes:
    """An image file's bytes."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, ending, **options)
    return file.getvalue()


def array(values: np.ndarray) -> bytes:
    """A .npy file's bytes."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


GREY, COLOUR = np.full((12, 9), 3, np.uint8), np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
TURNED = Image.Exif()
TURNED[0x0112] = 6
BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>12</ymax></bndbox>"
XML = f"<?xml version='1.0' encoding='utf-8'?><annotation><object><name>dog</name>{BOX}</object></annotation>"
KINDS: dict[str, tuple[bytes, Read]] = {
    "photo.png": (saved(COLOUR, "PNG", exif=TURNED), read_image),
    "photo.jpg": (saved(COLOUR, "JPEG", exif=TURNED), read_image),
    "photo.gif": (saved(GREY, "GIF", save_all=True, append_images=[Image.fromarray(GREY + 1)]), read_image),
    "photo.webp": (saved(COLOUR, "WEBP"), read_image),
    "photo.tiff": (saved(COLOUR, "TIFF", exif=TURNED), read_image),
    "photo.bmp": (saved(COLOUR, "BMP"), read_image),
    "cutout.png": (saved(np.dstack([COLOUR, GREY]), "PNG"), read_rgba),
    "mask.png": (saved(GREY, "PNG"), lambda path: read_mask(path, TABLE, "is bad")),
    "mask.tiff": (saved(GREY, "TIFF", compression="tiff_lzw"), lambda path: read_mask(path, TABLE, "is bad")),
    "mask16.png": (saved(GREY.astype(np.uint16), "PNG"), lambda path: read_mask(path, TABLE, "is bad")),
    "depth.png": (saved(GREY.astype(np.uint16) * 500, "PNG"), read_rooms),
    "depth.npy": (array(GREY / 2), lambda path: read_metres(path, 1)),
    "short.npy": (array(GREY.astype(np.int16) * 500), lambda path: read_metres(path, 1000)),
    "a.xml": (XML.encode(), read_boxes),
    "list.txt": (b"my photo 1\nframe_0.5s.png\na a\n", lambda path: chosen(path, Names(NAMES), Names(NAMES))),
    "names.txt": ("cat\ndog\ntraffic light\n".encode("utf-16"), lambda path: parse_classes(str(path))),
}
STRANGE = [b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"<", b"\n", b"\xfe\xff", b"9" * 30, b"-1", b"nan", b"\xed\xa0\x80"]


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The same bytes with one to three things wrong with them, most often near the head."""
    found = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        place = min(int(rng.expovariate(3 / (len(found) + 1))), len(found))
        match rng.randrange(6):
            case 0:
                del found[place:]
            case 1:
                del found[place : place + rng.randint(1, 20)]
            case 2:
                found[place:place] = rng.choice(STRANGE)
            case 3:
                found[place : place + 4] = rng.choice(STRANGE)
            case 4:
                found[place : place + 1] = bytes([rng.randrange(256)])
            case 5:
                found[place:place] = found[place : place + rng.randint(1, 60)]
    return bytes(found)


def memory() -> float:
    """MiB that this process ever held at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_read_or_refused_by_name(tmp_path: Path, name: str) -> None:
    content, read = KINDS[name]
    file = tmp_path / name
    file.write_bytes(content)
    read(file)
    rng, before, refused = random.Random(name), memory(), 0
    for _ in range(60):
        file.write_bytes(damaged(content, rng))
        try:
            read(file)
        except UserError as error:
            refused += 1
            assert str(file) in str(error), error
            assert "pickle" not in str(error)
    assert refused > 5
    assert memory() - before < 400


WEIRD = [None, -1, 0, 1e308, float("nan"), float("inf"), 10**30, "", "x" * 300, "\0", "..", [], [[]], {}, True, 2**63]


def mutate(value: Any, rng: random.Random) -> Any:
    """A JSON value with one of its parts replaced, left out or doubled."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        changed = value.copy()
        match rng.randrange(8):
            case 0:
                del changed[key]
            case 1 if isinstance(changed, list):
                changed.append(changed[key])
            case _:
                changed[key] = mutate(value[key], rng)
        return changed
    return rng.choice(WEIRD)


def test_damaged_annotations_and_results_are_scored_or_refused(tmp_path: Path) -> None:
    boxes = [{"image_id": number, "category_id": 1 + number, "bbox": [1, 2, 30, 40]} for number in (0, 1)]
    truth = {
        "images": [{"id": number, "file_name": f"town/{number}.jpg"} for number in (0, 1)],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [each | {"iscrowd": 0} for each in boxes],
    }
    found = [each | {"score": 0.5} for each in boxes]
    files = tmp_path / "found.json", tmp_path / "truth.json"
    rng, refused = random.Random(0), 0
    for number in range(150):
        contents = [found, truth]
        for _ in range(rng.randint(1, 2)):
            contents[number % 2] = mutate(contents[number % 2], rng)
        for file, content in zip(files, contents, strict=True):
            file.write_text(json.dumps(content) if number % 10 else "[" * 5000)
        try:
            score_detection(*files, ("dog", "cat"))
        except UserError as error:
            refused += 1
            assert any(str(file) in str(error) for file in files), error
    assert 50 < refused < 150


def test_damaged_detections_of_voc_are_scored_or_refused(tmp_path: Path) -> None:
    folder, truth = tmp_path / "comp4", tmp_path / "Annotations"
    for place in (folder, truth):
        place.mkdir()
    (truth / "my photo.xml").write_text(XML)
    lines = b"my photo 0.9 1 2 30 12\nmy photo 0.8 4 5 6 7\n"
    rng, refused = random.Random(1), 0
    for _ in range(60):
        (folder / "comp4_det_test_dog.txt").write_bytes(damaged(lines, rng))
        try:
            score_detection(folder, truth, ("dog",))
        except UserError as error:
            refused += 1
            assert "comp4_det_test_dog.txt" in str(error)
    assert refused > 5


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1)])
def test_images_of_one_pixel_are_read(tmp_path: Path, shape: tuple[int, int]) -> None:
    for place in ("predictions", "targets"):
        (tmp_path / place).mkdir()
        Image.fromarray(np.full(shape, 1500, np.uint16)).save(tmp_path / place / "a.png")
    assert score_depth(tmp_path / "predictions", tmp_path / "targets", 1000, 1000)["rmse"] == 0
    Image.fromarray(np.full(shape, 3, np.uint8)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (*shape, 3)
    assert (read_mask(tmp_path / "a.png", TABLE, "is bad")["mask"] == 3).all()
