"""Photographs of every kind become RGB, or are refused with the mend."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tadp_ray.data.images import label_table, read_depth, read_image, read_mask
from tadp_ray.errors import UserError

RED = (255, 0, 0)


def test_photographs_of_every_kind_become_rgb(tmp_path: Path) -> None:
    def read(image: Image.Image, name: str = "a.png", **options: object) -> np.ndarray:
        image.save(tmp_path / name, **options)
        return read_image(tmp_path / name)

    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(read(Image.fromarray(grey)), np.repeat(grey[..., None], 3, axis=2))
    inks = read(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "a.jpg")
    assert inks.shape == (8, 8, 3) and np.abs(inks.astype(int) - RED).max() < 8
    clear = Image.new("RGBA", (8, 8), (*RED, 255))
    clear.putpixel((0, 0), (0, 0, 0, 0))
    laid = read(clear)
    assert (laid[0, 0] == 255).all() and (laid[1:] == RED).all()
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, *RED])
    assert (read(palette) == RED).all()


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_sixteen_bits_are_refused_rather_than_cut(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Pillow would keep the upper eight bits of a 16-bit colour PNG without a word."""
    cv2.imwrite(str(tmp_path / "deep.png"), np.full(shape, 300, np.uint16))
    with pytest.raises(UserError, match=r"deep\.png: a photograph with more than 8 bits a channel; save it with 8"):
        read_image(tmp_path / "deep.png")


def test_label_values_below_and_beyond_the_table_are_unknown(tmp_path: Path) -> None:
    """16-bit label maps may hold any value; one that a small table does not reach must not wrap around."""
    table = label_table({0: 255, 1: 0, 2: 1})
    file = tmp_path / "mask.png"
    Image.fromarray(np.array([[0, 1], [2, 2]], np.uint16)).save(file)
    assert read_mask(file, table, "is bad")["mask"].tolist() == [[255, 0], [1, 1]]
    for value in (3, 255, 65535):
        Image.fromarray(np.array([[0, value]], np.uint16)).save(file)
        with pytest.raises(UserError, match=f"label {value} is bad"):
            read_mask(file, table, "is bad")


def test_depth_is_millimetres(tmp_path: Path) -> None:
    file = tmp_path / "depth.png"
    Image.fromarray(np.array([[0, 1500], [9999, 20]], np.uint16)).save(file)
    depth = read_depth(file)["depth"]
    assert depth.dtype == np.float32 and depth.tolist() == [[0, 1.5], [np.float32(9.999), np.float32(0.02)]]
    for values, said in (
        (np.array([[0, 7]], np.uint16), "no reading is above 7, so these must be metres; write millimetres"),
        (np.zeros((2, 2), np.uint16), "no pixel has a reading"),
        (np.full((2, 2), 200, np.uint8), "needs one 16-bit channel of millimetres, this image is L"),
    ):
        Image.fromarray(values).save(file)
        with pytest.raises(UserError, match=said):
            read_depth(file)
