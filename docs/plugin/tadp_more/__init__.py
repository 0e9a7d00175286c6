"""Names for tadp_ray's recipes and commands: each module registers its own when it is imported."""

from tadp_more import brightness, first_name, frequency_iou, normals, plain_conv, ramps

__all__ = ["brightness", "first_name", "frequency_iou", "normals", "plain_conv", "ramps"]
