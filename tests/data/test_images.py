"""Photographs of every kind become RGB, or are refused with the mend."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from tadp_ray.data.images import (
    TURNS,
    class_table,
    is_turned,
    label_table,
    read_depth,
    read_image,
    read_mask,
    read_metres,
    read_region,
    read_rgba,
    read_values,
)
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
    assert (read(clear.convert("LA"))[0, 0] == 255).all()
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, *RED])
    assert (read(palette) == RED).all()
    assert (read(palette, transparency=1) == 255).all()


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


def test_depth_has_so_many_units_per_metre(tmp_path: Path) -> None:
    file, how = tmp_path / "depth.png", (1000, "1000 units per metre", "write millimetres")
    for values in (np.arange(2**16).reshape(256, 256), np.array([[0, 20]])):
        Image.fromarray(values.astype(np.uint16)).save(file)
        depth = read_depth(file, *how)["depth"]
        assert depth.dtype == np.float32 and np.array_equal(depth, values.astype(np.float32) / np.float32(1000))
    for values, said in (
        (
            np.array([[0, 19]], np.uint16),
            "deepest reading is 0.019 m, read as 1000 units per metre, which no camera takes; write millimetres$",
        ),
        (np.zeros((2, 2), np.uint16), "no pixel has a reading"),
        (np.full((2, 2), 200, np.uint8), "a depth map of 8 bits, which are too few"),
    ):
        Image.fromarray(values).save(file)
        with pytest.raises(UserError, match=said):
            read_depth(file, *how)


def turned(orientation: int) -> Image.Exif:
    """EXIF that says how an image is to be shown."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(1, 10))
@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_images_lie_as_viewers_show_them(tmp_path: Path, orientation: int, ending: str) -> None:
    """EXIF's table: what the first row and the first column of the file show; 9 is no orientation."""
    stored = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    shown = {
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.T,
        6: stored.T[:, ::-1],
        7: stored.T[::-1, ::-1],
        8: stored.T[::-1],
    }.get(orientation, stored)
    file = tmp_path / f"a.{ending}"
    Image.fromarray(stored).save(file, exif=turned(orientation))
    assert np.array_equal(read_mask(file, class_table(7, (), False), "is bad")["mask"], shown)
    assert np.array_equal(read_image(file)[..., 1], shown)
    assert np.array_equal(read_rgba(file)[..., 2], shown)
    assert is_turned(file) == (orientation in TURNS)


def test_a_turned_photograph_of_a_telephone(tmp_path: Path) -> None:
    """JPEG, orientation 6: the left of the file is the top of what is shown."""
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:, :16] = 255
    Image.fromarray(stored).save(tmp_path / "a.jpg", exif=turned(6), quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (32, 16, 3) and image[:14].min() > 200 and image[18:].max() < 50


def test_broken_exif_leaves_a_photograph_as_it_is(tmp_path: Path) -> None:
    Image.new("RGB", (4, 2), RED).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert read_image(tmp_path / "a.png").shape == (2, 4, 3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {}),
        ("a.png", {"format": "JPEG"}),
        ("a.webp", {}),
        ("a.jp2", {}),
        ("a.avif", {}),
        ("a.tif", {"compression": "jpeg"}),
    ],
)
def test_formats_that_change_values_hold_no_labels_and_no_depth(tmp_path: Path, name: str, options: dict) -> None:
    Image.fromarray(np.full((16, 16), 7, np.uint8)).save(tmp_path / name, **options)
    said = rf"{name}: a (label|depth) map in (JPEG|WEBP|JPEG2000|AVIF), which changes values; save it as PNG"
    with pytest.raises(UserError, match=said):
        read_mask(tmp_path / name, class_table(9, (), False), "is bad")
    with pytest.raises(UserError, match=said):
        read_metres(tmp_path / name, 1000)
    with pytest.raises(UserError, match="a map of a region in"):
        read_region(tmp_path / name)
    assert (read_image(tmp_path / name) == 7).all()


def test_label_maps_of_several_pictures_are_refused(tmp_path: Path) -> None:
    first, second = (Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (1, 2))
    for ending in ("tiff", "gif"):
        first.save(tmp_path / f"a.{ending}", save_all=True, append_images=[second])
        with pytest.raises(UserError, match="holds 2 pictures where a label map is one"):
            read_mask(tmp_path / f"a.{ending}", class_table(9, (), False), "is bad")


