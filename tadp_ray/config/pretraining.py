"""Settings of the pretraining of a pocket model, and of the training of its image encoder."""

from functools import cached_property
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from tadp_ray.config.fingerprint import DEFAULTS, changed, sha256_of
from tadp_ray.config.vocabulary import SEED_MAX, Denoiser, StrictModel

HELD_OUT_SEED = 1_000_000
"""Seed of the scenes that the gate measures a model with. Pretrainings have smaller ones, analyses larger ones."""


def _scene_side(size: int) -> int:
    if size not in range(32, 129, 32):
        raise ValueError("expected a multiple of 32 from 32 to 128")
    return size


SceneSide = Annotated[int, AfterValidator(_scene_side)]


class Pretraining(StrictModel):
    """Denoiser, model size, data and length of a pretraining run.

    Like `compute` in a recipe, the number of processes and the device are not included.
    """

    seed: int = Field(0, ge=0, description="random seed of the scenes, the initial weights and the sampling order")
    backbone: Denoiser = Field(
        "unet", description="unet: Stable Diffusion's U-Net; dit: PixArt's diffusion transformer"
    )
    start: str = Field(
        "",
        description="digest of the model from which the training starts; empty: random weights. The VAE of this model is kept, "
        "and its denoiser and text encoder are trained further. If it has another kind of denoiser, its text encoder is kept as "
        "well, and the denoiser starts from random weights",
    )
    images: int = Field(
        24576, ge=1, description="number of scenes to render; every stage samples them with replacement"
    )
    size: SceneSide = Field(64, description="height and width of a scene in pixels")
    vae_steps: int = Field(3000, ge=1, description="optimizer steps of the VAE")
    vae_batch: int = Field(16, ge=1, description="images per step, over all processes")
    unet_steps: int = Field(8500, ge=1, description="optimizer steps of the U-Net or DiT and of the text encoder")
    unet_batch: int = Field(32, ge=1, description="images per step, over all processes")
    channels: tuple[int, int, int, int] = Field((32, 64, 96, 128), description="widths of the U-Net's four levels")
    width: int = Field(192, ge=4, multiple_of=4, description="width of the DiT")
    blocks: int = Field(8, ge=1, description="blocks of the DiT")
    heads: int = Field(6, ge=1, description="heads of every attention layer of the DiT")
    classifier_steps: int = Field(
        1600, ge=1, description="optimizer steps of the classifier that scores generated images"
    )
    gate_every: int = Field(
        1000, ge=1, description="steps of the U-Net or DiT between two evaluations of the effect of the text"
    )

    @field_validator("seed")
    @classmethod
    def _unseen(cls, seed: int) -> int:
        if seed >= HELD_OUT_SEED:
            raise ValueError(
                f"the scenes of seeds from {HELD_OUT_SEED} are those that measure and analyse the model, so it must not be "
                "trained on them; give a smaller seed"
            )
        return seed

    @model_validator(mode="after")
    def _whole(self) -> "Pretraining":
        if any(width % 8 for width in self.channels):
            raise ValueError(f"channels must be multiples of 8, not {list(self.channels)}")
        if self.width % self.heads:
            raise ValueError(f"width: {self.width} does not divide among heads: {self.heads}")
        others = {"unet": ("width", "blocks", "heads"), "dit": ("channels",)}[self.backbone]
        for key in others:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(
                    f"{key}: {getattr(self, key)} is of another backbone than {self.backbone}; leave it out"
                )
        return self

    @property
    def trained(self) -> str:
        """What is trained, in words."""
        return {"unet": "U-Net", "dit": "DiT"}[self.backbone]

    @property
    def seen(self) -> int:
        """Images that the denoiser is trained on, repetitions included."""
        return self.unet_steps * self.unet_batch

    @cached_property
    def fingerprint(self) -> str:
        """Hash of every setting that can change the weights. The code of the pocket world is not in it."""
        return sha256_of({"defaults": DEFAULTS, "plan": changed(self, without={"gate_every": True})})


class ImageEncoderTraining(StrictModel):
    """Data and length of a training run of an image encoder."""

    text: str = Field(description="digest of the pocket model with whose text encoder the images are matched")
    seed: int = Field(
        0, ge=0, le=SEED_MAX, description="random seed of the scenes, the initial weights and the sampling order"
    )
    images: int = Field(24576, ge=2, description="number of scenes to render")
    size: SceneSide = Field(64, description="height and width of a scene in pixels")
    steps: int = Field(3000, ge=1, description="optimizer steps")
    batch: int = Field(128, ge=2, description="images per step, which are contrasted with each other")
    trained: ClassVar[str] = "image encoder"

    @field_validator("batch")
    @classmethod
    def _different(cls, batch: int, info: ValidationInfo) -> int:
        images = info.data.get("images", batch)
        if batch > images:
            raise ValueError(
                f"a step needs as many different images, and there are {images}; give a smaller batch or more images"
            )
        return batch

    @property
    def seen(self) -> int:
        """Images that it is trained on, repetitions included."""
        return self.steps * self.batch

    @cached_property
    def fingerprint(self) -> str:
        """Hash of every setting that can change the weights. The code of the pocket world is not in it."""
        return sha256_of({"defaults": DEFAULTS, "image encoder": changed(self, without={})})
