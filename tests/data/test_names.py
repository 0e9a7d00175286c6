"""Which file is whose: pairs by path, lists by exact names, and nothing dropped or mixed up without a word."""

import hashlib
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import ExifTags, Image

from tadp_ray.cli.inputs import by_id
from tadp_ray.data.check import check_own, report_lines
from tadp_ray.data.config import FolderData
from tadp_ray.data.datasets import Datasets, open_dataset, remarks
from tadp_ray.data.files import FileDataset
from tadp_ray.data.folder import layout
from tadp_ray.errors import UserError
from tadp_ray.files import file_digest, read_lines, read_text
from tadp_ray.sweep.plan import Plan


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., None]:
    """Lays out a photograph and a label map that is its own: both hold the same random number of two."""

    def lay(image: str, mask: str | None) -> None:
        value = len(list(tmp_path.rglob("*.*"))) % 200
        for name, pixels in ((image, np.full((4, 6, 3), value, np.uint8)), (mask, np.full((4, 6), value, np.uint8))):
            if name is not None:
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                pixels.flat[0] = (value + 1) % 200
                Image.fromarray(pixels).save(tmp_path / name)

    return lay


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., FileDataset]:
    """Opens the training split of the globs img/... and lab/... in this test's folder."""

    def opened(images: str, masks: str, listed: str | None = None, **changes: object) -> FileDataset:
        split = {"images": images, "masks": masks, "list": listed}
        names = tuple(f"name{number}" for number in range(200))
        data = {"kind": "folder", "root": tmp_path, "train": split, "val": split, "classes": names, **changes}
        return FileDataset(layout(FolderData.model_validate(data), "train"))

    return opened


def belong(files: FileDataset) -> bool:
    """Whether every image has its own label map."""
    samples = (files[index] for index in range(len(files)))
    return all((sample.image[..., 0].flat[1:] == sample.mask.flat[1:]).all() for sample in samples)


def test_frames_of_several_folders_pair_by_path(pair, opened) -> None:
    """Names start again in every folder: ids are paths, and no frame takes another's label map."""
    for town in ("chur", "aachen", "bern"):
        for name in ("0000", "0001"):
            pair(f"img/{town}/{name}.png", f"lab/{town}/{name}.png")
    files = opened("img/**/*.png", "lab/**/*.png")
    assert files.ids == tuple(f"{town}/000{n}" for town in ("aachen", "bern", "chur") for n in (0, 1))
    assert belong(files)
    assert opened("img/*/*.png", "lab/*/*.png").ids == files.ids


def test_folders_that_a_glob_spells_out_part_no_pair(pair, opened, tmp_path: Path) -> None:
    for scene in ("one", "two"):
        pair(f"{scene}/rgb/0.png", f"{scene}/labels/0.png")
    files = opened("*/rgb/*.png", "*/labels/*.png")
    assert files.ids == ("one/0", "two/0") and belong(files)
    assert [*by_id(f"{tmp_path}/*/rgb/*.png")] == ["one/0", "two/0"] == [*by_id(f"{tmp_path}/*/labels/*.png")]


def test_distinct_stems_stay_ids_and_so_does_the_digest(pair, opened, tmp_path: Path) -> None:
    """Caption stores and finished cells of such folders keep their names: this is the digest's rule since the first one."""
    for folder, name in (("b", "x"), ("a", "y")):
        pair(f"img/{folder}/{name}.png", f"lab/{folder}/{name}.png")
    files = opened("img/*/*.png", "lab/*/*.png")
    assert files.ids == ("y", "x") and belong(files)
    digests = [file_digest(tmp_path / f"{side}/{name}.png") for name in ("a/y", "b/x") for side in ("img", "lab")]
    settings = (files.ids, files.classes, (255,), False)
    assert files.digest() == hashlib.sha256(repr((settings, digests)).encode()).hexdigest()


