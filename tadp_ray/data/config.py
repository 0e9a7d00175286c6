"""What the vocabulary knows of the data sets of this package: their names, and the keys of those that have more than a root."""

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
    train: int = Field(300, ge=1, description="labelled training scenes")
    val: int = Field(400, ge=1, description="scenes that a model is scored on")
    eval_split: Literal["val", "test"] = Field(
        "val", description="which scenes: val to choose settings, test to report"
    )
    style: Style = Field("photo", description="how every scene looks")
    extra_styles: tuple[Style, ...] = Field(
        (), description="styles in which the scored scenes are scored besides, after training: e.g. miou/night"
    )
    target_domain: Style | None = Field(
        None, description="look in which the scored scenes are scored instead, as on another domain"
    )
    size: int = Field(64, ge=32, le=256, multiple_of=32, description="height and width of a scene in pixels")
    seed: int = Field(0, ge=0, description="which world: another seed renders other scenes of the same family")


class FolderSplit(StrictModel):
    """Where one split of a folder data set lies, relative to its root."""

    images: str = Field(
        description="glob of the photographs, e.g. train/*.png; an image's id is its file stem, or where stems are not all "
        "different its path below the folders that the glob spells out, e.g. chur/0000"
    )
    masks: str = Field(
        description="glob of the label maps; a mask belongs to the image of the same path below the folders that the two "
        "globs spell out, endings apart"
    )
    list: ExpandedPath | None = Field(
        None,
        description="text file naming this split's images, one a line, by path, file name or stem; the mask may stand behind "
        "the image; without a list every image of the glob is used",
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
    root: ExpandedPath = Field(description="folder that holds the data set; relative paths start at the working folder")
    train: FolderSplit
    val: FolderSplit
    classes: tuple[str, ...] = Field(
        min_length=2, description="class names in label order, at most 255; they are the prompt words"
    )
    ignore: tuple[Annotated[int, Field(ge=0, lt=65536)], ...] = Field(
        (255,), description="label values that belong to no class"
    )
    reduce_zero_label: bool = Field(
        False, description="label 0 is ignored and label k means class k-1 (ADE20K's convention)"
    )
    mask_suffix: str = Field(
        "",
        description="what a mask's file stem carries behind the image's, e.g. _labelTrainIds; other files of the glob are no "
        "masks then",
    )

    @field_validator("classes")
    @classmethod
    def _named_apart(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if problems := [*filter(None, [too_many(len(names))]), *misnamed(names)]:
            raise ValueError("; ".join(problems[:10]))
        return names
