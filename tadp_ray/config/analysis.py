"""An analysis file: a question about the effect of words inside the network, and the experiment that answers it."""

import itertools
from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from tadp_ray.config.claims import Measure
from tadp_ray.config.errors import nearest
from tadp_ray.config.vocabulary import ExpandedPath, Scale, Seeds, StrictModel, repeated


class BasePicture(StrictModel):
    """Your own image file, into which objects are pasted."""

    path: ExpandedPath = Field(description="the image file, relative to the working folder")
    regions: dict[str, ExpandedPath] = Field(
        min_length=1,
        description="object in the image -> its mask, an image of the same size that is black outside the object, e.g. {dog: "
        "dog.png}",
    )


class CopyPaste(StrictModel):
    """Compares a class name's attention map before and after an object of the class is pasted beside a look-alike (Figure S2)."""

    measures: ClassVar = ("leaning", "moved")
    """Names for claims; in percent of cases."""

    kind: Literal["copy_paste"]
    cases: int = Field(100, ge=1, description="number of images of the data set into which an object is pasted")
    timestep: int = Field(1, ge=0, lt=1000, description="timestep of the U-Net; no noise is added")
    pairs: dict[str, str] = Field(
        {}, description="for photographs: pasted class -> class that looks like it. Scenes have built-in pairs"
    )
    cutouts: dict[str, ExpandedPath] = Field(
        {},
        description="pasted class -> image of an object on a transparent background. Classes without such an image are cut out "
        "of other images",
    )
    pictures: tuple[BasePicture, ...] = Field(
        (),
        description="image files to use instead of images of the data set. For each pair whose look-alike is in an image, the "
        "cut-out of the pasted class is pasted into this image",
    )

    @model_validator(mode="after")
    def _of_pictures(self) -> "CopyPaste":
        if not self.pictures:
            return self
        if self.cases != type(self).model_fields["cases"].default:
            raise ValueError(f"cases: {self.cases} counts images of the data set, but pictures are given; leave it out")
        if lacking := [word for word in self.pairs if word not in self.cutouts]:
            raise ValueError(f"cutouts: has none of {lacking[0]!r}, which pairs paste into pictures; give its file")
        known = {name for picture in self.pictures for name in picture.regions}
        if absent := [name for name in self.pairs.values() if name not in known]:
            raise ValueError(
                f"pairs: {absent[0]!r} is in no picture's regions ({', '.join(sorted(known))}); add it there"
            )
        if not self.pairs:
            raise ValueError("pairs: pictures need pairs, e.g. {cat: dog}: what is pasted -> what looks like it")
        return self


class OffTarget(StrictModel):
    """Predictions of a model that was trained with oracle captions, for prompts with all class names (Figure S4)."""

    measures: ClassVar = ("look-alikes", "each look-alike", "lost mIoU")
    """Names for claims; in points, of the seed with the smallest effect."""

    kind: Literal["off_target"]
    groups: tuple[tuple[str, ...], ...] = Field(
        (), description="for photographs: groups of classes that look alike. Scenes have built-in groups"
    )

    @model_validator(mode="after")
    def _apart(self) -> "OffTarget":
        if not self.groups:
            return self
        if len(self.groups) < 2 or any(len(group) < 2 for group in self.groups):
            raise ValueError(
                "groups: look-alikes are compared with those of other groups; give two groups or more, of two names or more"
            )
        if twice := repeated(itertools.chain(*self.groups)):
            raise ValueError(f"groups: {twice[0]!r} is there twice; name it in one group")
        return self


class Picture(StrictModel):
    """Your own image file."""

    path: ExpandedPath = Field(description="the image file, relative to the working folder")
    shows: tuple[str, ...] = Field(min_length=1, description="classes of the recipe's data set that are in the image")


