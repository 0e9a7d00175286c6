"""Recomputes the precision and recall of captions by another rule for matching words to classes (Figure S5)."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tadp_ray.captions.alignment import THRESHOLD, Fit, Match, Similarity, exact, similar
from tadp_ray.captions.sources import foreground
from tadp_ray.captions.synonyms import everyday
from tadp_ray.config.cell import Cell
from tadp_ray.config.fingerprint import sha256_of
from tadp_ray.errors import UserError
from tadp_ray.files import write_json
from tadp_ray.layout import SIMILAR
from tadp_ray.registry import deferred
from tadp_ray.tasks.per_image import AreaImages, PerImage
from tadp_ray.tracking.query import CellRow

TEXT_SIMILARITY: Callable[[str], Similarity] = deferred("tadp_ray.conditioning.similarity:text_similarity")
"""Makes a text similarity from the name of the weights. It imports torch, which only few figures need."""
MATCH_RULES = {
    "recorded": "the names it was made from, else exact words and everyday synonyms",
    "exact": "exact words",
    "synonyms": "exact words and everyday synonyms",
    "similar": f"CLIP's similarity of a word to a name, at least {THRESHOLD}",
}


def match_all(
    rule: str,
    cells: Sequence[Cell],
    done: Mapping[str, CellRow],
    images: Mapping[str, PerImage],
    folder: Path,
) -> dict[str, PerImage]:
    """Return per-image results with the precision and recall of captions under a matching rule.

    The rule `similar` compares words by the text encoder of each cell's weights.

    Args:
        rule: a key of MATCH_RULES; `recorded` keeps the values from training.
        cells: every cell of the table.
        done: finished cells by fingerprint.
        images: per-image results by run id.
        folder: where matches are cached.

    Raises:
        UserError: the weights of the text encoder are missing, or the task is not segmentation.
    """
    results = dict(images)
    for cell in cells:
        run = done[cell.fingerprint].run_id if cell.fingerprint in done else None
        if rule != "recorded" and run in images:
            results[run] = rematch(images[run], matcher(rule, cell, images[run], folder))
    return results


def rematch(images: PerImage, match: Match) -> PerImage:
    """Return the results with precision and recall recomputed by `match`; the background does not count as a class.

    Raises:
        UserError: the task is not segmentation.
    """
    images, lines = segmented("recall", images), []
    for image, names in zip(images.images, images.present, strict=True):
        present = foreground(names)
        fit = Fit(frozenset(foreground(match(text_read(image)))), frozenset(present))
        lines.append({**image, "precision": fit.precision, "recall": fit.recall})
    return replace(images, images=tuple(lines))


def text_read(image: Mapping[str, Any]) -> str:
    """Return the words of an image's prompt that the text encoder read."""
    return image.get("read", image["prompt"])


def segmented(kind: str, images: PerImage) -> AreaImages:
    """Return the results for a figure of this kind, which needs the classes in each image and their IoU.

    Raises:
        UserError: the task is not segmentation.
    """
    if not isinstance(images, AreaImages):
        raise UserError(
            f"figure: kind: {kind} needs segmentation, but these cells do {images.task}; leave the figure out"
        )
    return images


def matcher(rule: str, cell: Cell, images: PerImage, folder: Path) -> Match:
    """Return the function that finds class names in a cell's prompts."""
    classes = foreground(images.classes)
    if rule != "similar":
        return exact(classes, everyday(classes) if rule == "synonyms" else None)
    prompts = sorted({text_read(image) for image in images.images})
    key = sha256_of([cell.digests["weights"], THRESHOLD, classes, prompts])
    cached = read_cache(folder / SIMILAR)
    if key not in cached:
        match = similar(prompts, classes, TEXT_SIMILARITY(cell.recipe.model.weights))
        cached[key] = {prompt: list(match(prompt)) for prompt in prompts}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / SIMILAR, cached)
    return lambda prompt: tuple(cached[key][prompt])


def read_cache(path: Path) -> dict[str, dict[str, list[str]]]:
    """Return the cached matches; empty if the file is missing or damaged, since they can be recomputed."""
    try:
        cached = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return cached if isinstance(cached, dict) else {}