def test_one_side_may_have_no_folders_if_names_are_clear(pair, opened) -> None:
    pair("img/chur/0.png", "lab/0.png")
    pair("img/bern/1.png", "lab/1.png")
    assert belong(opened("img/*/*.png", "lab/*.png"))
    pair("img/bern/0.png", None)
    with pytest.raises(UserError, match=r"bern/0.png and .*chur/0.png: which image and label map belong together"):
        opened("img/*/*.png", "lab/*.png")


def test_what_stands_alone_or_twice_is_named(pair, opened, tmp_path: Path) -> None:
    pair("img/chur/0.png", "lab/bern/0.png")
    with pytest.raises(UserError, match=r"no label map in .* for 0; label maps without an image are .*lab/bern/0.png"):
        opened("img/*/*.png", "lab/*/*.png")
    pair("img/a.png", "lab/a.png")
    pair("img/a.jpg", "lab/a.bmp")
    for images, masks in (("img/*.*", "lab/*.png"), ("img/*.png", "lab/*.*")):
        with pytest.raises(UserError, match=r"a\.png: is called 'a', as .*a\.(jpg|bmp) is"):
            opened(images, masks)


def test_a_name_that_is_no_text_is_refused(pair, opened, tmp_path: Path) -> None:
    pair("img/a.png", "lab/a.png")
    Path(os.fsdecode(os.fsencode(tmp_path / "img") + b"/caf\xe9.png")).touch()
    with pytest.raises(
        UserError, match=r"caf\\udce9\.png': its name is no UTF-8, as of a file from an old archive; rename"
    ):
        opened("img/*.png", "lab/*.png")


