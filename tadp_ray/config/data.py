"""What a model is trained on, in YAML: images, how they are varied, and the text each is given."""

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
    """A data set of another domain, which a model is scored on and never trained on."""

    kind: TargetName
    root: ExpandedPath = Field(
        description="folder that holds the data set; tadp-ray data check KIND says what goes where"
    )


class PublishedData(StrictModel):
    """A data set in its published folder layout, with its published splits."""

    kind: SetName
    root: ExpandedPath = Field(
        description="folder that holds the data set; tadp-ray data check KIND says what goes where"
    )
    target_domain: TargetData | None = Field(
        None, description="score on this other domain instead of the set's own validation"
    )


KINDS = tuple(entry.config for entry in DATASETS.values() if entry.config)
if TYPE_CHECKING:
    DataConfig = Any
else:
    DataConfig = Annotated[Union[(*KINDS, PublishedData)], Field(discriminator="kind")]  # noqa: UP007
POCKET_DATA = "scenes"
"""The data set of the pocket scale; the others are photographs."""
DEFAULT_DATA: Any = DATASETS[POCKET_DATA].config()


class AugmentConfig(StrictModel):
    """How a training image is varied; resize also holds for evaluation."""

    resize: int | None = Field(None, ge=32, description="shorter side in pixels, ratio kept; none: as it is")
    scale: tuple[float, float] = Field(
        (1.0, 1.0), description="random size factor, drawn uniformly (code: 0.5 to 2 on ADE20K)"
    )
    crop: int | None = Field(None, ge=32, description="side of the random square crop; none: the whole image")
    crop_max_share: float = Field(
        1.0, gt=0, le=1, description="largest share one class may have of a crop, 10 tries (code: 0.75 on ADE20K)"
    )
    pad: bool = Field(False, description="pad images smaller than the crop (image mid-grey, label ignored)")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    colour: Literal["none", "mmseg", "hsv", "nyu"] = Field(
        "none",
        description="mmseg: brightness, contrast, saturation, hue, each with probability 0.5 (code: ADE20K, Cityscapes); "
        "hsv: small shifts of hue, saturation and value (Pascal); nyu: brightness and contrast, gamma, hue (NYUv2)",
    )
    cut_depth: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability that a column band of the image shows its depth instead (code: 0.25, NYUv2)",
    )
    stretch: int | None = Field(
        None,
        ge=32,
        description="height and width that every view is stretched to in the end, ratio lost (code: 512, Pascal)",
    )
    pad_to: int | None = Field(
        None, ge=32, description="height and width that every view is padded to at bottom and right (code: 512, NYUv2)"
    )

    @property
    def side(self) -> int | None:
        """Height and width in pixels of every view in the end; None: as the image has them."""
        return self.pad_to or self.stretch or self.crop

    @model_validator(mode="after")
    def _ordered(self) -> "AugmentConfig":
        low, high = self.scale
        if not 0 < low <= high:
            raise ValueError(f"scale must be two factors 0 < low <= high, not {low}, {high}")
        return self


if TYPE_CHECKING:
    SourceName = EncodingName = str
else:
    SourceName, EncodingName = one_of(CAPTION_SOURCES), one_of(ENCODINGS)


