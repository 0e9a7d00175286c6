"""Photographs to caption carry the ids by which trainings look captions up; what cannot be captioned is refused."""

from pathlib import Path

import pytest
from PIL import Image

from tadp_ray.cli.inputs import find_photographs
from tadp_ray.errors import UserError


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (2, 2)).save(path)


def test_folders_and_globs_give_stems(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "deep/c.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    assert find_photographs(str(tmp_path)) == {"a": tmp_path / "a.JPG", "b": tmp_path / "b.png"}
    assert [*find_photographs(f"{tmp_path}/**/*.png")] == ["b", "c"]
    save(tmp_path / "deep/b.png")
    assert [*find_photographs(f"{tmp_path}/**/*.png")] == ["b", "deep/b", "deep/c"]
    save(tmp_path / "deep/b.jpg")
    for said, asked in {
        r"b.png: is called 'deep/b', as .*b.jpg is": (f"{tmp_path}/**/*.*g",),
        "no file matches this glob": (f"{tmp_path}/*.tif",),
        "name the folder that holds it with --root": ("ade20k",),
        "did you mean 'ade20k'": ("ade20", tmp_path),
        "only a published data set": (str(tmp_path), None, "val"),
    }.items():
        with pytest.raises(UserError, match=said):
            find_photographs(*asked)


def test_a_recipe_gives_its_photographs_without_their_ground_truth(tmp_path: Path) -> None:
    for name in ("train/a.png", "train/b.jpg", "val/c.png"):
        save(tmp_path / name)
    assert [*find_photographs("folder_segmentation", tmp_path)] == ["a", "b", "c"]
    assert find_photographs("folder_segmentation", tmp_path, "val") == {"c": tmp_path / "val/c.png"}
    with pytest.raises(UserError, match="--split test: folder_segmentation has train and val"):
        find_photographs("folder_segmentation", tmp_path, "test")
    save(tmp_path / "val/a.png")
    with pytest.raises(UserError, match=r"--split val: .*a\.png has the id 'a' of .*train/a.png .* one at a time"):
        find_photographs("folder_segmentation", tmp_path)


def test_a_published_set_gives_all_its_splits_or_one(tmp_path: Path) -> None:
    lists = tmp_path / "VOC2012/ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (tmp_path / "VOC2012/SegmentationClassAug").mkdir()
    for split, name in {"trainaug": "2007_000032", "val": "2007_000033"}.items():
        (lists / f"{split}.txt").write_text(f"{name}\n")
        save(tmp_path / f"VOC2012/JPEGImages/{name}.jpg")
    assert [*find_photographs("pascal_segmentation", tmp_path)] == ["2007_000032", "2007_000033"]
    assert [*find_photographs("pascal_segmentation", tmp_path, "val")] == ["2007_000033"]
    with pytest.raises(UserError, match="--split test: pascal_segmentation has train and val"):
        find_photographs("pascal_segmentation", tmp_path, "test")
    (tmp_path / "VOC2012/JPEGImages/2007_000033.jpg").unlink()
    with pytest.raises(UserError, match=r"1 image missing: .*2007_000033.jpg"):
        find_photographs("pascal_segmentation", tmp_path)
