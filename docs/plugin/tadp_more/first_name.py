"""A caption source: the first class, in index order, that an image shows."""

from tadp_ray.captions.sources import Captions, Request
from tadp_ray.registry import register_caption_source


@register_caption_source("first_name", "the first name of those that are present", uses_ground_truth=True)
def first_name(request: Request) -> Captions:
    """One name an image; none where it shows none."""
    names = {image_id: tuple(present[:1]) for image_id, present in request.present.items()}
    return Captions({image_id: request.join(said) for image_id, said in names.items()}, names)
