"""ADE20K is read as its makers say: label k is class k - 1, label 0 is unlabelled; and what does not fit is named."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tadp_ray.config.data import PublishedData
from tadp_ray.config.load import load_recipe
from tadp_ray.data.ade20k import CLASSES, layout
from tadp_ray.data.datasets import open_dataset
from tadp_ray.data.files import FileDataset

IMAGES, MASKS = "images/validation", "annotations/validation"


def test_official_samples_are_read_label_by_label(shared: Path, put, tmp_path: Path) -> None:
    """Three photographs of three sizes, from the repository of the scene parsing challenge."""
    source = shared / "data/ade20k/sceneparsing"
    for name in ("ADE_val_00000001", "ADE_val_00000002", "ADE_val_00000003"):
        put(f"{IMAGES}/{name}.jpg", source / f"sampleData/images/{name}.jpg")
        put(f"{MASKS}/{name}.png", source / f"sampleData/annotations/{name}.png")
    val = open_dataset(PublishedData(kind="ade20k", root=tmp_path), "val")
    assert val.ids == tuple(f"ADE_val_0000000{n}.jpg" for n in (1, 2, 3))
    assert val.sizes == ((512, 683), (364, 500), (300, 400))
    sample = val[2]
    raw = np.asarray(Image.open(source / "sampleData/annotations/ADE_val_00000003.png")).astype(int)
    assert sample.mask.dtype == np.uint8 and np.array_equal(sample.mask, np.where(raw == 0, 255, raw - 1))

    # objectInfo150.txt: Idx, Ratio, Train, Val, Name (synonyms apart by commas).
    rows = [line.split("\t") for line in (source / "objectInfo150.txt").read_text().splitlines()[1:]]
    assert len(CLASSES) == len(rows) == 150
    assert all(own in map(str.strip, row[4].split(",")) for own, row in zip(CLASSES, rows, strict=True))
    assert val.present(2) == tuple(CLASSES[label - 1] for label in np.unique(raw) if label)


def test_each_split_has_folders_of_its_own(put, tmp_path: Path, photo: np.ndarray) -> None:
    for folder, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        put(f"images/{folder}/{name}.jpg", photo)
        put(f"annotations/{folder}/{name}.png", np.ones((40, 48), np.uint8))
    data = PublishedData(kind="ade20k", root=tmp_path)
    assert open_dataset(data, "train").ids == ("ADE_train_00000001.jpg",)
    assert open_dataset(data, "val").ids == ("ADE_val_00000001.jpg",)


def test_the_recipe_names_this_set() -> None:
    recipe = load_recipe(Path(__file__).parents[2] / "experiments/recipes/ade20k_fast_4k.yaml")
    assert recipe.data.kind == "ade20k" and recipe.data.target_domain is None


def test_a_split_survives_the_way_to_a_loader_process(put, tmp_path: Path, photo: np.ndarray) -> None:
    put(f"{IMAGES}/a.jpg", photo)
    put(f"{MASKS}/a.png", np.full((40, 48), 150, np.uint8))
    val = FileDataset(layout(tmp_path, "val"))
    again = pickle.loads(pickle.dumps(val))
    assert again.present(0) == ("flag",) and np.array_equal(again[0].image, val[0].image)
    assert again.digest() == val.digest()


def test_what_does_not_fit_is_named(put, refusal: Callable, tmp_path: Path, photo: np.ndarray) -> None:
    def said(root: Path = tmp_path) -> str:
        return refusal(lambda: layout(root, "val"))

    assert "root='nowhere': there is no such folder; `tadp-ray data check ade20k` says what goes" in said(
        Path("nowhere")
    )
    (tmp_path / MASKS).mkdir(parents=True)
    assert f"does not hold {IMAGES}; `tadp-ray data check" in said()
    (tmp_path / IMAGES).mkdir(parents=True)
    assert f"{IMAGES} holds no file that ends in .jpg" in said()

    good = np.ones((40, 48), np.uint8)
    for name, mask in (("a", good * 151), ("b", good[:, :-1]), ("c", good), ("d", good)):
        put(f"{IMAGES}/{name}.jpg", photo)
        put(f"{MASKS}/{name}.png", mask)
    (tmp_path / IMAGES / "c.jpg").unlink()
    (tmp_path / MASKS / "d.png").unlink()
    lines = said().splitlines()
    assert "a.png: label 151 is none of ADE20K's" in lines[0]
    assert "b.png: label map is (40, 47), its image" in lines[1] and "is (40, 48) (height, width)" in lines[1]
    assert "c.jpg: there is no such file; sample 'c.jpg' needs it" in lines[2]
    assert "d.png: there is no such file" in lines[3] and len(lines) == 4

    for number in range(30):
        put(f"{IMAGES}/{number}.jpg", photo)
    assert said().splitlines()[-1] == "and 14 more problems"
    assert f"{str(tmp_path)!r} does: name it as root" in said(tmp_path / "images")
