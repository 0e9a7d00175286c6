"""Registers the encodings of prompts."""

from tadp_ray.registry import register_encoding

ENCODER = "tadp_ray.conditioning.text_encoder"

register_encoding("text", "the prompt as one text through CLIP", f"{ENCODER}:whole_texts")
register_encoding(
    "names", "each name separately through CLIP", f"{ENCODER}:name_by_name", of_names=True, sources=("class_names",)
)
register_encoding(
    "class_embeddings",
    "one vector per name: CLIP's state at the eos token, averaged over 80 sentences (VPD)",
    f"{ENCODER}:class_vectors",
    of_names=True,
    sources=("class_names", "oracle"),
)
