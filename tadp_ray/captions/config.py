"""Registers the captioners of this package."""

from tadp_ray.registry import register_captioner

register_captioner(
    "blip",
    "BLIP, BLIP-2 or another image-to-text model of transformers",
    "tadp_ray.captions.captioner:Captioner",
    model="Salesforce/blip2-opt-2.7b",
)
