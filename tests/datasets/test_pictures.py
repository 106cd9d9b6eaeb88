"""One picture: every kind of file, what is wrong with it, and a drawn digit."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import COLOUR, COLOUR_CHW, GREY, content
from PIL import Image, ImageOps

from minifbi.datasets import Split, as_digit, load_mnist, read_picture
from minifbi.datasets.pictures import MAX_PIXELS
from minifbi.errors import ConfigError, DataError


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "PPM", "TIFF"])
def test_grey_files_are_read_exactly(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a name says nothing"
    path.write_bytes(content(GREY, kind))
    picture = read_picture(path)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, GREY[None])
    np.testing.assert_array_equal(read_picture(path, channels=3), np.repeat(GREY[None], 3, 0))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "WEBP"])
def test_colour_files_are_read_exactly(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "picture"
    path.write_bytes(content(COLOUR, kind, **({"lossless": True} if kind == "WEBP" else {})))
    np.testing.assert_array_equal(read_picture(path), COLOUR_CHW)
    weighted = np.tensordot([0.299, 0.587, 0.114], COLOUR_CHW.astype(float), 1)
    assert np.abs(read_picture(path, channels=1)[0] - weighted).max() <= 1


def test_a_jpeg_is_nearly_what_was_saved(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(64) * 2, np.arange(48)).astype(np.uint8)
    path = tmp_path / "smooth.jpg"
    path.write_bytes(content(smooth, "JPEG", quality=95))
    assert np.abs(read_picture(path)[0].astype(int) - smooth).max() <= 4
    cmyk = tmp_path / "cmyk.jpg"
    Image.fromarray(np.dstack([smooth] * 3)).convert("CMYK").save(cmyk, quality=95)
    assert np.abs(read_picture(cmyk).astype(int) - smooth).max() <= 8


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (9, 7)).astype(np.uint16)
    values[0, :3] = 0, 65535, 128
    expected = np.round(values / 257)
    for kind in ("PNG", "TIFF"):
        (tmp_path / kind).write_bytes(content(values, kind))
        np.testing.assert_array_equal(read_picture(tmp_path / kind)[0], expected)
    (tmp_path / "pgm").write_bytes(b"P5 7 9 65535\n" + values.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_picture(tmp_path / "pgm")[0], expected)


def test_palettes_and_two_levels(tmp_path: Path) -> None:
    colours = Image.fromarray(COLOUR).quantize(16)
    colours.save(tmp_path / "palette.png")
    expected = np.asarray(colours.convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_picture(tmp_path / "palette.png"), expected)
    greys = Image.fromarray(GREY % 4, mode=None).convert("P")
    greys.putpalette([n for v in (0, 50, 100, 250) for n in (v, v, v)])
    greys.save(tmp_path / "greys.png")
    np.testing.assert_array_equal(
        read_picture(tmp_path / "greys.png"), np.array([0, 50, 100, 250])[GREY % 4][None]
    )
    (tmp_path / "bits.png").write_bytes(content(GREY > 127))
    np.testing.assert_array_equal(read_picture(tmp_path / "bits.png")[0], 255 * (GREY > 127))


def test_transparency_shows_white_paper(tmp_path: Path) -> None:
    ink = np.zeros((4, 5, 4), np.uint8)
    ink[1, 2] = 200, 10, 0, 255
    ink[2, 2] = 200, 10, 0, 51  # a fifth of it
    (tmp_path / "rgba.png").write_bytes(content(ink))
    seen = read_picture(tmp_path / "rgba.png")
    assert seen[:, 1, 2].tolist() == [200, 10, 0]
    assert seen[:, 0, 0].tolist() == [255, 255, 255]
    assert seen[:, 2, 2].tolist() == [244, 206, 204]
    # the same with grey and alpha, a transparent grey, and a transparent entry of a palette
    Image.fromarray(ink[..., [0, 3]]).save(tmp_path / "la.png")
    assert read_picture(tmp_path / "la.png")[0, :3, 2].tolist() == [255, 200, 244]
    Image.fromarray(GREY).save(tmp_path / "key.png", transparency=int(GREY[0, 0]))
    expected = np.where(GREY[0, 0] == GREY, 255, GREY)
    np.testing.assert_array_equal(read_picture(tmp_path / "key.png"), expected[None])
    deep = GREY.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png", transparency=int(deep[0, 0]))
    np.testing.assert_array_equal(read_picture(tmp_path / "deep.png"), expected[None])
    palette = Image.fromarray(COLOUR).quantize(8)
    palette.save(tmp_path / "gap.gif", transparency=palette.getpixel((0, 0)))
    assert read_picture(tmp_path / "gap.gif")[:, 0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_orientation(tmp_path: Path, kind: str) -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / str(orientation)
        path.write_bytes(content(COLOUR, kind, exif=exif))
        with Image.open(path) as image:
            expected = np.asarray(ImageOps.exif_transpose(image)).transpose(2, 0, 1)
        np.testing.assert_array_equal(read_picture(path), expected)
        assert read_picture(path).shape[1:] == ((9, 7) if orientation < 5 else (7, 9))


def test_size_is_torchvisions_resize(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(content(COLOUR))
    assert read_picture(tmp_path / "p.png", size=4).shape == (3, 4, 4)
    assert read_picture(tmp_path / "p.png", size=(12, 3), channels=1).shape == (1, 12, 3)
    # antialiased: the mean of a checkerboard, not one of its two colours
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    (tmp_path / "board.png").write_bytes(content(board))
    assert np.abs(read_picture(tmp_path / "board.png", size=8).astype(int) - 127.5).max() <= 2
    for wrong in (0, (3,), "28", 10**6):
        with pytest.raises(ConfigError, match="size="):
            read_picture(tmp_path / "p.png", size=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="channels=2"):
        read_picture(tmp_path / "p.png", channels=2)


def test_size_against_torchvision(tmp_path: Path) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    (tmp_path / "p.png").write_bytes(content(COLOUR))
    with Image.open(tmp_path / "p.png") as image:
        expected = np.asarray(transforms.Resize((5, 4))(image)).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_picture(tmp_path / "p.png", size=(5, 4)), expected)


def png_of(width: int, height: int) -> bytes:
    """A PNG that promises this size and holds next to nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def test_bad_files_are_named_in_one_line(tmp_path: Path) -> None:
    jpeg = content(COLOUR, "JPEG")
    cases = {
        "empty.png": b"",
        "text.png": b"no picture at all",
        "truncated.jpg": jpeg[: len(jpeg) - 40],
        "truncated.png": content(COLOUR)[:-60],
        "bomb.png": png_of(60_000, 60_000),
        "large.png": png_of(2**13 + 1, 2**13),
        "short.png": png_of(100, 100),
        "float.tif": content(GREY.astype(np.float32), "TIFF"),
        "vector.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }
    for name, text in cases.items():
        (tmp_path / name).write_bytes(text)
        with pytest.raises(DataError) as caught:
            read_picture(tmp_path / name)
        message = str(caught.value)
        assert name in message
        assert "cannot be read as a picture (" in message
        assert "\n" not in message
    assert f"{MAX_PIXELS:,}" in message
    for wrong, reason in ((tmp_path, "folder"), (tmp_path / "nothing", "No such file")):
        with pytest.raises(DataError, match=reason):
            read_picture(wrong)
    with pytest.raises(DataError, match="null"):
        read_picture("a\0b")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not a regular file"):
        read_picture(tmp_path / "pipe")
    (tmp_path / "two\nlines.png").write_bytes(b"no")
    with pytest.raises(DataError) as caught:
        read_picture(tmp_path / "two\nlines.png")
    assert "\n" not in str(caught.value)


def test_a_damaged_orientation_is_no_orientation(tmp_path: Path) -> None:
    (tmp_path / "p.jpg").write_bytes(content(COLOUR, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"))
    assert read_picture(tmp_path / "p.jpg").shape == (3, 9, 7)


SMALL = [
    content(GREY),
    content(COLOUR),
    content(COLOUR, "JPEG"),
    content(COLOUR, "GIF"),
    content(COLOUR, "TIFF", compression="tiff_lzw"),
    content(COLOUR, "WEBP"),
    content(COLOUR, "BMP"),
    content(GREY, "PPM"),
]


@settings(deadline=None, max_examples=400)
@given(
    source=st.sampled_from(SMALL),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 2000),
)
def test_mutated_files_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    source: bytes,
    changes: list[tuple[int, int]],
    cut: int,
) -> None:
    mutated = bytearray(source)
    for place, value in changes:
        mutated[place % len(mutated)] = value
    path = tmp_path_factory.getbasetemp() / "mutated"
    path.write_bytes(mutated[: len(mutated) - cut] if cut < len(mutated) // 2 else mutated)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none may reach the terminal
        try:
            picture = read_picture(path)
        except DataError as error:
            message = str(error)
        else:
            message = "mutated"
            assert picture.dtype == np.uint8
            assert picture.ndim == 3
    assert "mutated" in message
    assert "\n" not in message


# ----------------------------------------------------------------- one digit


@pytest.fixture(scope="module")
def digits() -> Split:
    test = load_mnist().test
    return Split(test.images[:60], test.labels[:60])


def photograph(digit: np.ndarray, rng: np.random.Generator, dark: bool = True) -> np.ndarray:
    """A digit drawn large on unevenly lit, noisy paper."""
    ink = np.zeros((400, 300))
    top, left = rng.integers(0, 160), rng.integers(0, 60)
    large = Image.fromarray(digit).resize((240, 240), Image.Resampling.BICUBIC)
    ink[top : top + 240, left : left + 240] = np.asarray(large) / 255
    y, x = np.mgrid[0:1:400j, 0:1:300j]
    paper = 120 + 90 * x + 30 * y - 40 * (x - 0.5) ** 2
    grey = paper * (1 - 0.75 * ink) + rng.normal(0, 4, ink.shape)
    return np.clip(grey if dark else 255 - grey, 0, 255).astype(np.uint8)


def test_an_mnist_image_stays_what_it_is(digits: Split) -> None:
    errors = []
    for image in digits.images[:30]:
        same = as_digit(image)
        assert same.shape == (1, 28, 28)
        assert same.dtype == np.uint8
        for other in (image[0], 255 - image, np.repeat(image, 3, 0)):
            assert np.abs(as_digit(other).astype(int) - same).max() <= 1
        errors.append(np.abs(same.astype(int) - image).mean())
    assert np.median(errors) < 1.5
    assert max(errors) < 20  # a shift by one pixel, where rounding is a close thing, makes 16


@pytest.mark.parametrize("dark", [True, False])
def test_a_photograph_becomes_the_mnist_image(digits: Split, dark: bool) -> None:
    rng = np.random.default_rng(0)
    errors = []
    for image, label in zip(digits.images[:30], digits.labels, strict=False):
        found = as_digit(photograph(image[0], rng, dark)).astype(float)
        distances = np.abs(digits.images - found).mean(axis=(1, 2, 3))
        assert digits.labels[distances.argmin()] == label  # the nearest image is the same digit
        errors.append(np.abs(found - image).mean())
    assert np.mean(errors) < 12


def test_the_ink_has_mnists_size_and_place() -> None:
    stroke = np.full((500, 300), 255, np.uint8)
    stroke[40:440, 200:240] = 0  # a tall 1 at the right
    digit = as_digit(stroke)[0]
    rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
    assert len(rows) == 20
    assert len(columns) in (2, 3)  # 40 / 400 of 20, and a rim
    assert abs(rows @ digit[rows].sum(1) / digit.sum() - 14) <= 0.5
    assert abs(columns @ digit[:, columns].sum(0) / digit.sum() - 14) <= 0.5
    assert digit.max() == 255


def test_dust_does_not_move_the_digit() -> None:
    clean = np.full((280, 280), 250, np.uint8)
    clean[100:200, 120:140] = 20
    dusty = clean.copy()
    dusty[5:7, 5:7] = 20
    dusty[270, 260] = 0
    assert np.abs(as_digit(dusty).astype(int) - as_digit(clean)).max() <= 3


def test_a_blank_picture_has_no_digit() -> None:
    rng = np.random.default_rng(0)
    blank = {
        "white": np.full((90, 60), 255),
        "one pixel": np.zeros((1, 1)),
        "noise": rng.normal(128, 20, (200, 100)),
        "a lamp": np.tile(np.linspace(60, 220, 100), (80, 1)) + rng.normal(0, 3, (80, 100)),
    }
    for name, grey in blank.items():
        with pytest.raises(DataError, match="shows no digit"):
            print(name, as_digit(np.clip(grey, 0, 255).astype(np.uint8)))
    for wrong in (np.zeros((28, 28)), np.zeros((2, 9, 9), np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(DataError, match="expected uint8 of shape"):
            as_digit(wrong)


@settings(deadline=None, max_examples=100)
@given(data=st.data(), height=st.integers(1, 12), width=st.integers(1, 12))
def test_any_pixels_are_a_digit_or_refused(data: st.DataObject, height: int, width: int) -> None:
    values = st.lists(
        st.sampled_from([0, 1, 128, 254, 255]), min_size=height * width, max_size=height * width
    )
    grey = np.array(data.draw(values), np.uint8).reshape(height, width)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            digit = as_digit(grey)
        except DataError:
            return
    assert digit.shape == (1, 28, 28)
    assert digit.max() == 255
