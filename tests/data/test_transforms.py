"""Training views keep image and label map together, and stay in range."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tadp_ray.config.data import AugmentConfig
from tadp_ray.data.pixels import Pixels, to_tensor
from tadp_ray.data.sample import Sample, Truth
from tadp_ray.data.transforms import Augment, cut_depth


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
    view = Augment(AugmentConfig(crop=32))(sample, seed)
    assert view.image.shape == (32, 32, 3)
    assert (view.image[..., 0] == 2 * view.mask).all()


def test_a_view_is_a_function_of_its_seed(sample: Sample) -> None:
    augment = Augment(AugmentConfig(scale=(0.7, 1.4), crop=32, colour="mmseg"))
    first = augment(sample, 5)
    augment(sample, 6)
    again = augment(sample, 5)
    assert (first.image == again.image).all() and (first.mask == again.mask).all()
    assert (first.image != augment(sample, 6).image).any()


@pytest.mark.parametrize(("pixels", "colour"), [("half", (128, 128, 128)), ("imagenet", (124, 116, 104))])
@pytest.mark.parametrize("padded", [{"crop": 96, "pad": True}, {"pad_to": 96}])
def test_padding_has_the_mean_colour_and_is_ignored(
    sample: Sample, padded: dict[str, int], pixels: Pixels, colour: tuple[int, int, int]
) -> None:
    view = Augment(AugmentConfig(flip=0.0, **padded), pixels=pixels)(sample, 0)
    assert (view.mask[48:] == 255).all() and (view.mask[:48, :72] != 255).all()
    assert (view.image[48:] == colour).all() and (view.image[:, 72:] == colour).all()
    assert to_tensor(view.image, pixels)[:, 48:].abs().max() < 0.01


def test_padding_has_no_depth() -> None:
    sample = Sample("a", np.zeros((40, 60, 3), np.uint8), depth=np.full((40, 60), 3.5, np.float32))
    view = Augment(AugmentConfig(pad_to=64, flip=0), "depth")(sample, 0)
    assert (view.depth[:40, :60] == 3.5).all() and not view.depth[40:].any() and not view.depth[:, 60:].any()


def test_padding_is_neither_mirrored_nor_recoloured(sample: Sample) -> None:
    """As in the published pipeline, which pads last."""
    augment = Augment(AugmentConfig(scale=(0.5, 0.9), crop=96, crop_max_share=0.75, pad=True, flip=1, colour="mmseg"))
    for seed in range(8):
        view = augment(sample, seed)
        height, width = ((view.mask != 255).any(axis).sum() for axis in (1, 0))
        assert view.image.shape == (96, 96, 3) and height <= 44 and width <= 65
        assert (view.mask[:height, :width] != 255).all()
        assert (view.image[height:] == 128).all() and (view.image[:, width:] == 128).all()


def test_depth_and_boxes_go_along_with_the_image() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:20, 30:50] = 200
    depth = np.where(image[..., 0] > 0, 3.5, 7.25).astype(np.float32)
    boxes = np.array([[30, 10, 50, 20]], np.float32)
    sample = Sample("a", image, depth=depth, boxes=boxes, box_classes=np.array([4]), difficult=np.array([True]))
    seen = set()
    for seed in range(12):
        config = AugmentConfig(flip=0.5)
        view = Augment(config, "depth")(sample, seed)
        assert ((view.depth == 3.5) == (view.image[..., 0] > 0)).all() and view.mask is None
        view = Augment(config, "boxes")(sample, seed)
        left, top, right, bottom = view.boxes[0].astype(int)
        assert (view.image[top:bottom, left:right] == 200).all() and view.image.sum() == image.sum()
        assert view.box_classes.tolist() == [4] and view.difficult.tolist() == [True]
        seen.add(left)
    assert seen == {30, 10}
    stretched = Augment(AugmentConfig(flip=0, stretch=64), "boxes")(sample, 0)
    assert stretched.image.shape == (64, 64, 3)
    assert stretched.boxes[0].tolist() == pytest.approx([32, 16, 53.33, 32], abs=0.01)


@pytest.mark.parametrize("sized", [{"resize": 64}, {"scale": (1.6, 1.6)}, {"stretch": 64}])
@pytest.mark.parametrize(("truth", "values"), [("mask", (0, 100)), ("depth", (0.0, 3.5))])
def test_a_view_of_another_size_has_no_values_between_those_of_the_ground_truth(
    truth: Truth, values: tuple[float, float], sized: dict[str, Any]
) -> None:
    given = np.full((40, 60), values[1], np.uint8 if truth == "mask" else np.float32)
    given[:, :20] = values[0]
    sample = Sample("a", np.zeros((40, 60, 3), np.uint8), **{truth: given})
    view = Augment(AugmentConfig(flip=0, **sized), truth)(sample, 0)
    assert view.truth(truth).shape == view.image.shape[:2] and min(view.image.shape[:2]) == 64
    assert {*np.unique(view.truth(truth))} == {*values}


def test_boxes_end_where_a_crop_ends_and_those_of_less_than_a_pixel_are_gone() -> None:
    """The box reaches a twentieth of a row beyond the thing, so that a crop may hold 0.6 pixels of it."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[1:4, 2:14] = 200
    objects = {
        "boxes": np.array([[2, 1, 14, 4.05]], np.float32),
        "box_classes": np.array([4]),
        "difficult": np.array([False]),
    }
    counts = set()
    for seed in range(40):
        view = Augment(AugmentConfig(crop=32, flip=0), "boxes")(Sample("a", image, **objects), seed)
        rows, columns = np.nonzero(view.image[..., 0])
        seen = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1.05]] if len(rows) else []
        np.testing.assert_allclose(view.boxes, np.reshape(seen, (-1, 4)), atol=1e-3)
        assert len(view.box_classes) == len(view.difficult) == len(seen)
        counts.add(len(seen))
    assert counts == {0, 1}