def test_photographs_that_are_turned_are_told(pair, tmp_path: Path) -> None:
    pair("img/a.png", "lab/a.png")
    pair("img/b.png", "lab/b.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    photo = Image.open(tmp_path / "img/b.png")
    photo.save(tmp_path / "img/b.png", exif=exif)
    split = {"images": "img/*.png", "masks": "lab/*.png"}
    names = [f"name{number}" for number in range(200)]
    data = FolderData.model_validate(
        {"kind": "folder", "root": tmp_path, "train": split, "val": split, "classes": names}
    )
    told = remarks(data, open_dataset(data, "train"), open_dataset(data, "val"))
    assert [line for line in told if "EXIF" in line] == [
        f"data: 1 file with an EXIF rotation, by which they are turned ({tmp_path}/img/b.png); check that photographs and ground "
        "truth match"
    ]


def test_with_a_suffix_only_such_files_are_label_maps(pair, opened) -> None:
    pair("img/a.png", "lab/a_ids.png")
    pair("img/b.png", "lab/b_ids.png")
    pair("lab/a.png", None)
    pair("lab/b.png", None)
    files = opened("img/*", "lab/*", mask_suffix="_ids")
    assert files.ids == ("a", "b") and belong(files)
    with pytest.raises(UserError, match="no label map in .* whose names end in _color for a, b"):
        opened("img/*", "lab/*", mask_suffix="_color")


def test_label_maps_of_no_image_and_classes_of_none_are_told(pair, opened, tmp_path: Path) -> None:
    for name in ("a", "b"):
        pair(f"img/{name}.png", f"lab/{name}.png")
    pair("lab/c.png", None)
    one, other = ({"images": f"img/{name}.png", "masks": "lab/*"} for name in ("a", "b"))
    names = tuple(f"name{number}" for number in range(7))
    data = FolderData(kind="folder", root=tmp_path, train=one, val=other, classes=names)
    assert remarks(data, open_dataset(data, "train"), open_dataset(data, "val")) == [
        "data.train: no image shows name2, name3, name4, name5, name6 (5 of 7 classes), so no model learns them",
        f"data: 1 file of ground truth without an image: {tmp_path}/lab/c.png",
    ]
    assert open_dataset(data, "train").absent() == list(names[2:])


@pytest.mark.parametrize(
    ("line", "ids"),
    [
        ("frame_0.5s", ["frame_0.5s"]),
        ("frame_0.5s.png", ["frame_0.5s"]),
        ("my photo 1", ["my photo 1"]),
        ("img/my photo 1.png lab/my photo 1.png", ["my photo 1"]),
        ("img/my.png lab/my.png", ["my"]),
        ("/img/my.png /lab/my.png", ["my"]),
        ("my  1\nframe_0.7s -1", ["my", "frame_0.7s"]),
        ("img/my.png other/my.jpg 518.8", ["my"]),
        ("./img/my.png", ["my"]),
        ("\ufeffmy\r\n\r\nframe_0.7s\r\n\n", ["my", "frame_0.7s"]),
        ("caf\u00e9\ncafe\u0301", ["caf\u00e9"]),
    ],
)
def test_a_line_of_a_list_names_one_image(pair, opened, tmp_path: Path, line: str, ids: list[str]) -> None:
    for name in ("frame_0.5s", "frame_0.7s", "my photo 1", "my", "cafe\u0301"):
        pair(f"img/{name}.png", f"lab/{name}.png")
    (tmp_path / "list.txt").write_text(line, newline="")
    assert list(opened("img/*.png", "lab/*.png", "list.txt").ids) == ids


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0", "'0' may mean bern/0 or chur/0; write more of its path"),
        ("frame_0.9s", "lists images that do not exist: frame_0.9s"),
        ("frame_0", "lists images that do not exist: frame_0$"),
        ("bern/frame_0.5s", "lists images that do not exist"),
        ("chur/0.png bern/0.png", "lists images that do not exist"),
        ("chur/9 1", "lists images that do not exist: chur/9 1"),
        (" \n", "this list is empty"),
        (None, "list.txt: there is no such file"),
    ],
)
def test_a_line_that_names_none_or_several_is_refused(
    pair, opened, tmp_path: Path, line: str | None, said: str
) -> None:
    for name in ("chur/0", "bern/0", "frame_0.5s"):
        pair(f"img/{name}.png", f"lab/{name}.png")
    if line is not None:
        (tmp_path / "list.txt").write_text(line)
    with pytest.raises(UserError, match=said):
        opened("img/**/*.png", "lab/**/*.png", "list.txt")


def test_the_exact_path_beats_the_end_of_another(pair, opened, tmp_path: Path) -> None:
    for name in ("chur/0", "0"):
        pair(f"img/{name}.png", f"lab/{name}.png")
    (tmp_path / "list.txt").write_text(f"img/0.png\n{tmp_path}/img/chur/0.png\n")
    assert opened("img/**/*.png", "lab/**/*.png", "list.txt").ids == ("0", "chur/0")


def test_composed_and_decomposed_names_are_one(pair, opened, tmp_path: Path) -> None:
    """macOS writes e and an accent where other systems write one letter."""
    apart = unicodedata.normalize("NFD", "\u00e4\u00f6\u00fc")
    pair(f"img/{apart}.png", "lab/\u00e4\u00f6\u00fc.png")
    assert opened("img/*", "lab/*").ids == ("\u00e4\u00f6\u00fc",)
    assert [*by_id(f"{tmp_path}/img/*")] == ["\u00e4\u00f6\u00fc"]


