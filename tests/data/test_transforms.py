"""Training views keep image and label map together, and stay in range."""

import numpy as np
import pytest
import torch

from tadp_ray.config.schema import AugmentConfig
from tadp_ray.data.sample import Sample
from tadp_ray.data.transforms import Augment, smallest_view, to_tensor


@pytest.fixture
def sample() -> Sample:
    """A picture whose red channel is twice its label."""
    mask = np.random.default_rng(0).integers(0, 100, (6, 9)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    return Sample("a", np.stack([2 * mask, mask, mask], -1), mask)


def test_image_range() -> None:
    pixels = to_tensor(np.array([[[0, 127, 255]]], np.uint8))
    assert pixels.flatten().tolist() == pytest.approx([-1, -1 / 255, 1])


@pytest.mark.parametrize("seed", range(8))
def test_mask_follows_the_image(sample: Sample, seed: int) -> None:
    image, mask = Augment(AugmentConfig(crop=32))(sample, seed)
    assert image.shape == (3, 32, 32)
    assert torch.equal(((image[0] + 1) * 127.5).round().long(), 2 * mask)


def test_a_view_is_a_function_of_its_seed(sample: Sample) -> None:
    augment = Augment(AugmentConfig(scale=(0.7, 1.4), crop=32, photometric=True))
    first = augment(sample, 5)
    augment(sample, 6)
    again = augment(sample, 5)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], augment(sample, 6)[0])
    assert first[0].min() >= -1 and first[0].max() <= 1


def test_padding_is_mid_grey_and_ignored(sample: Sample) -> None:
    image, mask = Augment(AugmentConfig(crop=96, pad=True, flip=0.0))(sample, 0)
    assert (mask[48:] == 255).all() and (mask[:48, :72] != 255).all()
    assert image[:, 48:].abs().max() < 0.01


def test_crops_avoid_one_class_taking_nearly_all(sample: Sample) -> None:
    half = np.zeros((64, 64), np.uint8)
    half[:, 48:] = 1
    wide = Sample("b", np.zeros((64, 64, 3), np.uint8), half)
    shares = {}
    for limit in (1.0, 0.75):
        masks = [Augment(AugmentConfig(crop=32, crop_max_share=limit))(wide, seed)[1] for seed in range(40)]
        shares[limit] = np.mean([(mask == 0).all() for mask in masks])
    assert shares[1.0] > 0.3 and shares[0.75] < 0.1


def test_smallest_view() -> None:
    assert smallest_view((360, 480), AugmentConfig(resize=192, scale=(0.5, 2.0))) == 96
    assert smallest_view((360, 480), AugmentConfig()) == 360
