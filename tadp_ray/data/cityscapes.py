"""Street scenes: Cityscapes by day, and two night data sets with the same 19 classes."""

from functools import partial
from pathlib import Path

import numpy as np

from tadp_ray.data.files import Layout, PublishedSet, mirrored, require
from tadp_ray.data.images import label_table, read_mask
from tadp_ray.data.sample import IGNORE, Split

LABELS = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
"""The labelIds of the classes, in the order of their trainIds; others of 0 to 33 are ignored."""
CLASSES = tuple(LABELS.values())
LABEL_IDS = label_table(dict.fromkeys(range(34), IGNORE) | {label: place for place, label in enumerate(LABELS)})
TRAIN_IDS = label_table({place: place for place in range(len(CLASSES))} | {255: IGNORE})
NO_TRAIN_ID = "is no trainId of Cityscapes: they go from 0 to 18, and 255 is ignored"


def cityscapes(root: Path, split: Split) -> Layout:
    """Return the pairs of one split, with the fine labels."""
    files = (f"leftImg8bit/{split}", "_leftImg8bit.png", f"gtFine/{split}", "_gtFine_labelIds.png")
    return _layout("cityscapes", root, files, LABEL_IDS, "is no labelId of Cityscapes: they go from 0 to 33")


def dark_zurich(root: Path, split: Split) -> Layout:
    """Return the validation pairs by night for any split."""
    files = ("rgb_anon/val", "_rgb_anon.png", "gt/val", "_gt_labelTrainIds.png")
    return _layout("dark_zurich", root, files, TRAIN_IDS, NO_TRAIN_ID)


def nighttime_driving(root: Path, split: Split) -> Layout:
    """Return the test pairs for any split."""
    truths = "gtCoarse_daytime_trainvaltest/test"
    files = ("leftImg8bit/test", "_leftImg8bit.png", truths, "_gtCoarse_labelTrainIds.png")
    return _layout("nighttime_driving", root, files, TRAIN_IDS, NO_TRAIN_ID)


def _layout(kind: str, root: Path, files: tuple[str, str, str, str], table: np.ndarray, otherwise: str) -> Layout:
    """Return the pairs of files in two folders: images with their suffix, ground truth with its suffix."""
    images, ending, truths, truth_ending = files
    require(kind, root, images, truths)
    return Layout(
        CLASSES,
        *mirrored(kind, root / images, ending, root / truths, truth_ending),
        read=partial(read_mask, table=table, otherwise=otherwise),
        rules=(kind,),
    )


CITYSCAPES = PublishedSet(
    title="Cityscapes, fine labels",
    task="segmentation",
    classes=CLASSES,
    home=("https://www.cityscapes-dataset.com",),
    terms="non-commercial, after registration, not to be passed on",
    tree="""\
leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png      2,975 frames of 2048 x 1024, a folder a city
leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png  500 frames
gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png       label maps: labelIds 0 to 33
gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png""",
    images={"train": 2975, "val": 500},
    layout=cityscapes,
)
DARK_ZURICH = PublishedSet(
    title="Dark Zurich validation, by night",
    task="segmentation",
    classes=CLASSES,
    home=("https://www.trace.ethz.ch/publications/2019/GCMA_UIoU/",),
    terms="the licence that comes with the download",
    tree="""\
rgb_anon/val/night/GOPR0356/GOPR0356_frame_000321_rgb_anon.png      50 frames of 1920 x 1080
gt/val/night/GOPR0356/GOPR0356_frame_000321_gt_labelTrainIds.png    label maps: trainIds 0 to 18, 255 ignored""",
    images={"val": 50},
    layout=dark_zurich,
)
NIGHTTIME_DRIVING = PublishedSet(
    title="Nighttime Driving test",
    task="segmentation",
    classes=CLASSES,
    home=("http://people.ee.ethz.ch/~daid/NightDriving/",),
    terms="see the project page",
    tree="""\
leftImg8bit/test/night/0_frame_1824_leftImg8bit.png                              50 frames of 1920 x 1080
gtCoarse_daytime_trainvaltest/test/night/0_frame_1824_gtCoarse_labelTrainIds.png  label maps: trainIds 0 to 18, 255 ignored""",
    images={"val": 50},
    layout=nighttime_driving,
)
