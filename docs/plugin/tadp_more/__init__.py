"""A plug-in of tadp_ray. Each module registers its names when it is imported."""

from tadp_more import brightness, first_name, frequency_iou, mean_colour, normals, plain_conv, ramps

__all__ = ["brightness", "first_name", "frequency_iou", "mean_colour", "normals", "plain_conv", "ramps"]