def chunk(name: bytes, content: bytes) -> bytes:
    """A part of a PNG file."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def test_grey_of_four_bits_is_refused_rather_than_stretched(tmp_path: Path) -> None:
    """Pillow reads 1 of 15 as 17 of 255; palette images of four bits keep their numbers."""
    pixels = zlib.compress(b"\0\x12")
    for colour, palette in ((0, b""), (3, chunk(b"PLTE", bytes(48)))):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 4, colour, 0, 0, 0))
        (tmp_path / "a.png").write_bytes(
            b"\x89PNG\r\n\x1a\n" + header + palette + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
        )
        if palette:
            assert read_mask(tmp_path / "a.png", class_table(3, (), False), "is bad")["mask"].tolist() == [[1, 2]]
        else:
            with pytest.raises(UserError, match="a label map stored as L;4, less than 8 bits of grey"):
                read_mask(tmp_path / "a.png", class_table(3, (), False), "is bad")


def test_a_pgm_whose_numbers_pillow_scales_is_refused(tmp_path: Path) -> None:
    """Of a greatest value of 5,000 it reads 500 as 6,553."""
    path, values = tmp_path / "a.pgm", np.array([[500, 5000]], ">u2")
    for greatest, read in ((65535, [[500, 5000]]), (5000, None)):
        path.write_bytes(f"P5\n2 1\n{greatest}\n".encode() + values.tobytes())
        if read:
            assert read_values(path, "a depth map").tolist() == read
            continue
        with pytest.raises(
            UserError, match="a.pgm: a depth map in PGM with a greatest value of 5000, by which its numbers"
        ):
            read_values(path, "a depth map")
    path.write_bytes(b"P2\n2 1\n150\n3 4\n")
    with pytest.raises(UserError, match="a label map in PGM with a greatest value of 150"):
        read_mask(path, class_table(9, (), False), "is bad")


def test_whatever_pillow_raises_names_the_file(tmp_path: Path) -> None:
    """Two MiB of compressed text: Pillow's ValueError says nothing of a file."""
    text = PngImagePlugin.PngInfo()
    text.add_text("notes", "x" * 2**21, zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=text)
    with pytest.raises(
        UserError, match=r"a\.png: cannot be read as an image \(ValueError: .*\); replace the file, or save it"
    ):
        read_image(tmp_path / "a.png")
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50000, 50000, 8, 0, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(UserError, match=r"bomb\.png: cannot be read as an image \(DecompressionBombError"):
        read_image(tmp_path / "bomb.png")
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0))
    (tmp_path / "lie.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(UserError, match=r"lie\.png: .*9000 x 9000 pixels are more than its bytes can hold"):
        read_image(tmp_path / "lie.png")


def test_a_large_image_of_one_colour_is_no_lie(tmp_path: Path) -> None:
    """As dense as files get: a byte of PNG stands for a thousand pixels, one of a palette of four colours for four thousand."""
    Image.new("P", (3000, 3000)).save(tmp_path / "a.png", bits=2, optimize=True)
    assert (read_mask(tmp_path / "a.png", class_table(2, (), False), "is bad")["mask"] == 0).all()
    for ending in ("jpg", "gif", "bmp", "tiff"):
        Image.new("L", (3000, 3000), 7).save(tmp_path / f"a.{ending}")
        assert read_image(tmp_path / f"a.{ending}").shape == (3000, 3000, 3)


def test_labels_never_wrap_round(tmp_path: Path) -> None:
    """300 is not 44, and 255 classes are the most that a mask can hold beside 255 for ignored."""
    file = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 300, 254, 65535]], np.uint16)).save(file)
    table = class_table(255, (300, 65535, 10**12, -1), False)
    assert read_mask(file, table, "is bad")["mask"].tolist() == [[0, 255, 254, 255]]
    with pytest.raises(UserError, match="label 300 is bad"):
        read_mask(file, class_table(255, (65535,), False), "is bad")
    with pytest.raises(UserError, match="256 classes: at most 255"):
        class_table(256, (), False)
    with pytest.raises(UserError, match="255 classes with reduce_zero_label: the last one has the value 255, which is"):
        class_table(255, (255,), True)
    assert class_table(255, (), True)[255] == 254 and class_table(254, (255,), True)[254] == 253
    with pytest.raises(ValueError, match="above 255"):
        label_table({0: 300})
    for value in (70000, -1):
        Image.fromarray(np.array([[0, value]], np.int32)).save(tmp_path / "a.tif")
        with pytest.raises(UserError, match=f"label {value}: the values of a label map go from 0 to 65535"):
            read_mask(tmp_path / "a.tif", table, "is bad")
