"""A plug-in of tadp_ray. Each module registers its names when it is imported."""

from tadp_more import brightness, first_name, frequency_iou, mean_colour, normals, plain_conv, ramps
from tadp_ray.registry import register_encoding

# Its module imports torch, which commands that compute nothing do without.
register_encoding(
    "without_padding", "the prompt as one text, without padding", "tadp_more.without_padding:without_padding"
)

__all__ = ["brightness", "first_name", "frequency_iou", "mean_colour", "normals", "plain_conv", "ramps"]
