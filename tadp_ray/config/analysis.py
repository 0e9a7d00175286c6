"""An analysis file: a question about what words do inside the network, and how it is looked into."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from tadp_ray.config.claims import Measure
from tadp_ray.config.errors import nearest
from tadp_ray.config.vocabulary import ExpandedPath, Scale, StrictModel


class CopyPaste(StrictModel):
    """A word's map before and after the thing that it names is pasted beside its look-alike (Figure S2)."""

    measures: ClassVar = ("leaning", "moved")
    """Percent of cases; what claims may name."""

    kind: Literal["copy_paste"]
    cases: int = Field(100, ge=1, description="pasted pictures")
    timestep: int = Field(1, ge=0, lt=1000, description="what the U-Net is told; no noise is added")
    pairs: dict[str, str] = Field(
        {}, description="of photographs: pasted class -> the class that looks like it; scenes know their look-alikes"
    )
    cutouts: dict[str, ExpandedPath] = Field(
        {}, description="pasted class -> picture of it with a transparent surrounding; without: cut out of other images"
    )


class OffTarget(StrictModel):
    """What a model trained with right names makes of an image when it is told all names (Figure S4)."""

    measures: ClassVar = ("look-alikes", "each look-alike", "lost mIoU")
    """Points of the seed that shows least; what claims may name."""

    kind: Literal["off_target"]
    groups: tuple[tuple[str, ...], ...] = Field(
        (), description="of photographs: classes that look alike; scenes know theirs"
    )


class Picture(StrictModel):
    """A picture of your own."""

    path: ExpandedPath = Field(description="relative to the working folder")
    shows: tuple[str, ...] = Field(min_length=1, description="classes of the recipe's data that it shows")


class Variation(StrictModel):
    """What diffusers' img2img adds to an image when it is told all class names, or a caption (Figure S1)."""

    measures: ClassVar = ("gain", "least rise", "captioned share")
    """What claims may name."""

    kind: Literal["variation"]
    images: int = Field(16, ge=1, description="the data's first pictures to vary, where none is named")
    ids: tuple[str, ...] = Field((), description="of the data's pictures to vary")
    pictures: tuple[Picture, ...] = Field((), description="files to vary instead of the data's pictures")
    caption: str | None = Field(
        None, min_length=1, description="what the row of captions is told; otherwise what each picture shows"
    )
    caption_store: ExpandedPath | None = Field(
        None, description="file of captions by image id, or by the name of a file without its ending, for that row"
    )
    steps: tuple[int, ...] = Field((5, 15, 25, 35, 45), min_length=2, description="denoising steps, rising")
    of: int = Field(50, ge=2, description="steps of a whole drawing")
    guidance: float = Field(7.5, ge=1, description="classifier-free guidance (the paper does not say; diffusers: 7.5)")

    @model_validator(mode="after")
    def _rising(self) -> "Variation":
        if list(self.steps) != sorted(set(self.steps)) or not 0 < self.steps[0] <= self.steps[-1] <= self.of:
            raise ValueError(f"steps must rise from 1 to {self.of} at most, not {list(self.steps)}")
        return self

    @model_validator(mode="after")
    def _one_choice(self) -> "Variation":
        for one, other in (("ids", "pictures"), ("caption", "caption_store")):
            if getattr(self, one) and getattr(self, other):
                raise ValueError(f"{one} and {other} are two answers to one question; leave one out")
        return self


class EndMarks(StrictModel):
    """Maps of end marks, averaged and single, beside maps of words, and what models trained with each reach (Figure S3)."""

    measures: ClassVar = ("gap", "averaging", "words ahead")
    """What claims may name."""

    kind: Literal["end_marks"]
    images: int = Field(60, ge=2, description="pictures to look at")
    timestep: int = Field(1, ge=0, lt=1000, description="what the U-Net is told; no noise is added")
    texts: dict[str, dict[str, JsonValue]] = Field(
        description="averaged, single and words -> the recipe keys that make each"
    )

    @model_validator(mode="after")
    def _three(self) -> "EndMarks":
        if missing := {"averaged", "single", "words"} - self.texts.keys():
            raise ValueError(f"texts: averaged, single and words must stand there; {', '.join(sorted(missing))} is not")
        return self


class Analysis(StrictModel):
    """One figure of the paper that no table of trainings answers."""

    question: str
    figure: str = Field(description="of the paper, e.g. Figure S2")
    recipes: dict[Scale, ExpandedPath] = Field(
        min_length=1,
        description="recipe of each scale, a file relative to this one or the name of a shipped recipe: data, weights, how a "
        "model is trained",
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0,), min_length=1, description="of the trained models; the first is that of all other chance"
    )
    look: Annotated[CopyPaste | OffTarget | Variation | EndMarks, Field(discriminator="kind")]
    scales: dict[Scale, dict[str, JsonValue]] = Field(
        {}, description="keys of look that differ at a scale, e.g. {paper: {guidance: 7.5}}"
    )
    claims: tuple[Measure, ...] = Field((), description="what the numbers are held against")

    @model_validator(mode="after")
    def _known_measures(self) -> "Analysis":
        for claim in self.claims:
            for name in filter(None, (claim.measure, claim.of)):
                if name not in self.look.measures:
                    raise ValueError(
                        f"claims: {self.look.kind} measures no {name!r}; {nearest(name, self.look.measures)}"
                    )
        return self

    @model_validator(mode="after")
    def _known_scales(self) -> "Analysis":
        if strange := [scale for scale in self.scales if scale not in self.recipes]:
            raise ValueError(f"scales.{strange[0]}: recipes has none of this scale")
        return self
