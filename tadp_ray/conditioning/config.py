"""What the vocabulary knows of the encodings of prompts."""

from tadp_ray.registry import register_encoding

ENCODER = "tadp_ray.conditioning.text_encoder"

register_encoding("text", "one prompt through CLIP", f"{ENCODER}:whole_texts")
register_encoding(
    "names", "each name through CLIP by itself", f"{ENCODER}:name_by_name", of_names=True, sources=("class_names",)
)
register_encoding(
    "class_embeddings",
    "one vector a name, CLIP's end mark averaged over 80 sentences (VPD)",
    f"{ENCODER}:class_vectors",
    of_names=True,
    sources=("class_names", "oracle"),
)
