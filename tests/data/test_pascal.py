"""Pascal VOC: masks give the published oracle captions, and boxes are those of the annotation files."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tadp_ray.config.data import PublishedData
from tadp_ray.data.datasets import open_dataset
from tadp_ray.data.files import FileDataset, shown
from tadp_ray.data.pascal import CLASSES, THINGS, detection, read_boxes, segmentation
from tadp_ray.data.sample import Sample
from tadp_ray.errors import UserError

OBJECT = """<object><name>{name}</name><part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>
</bndbox></part><difficult>{difficult}</difficult>
<bndbox><xmax>{box[2]}</xmax><xmin>{box[0]}</xmin><ymax>{box[3]}</ymax><ymin>{box[1]}</ymin></bndbox></object>"""


def annotation(*objects: tuple[str, tuple[float, float, float, float]], difficult: object = 0) -> str:
    """A VOC annotation; as in VOC 2012 its objects have parts with boxes of their own, and sides stand in any order."""
    inside = "".join(OBJECT.format(name=name, box=box, difficult=difficult) for name, box in objects)
    return f"<annotation><size><width>48</width><height>40</height></size>{inside}</annotation>"


@pytest.mark.slow
def test_all_validation_masks_give_the_published_oracle_captions(shared: Path, put, tmp_path: Path) -> None:
    """pascal_class_names.json of the published code: the names in each of the 1,449 full validation masks."""
    captions = shared / "data/tadp/captions"
    ids = list(json.loads((captions / "voc_val_captions.json").read_text()))
    put("VOC2012/ImageSets/Segmentation/val.txt", "\n".join(ids))
    (tmp_path / "VOC2012/JPEGImages").mkdir()
    folder = tmp_path / "VOC2012/SegmentationClassAug"
    folder.mkdir()
    with tarfile.open(shared / "data/voc/SegmentationClassAug_all12031.tar.gz") as archive:
        for member in archive:
            if Path(member.name).stem in ids:
                (folder / Path(member.name).name).write_bytes(archive.extractfile(member).read())
    layout = segmentation(tmp_path, "val")
    assert list(layout.truths) == ids and len(ids) == 1449
    oracle = json.loads((captions / "pascal_class_names.json").read_text())
    for name in ids:
        sample = Sample(id=name, image=np.empty(0), **layout.read(layout.truths[name]))
        assert [" ".join(CLASSES[index] for index in shown(sample))] == oracle[name]["captions"]


def test_masks_lie_on_their_photographs(shared: Path, put, tmp_path: Path) -> None:
    source, ids = shared / "data/voc", ("2011_000003", "2011_000006", "2011_000025")
    # As DeepLab's list is written.
    lines = [f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png\n" for name in ids]
    put("VOC2012/ImageSets/Segmentation/trainaug.txt", "".join(lines))
    for name in ids:
        put(f"VOC2012/JPEGImages/{name}.jpg", source / f"JPEGImages/{name}.jpg")
        put(f"VOC2012/SegmentationClassAug/{name}.png", source / f"SegmentationClassAug/{name}.png")
    train = open_dataset(PublishedData(kind="pascal_segmentation", root=tmp_path), "train")
    assert train.ids == ids and train.sizes == ((338, 500), (375, 500), (375, 500))
    assert train.present(0) == ("background", "bottle", "person") and train[0].boxes is None


def test_masks_without_void_are_not_those_that_are_scored(put, tmp_path: Path) -> None:
    """SBD's masks of val, which some conversions leave there, have no void."""
    put("VOC2012/ImageSets/Segmentation/val.txt", "a\nb")
    put("VOC2012/ImageSets/Segmentation/trainaug.txt", "a\nb")
    image, masks = np.zeros((32, 32, 3), np.uint8), tmp_path / "VOC2012/SegmentationClassAug"
    for name in "ab":
        for file, pixels in (("JPEGImages/{}.jpg", image), ("SegmentationClassAug/{}.png", image[..., 0])):
            path = tmp_path / "VOC2012" / file.format(name)
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(path)
    data = PublishedData(kind="pascal_segmentation", root=tmp_path)
    assert len(open_dataset(data, "train").ids) == 2
    with pytest.raises(UserError, match=r"none of the 2 label maps of val holds void \(255\)"):
        open_dataset(data, "val").digest()
    Image.fromarray(np.full((32, 32), 255, np.uint8)).save(masks / "b.png")
    assert len(open_dataset(data, "val").ids) == 2


def test_boxes_of_real_photographs(shared: Path, put, tmp_path: Path) -> None:
    """14 photographs of VOC 2007 and 2012, boxes against the published lists (1-based corners, class of 0 to 19)."""
    source = shared / "data/voc"
    ids = {path.stem for path in (source / "Annotations").glob("*.xml")}
    for year in ("VOC2007", "VOC2012"):
        for name in ids:
            put(f"{year}/JPEGImages/{name}.jpg", source / f"JPEGImages/{name}.jpg")
            put(f"{year}/Annotations/{name}.xml", source / f"Annotations/{name}.xml")
    newer = sorted(name for name in ids if "_" in name)
    older = sorted(ids - set(newer))
    put("VOC2007/ImageSets/Main/test.txt", "\n".join(older))
    put("VOC2007/ImageSets/Main/trainval.txt", "\n".join(older[:2]))
    put("VOC2012/ImageSets/Main/trainval.txt", "\n".join(newer))
    data = PublishedData(kind="pascal_detection", root=tmp_path)
    assert open_dataset(data, "train").ids == (*older[:2], *newer)

    val = open_dataset(data, "val")
    listed = {line.split()[0]: line.split()[1:] for line in (source / "lists/voc07_test.txt").read_text().splitlines()}
    hard = (source / "lists/voc07_test_difficult.txt").read_text().splitlines()
    difficult = {line.split()[0]: line.split()[1:] for line in hard}
    compared = 0
    for index, name in enumerate(val.ids):
        if (file := f"{name}.jpg") in listed:
            sample, rows = val[index], np.array(listed[file], float).reshape(-1, 5)
            assert np.array_equal(sample.boxes, rows[:, :4] - [1, 1, 0, 0]) and sample.boxes.dtype == np.float32
            assert np.array_equal(sample.box_classes, rows[:, 4])
            assert np.array_equal(sample.difficult, np.array(difficult[file]) == "1")
            compared += len(rows)
    assert compared > 20
    first = val.ids.index("000001")
    assert val.present(first) == ("dog", "person") and val[first].boxes.tolist() == [
        [47, 239, 195, 371],
        [7, 11, 352, 498],
    ]


