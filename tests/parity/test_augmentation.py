"""Random views are spread as the published pipelines spread them, over 1,000 draws."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmseg.datasets.transforms import transforms

from tadp_ray.config.data import AugmentConfig
from tadp_ray.config.recipe import EvaluationConfig
from tadp_ray.data.pixels import to_tensor
from tadp_ray.data.sample import Sample, Truth
from tadp_ray.data.transforms import Augment, PhotometricDistortion
from tadp_ray.training.setup import TrainSetup

DRAWS = 1000


def views(config: AugmentConfig, image: np.ndarray) -> Iterator[Sample]:
    """Views of one image."""
    augment, sample = Augment(config), Sample("a", image, np.zeros(image.shape[:2], np.uint8))
    return (augment(sample, seed) for seed in range(DRAWS))


def places(height: int, width: int) -> np.ndarray:
    """An image whose first two channels say where a pixel is."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([rows, columns, np.zeros_like(rows)], -1)


def test_half_of_the_views_are_mirrored() -> None:
    """Probability 0.5 in all published pipelines; three standard deviations are 0.047."""
    mirrored = [view.image[0, 0, 1] > 0 for view in views(AugmentConfig(), places(8, 32))]
    assert np.mean(mirrored) == pytest.approx(0.5, abs=0.047)


def test_crops_lie_anywhere_equally_often() -> None:
    corners = np.array([view.image[0, 0, :2] for view in views(AugmentConfig(crop=32, flip=0), places(64, 128))], float)
    assert corners.min(0).tolist() == [0, 0] and corners.max(0).tolist() == [32, 96]
    # Uniform over 33 and 97 places: standard errors of the mean 0.30 and 0.89.
    assert corners.mean(0) == pytest.approx([16, 48], abs=2.7)


def test_sizes_are_uniform_between_half_and_double() -> None:
    """U[0.5, 2.0] on ADE20K and Pascal: mean 1.25, standard deviation 0.433."""
    config = AugmentConfig(scale=(0.5, 2.0), flip=0)
    factors = np.array([view.image.shape[0] / 64 for view in views(config, places(64, 64))])
    assert factors.min() >= 0.49 and factors.max() <= 2.01
    assert (factors.mean(), factors.std()) == (pytest.approx(1.25, abs=0.042), pytest.approx(0.433, abs=0.03))


def test_colours_change_by_mmsegs_ranges() -> None:
    """Brightness within 32 levels and contrast by 0.5 to 1.5, each with probability 0.5; grey stays grey."""
    config = AugmentConfig(colour="mmseg", flip=0)
    greys = np.array([view.image[0, 0] for view in views(config, np.full((4, 4, 3), 100, np.uint8))], float)
    assert (np.ptp(greys, axis=1) <= 1).all()
    unchanged = np.isclose(greys[:, 0], 100, atol=0.5)
    # Neither is drawn a quarter of the time, and 1 draw in 65 of the brightness changes nothing.
    assert unchanged.mean() == pytest.approx(0.25, abs=0.06)
    assert greys.min() >= 0.5 * (100 - 32) - 2 and greys.max() <= 1.5 * (100 + 32) + 2
    assert greys.min() < 50 and greys.max() > 165


@pytest.mark.parametrize("contrast_first", [False, True])
@pytest.mark.parametrize(("saturation", "hue", "within"), [(1.4, 0, 0), (0.6, 0, 0), (1.0, -17, 0), (1.3, 11, 8)])
def test_a_change_of_colours_is_mmsegs(
    monkeypatch: pytest.MonkeyPatch, contrast_first: bool, saturation: float, hue: int, within: int
) -> None:
    """With both, mmseg rounds colours between saturation and hue."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    contrast = [1, 0.7]
    drawn = iter(
        [1, 20.0, int(contrast_first)]
        + contrast * contrast_first
        + ([1, saturation] if saturation != 1 else [0])
        + ([1, hue] if hue else [0])
        + contrast * (not contrast_first)
    )
    following = SimpleNamespace(randint=lambda *_: next(drawn), uniform=lambda *_: next(drawn))
    monkeypatch.setattr(transforms, "random", following)
    theirs = transforms.PhotoMetricDistortion().transform({"img": image[..., ::-1]})["img"][..., ::-1]
    ours = PhotometricDistortion().apply(
        image, brightness=20.0, contrast=0.7, contrast_first=contrast_first, saturation=saturation, hue=hue
    )
    assert np.abs(ours.astype(int) - theirs).max() <= within and np.abs(ours.astype(int) - image).mean() > 5


@pytest.mark.parametrize("truth", ["mask", "boxes"])
def test_pictures_are_stretched_in_training_as_in_evaluation(truth: Truth) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    sample = Sample("a", image, np.zeros((60, 90), np.uint8), boxes=np.zeros((0, 4)), box_classes=np.zeros(0, int))
    config = AugmentConfig(stretch=64, flip=0)
    stretched = Augment(config, truth)(sample, 0).image
    one = SimpleNamespace(
        recipe=SimpleNamespace(
            augment=config, evaluation=EvaluationConfig(interval=1), model=SimpleNamespace(pixel_normalization="half")
        ),
        task=SimpleNamespace(truth=truth),
        evaluated_size=lambda *_: (64, 64),
    )
    assert torch.equal(TrainSetup.evaluated(one, image, 0, 1.0), to_tensor(stretched))


def test_pascal_shifts_hue_saturation_and_value_a_little() -> None:
    """Whole numbers from -10 to 9, each time, on OpenCV's scales (published VOCDataset)."""
    config = AugmentConfig(colour="hsv", flip=0)
    values = np.array(
        [view.image[0, 0].max() for view in views(config, np.full((4, 4, 3), (100, 60, 40), np.uint8))], int
    )
    assert set(values) <= set(range(88, 112)) and len(set(values)) > 15
