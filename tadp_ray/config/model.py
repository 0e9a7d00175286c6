"""What is trained, in YAML: the diffusion model, how its U-Net is read, and the task's head."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, GetJsonSchemaHandler, Tag, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tadp_ray.config.vocabulary import ExpandedPath, Maps, PlaceText, StrictModel


class SemanticFPNConfig(StrictModel):
    """Segmentation: mmseg's feature pyramid and Semantic FPN head (published for ADE20K and Cityscapes)."""

    kind: Literal["semantic_fpn"] = "semantic_fpn"
    channels: int = Field(256, ge=8, multiple_of=8, description="width of the pyramid and of the head (code: 256)")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of head channels dropped in training (code: 0.1)")
    classifier_std: float = Field(
        0.01, gt=0, le=1, description="standard deviation of the last layer's first weights (code: 0.01)"
    )
    loss: Literal["cross_entropy", "focal"] = Field("cross_entropy", description="code: cross_entropy")


class SmpFPNConfig(StrictModel):
    """Segmentation: the feature pyramid of segmentation-models-pytorch (published for Pascal VOC)."""

    kind: Literal["smp_fpn"]
    pyramid: int = Field(256, ge=8, multiple_of=8, description="width of the pyramid (code: 256)")
    channels: int = Field(128, ge=32, multiple_of=32, description="width of the head (code: 128)")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of head channels dropped in training (code: 0.2)")
    loss: Literal["focal", "cross_entropy"] = Field("focal", description="focal (code) or cross_entropy (S)")


class DepthHeadConfig(StrictModel):
    """Depth: VPD's fusion of the four levels and its up-sampling decoder (published for NYUv2)."""

    kind: Literal["vpd_depth"]
    fused: int = Field(1536, ge=16, multiple_of=16, description="channels of the fused levels (code: 1536)")
    deconvolved: int = Field(32, ge=8, multiple_of=8, description="channels of the three deconvolutions (code: 32)")
    channels: int = Field(192, ge=8, multiple_of=8, description="channels before and after up-sampling (code: 192)")
    max_depth: float = Field(10.0, gt=0, description="metres that the sigmoid's 1 stands for (code: 10)")


Side = Annotated[int, Field(ge=1)]


class FasterRCNNConfig(StrictModel):
    """Detection: torchvision's Faster R-CNN on a pyramid of the four levels (published for Pascal VOC)."""

    kind: Literal["faster_rcnn"]
    channels: int = Field(256, ge=8, multiple_of=8, description="width of the pyramid (code: 256)")
    representation: int = Field(1024, ge=16, description="width of the box head (code: 1024)")
    samples: int = Field(512, ge=8, description="proposals per image that the box head is trained on (code: 512)")
    anchors: tuple[Side, Side, Side, Side] = Field(
        (32, 64, 128, 256), description="anchor side in image pixels at each level, largest level first"
    )


def kind_of_head(value: object) -> object:
    """The kind a recipe names, or the default one."""
    return value.get("kind", "semantic_fpn") if isinstance(value, dict) else getattr(value, "kind", None)


HeadConfig = Annotated[
    Annotated[SemanticFPNConfig, Tag("semantic_fpn")]
    | Annotated[SmpFPNConfig, Tag("smp_fpn")]
    | Annotated[DepthHeadConfig, Tag("vpd_depth")]
    | Annotated[FasterRCNNConfig, Tag("faster_rcnn")],
    Discriminator(kind_of_head),
]


TASK_OF_HEAD = {
    "semantic_fpn": "segmentation",
    "smp_fpn": "segmentation",
    "vpd_depth": "depth",
    "faster_rcnn": "detection",
}


class LatentConfig(StrictModel):
    """How an image becomes a latent; `ls` (TADP, VPD(LS)) and `vpd` (VPD, VPD(R)) stand for the published pairs."""

    draw: Literal["sample", "mode"] = Field("sample", description="sample of the VAE's posterior, or its mode")
    scale: Literal["scaled", "raw"] = Field("scaled", description="times the VAE's scaling factor, or not")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if isinstance(value, str) and value not in LATENTS:
            raise ValueError(f"expected {', '.join(LATENTS)}, or a group of draw and scale")
        return LATENTS[value] if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"enum": list(LATENTS)}, handler(core_schema)], "description": cls.__doc__}


LATENTS = {"ls": {"draw": "sample", "scale": "scaled"}, "vpd": {"draw": "mode", "scale": "raw"}}


class ModelConfig(StrictModel):
    """The frozen Stable Diffusion and how its U-Net is read."""

    weights: PlaceText = Field(
        "pocket",
        description="pocket (shipped with the package), a diffusers folder, a hub id, or a single-file checkpoint",
    )
    embeddings: ExpandedPath | None = Field(
        None,
        description="file with a learned token (tadp-ray personalize, or a published learned_embeds.bin), which captions may "
        "then say, as in caption.modifiers",
    )
    unet_init: Literal["pretrained", "random"] = Field(
        "pretrained", description="random: U-Net and text encoder lose what they learned (a control; the VAE stays)"
    )
    latent: LatentConfig = LatentConfig()
    pixel_normalization: Literal["half", "imagenet"] = Field(
        "half",
        description="[-1, 1], or ImageNet's mean and deviation (code: imagenet for detection and across domains)",
    )
    timestep: int = Field(1, ge=0, lt=1000, description="the U-Net's one timestep; no noise is added (code: 1)")
    attention_maps: Maps = Field(
        "cross", description="attention maps that are appended to the features (code: cross; none for depth)"
    )
    adapter: bool = Field(False, description="learn c + gamma * MLP(c) of the context c: the text adapter (TA)")
    detach_attention: bool = Field(True, description="maps carry no gradient, as in the published code")
    feature_norm: bool = Field(
        False,
        description="batch-normalise the features before the head (code: off; a U-Net's channels differ in scale)",
    )
    head: HeadConfig = SemanticFPNConfig()
