"""The order of training samples depends on seed and step alone."""

import itertools
import pickle

import pytest
import torch

from tadp_ray.config.data import AugmentConfig
from tadp_ray.data.loader import AugmentedDataset, BatchSampler, batch_at, train_batches
from tadp_ray.data.sample import Sample
from tadp_ray.data.scenes import Scenes
from tadp_ray.data.transforms import Augment
from tadp_ray.errors import UserError
from tadp_ray.tasks.segmentation.task import mask_of
from tadp_ray.training.distributed import ProcessGroup


def indices(length: int, batch_size: int, steps: int, seed: int = 0) -> list[int]:
    """Sample indices over some steps."""
    return [index for step in range(steps) for index, _ in batch_at(step, batch_size, length, seed)]


def test_every_epoch_is_a_permutation_and_none_is_cut_short() -> None:
    order = indices(length=10, batch_size=4, steps=5)
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10)) and order[:10] != order[10:]
    assert indices(10, 4, 5) == order != indices(10, 4, 5, seed=1)


@pytest.mark.parametrize(("per_pass", "world"), [(8, 1), (8, 2), (4, 1), (4, 4)])
def test_workers_and_passes_share_out_the_same_global_batches(per_pass: int, world: int) -> None:
    def batches(rank: int, start: int) -> list:
        order = {"batch_size": 8, "per_pass": per_pass, "length": 11, "seed": 3}
        return list(BatchSampler(start=start, stop=4, **order, share=ProcessGroup(rank, world).share(per_pass)))

    shares = [batches(rank, 0) for rank in range(world)]
    told = list(itertools.chain.from_iterable(itertools.chain.from_iterable(zip(*shares, strict=True))))
    assert told == [place for step in range(4) for place in batch_at(step, 8, 11, 3)]
    # Going on from step 2 is the rest of having begun at 0.
    assert batches(0, 2) == shares[0][2 * (8 // per_pass) :]


def test_views_do_not_depend_on_the_processes_that_make_them() -> None:
    augment = Augment(AugmentConfig(scale=(0.8, 1.5), crop=32, colour="mmseg", pad=True, crop_max_share=0.75))
    views = AugmentedDataset(Scenes("train", 8, size=32), augment, mask_of)
    order = BatchSampler(start=0, stop=3, batch_size=4, per_pass=4, length=8, seed=0)
    alone, helped = list(train_batches(views, order)), list(train_batches(views, order, workers=2))
    for (ids, images, masks), (other_ids, other_images, other_masks) in zip(alone, helped, strict=True):
        assert ids == other_ids and torch.equal(images, other_images) and torch.equal(masks, other_masks)
    assert alone[0][1].shape == (4, 3, 32, 32) and alone[0][2].dtype == torch.int64


def test_views_can_be_made_by_processes_that_are_not_forked() -> None:
    augment = Augment(AugmentConfig(crop=32, colour="mmseg"))
    views = AugmentedDataset(Scenes("train", 4, size=64), augment, mask_of)
    _, image, mask = views[2, 7]
    _, same_image, same_mask = pickle.loads(pickle.dumps(views))[2, 7]
    assert torch.equal(image, same_image) and torch.equal(mask, same_mask)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_told_in_its_own_words(workers: int) -> None:
    def unreadable(sample: Sample, seed: int) -> Sample:
        raise UserError(f"{sample.id}: cannot be read")

    views = AugmentedDataset(Scenes("train", 4, size=64), unreadable, mask_of)
    order = BatchSampler(start=0, stop=1, batch_size=2, per_pass=2, length=4, seed=0)
    with pytest.raises(UserError, match=r"^train-\S+: cannot be read$"):
        next(train_batches(views, order, workers))
