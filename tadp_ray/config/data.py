"""Keys of data sets, augmentation and captions."""

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, field_validator, model_validator

from tadp_ray.config.vocabulary import BACKGROUND, CAPTION, ExpandedPath, StrictModel
from tadp_ray.registry import CAPTION_SOURCES, DATASETS, ENCODINGS, one_of

PUBLISHED = {name: entry.scored_only for name, entry in DATASETS.items() if entry.config is None}
if TYPE_CHECKING:
    SetName = TargetName = str
else:
    SetName = one_of(name for name, scored_only in PUBLISHED.items() if not scored_only)
    TargetName = one_of(name for name, scored_only in PUBLISHED.items() if scored_only)


class TargetData(StrictModel):
    """A data set of another domain, for evaluation only."""

    kind: TargetName
    root: ExpandedPath = Field(description="folder of the data set; `tadp-ray data check KIND` describes its layout")


class PublishedData(StrictModel):
    """A data set in its published folder layout, with its published splits."""

    kind: SetName
    root: ExpandedPath = Field(description="folder of the data set; `tadp-ray data check KIND` describes its layout")
    target_domain: TargetData | None = Field(
        None, description="data set of another domain, on which to evaluate instead of the validation split"
    )


KINDS = tuple(entry.config for entry in DATASETS.values() if entry.config)
if TYPE_CHECKING:
    DataConfig = Any
else:
    DataConfig = Annotated[Union[(*KINDS, PublishedData)], Field(discriminator="kind")]  # noqa: UP007
POCKET_DATA = "scenes"
"""The data set of the pocket scale. All others are photographs."""
DEFAULT_DATA: Any = DATASETS[POCKET_DATA].config()


class AugmentConfig(StrictModel):
    """Augmentation of training images. Evaluation also uses resize and stretch."""

    resize: int | None = Field(
        None,
        ge=32,
        description="shorter side in pixels after resizing, which keeps the aspect ratio; null: no resizing",
    )
    scale: tuple[float, float] = Field(
        (1.0, 1.0), description="range of a random size factor, drawn uniformly (code: 0.5 to 2 on ADE20K)"
    )
    crop: int | None = Field(None, ge=32, description="side in pixels of the random square crop; null: the whole image")
    crop_max_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="maximum fraction of a crop that one class may cover; up to 10 crops are drawn (code: 0.75 on ADE20K)",
    )
    pad: bool = Field(
        False,
        description="pad images that are smaller than the crop with the mean colour of model.pixel_normalization; labels are "
        "ignored there",
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    colour: Literal["none", "mmseg", "hsv", "nyu"] = Field(
        "none",
        description="random changes of colour. mmseg: brightness, contrast, saturation and hue, each with probability 0.5 (code: "
        "ADE20K, Cityscapes); hsv: small shifts of hue, saturation and value (code: Pascal); nyu: brightness and contrast, "
        "gamma, and hue (code: NYUv2)",
    )
    cut_depth: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability that a vertical band of the image is replaced by its depth (code: 0.25 on NYUv2)",
    )
    stretch: int | None = Field(
        None,
        ge=32,
        description="final height and width in pixels; the aspect ratio is not kept (code: 512 on Pascal)",
    )
    pad_to: int | None = Field(
        None,
        ge=32,
        description="final height and width in pixels; padding is added at the bottom and right (code: 512 on NYUv2)",
    )

    @property
    def only_flips(self) -> bool:
        """Whether a view is the image or its mirror image."""
        changes = (self.resize, self.crop, self.stretch, self.pad_to, self.cut_depth)
        return self.scale == (1.0, 1.0) and self.colour == "none" and not any(changes)

    @property
    def side(self) -> int | None:
        """Final height and width in pixels. None: they depend on the image."""
        return self.pad_to or self.stretch or self.crop

    def smallest_view(self, size: tuple[int, int]) -> int:
        """Return the smallest shorter side, in pixels, of an image of `size` (H, W) before it is cropped."""
        return int((self.resize or min(size)) * self.scale[0])

    @model_validator(mode="after")
    def _ordered(self) -> "AugmentConfig":
        low, high = self.scale
        if not 0 < low <= high:
            raise ValueError(f"scale must be two factors 0 < low <= high, not {low}, {high}")
        key = "stretch" if self.stretch else "crop"
        if self.pad_to and (side := self.stretch or self.crop or 0) > self.pad_to:
            raise ValueError(
                f"pad_to {self.pad_to} must not be below {key} {side}, since padding does not shrink a view"
            )
        return self


