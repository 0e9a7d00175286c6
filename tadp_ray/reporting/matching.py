"""By which rule a caption's words name a class, applied to results by image when a figure is drawn (Figure S5)."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tadp_ray.captions.alignment import THRESHOLD, Fit, Match, Similarity, exact, similar
from tadp_ray.captions.prompts import foreground
from tadp_ray.captions.synonyms import everyday
from tadp_ray.config.cell import Cell
from tadp_ray.config.fingerprint import sha256_of
from tadp_ray.files import write_json
from tadp_ray.layout import SIMILAR
from tadp_ray.tasks.per_image import PerImage
from tadp_ray.tracking.query import CellRow

Encoders = Callable[[str], Similarity]
"""What tells how near two texts are, by the name of weights; needs torch, so it is handed in from above."""
RULES = {
    "recorded": "the names that it was made of, else exact words and everyday synonyms",
    "exact": "exact words",
    "synonyms": "exact words and everyday synonyms",
    "similar": f"CLIP's similarity of a word to a name, at least {THRESHOLD}",
}


def matched(
    rule: str,
    cells: Sequence[Cell],
    done: Mapping[str, CellRow],
    images: Mapping[str, PerImage],
    encoders: Encoders,
    folder: Path,
) -> dict[str, PerImage]:
    """Results by image, whose precision and recall are those of the names that prompts say by a rule.

    Args:
        rule: of RULES; recorded leaves what the trainings noted.
        cells: every cell of the table.
        done: finished cells by fingerprint.
        images: what each image adds to a cell's score, by run id.
        encoders: for the rule of similarity: the text encoder of each cell's weights is asked.
        folder: where it is kept what prompts say, so that nobody is asked twice.

    Raises:
        UserError: the weights whose encoder is asked are not there.
    """
    found = dict(images)
    for cell in cells:
        run = done[cell.fingerprint].run_id if cell.fingerprint in done else None
        if rule != "recorded" and run in images:
            found[run] = rematched(images[run], matcher(rule, cell, images[run], encoders, folder))
    return found


def rematched(images: PerImage, match: Match) -> PerImage:
    """The same results with precision and recall of the names that prompts say by `match`; the background is no name."""
    lines = []
    for image in images.images:
        areas = zip(image["classes"], image["truth"], strict=True)
        shown = foreground([images.classes[label] for label, area in areas if area > 0])
        fit = Fit(frozenset(foreground(match(image["prompt"]))), frozenset(shown))
        lines.append({**image, "precision": fit.precision, "recall": fit.recall})
    return replace(images, images=tuple(lines))


def matcher(rule: str, cell: Cell, images: PerImage, encoders: Encoders, folder: Path) -> Match:
    """What finds class names in a cell's prompts."""
    classes = foreground(images.classes)
    if rule != "similar":
        return exact(classes, everyday(classes) if rule == "synonyms" else None)
    prompts = sorted({image["prompt"] for image in images.images})
    key = sha256_of([cell.digests["weights"], THRESHOLD, classes, prompts])
    kept = read_cache(folder / SIMILAR)
    if key not in kept:
        match = similar(prompts, classes, encoders(cell.recipe.model.weights))
        kept[key] = {prompt: list(match(prompt)) for prompt in prompts}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / SIMILAR, kept)
    return lambda prompt: tuple(kept[key][prompt])


def read_cache(path: Path) -> dict[str, dict[str, list[str]]]:
    """What was kept; nothing where there is none, or it is cut short, as it can be made again."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
