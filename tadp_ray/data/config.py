"""Registers the data sets of this package, with the keys of those that have more than a root."""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, field_validator

from tadp_ray.config.classes import misnamed, too_many
from tadp_ray.config.vocabulary import ExpandedPath, StrictModel, Style
from tadp_ray.registry import register_dataset, register_published_dataset

register_published_dataset("ade20k", "tadp_ray.data.ade20k:ADE20K")
register_published_dataset("pascal_segmentation", "tadp_ray.data.pascal:PASCAL_SEGMENTATION")
register_published_dataset("pascal_detection", "tadp_ray.data.pascal:PASCAL_DETECTION")
register_published_dataset("nyuv2", "tadp_ray.data.nyuv2:NYUV2")
register_published_dataset("cityscapes", "tadp_ray.data.cityscapes:CITYSCAPES")
register_published_dataset("dark_zurich", "tadp_ray.data.cityscapes:DARK_ZURICH", scored_only=True)
register_published_dataset("nighttime_driving", "tadp_ray.data.cityscapes:NIGHTTIME_DRIVING", scored_only=True)
register_published_dataset("watercolor2k", "tadp_ray.data.art:WATERCOLOR2K", scored_only=True)
register_published_dataset("comic2k", "tadp_ray.data.art:COMIC2K", scored_only=True)


@register_dataset("scenes", "tadp_ray.data.datasets:PocketScenes")
class ScenesData(StrictModel):
    """The procedural world of the pocket scale, rendered on the fly."""

    kind: Literal["scenes"] = "scenes"
    train: int = Field(300, ge=1, description="number of training scenes")
    val: int = Field(400, ge=1, description="number of evaluation scenes")
    eval_split: Literal["val", "test"] = Field(
        "val", description="evaluation scenes: val to choose settings, test for results"
    )
    style: Style = Field("photo", description="style of all scenes")
    extra_styles: tuple[Style, ...] = Field(
        (), description="additional styles of the evaluation scenes, evaluated after training, e.g. miou/night"
    )
    target_domain: Style | None = Field(
        None, description="style of the evaluation scenes, as another domain; none: that of the training scenes"
    )
    size: int = Field(64, ge=32, le=256, multiple_of=32, description="height and width of a scene in pixels")
    seed: int = Field(0, ge=0, description="seed of the scenes")


class FolderSplit(StrictModel):
    """The files of one split of a folder data set, relative to its root."""

    images: str = Field(
        description="glob of the photographs, e.g. train/*.png. An image's id is its file stem, or if stems are not unique, its "
        "path below the glob's fixed folders, e.g. chur/0000"
    )
    masks: str = Field(
        description="glob of the label maps. A mask belongs to the image with the same path below the fixed folders of the two "
        "globs, without suffix"
    )
    list: ExpandedPath | None = Field(
        None,
        description="text file of the split's images, one per line, by path, file name or stem, optionally followed by the "
        "mask; none: every image of the glob",
    )

    @field_validator("images", "masks")
    @classmethod
    def _below_root(cls, pattern: str) -> str:
        parts = PurePosixPath(pattern).parts
        if not parts or pattern.startswith("/"):
            raise ValueError("expected a glob of files below data.root, e.g. train/*.png")
        if any("**" in part and part != "**" for part in parts):
            raise ValueError("** stands alone between slashes, for folders of any depth: **/*.png")
        return pattern


@register_dataset("folder", "tadp_ray.data.datasets:OwnFolder")
class FolderData(StrictModel):
    """Any photographs with label maps (8-bit or 16-bit single-channel or palette images)."""

    kind: Literal["folder"]
    root: ExpandedPath = Field(description="folder of the data set, relative to the working folder")
    train: FolderSplit
    val: FolderSplit
    classes: tuple[str, ...] = Field(
        min_length=2, description="class names in label order, at most 255; prompts use them"
    )
    ignore: tuple[Annotated[int, Field(ge=0, lt=65536)], ...] = Field(
        (255,), description="label values that are ignored"
    )
    reduce_zero_label: bool = Field(
        False, description="label 0 is ignored and label k means class k-1 (ADE20K's convention)"
    )
    mask_suffix: str = Field(
        "",
        description="suffix of a mask's file stem after the image's, e.g. _labelTrainIds; files without it are not masks",
    )

    @field_validator("classes")
    @classmethod
    def _named_apart(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if problems := [*filter(None, [too_many(len(names))]), *misnamed(names)]:
            raise ValueError("; ".join(problems[:10]))
        return names
