"""Read one picture: any of the usual files, as the array that a network sees.

Files come from cameras, paint programs and strangers.  A header is looked at before memory is
taken, one of a few well-kept decoders reads the rest, and whatever goes wrong there is a
:class:`~minifbi.errors.DataError` with the file's name.
"""

from __future__ import annotations

import os
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from minifbi.arguments import pair, refused
from minifbi.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MAX_FILE_BYTES", "MAX_PIXELS", "PICTURE_SUFFIXES", "read_picture"]

MAX_PIXELS = 2**26
"""Width times height of the largest picture that is read, for example 8192 x 8192."""

MAX_FILE_BYTES = 2**29
"""Size of the largest picture file that is read: 512 MiB."""

PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".pbm", ".pnm"),
    *(".tif", ".tiff"),
)
"""How the names of picture files end, in lower case."""

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")  # Pillow's names
_EXPECTED = "a PNG, JPEG, BMP, GIF, WebP, PGM, PPM or TIFF file"
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_GREY = ("1", "L", "LA", "La", *_SIXTEEN_BITS, "I")
_ORIENTATION = 0x0112  # the EXIF tag that says how the camera was held


def read_picture(
    path: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
) -> NDArray[np.uint8]:
    """Read a picture file as an array of bytes.

    Of a GIF, a TIFF or a WebP with several pictures, the first one is read.

    - The picture is turned as its EXIF orientation says.
    - What is transparent shows white paper behind it.
    - Colours become RGB, from palettes and CMYK too.  They become grey as
      ``0.299 R + 0.587 G + 0.114 B`` (ITU-R BT.601).
    - 16 bits become 8: grey values are divided by 257 and rounded, and of colours the upper byte
      is taken.
    - `size` stretches the picture to these rows and columns; the ratio of its sides is not kept.
      This is torchvision's ``Resize((H, W))``: bilinear, with antialiasing.

    Parameters
    ----------
    path : path
        The file.  Its content says what it is; its name does not matter.
    size : int or (int, int), optional
        Rows and columns of the result; 28 stands for (28, 28).  By default the picture keeps
        its own size.
    channels : 1 or 3, optional
        Grey or colour.  By default as in the file: 1 if it stores grey values, or a palette of
        greys.

    Returns
    -------
    ndarray of uint8, shape (C, H, W)
        A new array.

    Raises
    ------
    DataError
        If the file is missing, damaged, truncated, none of these formats, larger than
        :data:`MAX_FILE_BYTES`, or has more than :data:`MAX_PIXELS` pixels.
    ConfigError
        If `size` or `channels` is not as described above.
    """
    shape = None if size is None else picture_size("size", size)
    check_channels(channels)
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait forever
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise _cannot_read(path, f"it is {kind}", "Give the path of the file.")
        if status.st_size > MAX_FILE_BYTES:
            raise _cannot_read(path, f"{status.st_size:,} bytes; the limit is {MAX_FILE_BYTES:,}")
        return _decode(path, shape, channels)
    except (DataError, KeyboardInterrupt):
        raise
    except OSError as error:
        if error.strerror:
            raise _cannot_read(path, error.strerror, "Check the path.") from error
        raise _cannot_read(path, _one_line(error)) from error  # "image file is truncated"
    except MemoryError as error:
        raise _cannot_read(path, "it needs more memory than there is") from error
    except Exception as error:
        # Decoders meet damaged files with nearly any exception: SyntaxError, struct.error, ...
        raise _cannot_read(path, _one_line(error)) from error


class PictureError(DataError):
    """A file that cannot be read as a picture; `reason` says why, in a few words."""

    reason = ""


def picture_size(name: str, value: Any) -> tuple[int, int]:
    """Return a size as (rows, columns), both within what :func:`read_picture` reads.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    value : int or (int, int)
        One number stands for a square.

    Raises
    ------
    ConfigError
        If it is something else.
    """
    rows, columns = pair(name, value, 1)
    if rows * columns > MAX_PIXELS:
        raise refused(name, value, f"at most {MAX_PIXELS:,} pixels")
    return rows, columns


def check_channels(channels: Any) -> None:
    """Raise ConfigError unless it is 1, 3 or None."""
    if channels is not None and (type(channels) is not int or channels not in (1, 3)):
        raise refused("channels", channels, "1 (grey) or 3 (colour)")


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path for a message of one line: quoted and escaped where it holds odd characters."""
    text = os.fsdecode(path)
    return text if text.isprintable() else repr(text)


def _cannot_read(
    path: str | os.PathLike[str],
    reason: str,
    advice: str = "Open it in an image program and save it again, or remove it.",
) -> PictureError:
    error = PictureError(
        f"{shown_path(path)}: cannot be read as a picture ({reason}); expected {_EXPECTED} of at "
        f"most {MAX_PIXELS:,} pixels. {advice}"
    )
    error.reason = reason
    return error


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else f"{text[:120]}..."


def _decode(
    path: str | os.PathLike[str], shape: tuple[int, int] | None, channels: int | None
) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata, and of sizes that are checked here
        try:
            with Image.open(path, formats=_FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise _cannot_read(path, f"it has {width:,} x {height:,} pixels")
                stored = image.format
                image.load()
                # the size may change while it is read: TIFF is turned there
                plain = _plain(_upright(image), path, stored, channels)
        except UnidentifiedImageError as error:
            raise _cannot_read(path, "its content is none of the known formats") from error
    if shape is not None and plain.size != shape[::-1]:
        plain = plain.resize(shape[::-1], Image.Resampling.BILINEAR)
    array = np.array(plain)
    return array[np.newaxis] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _upright(image: Image) -> Image:
    """The picture turned as EXIF says; an EXIF block that cannot be read says nothing."""
    from PIL.Image import Transpose

    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # as for the pixels: nearly any
        return image
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else _with_info(image.transpose(turn), image)


def _with_info(new: Image, old: Image) -> Image:
    new.info = dict(old.info)  # where a palette's or a colour's transparency is noted
    return new


def _plain(
    image: Image, path: str | os.PathLike[str], stored: str | None, channels: int | None
) -> Image:
    """The picture in mode L or RGB, on white."""
    from PIL import Image as pillow

    if image.mode == "F" or (image.mode == "I" and stored != "PNG" and stored != "PPM"):
        raise _cannot_read(path, "its pixels are 32 bits and their range is unknown")
    if image.mode in (*_SIXTEEN_BITS, "I"):
        image = _eight_bits(image)
    grey = image.mode in _GREY or (image.mode in ("P", "PA") and _grey_palette(image))
    mode = "L" if grey else "RGB"
    # "transparency" names a colour, or a palette's entry, that stands for nothing
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        seen = image.convert("RGBA")
        image = pillow.alpha_composite(pillow.new("RGBA", seen.size, "white"), seen)
        # its three channels are equal if it is grey, and the sum of the weights is 1
        image = image.convert("RGB")
        if grey:
            image = image.getchannel(0)
    wanted = {None: mode, 1: "L", 3: "RGB"}[channels]
    if image.mode == "P" and grey and wanted == "L":
        image = image.convert("RGB").getchannel(0)
    return image if image.mode == wanted else image.convert("RGB").convert(wanted)


def _eight_bits(image: Image) -> Image:
    """Grey of 16 bits as grey of 8, with its transparent value on white."""
    from PIL import Image as pillow

    values = np.asarray(image).astype(np.int64)
    grey = np.clip((values + 128) // 257, 0, 255).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return pillow.fromarray(grey)


def _grey_palette(image: Image) -> bool:
    palette = np.array(image.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())
