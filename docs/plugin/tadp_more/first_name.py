"""A caption source: the first class in the image, in index order."""

from tadp_ray.captions.sources import Captions, Request
from tadp_ray.registry import register_caption_source


@register_caption_source("first_name", "the first name of the classes that are present", uses_ground_truth=True)
def first_name(request: Request) -> Captions:
    """Return a prompt with one name per image, or without names if the image has no classes."""
    names = {image_id: tuple(present[:1]) for image_id, present in request.present.items()}
    return Captions({image_id: request.join(mentioned) for image_id, mentioned in names.items()}, names)
