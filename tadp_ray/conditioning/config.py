"""Registers the encodings of prompts and the sources of contexts, with their keys."""

from typing import Literal

from pydantic import Field, model_validator

from tadp_ray.config.vocabulary import ExpandedText, StrictModel
from tadp_ray.registry import register_context_source, register_encoding

ENCODER = "tadp_ray.conditioning.text_encoder"
SOURCES = "tadp_ray.conditioning.sources"
MAX_VECTORS = 1024
"""Maximum number of context vectors of a source. A U-Net takes any number; this refuses slips of the pen."""
VECTORS = {"projection": 4, "cide": 1, "captioner": 77}
"""Published number of context vectors of each map from an image's embedding: IP-Adapter's, ECoDepth's, ODISE's."""

register_encoding("text", "encode the prompt as one text", f"{ENCODER}:whole_texts")
register_encoding(
    "names", "encode each name separately", f"{ENCODER}:name_by_name", of_names=True, sources=("class_names",)
)
register_encoding(
    "class_embeddings",
    "encode each name as one vector: CLIP's state at the EOS token, averaged over 80 sentences (VPD)",
    f"{ENCODER}:class_vectors",
    of_names=True,
    sources=("class_names", "oracle"),
)


@register_context_source("text", f"{SOURCES}:TextSource", reads="text")
class TextContext(StrictModel):
    """The caption, encoded according to `caption.encoding`."""

    kind: Literal["text"]


@register_context_source("learned", f"{SOURCES}:LearnedSource", reads="nothing")
class LearnedContext(StrictModel):
    """Trained vectors, the same for every image: the meta prompts of Wan et al. (arXiv 2312.14733)."""

    kind: Literal["learned"]
    count: int = Field(
        77,
        ge=1,
        le=MAX_VECTORS,
        description="number of vectors (MetaPrompts' code: 150 on ADE20K; CLIP encodes a text as 77)",
    )
    lr_mult: float = Field(
        1.0, gt=0, description="learning rate of the vectors relative to the head's (MetaPrompts' code: 1)"
    )


@register_context_source("image", f"{SOURCES}:ImageSource", reads="image")
class ImageContext(StrictModel):
    """The output of a frozen image encoder for a view of the image, mapped to context vectors by a trained network."""

    kind: Literal["image"]
    encoder: ExpandedText = Field(
        "pocket",
        description="pocket (a CLIP of the pocket world, shipped with the package), or a transformers model (CLIP, ViT, DINOv2 "
        "or DINOv3): a hub id, or a folder with config.json, preprocessor_config.json and .safetensors weights",
    )
    output: Literal["embedding", "logits"] = Field(
        "embedding",
        description="output of the encoder. embedding: CLIP's projected embedding, or the pooled state of another encoder; "
        "logits: the logits of a classifier (ECoDepth: a ViT trained on ImageNet)",
    )
    map: Literal["projection", "cide", "captioner"] = Field(
        "projection",
        description="network that maps the output to vectors. projection: a linear layer and a layer norm (IP-Adapter); cide: a "
        "softmax mixture of learned embeddings, followed by an adapter, which yields one vector (ECoDepth); captioner: a linear "
        "layer plus learned positions, multiplied by a gate that is zero at first (ODISE)",
    )
    count: int | None = Field(
        None,
        ge=1,
        le=MAX_VECTORS,
        description="number of context vectors; null: the published number (projection 4, cide 1, captioner 77)",
    )
    mixture: int = Field(100, ge=2, description="number of learned embeddings that cide mixes (ECoDepth's code: 100)")
    lr_mult: float = Field(
        1.0,
        gt=0,
        description="learning rate of the embeddings that cide mixes, relative to the head's (ECoDepth's code: 10)",
    )

    @property
    def vectors(self) -> int:
        """Number of context vectors."""
        return self.count or VECTORS[self.map]

    @model_validator(mode="after")
    def _fitting(self) -> "ImageContext":
        if self.map == "cide" and self.vectors != 1:
            raise ValueError(f"map: cide makes one vector, not {self.count}; leave count out, or use map: projection")
        if self.map != "cide" and (self.mixture, self.lr_mult) != (100, 1.0):
            raise ValueError(f"mixture and lr_mult belong to map: cide, not {self.map}; leave them out")
        return self