class CaptionConfig(StrictModel):
    """Which words an image is given."""

    source: SourceName = Field(
        description="; ".join(f"{name}: {entry.description}" for name, entry in CAPTION_SOURCES.items())
        + ". There is no default: a recipe says what its images are told",
    )
    precision: float = Field(
        1.0, gt=0, le=1, description="share of named classes that are present, over the data set (Table S2)"
    )
    recall: float = Field(
        1.0, ge=0, le=1, description="share of present classes that are named, over the data set (Table S2)"
    )
    min_true: int = Field(1, ge=0, description="true names every image keeps, where it has as many")
    distractors: tuple[Annotated[str, Field(pattern=r"^\S(.*\S)?$")], ...] = Field(
        (),
        description="names beside the absent classes that may be said falsely; for data sets with few classes, most of "
        "which are in every image",
    )
    include_background: bool = Field(
        True,
        description=f"whether a class called {BACKGROUND} is a name that texts made of names say, all names included (code: on; "
        "it is neither forgotten nor invented there). Precision and recall never count it",
    )
    shuffle: bool = Field(False, description="names in random order instead of class order; captions' words likewise")
    sentence: str | None = Field(None, min_length=1, description="what is said of every image (source: sentence)")
    wording: Literal["names", "short", "long"] = Field(
        "short",
        description="of a template: short (a photo of a car and grass) plays BLIP without a minimum of tokens; names (car "
        "grass) plays its nouns; long (a car on the left, on grass) plays BLIP with 20 or 40, and needs data.kind: scenes, "
        "which know their places",
    )
    store: ExpandedPath | None = Field(None, description="caption file: image id -> captions (source: store)")
    target_store: ExpandedPath | None = Field(
        None, description="caption file of the scored images, where another holds them (code: the other domain's)"
    )
    modifiers: tuple[str, ...] = Field(
        (),
        description=f"sentences that take up the caption at {CAPTION}, the first first: a dark night photo of a {CAPTION}",
    )
    modifiers_apply: Literal["train+eval", "eval"] = Field(
        "train+eval",
        description="which prompts the modifiers are put around: those of training and of evaluation (code: segmentation across "
        "domains), or of evaluation alone, so that training knows the captions only (code: detection across domains)",
    )
    encoding: EncodingName = Field(
        "text", description="; ".join(f"{name}: {entry.description}" for name, entry in ENCODINGS.items())
    )
    embeddings: ExpandedPath | None = Field(
        None,
        description="file of one vector a class, .pth as published or .safetensors; none: made with the model's encoder",
    )
    templates: Literal["averaged", "single"] = Field(
        "averaged", description="class embeddings of 80 sentences, or of 'a photo of a ...' alone (Figure S3)"
    )

    @property
    def uses_ground_truth(self) -> bool:
        """Whether what images are told is made of their ground-truth names; a store's file says of itself whether it is."""
        return CAPTION_SOURCES[self.source].uses_ground_truth

    @field_validator("source", mode="before")
    @classmethod
    def _null_is_a_word(cls, value: object) -> object:
        """YAML reads an unquoted null as nothing; here it is the paper's name of the empty prompt."""
        return "null" if value is None else value

    @model_validator(mode="after")
    def _consistent(self) -> "CaptionConfig":
        heeded = CAPTION_SOURCES[self.source].keys
        if ("store" in heeded) != (self.store is not None):
            source = "oracle" if self.source == "store" else self.source
            said = f", sentence: {self.sentence}" if self.sentence else ""
            raise ValueError(
                "source: store and a store file belong together; give both, or set the whole group, as in --set "
                f"'caption={{source: {source}{said}}}'"
            )
        if self.target_store is not None and self.store is None:
            raise ValueError("target_store belongs to source: store; name the training images' store too")
        if ("sentence" in heeded) != (self.sentence is not None):
            raise ValueError("source: sentence and the sentence belong together; give both or neither")
        fitting = ENCODINGS[self.encoding].sources
        if fitting and self.source not in fitting:
            raise ValueError(f"encoding: {self.encoding} needs source: {' or '.join(fitting)}, not {self.source}")
        if self.embeddings is not None and (self.encoding != "class_embeddings" or self.templates != "averaged"):
            raise ValueError("an embeddings file belongs to encoding: class_embeddings, and leaves templates no choice")
        if "precision" not in heeded and (self.precision, self.recall) != (1.0, 1.0):
            raise ValueError(
                f"precision and recall degrade oracle and template captions only, but source is {self.source}"
            )
        if lacking := [modifier for modifier in self.modifiers if modifier.count(CAPTION) != 1]:
            raise ValueError(f"modifiers: {lacking[0]!r} must hold {CAPTION} once")
        if self.modifiers and ENCODINGS[self.encoding].of_names:
            raise ValueError(f"modifiers make a sentence, so they need encoding: text, not {self.encoding}")
        if "wording" not in heeded and self.wording != "short":
            raise ValueError(f"wording: {self.wording} is for template captions only, but source is {self.source}")
        return self
