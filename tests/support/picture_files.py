"""Pictures and folders of pictures for tests."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (9, 7), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)
COLOUR_CHW = COLOUR.transpose(2, 0, 1)


def content(array: NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def fill_folder(
    folder: Path,
    counts: dict[str, int],
    shape: tuple[int, ...] = (6, 5),
    ending: str = ".png",
    start: int = 0,
) -> Path:
    """Folders of random pictures: `counts` says how many each class has."""
    rng = np.random.default_rng(start)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{start + i}{ending}")
    return folder