class Variation(StrictModel):
    """Redraws images with img2img from diffusers, with all class names or a caption as the prompt (Figure S1)."""

    measures: ClassVar = ("gain", "least rise", "captioned share")
    """Names for claims."""

    kind: Literal["variation"]
    images: int = Field(
        16, ge=1, description="number of images, the first of the data set; not used with ids or pictures"
    )
    ids: tuple[str, ...] = Field((), description="ids of images of the data set, instead of its first images")
    pictures: tuple[Picture, ...] = Field((), description="image files to use instead of images of the data set")
    caption: str | None = Field(
        None,
        min_length=1,
        description="prompt of the row with captions; null: a caption from caption_store, or a sentence that names the classes",
    )
    caption_store: ExpandedPath | None = Field(
        None, description="caption file for the row with captions, by image id, or by file name without extension"
    )
    steps: tuple[int, ...] = Field(
        (5, 15, 25, 35, 45), min_length=2, description="numbers of denoising steps, in increasing order"
    )
    num_inference_steps: int = Field(
        50, ge=2, description="steps of a full denoising run; an image goes through the last `steps` of them"
    )
    guidance_scale: float = Field(
        7.5, ge=1, description="scale of classifier-free guidance (not in the paper; diffusers: 7.5)"
    )

    @model_validator(mode="after")
    def _rising(self) -> "Variation":
        total = self.num_inference_steps
        if list(self.steps) != sorted(set(self.steps)) or not 0 < self.steps[0] <= self.steps[-1] <= total:
            raise ValueError(f"steps must rise from 1 to num_inference_steps={total} at most, not {list(self.steps)}")
        return self

    @model_validator(mode="after")
    def _one_choice(self) -> "Variation":
        for one, other in (("ids", "pictures"), ("caption", "caption_store")):
            if getattr(self, one) and getattr(self, other):
                raise ValueError(f"{one} and {other} are two answers to one question; leave one out")
        return self


class EOSTokens(StrictModel):
    """Compares attention maps of EOS tokens (averaged and single) and of words, and models trained with each (Figure S3)."""

    measures: ClassVar = ("gap", "averaging", "words ahead")
    """Names for claims."""

    kind: Literal["eos_tokens"]
    images: int = Field(60, ge=2, description="number of images whose attention maps are measured")
    timestep: int = Field(1, ge=0, lt=1000, description="timestep of the U-Net; no noise is added")
    texts: dict[str, dict[str, JsonValue]] = Field(
        description="name of a text -> the recipe keys that set it. averaged, single and words are required"
    )

    @model_validator(mode="after")
    def _three(self) -> "EOSTokens":
        if missing := {"averaged", "single", "words"} - self.texts.keys():
            raise ValueError(f"texts: averaged, single and words are required; {', '.join(sorted(missing))} is missing")
        return self


class Analysis(StrictModel):
    """An analysis of models, which reproduces a figure of the paper and has no table of cells."""

    question: str
    figure: str = Field(description="figure of the paper, e.g. Figure S2")
    recipes: dict[Scale, ExpandedPath] = Field(
        min_length=1,
        description="recipe of each scale: a file, relative to this one, or the name of a shipped recipe",
    )
    seeds: Seeds = Field((0,), description="seeds of the trained models; the first one also seeds the analysis")
    spec: Annotated[CopyPaste | OffTarget | Variation | EOSTokens, Field(discriminator="kind")]
    scales: dict[Scale, dict[str, JsonValue]] = Field(
        {}, description="values of spec keys that differ at a scale, e.g. {paper: {guidance_scale: 7.5}}"
    )
    claims: tuple[Measure, ...] = Field((), description="claims to test on the numbers")

    @model_validator(mode="after")
    def _known_measures(self) -> "Analysis":
        for claim in self.claims:
            for name in filter(None, (claim.measure, claim.max_share_of)):
                if name not in self.spec.measures:
                    raise ValueError(
                        f"claims: {self.spec.kind} measures no {name!r}; {nearest(name, self.spec.measures)}"
                    )
        return self

    @model_validator(mode="after")
    def _known_scales(self) -> "Analysis":
        if strange := [scale for scale in self.scales if scale not in self.recipes]:
            raise ValueError(f"scales.{strange[0]}: recipes has none of this scale")
        return self
