"""The order of training samples: a function of (seed, step), independent of the number of workers."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from tadp_ray.data.pixels import channels_first
from tadp_ray.data.sample import Dataset, Sample
from tadp_ray.errors import UserError

if TYPE_CHECKING:
    from tadp_ray.data.transforms import Augment

SampleKey = tuple[int, int]  # (sample index, seed of its augmentation)


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, length: int) -> np.ndarray:
    """Return the permutation of sample indices of one epoch."""
    return np.random.default_rng([seed, epoch]).permutation(length)


def batch_at(step: int, batch_size: int, length: int, seed: int) -> list[SampleKey]:
    """Return the global batch of one optimizer step (from 0): each epoch is a new permutation, and all are complete."""
    keys = []
    for position in range(step * batch_size, (step + 1) * batch_size):
        epoch, offset = divmod(position, length)
        view_seed = int(np.random.SeedSequence([seed, position]).generate_state(1)[0])
        keys.append((int(epoch_order(seed, epoch, length)[offset]), view_seed))
    return keys


class AugmentedDataset(TorchDataset):
    """Augmented training samples, indexed by `SampleKey`.

    Args:
        dataset: of samples.
        augment: makes an augmented sample.
        target: converts a sample's ground truth to the task's target.
    """

    def __init__(self, dataset: Dataset, augment: "Augment", target: Callable[[Sample], Any]) -> None:
        self._dataset = dataset
        self._augment = augment
        self._target = target

    def __getitem__(self, index: SampleKey) -> tuple[str, Tensor, Any] | UserError:
        """Return (image id, image uint8 (3, H, W), target) of one augmented sample, or why it cannot be read.

        The error is returned, since torch would add the traceback of the loader's process to the message of a raised one.
        """
        place, seed = index
        try:
            view = self._augment(self._dataset[place], seed)
        except UserError as error:
            return error
        return view.id, channels_first(view.image), self._target(view)


class BatchSampler:
    """This worker's `share` of every micro-batch of every global batch from `start` to `stop`.

    A global batch is split into micro-batches of `per_pass` images (gradient accumulation).
    """

    def __init__(
        self,
        *,
        start: int,
        stop: int,
        batch_size: int,
        per_pass: int,
        length: int,
        seed: int,
        share: slice = slice(None),
    ) -> None:
        self._range = range(start, stop)
        self._batch_size, self._per_pass, self._length, self._seed = batch_size, per_pass, length, seed
        self._share = share

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for step in self._range:
            keys = batch_at(step, self._batch_size, self._length, self._seed)
            for first in range(0, self._batch_size, self._per_pass):
                yield keys[first : first + self._per_pass][self._share]

    def __len__(self) -> int:
        return len(self._range) * (self._batch_size // self._per_pass)


def collate(items: list[Any]) -> tuple[list[str], Tensor, Any] | UserError:
    """Collate ids, images uint8 (B, 3, H, W) and targets of one micro-batch; or return the first error among them."""
    if errors := [item for item in items if isinstance(item, UserError)]:
        return errors[0]
    ids, images, targets = zip(*items, strict=True)
    return list(ids), torch.stack(images), batch_targets(targets)


def batch_targets(targets: Sequence[Any]) -> Any:
    """Collate targets: a tensor (B, H, W), or a list for boxes."""
    return torch.stack(list(targets)) if isinstance(targets[0], Tensor) else list(targets)


def train_batches(
    views: AugmentedDataset, batches: BatchSampler, workers: int = 0, pinned: bool = False
) -> Iterator[tuple[list[str], Tensor, Any]]:
    """Yield micro-batches in order; `workers` processes prefetch them.

    In `pinned` memory, which needs a GPU, batches can be copied there while it computes.

    Raises:
        UserError: an image cannot be read.
    """
    loader = DataLoader(
        views,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pinned,
        worker_init_fn=one_thread,
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def one_thread(_: int) -> None:
    """Keep OpenCV from starting as many threads as the machine has cores, in each of the loader's processes."""
    cv2.setNumThreads(0)
