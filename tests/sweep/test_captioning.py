"""What is captioned, what is left alone, and what becomes of an image on which the captioner fails."""

import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tadp_ray.captions.captioner import CaptionerSettings, identify
from tadp_ray.captions.resume_log import CaptionResults
from tadp_ray.captions.store import CaptionStore
from tadp_ray.errors import UserError
from tadp_ray.sweep.captioning import Actors, batches, caption_photographs, describe_batch, hash_file, read_captioned


def test_batches_are_those_of_an_undisturbed_run_less_what_is_done() -> None:
    images = {name: Path(name) for name in "abcdefg"}
    hashes = dict.fromkeys(images, "new")
    done = CaptionResults(
        dict.fromkeys("abdf", "said"), {"a": "new", "b": "new", "d": "old", "f": "new"}, {"c": "broken"}
    )
    left = batches(images, hashes, done, 2)
    assert [[row["id"] for row in batch] for batch in left] == [["c", "d"], ["e"], ["g"]]


def test_a_batch_that_is_too_large_is_given_back_before_its_images_are_tried_alone(tmp_path: Path) -> None:
    class Activations:
        """What a failed pass holds on the device."""

    held: list[weakref.ref[Activations]] = []

    def captioner(images: list[np.ndarray]) -> list[str]:
        if len(images) > 1:
            activations = Activations()
            held.append(weakref.ref(activations))
            raise MemoryError
        return [str(held[0]() is None)]

    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    rows = [{"id": name, "file": str(tmp_path / f"{name}.png"), "sha256": ""} for name in "ab"]
    assert describe_batch(captioner, rows).captions == {"a": "True", "b": "True"}


def test_an_image_that_a_captioner_fails_on_does_not_take_its_batch_along(tmp_path: Path) -> None:
    def captioner(images: list[np.ndarray]) -> list[str]:
        if any(image.shape[0] == 3 for image in images):
            raise RuntimeError("three is too many")
        return [f"height {image.shape[0]}" for image in images]

    rows = [{"id": str(side), "file": str(tmp_path / f"{side}.png"), "sha256": f"of {side}"} for side in (2, 3, 4, 5)]
    for row in rows[:-1]:
        Image.new("RGB", (2, int(row["id"]))).save(row["file"])
    said = describe_batch(captioner, rows)
    assert said.captions == {"2": "height 2", "4": "height 4"} and said.images_sha256 == {"2": "of 2", "4": "of 4"}
    assert said.failed["3"].startswith("captioner error: RuntimeError: three is too many (")
    assert f"{__file__}, line" in said.failed["3"] and "5.png" in said.failed["5"]


def test_a_finished_store_is_taken_up_or_refused_before_ray_starts(tiny_blip: Path, tmp_path: Path) -> None:
    settings, out = CaptionerSettings("blip", str(tiny_blip), min_tokens=20), tmp_path / "out.jsonl"
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    images = {"a": tmp_path / "a.png"}
    header = {"captioner": {"name": "blip", "model": "elsewhere", **identify(settings)}, "failed": {}}
    CaptionStore({"a": ("a cat",)}, header | {"images_sha256": {"a": hash_file(images["a"])}}).write(out)
    assert caption_photographs(images, settings, out, Actors(), "no ray") == {}
    for said, changed, where in (
        (r"another captioner \(min_tokens: 20 there, 40 here\)", CaptionerSettings("blip", str(tiny_blip), 40), out),
        ("this is a folder", settings, tmp_path),
        ("no such folder, and no hub repository", CaptionerSettings("blip", "no such/folder at all"), out),
    ):
        with pytest.raises(UserError, match=said):
            caption_photographs(images, changed, where, Actors(), "no ray")
    assert {file.name for file in tmp_path.iterdir()} == {"a.png", "out.jsonl"}


def test_a_store_that_was_made_from_another_is_not_gone_on_with(tmp_path: Path) -> None:
    captioner = {"captioner": {"name": "blip"}, "images_sha256": {"a": "1"}, "failed": {}}
    for origin in ({"nouns_of": "12ab"}, {"imported_from": "blip.jsonl"}):
        CaptionStore({"a": ("cat mat",)}, captioner | origin).write(tmp_path / "made.jsonl")
        with pytest.raises(
            UserError, match=r"made\.jsonl: was made from another store, and not by a captioner; name another"
        ):
            read_captioned(tmp_path / "made.jsonl", {"name": "blip"})