def test_files_of_the_operating_system_are_passed_over_and_others_named(pair, opened, tmp_path: Path) -> None:
    for name in ("a", "b"):
        pair(f"img/{name}.png", f"lab/{name}.png")
    for folder in ("img", "lab"):
        for name in (".DS_Store", "Thumbs.db", "._a.png", "desktop.ini"):
            (tmp_path / folder / name).write_bytes(b"\0\5\x16\7")
    (tmp_path / "img/more").mkdir()
    assert opened("img/*", "lab/*").ids == opened("im*/*", "lab/*").ids == ("a", "b")

    place = tmp_path / "img/b.png"
    for make, said in (
        (place.mkdir, "b.png: is a folder, not a file; sample 'b' needs it"),
        (
            lambda: place.symlink_to("nowhere.png"),
            "b.png: is a link to nowhere.png, which does not exist; fix or remove the link",
        ),
        (place.touch, r"b.png: is empty \(0 bytes\); replace the file"),
        (lambda: os.mkfifo(place), "b.png: is not a regular file"),
    ):
        place.unlink(missing_ok=True) if not place.is_dir() else place.rmdir()
        make()
        with pytest.raises(UserError, match=said):
            opened("img/*", "lab/*")


def test_a_file_that_may_not_be_read_is_named(pair, opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests may run as root, who may read everything."""
    pair("img/a.png", "lab/a.png")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"a.png: cannot be read; change its permissions"):
        opened("img/*", "lab/*")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_is_read_by_its_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("caf\u00e9\r\n x \r\rb\u2028c\n".encode(encoding))
    assert read_lines(tmp_path / "a.txt") == ["caf\u00e9", "x", "b\u2028c"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"one\ntwo \xff\n", "a.txt: line 2 is not UTF-8 text; save the file as UTF-8"),
        ("one".encode("utf-16-le"), "a.txt: contains zero bytes, like binary files and UTF-16 without a mark"),
        (b"\xff\xfea", "a.txt: line 1 is not UTF-16 text"),
    ],
)
def test_other_text_is_refused_by_name(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_text(tmp_path / "a.txt")


def test_remarks_are_logged_before_anything_is_trained(
    pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        pair(f"img/{name}.png", f"lab/{name}.png")
    splits = {split: {"images": f"img/{glob}", "masks": "lab/*"} for split, glob in (("train", "[ab]*"), ("val", "c*"))}
    names = [f"name{number}" for number in range(9)]
    data = FolderData(kind="folder", root=tmp_path, classes=names, **splits)
    schedule, compute = SimpleNamespace(precision="float32"), SimpleNamespace(gpus=0)
    recipe = SimpleNamespace(data=data, model=SimpleNamespace(head=None), schedule=schedule, compute=compute)
    cell = SimpleNamespace(recipe=recipe, digests={})
    Plan.warn(SimpleNamespace(cells=[cell, cell], datasets=Datasets()))
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(
        "data.train: no image shows name4, name5, name6, name7, name8 (5 of 9"
    )


def test_images_of_both_training_and_evaluation_are_told_through_links_and_as_copies(pair, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        pair(f"img/{name}.png", f"lab/{name}.png")
    (tmp_path / "val").mkdir()
    for name, file in (("x", "b"), ("y", "c")):
        (tmp_path / f"val/{name}.png").symlink_to(tmp_path / f"img/{file}.png")
        (tmp_path / f"lab/{name}.png").symlink_to(tmp_path / f"lab/{file}.png")
    for folder in ("img", "lab"):
        shutil.copy(tmp_path / f"{folder}/a.png", tmp_path / f"{'val' if folder == 'img' else folder}/z.png")
    train, val = ({"images": images, "masks": "lab/*"} for images in ("img/[ab].png", "val/*"))
    data = FolderData(kind="folder", root=tmp_path, train=train, val=val, classes=tuple("abcdefghi"))
    line, *others = remarks(data, open_dataset(data, "train"), open_dataset(data, "val"))
    assert line == (
        "data.train.images='img/[ab].png', data.val.images='val/*': 2 images of both (x, z), so evaluation scores images that "
        "the model was trained on; evaluate on others"
    )
    report = check_own("mine", data)
    assert report["remarks"] == [line, *others] and f"warning: {line}" in report_lines(report)
    apart = data.model_copy(update={"val": data.val.model_copy(update={"images": "val/y.png"})})
    assert not any("of both" in each for each in check_own("mine", apart)["remarks"])