if TYPE_CHECKING:
    SourceName = EncodingName = str
else:
    SourceName, EncodingName = one_of(CAPTION_SOURCES), one_of(ENCODINGS)


class CaptionConfig(StrictModel):
    """The captions of the images, and their encoding."""

    source: SourceName = Field(
        description="; ".join(f"{name}: {entry.description}" for name, entry in CAPTION_SOURCES.items())
        + ". There is no default",
    )
    precision: float = Field(
        1.0, gt=0, le=1, description="fraction of the mentioned classes that are present, over the data set (Table S2)"
    )
    recall: float = Field(
        1.0, ge=0, le=1, description="fraction of the present classes that are mentioned, over the data set (Table S2)"
    )
    min_true: int = Field(
        1,
        ge=0,
        description="minimum number of correct names per image, if the image has that many classes; the background counts as one",
    )
    distractors: tuple[Annotated[str, Field(pattern=r"^\S(.*\S)?$")], ...] = Field(
        (),
        description="additional wrong names, besides the absent classes; for data sets with few classes, most of which are in "
        "every image",
    )
    include_background: bool = Field(
        True,
        description=f"whether captions made from class names mention a class called {BACKGROUND} (code: true). This name is "
        "never dropped or added as a wrong name, and does not count in precision and recall",
    )
    shuffle: bool = Field(
        False,
        description="random order: of the names of an oracle, instead of class order, or of the words of a caption from a store "
        "or template",
    )
    sentence: str | None = Field(None, min_length=1, description="caption of every image (source: sentence)")
    wording: Literal["names", "short", "long", "scene", "counts", "places", "relations"] = Field(
        "short",
        description="form of template captions. short ('a photo of a car and grass') simulates BLIP without a minimum length; "
        "names ('car grass') simulates the nouns of BLIP; long ('a car on the left, on grass') simulates BLIP with a minimum of "
        "20 or 40 tokens. scene ('a photo on grass, with sky behind'), counts ('two cars'), places ('a car on the left') and "
        "relations ('a car behind a tree') each contain one kind of information. All except short and names need data.kind: "
        "scenes, where object positions are known",
    )
    store: ExpandedPath | None = Field(None, description="caption file: image id -> captions (source: store)")
    target_store: ExpandedPath | None = Field(
        None, description="caption file of the evaluation images, if it differs from store (code: for target domains)"
    )
    tag: str | None = Field(
        None,
        min_length=1,
        description="tag of the caption to use, for a store whose captions have tags, e.g. relations",
    )
    modifiers: tuple[str, ...] = Field(
        (),
        description=f"templates that contain {CAPTION}, applied to the caption in this order, e.g. 'a dark night photo of a "
        f"{CAPTION}'",
    )
    modifiers_apply: Literal["train+eval", "eval"] = Field(
        "train+eval",
        description="prompts that are modified. train+eval: those of training and evaluation (code: cross-domain segmentation); "
        "eval: only those of evaluation (code: cross-domain detection)",
    )
    encoding: EncodingName = Field(
        "text", description="; ".join(f"{name}: {entry.description}" for name, entry in ENCODINGS.items())
    )
    embeddings: ExpandedPath | None = Field(
        None,
        description="file with one vector per class, a published .pth file or .safetensors; null: computed with the text encoder",
    )
    templates: Literal["averaged", "single"] = Field(
        "averaged",
        description="class embeddings. averaged: over 80 sentences; single: only of 'a photo of a ...' (Figure S3)",
    )

    @property
    def uses_ground_truth(self) -> bool:
        """Whether the source makes captions from ground-truth names. For a caption store, its file states it."""
        return CAPTION_SOURCES[self.source].uses_ground_truth

    @property
    def _keys(self) -> tuple[str, ...]:
        """The keys that this source reads and others do not."""
        return CAPTION_SOURCES[self.source].keys

    @property
    def is_exact_oracle(self) -> bool:
        """Whether captions name the classes in an image, all of them and no others."""
        return self.source == "oracle" and self.precision == self.recall == 1

    @field_validator("source", mode="before")
    @classmethod
    def _null_is_a_word(cls, value: object) -> object:
        """YAML reads an unquoted null as None; here it is the paper's name of the empty prompt."""
        return "null" if value is None else value

    @model_validator(mode="after")
    def _of_one_source(self) -> "CaptionConfig":
        keys = self._keys
        if "store" in keys and self.store is None and self.sentence is None:
            raise ValueError(
                f"source: {self.source} needs a caption file; name it as store, as in --set caption.store=FILE"
            )
        if ("store" in keys) != (self.store is not None):
            source = "sentence" if self.sentence else self.source
            told = f", sentence: {json.dumps(self.sentence or 'TEXT')}" if source == "sentence" else ""
            whole = f"--set 'caption={{source: {source}{told}}}'"
            if self.store is not None:
                whole = f"--set 'caption={{source: store, store: {self.store}}}', or without the store {whole}"
            file = "" if self.store is None else "leave it out (store: null in a file that extends another), or "
            raise ValueError(
                f"source: {self.source} and {'a sentence' if self.store is None else 'a store'} do not belong together; "
                f"{file}set the whole group, as in {whole}"
            )
        if self.target_store is not None and self.store is None:
            raise ValueError("target_store belongs to source: store; name the training images' store too")
        if self.tag is not None and "tag" not in keys:
            raise ValueError(f"tag: {self.tag} chooses a caption of a store, but source is {self.source}")
        if self.sentence and re.search(r"\{\w*\}", self.sentence):
            raise ValueError(
                f"sentence: {self.sentence!r} is read as it stands, with its braces; for names in a sentence use source: oracle "
                f"or template, for words around another caption modifiers: ['... {CAPTION}']"
            )
        if ("sentence" in keys) != (self.sentence is not None):
            raise ValueError("source: sentence and the sentence belong together; give both or neither")
        return self

    @model_validator(mode="after")
    def _encodable(self) -> "CaptionConfig":
        fitting = ENCODINGS[self.encoding].sources
        if fitting and self.source not in fitting:
            raise ValueError(f"encoding: {self.encoding} needs source: {' or '.join(fitting)}, not {self.source}")
        if self.templates != "averaged" and self.encoding != "class_embeddings":
            raise ValueError(f"templates: {self.templates} is for encoding: class_embeddings only, not {self.encoding}")
        if self.embeddings is not None and (self.encoding != "class_embeddings" or self.templates != "averaged"):
            raise ValueError("an embeddings file belongs to encoding: class_embeddings, and leaves templates no choice")
        return self

    @model_validator(mode="after")
    def _changeable(self) -> "CaptionConfig":
        if "precision" not in self._keys and (self.precision, self.recall) != (1.0, 1.0):
            raise ValueError(
                f"precision and recall degrade oracle and template captions only, but source is {self.source}"
            )
        if lacking := [modifier for modifier in self.modifiers if modifier.count(CAPTION) != 1]:
            raise ValueError(f"modifiers: {lacking[0]!r} must hold {CAPTION} once")
        if strange := [text for text in self.modifiers if set("{}") & set(text.replace(CAPTION, ""))]:
            raise ValueError(
                f"modifiers: {strange[0]!r}: only {CAPTION} is filled in; in a sweep, also the names of its axes"
            )
        if self.modifiers and ENCODINGS[self.encoding].of_names:
            raise ValueError(f"modifiers make a sentence, so they need encoding: text, not {self.encoding}")
        if "shuffle" not in self._keys and self.shuffle:
            raise ValueError(f"shuffle: orders oracle, template and store captions only, but source is {self.source}")
        if "wording" not in self._keys and self.wording != "short":
            raise ValueError(f"wording: {self.wording} is for template captions only, but source is {self.source}")
        return self
