"""A folder of photographs is read as it is, or refused with the file, the value and the mend."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from tadp_ray.config.load import load_recipe
from tadp_ray.data.config import FolderData
from tadp_ray.data.datasets import open_dataset
from tadp_ray.data.files import FileDataset
from tadp_ray.data.folder import layout
from tadp_ray.data.sample import Split
from tadp_ray.errors import UserError
from tadp_ray.files import file_digest


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photographs of 40 x 48 with label maps of values 0, 1 and 255, the last under another suffix."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        for folder, array in (
            ("train", rng.integers(0, 256, (40, 48, 3), np.uint8)),
            ("masks", rng.choice(np.array([0, 1, 255], np.uint8), (40, 48))),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / folder / f"{name}.png")
    return tmp_path


def data(root: Path, **changes: object) -> FolderData:
    """The recipe part of `photos`."""
    split = {"images": "train/*.png", "masks": "masks/*.png"}
    values = {"kind": "folder", "root": root, "train": split, "val": split, "classes": ("road", "car"), **changes}
    return FolderData.model_validate(values)


def opened(data: FolderData, split: Split) -> FileDataset:
    """One split, opened anew."""
    return FileDataset(layout(data, split))


def test_samples_keep_pixels_and_labels(photos: Path) -> None:
    folder = opened(data(photos), "train")
    assert folder.ids == ("a", "b", "c") and folder.sizes == ((40, 48),) * 3
    sample = folder[1]
    assert np.array_equal(sample.image, np.asarray(Image.open(photos / "train/b.png")))
    assert np.array_equal(sample.mask, np.asarray(Image.open(photos / "masks/b.png")))
    assert folder.present(1) == ("road", "car")


def test_zero_label_can_be_reduced_and_a_list_can_choose(photos: Path) -> None:
    (photos / "val.txt").write_text("train/c.png masks/c.png\n\na\n")
    split = {"images": "train/*.png", "masks": "masks/*.png", "list": "val.txt"}
    folder = opened(data(photos, val=split, reduce_zero_label=True), "val")
    assert folder.ids == ("c", "a")
    raw = np.asarray(Image.open(photos / "masks/c.png"))
    assert np.array_equal(folder[0].mask, np.where(raw == 1, 0, 255))


def test_digest_follows_contents_not_places(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    moved = tmp_path_factory.mktemp("elsewhere") / "photos"
    before = opened(data(photos), "train").digest()
    photos.rename(moved)
    assert opened(data(moved), "train").digest() == before
    assert opened(data(moved, classes=("road", "bus")), "train").digest() != before
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(moved / "masks/a.png")
    assert opened(data(moved), "train").digest() != before


def test_what_does_not_fit_is_named(photos: Path) -> None:
    def said(root: Path = photos, **changes: object) -> str:
        with pytest.raises(UserError) as caught:
            opened(data(root, **changes), "train")
        return str(caught.value)

    assert "data.root='nowhere': there is no such folder" in said(Path("nowhere"))
    assert "no file in" in said(train={"images": "trian/*.png", "masks": "masks/*.png"})
    beyond = said(ignore=())
    assert (
        "add its name, list the value under data.ignore, or, if labels start at 1, set data.reduce_zero_label" in beyond
    )
    beyond = said(ignore=(), reduce_zero_label=True, classes=("a", "b"))
    assert "data.ignore" in beyond and "labels start at 1" not in beyond
    (photos / "train.txt").write_text("a\nz\n")
    assert "train.txt: lists images that do not exist: z" in said(
        train={"images": "train/*.png", "masks": "masks/*.png", "list": "train.txt"}
    )
    (photos / "masks/b.png").unlink()
    assert "no label map in" in said() and "for b" in said()

    Image.fromarray(np.zeros((40, 50), np.uint8)).save(photos / "masks/b.png")
    assert f"{photos / 'masks/b.png'}: label map is (40, 50), its image" in said()
    Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(photos / "masks/b.png")
    assert "a label map needs one channel of numbers, this image is RGB" in said()
    Image.fromarray(np.full((40, 48), 7, np.uint8)).save(photos / "masks/b.png")
    assert "label 7 is beyond the 2 names of data.classes" in said()
    whole = (photos / "train/b.png").read_bytes()
    (photos / "train/b.png").write_bytes(whole[: len(whole) // 2])
    assert f"{photos / 'train/b.png'}: cannot be read as an image" in said()


def test_a_turned_photograph_lies_on_its_label_map(photos: Path) -> None:
    """It was once read as it is stored, so what was trained on it then has another digest."""
    before = opened(data(photos), "train")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    with Image.open(photos / "train/b.png") as image:
        image.transpose(Image.Transpose.ROTATE_180).save(photos / "train/b.png", exif=exif)
    after = opened(data(photos), "train")
    assert np.array_equal(after[1].image, before[1].image) and np.array_equal(after[1].mask, before[1].mask)
    files = [file_digest(photos / f"{side}/{name}.png") for name in "abc" for side in ("train", "masks")]
    settings = (("a", "b", "c"), ("road", "car"), (255,), False)
    by_contents = hashlib.sha256(repr((settings, files)).encode()).hexdigest()
    assert after.digest() != by_contents

    exif[ExifTags.Base.Orientation] = 6
    with Image.open(photos / "train/b.png") as image:
        image.save(photos / "train/b.png", exif=exif)
    with pytest.raises(
        UserError, match=r"is \(48, 40\) \(height, width, as its EXIF orientation turns it\); they must"
    ):
        opened(data(photos), "train")

    exif[ExifTags.Base.Orientation] = 1
    with Image.open(photos / "train/b.png") as image:
        image.save(photos / "train/b.png", exif=exif)
    files[2] = file_digest(photos / "train/b.png")
    assert opened(data(photos), "train").digest() == hashlib.sha256(repr((settings, files)).encode()).hexdigest()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            (0, 255),
            "the 3 label maps show 'road' alone, so there is nothing to tell apart. The value 255 in them is left out, as "
            "data.ignore says. Write the number of its class into each pixel (car is 1), 1 for 255, say",
        ),
        ((1,), "the 3 label maps show 'car' alone, so there is nothing to tell apart. Write the number"),
        ((255,), "the 3 label maps show none of the classes, so there is nothing to tell apart. The value 255"),
    ],
)
def test_training_on_one_class_alone_is_refused(photos: Path, values: tuple[int, ...], said: str) -> None:
    for name in "abc":
        Image.fromarray(np.resize(np.array(values, np.uint8), (40, 48))).save(photos / f"masks/{name}.png")
    with pytest.raises(UserError) as refused:
        opened(data(photos), "train")
    assert said in str(refused.value)
    # Of one class alone there is something to score, of none there is not.
    if values != (255,):
        assert len(opened(data(photos), "val")) == 3
        return
    with pytest.raises(UserError, match="data.val: the ground truth of all 3 images is ignored or empty"):
        opened(data(photos), "val")


def test_camvid_is_read_as_its_files_say(shared: Path) -> None:
    """Real photographs: 120 and 60 pairs of 360 x 480, 11 classes, label 11 ignored."""
    recipe = load_recipe(
        Path(__file__).parents[2] / "experiments/recipes/camvid.yaml", [f"data.root={shared}/data/camvid"]
    )
    train, val = open_dataset(recipe.data, "train"), open_dataset(recipe.data, "val")
    assert (len(train), len(val)) == (120, 60) and set(train.sizes) == {(360, 480)}
    raw = np.asarray(Image.open(shared / f"data/camvid/valannot/{val.ids[0]}.png"))
    assert np.array_equal(val[0].mask, np.where(raw == 11, 255, raw))
    assert {"sky", "road", "building"} <= set(val.present(0))
