"""How a Stable Diffusion is told about a look that it does not know, in YAML: textual inversion and DreamBooth.

"S" stands for the supplement of the TADP paper (Table S4, section D.1), "code" for the published repository.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tadp_ray.config.vocabulary import CAPTION, PlaceText, StrictModel, Style

TOKEN = "{token}"  # noqa: S105, it is no secret
"""Where a textual inversion's sentence takes up its token."""


class SceneImages(StrictModel):
    """Scenes of the pocket world in one look."""

    kind: Literal["scenes"]
    style: Style
    count: int = Field(5, ge=3, description="scenes that are shown")
    size: int = Field(64, ge=32, le=256, multiple_of=32, description="height and width of a scene in pixels")
    seed: int = Field(0, ge=0, description="which world")


class FolderImages(StrictModel):
    """Photographs or drawings in a folder."""

    kind: Literal["folder"]
    files: PlaceText = Field(description="glob of the images, e.g. watercolor/JPEGImages/*.jpg")
    count: int = Field(ge=3, description="how many of them are shown (S: 500 of Dark Zurich, 5; code, DreamBooth: 10)")
    seed: int = Field(42, ge=0, description="of the choice among them (code: 42)")
    size: int = Field(512, ge=32, multiple_of=32, description="height and width that every image is brought to")
    fit: Literal["stretch", "crop"] = Field(
        "stretch", description="stretched to a square, ratio lost (code, textual inversion); or its middle square"
    )


class TextualInversion(StrictModel):
    """Learn one new word; everything else stays as it is."""

    kind: Literal["textual_inversion"]
    token: str = Field(min_length=2, pattern=r"^\S+$", description="the new word, e.g. <night>")
    initial: str = Field(min_length=1, description="known word, of one token, whose vector the new one starts from")
    prompts: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description=f"sentences about the images, {TOKEN} in each, drawn by chance; none: the style templates of the published "
        "script, 'a painting in the style of ...' and the like",
    )

    @model_validator(mode="after")
    def _named(self) -> "TextualInversion":
        if lacking := [prompt for prompt in self.prompts or () if prompt.count(TOKEN) != 1]:
            raise ValueError(f"prompts: {lacking[0]!r} must hold {TOKEN} once")
        return self


class Prior(StrictModel):
    """Pictures that the untouched model draws, which the trained one must go on drawing."""

    images: int = Field(200, ge=1, description="pictures drawn before training (Table S4 (c): 200)")
    prompt: str = Field(min_length=1, description="what they are drawn of, e.g. an image")
    weight: float = Field(1.0, gt=0, description="of their loss")
    steps: int = Field(50, ge=1, description="denoising steps of a picture")


class DreamBooth(StrictModel):
    """Tune the U-Net until a rare word means the images; text encoder and VAE stay as they are."""

    kind: Literal["dreambooth"]
    prompt: str = Field("an image in sks style", min_length=1, description="what is said of every image (code)")
    prior: Prior | None = Field(
        None,
        description="keep what the model draws otherwise: off (D.1 and code), or on (Table S4 (c) lists its images)",
    )


class PersonalSchedule(StrictModel):
    """How long and how fast (AdamW, constant rate behind a linear warm-up)."""

    iterations: int = Field(ge=1, description="optimizer steps")
    batch_size: int = Field(4, ge=1, description="images of a step")
    micro_batch: int | None = Field(
        None, ge=1, description="images per forward pass, the rest of the batch is accumulated; none: the whole batch"
    )
    learning_rate: float = Field(gt=0, le=1)
    weight_decay: float = Field(0.01, ge=0)
    warmup_iterations: int = Field(0, ge=0, description="S: none; the published script's default is 500")
    largest_gradient: float | None = Field(
        None, gt=0, description="norm that gradients are cut to (code: 1 for DreamBooth, none for textual inversion)"
    )

    @model_validator(mode="after")
    def _whole(self) -> "PersonalSchedule":
        if self.batch_size % (self.micro_batch or self.batch_size):
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of micro_batch {self.micro_batch}")
        return self


class PersonalCompute(StrictModel):
    """What the one Ray Train worker is given; on CPUs the number of them is part of the fingerprint."""

    cpus: int = Field(1, ge=1, description="CPU cores (and threads)")
    gpus: float = Field(0, ge=0)
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass: less memory, more time"
    )
    checkpoint_every: int = Field(100, ge=1, description="optimizer steps between checkpoints for resuming")
    max_failures: int = Field(2, ge=0, description="times the worker is restarted from its checkpoint after a crash")


class Personalization(StrictModel):
    """One look, the model that is to learn it, and how."""

    method: Annotated[TextualInversion | DreamBooth, Field(discriminator="kind")]
    weights: PlaceText = Field("pocket", description="pocket, a diffusers folder, or a hub id")
    images: Annotated[SceneImages | FolderImages, Field(discriminator="kind")]
    flip: float = Field(0.5, ge=0, le=1, description="probability that an image is mirrored (code: 0.5)")
    schedule: PersonalSchedule
    modifier: str = Field(
        description=f"how a prompt asks for the look, {CAPTION} in it: samples are drawn so, and a training recipe says the "
        "same under caption.modifiers"
    )
    samples: tuple[str, ...] = Field(min_length=1, description="captions of the pictures that are drawn in the end")
    compute: PersonalCompute = PersonalCompute()

    @model_validator(mode="after")
    def _used(self) -> "Personalization":
        if self.modifier.count(CAPTION) != 1:
            raise ValueError(f"modifier: {self.modifier!r} must hold {CAPTION} once")
        if self.method.kind == "textual_inversion" and self.method.token not in self.modifier:
            raise ValueError(f"modifier: {self.modifier!r} does not hold the token {self.method.token}")
        return self
