"""Reads boxes in Pascal VOC's format: a file of detections per class, a file of objects per image."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tadp_ray.data.names import find_files
from tadp_ray.data.pascal import read_objects
from tadp_ray.errors import UserError, raise_problems
from tadp_ray.files import composed, read_text
from tadp_ray.tasks.detection.labelled import Box, LabelledBox, Truth, selected


def read_voc(folder: Path, images: Path | None) -> Truth:
    """Read the objects of a folder of annotations.

    Raises:
        UserError: the folder has no annotations, lacks images to score, or has files that are not in VOC's format.
    """
    files = {str(wild): path for wild, path in find_files("*.xml", folder)}
    if not files:
        raise UserError(f"{folder}: holds no .xml; name VOC's folder Annotations, or a COCO annotation file")
    objects, problems = {}, []
    for image in selected(images, files, folder):
        try:
            objects[image] = list(read_annotation(files[image]))
        except UserError as error:
            problems.append(str(error))
    raise_problems(problems)
    return Truth(objects, {image: image for image in files}, None)


def read_annotation(path: Path) -> Iterator[LabelledBox]:
    """Yield the objects of one image; parts of objects are ignored.

    Raises:
        UserError: see `data.pascal.read_objects`; or the corners of a box are out of order.
    """
    for number, name, corners, difficult in read_objects(path):
        try:
            box = edges(corners)
        except ValueError:
            raise UserError(
                f"{path}: object {number} ({name}) needs a <bndbox> with xmin <= xmax and ymin <= ymax, not "
                f"{', '.join(f'{value:g}' for value in corners)}; correct it"
            ) from None
        yield LabelledBox(name, box, difficult=difficult)


def read_comp4(folder: Path, truth: Truth, classes: Sequence[str]) -> dict[str, list[LabelledBox]]:
    """Read the detections of the given classes by image.

    Raises:
        UserError: files are missing, or lines are not in VOC's format or contain images that are not scored.
    """
    found: dict[str, list[LabelledBox]] = {image: [] for image in truth.objects}
    problems = []
    for name in classes:
        path = folder / f"comp4_det_test_{name}.txt"
        if not path.is_file():
            problems.append(f"{path}: there is no such file; if nothing was found, let it be empty")
            continue
        try:
            lines = read_text(path).split("\n")
        except UserError as error:
            problems.append(str(error))
            continue
        for number, line in ((number, line) for number, line in enumerate(lines, 1) if line.strip()):
            # From the right, since an image's name may contain spaces.
            image, *texts = line.strip().rsplit(maxsplit=5)
            try:
                score, *corners = numbers(texts)
                detection = LabelledBox(name, edges(corners), score)
            except ValueError:
                problems.append(
                    f"{path}:{number}: {line!r}: expected image, score, x1, y1, x2 and y2, all of them "
                    "finite numbers, x1 <= x2 and y1 <= y2"
                )
                continue
            if composed(image) in found:
                found[composed(image)].append(detection)
            else:
                problems.append(f"{path}:{number}: image {image!r} is none of those to be scored")
    raise_problems(problems)
    return found


def numbers(texts: Iterable[str]) -> list[float]:
    """Return finite numbers; raise ValueError for anything else."""
    values = [float(text) for text in texts]
    if not all(map(math.isfinite, values)):
        raise ValueError
    return values


def edges(corners: Sequence[float]) -> Box:
    """Return a box in edges from 0, given its first and last pixels from 1; raise ValueError if these are out of order."""
    left, top, right, bottom = corners
    if right < left or bottom < top:
        raise ValueError
    return left - 1, top - 1, right, bottom
