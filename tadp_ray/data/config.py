"""Registers the data sets of this package, with the keys of those that have more than a root."""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tadp_ray.config.classes import misnamed, too_many
from tadp_ray.config.vocabulary import ExpandedPath, StrictModel, Style
from tadp_ray.errors import listed
from tadp_ray.registry import register_dataset, register_published_dataset

register_published_dataset("ade20k", "tadp_ray.data.ade20k:ADE20K")
register_published_dataset("pascal_segmentation", "tadp_ray.data.pascal:PASCAL_SEGMENTATION")
register_published_dataset("pascal_detection", "tadp_ray.data.pascal:PASCAL_DETECTION")
register_published_dataset("coco", "tadp_ray.data.coco:COCO")
register_published_dataset("nyuv2", "tadp_ray.data.nyuv2:NYUV2")
register_published_dataset("cityscapes", "tadp_ray.data.cityscapes:CITYSCAPES")
register_published_dataset("dark_zurich", "tadp_ray.data.cityscapes:DARK_ZURICH", scored_only=True)
register_published_dataset("nighttime_driving", "tadp_ray.data.cityscapes:NIGHTTIME_DRIVING", scored_only=True)
register_published_dataset("watercolor2k", "tadp_ray.data.art:WATERCOLOR2K", scored_only=True)
register_published_dataset("comic2k", "tadp_ray.data.art:COMIC2K", scored_only=True)


@register_dataset("scenes", "tadp_ray.data.datasets:PocketScenes")
class ScenesData(StrictModel):
    """Scenes of the pocket world, rendered on the fly."""

    kind: Literal["scenes"] = "scenes"
    train: int = Field(300, ge=1, description="number of training scenes")
    val: int = Field(400, ge=1, description="number of evaluation scenes")
    eval_split: Literal["val", "test"] = Field(
        "val", description="split of the evaluation scenes: val to choose settings, test for results"
    )
    style: Style = Field("photo", description="style of all scenes")
    extra_styles: tuple[Style, ...] = Field(
        (), description="further styles in which the trained model is evaluated; each adds a metric, e.g. miou/night"
    )
    target_domain: Style | None = Field(
        None, description="style of the evaluation scenes, as another domain; null: the style of the training scenes"
    )
    size: int = Field(64, ge=32, le=256, multiple_of=32, description="height and width of a scene in pixels")
    seed: int = Field(0, ge=0, description="seed of the scenes")


TRUTHS = ("masks", "depth", "boxes")


class FolderSplit(StrictModel):
    """The files of one split of a folder data set, relative to its root: photographs, and label maps, depth maps or boxes."""

    images: str = Field(
        description="glob of the photographs, e.g. train/*.png. The id of an image is its file stem or, if stems repeat, its "
        "path below the fixed folders of the glob, e.g. chur/0000"
    )
    masks: str | None = Field(
        None,
        description="for segmentation: glob of the label maps. A label map belongs to the image with the same path, apart from "
        "the extension, below the fixed folders of the two globs",
    )
    depth: str | None = Field(
        None,
        description="for depth: glob of the depth maps: images of 16 or 32 bits, or .npy files in metres. 0 means no reading. "
        "They are matched with images like label maps",
    )
    boxes: str | None = Field(
        None,
        description="for detection: a .json file in COCO format, or a glob of .xml files in Pascal VOC format, which are matched "
        "with images like label maps",
    )
    list: ExpandedPath | None = Field(
        None,
        description="text file of the images of the split, one per line, by path, file name or stem, optionally followed by the "
        "label map; null: every image of the glob",
    )

    @field_validator("images", "masks", "depth", "boxes")
    @classmethod
    def _below_root(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        parts = PurePosixPath(pattern).parts
        if not parts or pattern.startswith("/"):
            raise ValueError("expected a glob of files below data.root, e.g. train/*.png")
        if any("**" in part and part != "**" for part in parts):
            raise ValueError("** stands alone between slashes, for folders of any depth: **/*.png")
        return pattern

    @model_validator(mode="after")
    def _of_one_kind(self) -> "FolderSplit":
        told = [key for key in TRUTHS if getattr(self, key)]
        if len(told) != 1:
            raise ValueError(
                f"has {' and '.join(told) or 'no ground truth'}; give one of masks (segmentation), depth and boxes (detection)"
            )
        if self.boxes and not self.boxes.endswith((".json", ".xml")):
            raise ValueError(
                f"boxes: {self.boxes!r} is neither a file of COCO's format (.json) nor a glob of VOC's (.xml); let it end so"
            )
        return self

    @property
    def truth(self) -> str:
        """The key of the ground truth: masks, depth or boxes."""
        return next(key for key in TRUTHS if getattr(self, key))


@register_dataset("folder", "tadp_ray.data.datasets:OwnFolder")
class FolderData(StrictModel):
    """Your own photographs, with label maps (8-bit or 16-bit single-channel or palette images), depth maps or boxes."""

    kind: Literal["folder"]
    root: ExpandedPath = Field(description="folder of the data set, relative to the working folder")
    train: FolderSplit
    val: FolderSplit
    classes: tuple[str, ...] = Field(
        (),
        description="class names, at most 255, which are used in prompts. Label maps: in label order. Boxes: as spelled in the "
        "annotation files, in any order. Depth: none",
    )
    ignore: tuple[Annotated[int, Field(ge=0, lt=65536)], ...] = Field((255,), description="label values to ignore")
    reduce_zero_label: bool = Field(
        False, description="ignore label 0; label k means class k-1 (the convention of ADE20K)"
    )
    mask_suffix: str = Field(
        "",
        description="suffix that a label map's file stem has after the stem of its image, e.g. _labelTrainIds; files without "
        "this suffix are not label maps",
    )
    depth_scale: float = Field(
        1000.0,
        gt=0,
        description="units per metre in images of depth, e.g. 1000 for millimetres; .npy files are in metres",
    )

    @field_validator("classes")
    @classmethod
    def _named_apart(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if problems := [*filter(None, [too_many(len(names))]), *misnamed(names)]:
            raise ValueError(listed(problems, "; "))
        return names

    @model_validator(mode="after")
    def _fitting(self) -> "FolderData":
        truth, least = self.train.truth, {"masks": 2, "depth": 0, "boxes": 1}
        if self.val.truth != truth:
            raise ValueError(f"train has {truth}, but val has {self.val.truth}; give both the same")
        if len(self.classes) < least[truth]:
            raise ValueError(f"classes: {list(self.classes)}: {truth} need at least {least[truth]}; name them")
        if truth == "depth" and self.classes:
            raise ValueError(f"classes: {list(self.classes)}: depth has no classes; leave them out")
        of = {"ignore": "masks", "reduce_zero_label": "masks", "mask_suffix": "masks", "depth_scale": "depth"}
        for key, owner in of.items():
            value = getattr(self, key)
            if owner != truth and value != type(self).model_fields[key].default:
                raise ValueError(f"{key}: {value} belongs to {owner}, but the splits have {truth}; leave it out")
        return self
