"""Captions and prompts: strings in, strings out. What is said about an image, before any text encoder reads it."""

from tadp_ray.captions.alignment import Alignment, align, exact, similar
from tadp_ray.captions.precision_recall import Score, degrade, score
from tadp_ray.captions.prompts import Prompts, make_prompts
from tadp_ray.captions.store import CaptionStore, read_store

__all__ = [
    "Alignment",
    "CaptionStore",
    "Prompts",
    "Score",
    "align",
    "degrade",
    "exact",
    "make_prompts",
    "read_store",
    "score",
    "similar",
]