def test_class_names_are_those_of_the_prompts(put) -> None:
    """Annotations say aeroplane and tvmonitor, prompts airplane and television; the order is VOC's."""
    own = "aeroplane diningtable motorbike pottedplant tvmonitor".split()
    fields = read_boxes(put("a.xml", annotation(*((name, (1, 1, 48, 40.5)) for name in own), difficult=1)))
    names = ["airplane", "dining table", "motorcycle", "potted plant", "television"]
    assert [THINGS[index] for index in fields["box_classes"]] == names and fields["difficult"].all()
    for mark in ("true", "1.0"):
        assert read_boxes(put("a.xml", annotation((own[0], (1, 1, 9, 9)), difficult=mark)))["difficult"].all()
    assert fields["boxes"][0].tolist() == [0, 0, 48, 40.5] and list(fields["box_classes"]) == [0, 10, 13, 15, 19]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (annotation(), "a.xml: empty annotation, there is no <object>"),
        (
            annotation(("dog", (1, 1, 9, 9)), ("cat", (2, 2, 49, 40))),
            "object 2 (cat) reaches outside: (1, 1, 49, 40) counted",
        ),
        (
            annotation(("dog", (0, 1, 9, 9))),
            "object 1 (dog) reaches outside: (-1, 0, 9, 9) counted from 0, in an image 48",
        ),
        (annotation(("dog", (5, 9, 8, 8))), "object 1 (dog) has no area: (4, 8, 8, 8)"),
        (annotation(("wolf", (1, 1, 9, 9))), "object 1 is called 'wolf'; VOC's names are aeroplane,"),
        (annotation(("dog", ("left", 1, 9, 9))), "object 1 (dog) has no <bndbox> of four numbers"),
        (annotation(("dog", (1, 1, 9, "1e300"))), "object 1 (dog) has no <bndbox> of four numbers"),
        (annotation(("dog", ("nan", 1, 9, 9))), "object 1 (dog) has no <bndbox> of four numbers"),
        (annotation(("dog", (1, 1, 9, 9)), difficult="so"), "object 1 (dog) has <difficult> 'so'; write 0 or 1"),
        (
            f"<annotations>{annotation()}</annotations>",
            "a.xml: begins with <annotations>, and an annotation of VOC's with",
        ),
        (annotation(("dog", (1, 1, 9, 9)))[:-9], "a.xml: cannot be read as XML"),
        ("<?xml version='1.0' encoding='klingon'?><annotation/>", "a.xml: cannot be read as XML (unknown encoding"),
        (
            "<?xml version='1.0' encoding='gbk'?><annotation/>",
            "a.xml: cannot be read as XML (multi-byte encodings are not",
        ),
        ("", "a.xml: cannot be read as XML (no element found"),
        (None, "a.xml: there is no such file; sample 'a' needs it"),
    ],
)
def test_bad_boxes_are_named(
    put, refusal: Callable, tmp_path: Path, photo: np.ndarray, text: str | None, said: str
) -> None:
    put("VOC2007/ImageSets/Main/test.txt", "a\n")
    put("VOC2007/JPEGImages/a.jpg", photo)
    (tmp_path / "VOC2007/Annotations").mkdir()
    if text is not None:
        put("VOC2007/Annotations/a.xml", text)
    assert said in refusal(lambda: detection(tmp_path, "val"))


def test_a_box_of_one_pixel_at_the_edge_is_good(put, tmp_path: Path, photo: np.ndarray) -> None:
    put("VOC2007/ImageSets/Main/test.txt", "a\n")
    put("VOC2007/JPEGImages/a.jpg", photo)
    put("VOC2007/Annotations/a.xml", annotation(("dog", (48, 40, 48, 40))))
    assert FileDataset(detection(tmp_path, "val"))[0].boxes.tolist() == [[47, 39, 48, 40]]


def test_missing_lists_and_folders_are_all_named(put, refusal: Callable, tmp_path: Path) -> None:
    (tmp_path / "VOC2007/JPEGImages").mkdir(parents=True)
    text = refusal(lambda: detection(tmp_path, "val"))
    assert "does not hold VOC2007/ImageSets/Main/test.txt, VOC2007/Annotations; `tadp-ray data check pascal_det" in text
    put("VOC2007/ImageSets/Main/test.txt", "\n")
    (tmp_path / "VOC2007/Annotations").mkdir()
    assert "test.txt: this list is empty" in refusal(lambda: detection(tmp_path, "val"))