def test_a_view_that_is_stretched_may_be_smaller_than_the_crop(sample: Sample) -> None:
    """Pascal's code crops up to 512 pixels and stretches whatever is left."""
    view = Augment(AugmentConfig(crop=64, stretch=32, flip=0))(sample, 0)
    assert view.image.shape == (32, 32, 3) and view.mask.shape == (32, 32)


def test_cut_depth_shows_millimetres_modulo_256_in_one_band() -> None:
    image, depth = np.full((8, 64, 3), 9, np.uint8), np.full((8, 64), 1.3, np.float32)
    widths = []
    for seed in range(200):
        cut = cut_depth(image, depth, 0.25, np.random.default_rng(seed))
        columns = np.flatnonzero((cut != 9).any(axis=(0, 2)))
        if len(columns):
            assert (cut[:, columns] == 1300 % 256).all() and (np.diff(columns) == 1).all()
            widths.append(len(columns))
    assert 30 < len(widths) < 70 and 1 <= min(widths) and max(widths) <= 48
    drawn = SimpleNamespace(uniform=lambda size=None: np.array([0.5, 0]) if size else 0.0)
    assert np.flatnonzero((cut_depth(image, depth, 0.25, drawn) != 9).any(axis=(0, 2))).tolist() == [32]


def test_imagenet_pixels() -> None:
    pixels = to_tensor(np.array([[[255, 0, 10]]], np.uint8), "imagenet")[:, 0, 0]
    means, deviations = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    expected = [(value - mean) / spread for value, mean, spread in zip((255, 0, 10), means, deviations, strict=True)]
    assert pixels.tolist() == pytest.approx(expected, abs=1e-5)


def test_a_crop_is_drawn_again_until_no_class_covers_too_much_of_it() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 1
    sample = Sample("halves", np.zeros((64, 64, 3), np.uint8), mask=mask)
    largest = {}
    for share in (0.75, 1.0):
        augment = Augment(AugmentConfig(crop=32, crop_max_share=share, flip=0))
        views = [augment(sample, seed).mask for seed in range(40)]
        largest[share] = max(np.bincount(view.ravel()).max() / view.size for view in views)
    assert largest[0.75] < 0.75 and largest[1.0] == 1


def test_what_is_ignored_covers_nothing_of_a_crop() -> None:
    """Both classes lie in the first of 64 columns; behind them, one class and ignored pixels take turns."""
    mask = np.full((32, 64), 255, np.uint8)
    mask[:, :12] = np.arange(12) % 2
    mask[:, 32::2] = 0
    augment = Augment(AugmentConfig(crop=32, crop_max_share=0.75, flip=0))
    views = [augment(Sample("a", np.zeros((32, 64, 3), np.uint8), mask=mask), seed).mask for seed in range(20)]
    assert sum((view == 1).any() for view in views) >= 18
    ignored = Sample("a", np.zeros((32, 64, 3), np.uint8), mask=np.full((32, 64), 255, np.uint8))
    assert (augment(ignored, 0).mask == 255).all()


def test_smallest_view() -> None:
    assert AugmentConfig(resize=192, scale=(0.5, 2.0)).smallest_view((360, 480)) == 96
    assert AugmentConfig().smallest_view((360, 480)) == 360
