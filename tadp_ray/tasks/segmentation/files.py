"""Reads and writes label maps: single-channel PNG with class indices as values."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tadp_ray.data.images import class_table, label_table, read_mask
from tadp_ray.data.sample import IGNORE
from tadp_ray.errors import UserError
from tadp_ray.tasks.files import save
from tadp_ray.tasks.pairs import Pair, Read, same_size
from tadp_ray.wording import pluralized


def write_labels(path: Path, labels: Tensor) -> Path:
    """Write a label map (H, W) as 8-bit PNG and return the file; `path` has no suffix."""
    # A name may contain dots.
    path = path.with_name(path.name + ".png")
    save(path, labels.cpu().numpy().astype(np.uint8))
    return path


def label_reader(classes: Sequence[str], ignore: Sequence[int] = (IGNORE,), reduce_zero_label: bool = False) -> Read:
    """Return a reader of a pair of label maps as int64, 255 = ignored; arguments and errors as for `score_segmentation`."""
    of_targets = class_table(len(classes), ignore, reduce_zero_label)
    first = int(reduce_zero_label)
    # If an ignored value is also a class, it is ignored in targets and a class in predictions.
    void = dict.fromkeys((*ignore, *range(first)), IGNORE)
    of_predictions = label_table(void | {label + first: label for label in range(len(classes))})
    otherwise = f"is none of the {len(classes)} classes, whose labels are {first} to {len(classes) - 1 + first}"

    def read(prediction: Path, target: Path) -> Pair:
        truth = read_mask(target, of_targets, otherwise)["mask"].astype(np.int64)
        found = read_mask(prediction, of_predictions, otherwise)["mask"].astype(np.int64)
        same_size(prediction, found.shape, target, truth.shape)
        absent = int(((found == IGNORE) & (truth != IGNORE)).sum())
        if absent:
            raise UserError(
                f"{prediction}: {pluralized(absent, 'pixels')} without a class where {target} has one; predict one there"
            )
        return torch.from_numpy(found), torch.from_numpy(truth)

    return read
