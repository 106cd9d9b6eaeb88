"""Arrays in an .npz file, as Keras ships MNIST."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from minifbi.arguments import whole
from minifbi.datasets.core import Dataset
from minifbi.datasets.idx import DEFAULT_MAX_BYTES
from minifbi.datasets.pictures import shown_path
from minifbi.datasets.sources.assemble import Arrays, assemble, names_of
from minifbi.errors import DataError
from minifbi.files.npz import read_npz

__all__ = ["load_npz"]

_SPLITS = ("train", "val", "test")


def load_npz(
    path: str | os.PathLike[str],
    *,
    num_classes: int | None = None,
    seed: int = 0,
    name: str | None = None,
) -> Dataset:
    """Load a data set from an .npz file of NumPy arrays.

    The names are those of Keras's ``mnist.npz``: ``x_train``, ``y_train``, ``x_test``, ``y_test``,
    and if there are any ``x_val`` and ``y_val``.  Other arrays in the file are not read.  The file
    may be compressed.  Objects are never unpickled.

    Images are uint8 from 0 to 255, or floats from 0 to 1, of shape (N, H, W), (N, H, W, C) or
    (N, C, H, W) with 1 or 3 channels; where both of the last two fit, it is (N, H, W, C).  Labels
    are integers of shape (N,) or (N, 1).

    Parameters
    ----------
    path : path
        The file.
    num_classes : int, optional
        How many classes there are; by default one more than the largest label, or as many as a
        data set of this `name` is known to have.
    seed : int
        Of what is not in the file: a twelfth of the training images becomes the validation set,
        a sixth the test set, drawn class by class.
    name : str, optional
        What to call the data set; by default, the name of the file.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If the file cannot be read, holds objects, would take more than 4 GiB, or its arrays are
        not as described above.
    ConfigError
        If an option is outside its range.
    """
    path = Path(path)
    if num_classes is not None:
        num_classes = whole("num_classes", num_classes, 1, 2**16)
    wanted = [f"{axis}_{split}" for split in _SPLITS for axis in "xy"]
    try:
        if not path.is_file() and path.exists():
            raise ValueError("it is no regular file")
        with path.open("rb") as file:
            arrays = read_npz(file, names=wanted, max_bytes=DEFAULT_MAX_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{shown_path(path)}: cannot be read ({reason}); expected an .npz file of numbers with "
            "x_train, y_train, x_test and y_test. Write it with np.savez or np.savez_compressed."
        ) from error
    pairs: dict[str, Arrays] = {}
    for split in _SPLITS:
        x, y = f"x_{split}", f"y_{split}"
        if (x in arrays) != (y in arrays) or (split == "train" and x not in arrays):
            absent = [key for key in (x, y) if key not in arrays]
            raise DataError(
                f"{shown_path(path)}: there is no {' and no '.join(absent)}; expected the images "
                "x_train, x_test and their labels y_train, y_test. Rename the arrays."
            )
        if x in arrays:
            pairs[split] = _channels_first(arrays.pop(x)), _flat(arrays.pop(y))
    name = path.name.removesuffix(".npz") if name is None else name
    return assemble(
        name,
        shown_path(path),
        pairs["train"],
        pairs.get("val"),
        pairs.get("test"),
        class_names=names_of(name, [labels for _, labels in pairs.values()], num_classes),
        seed=seed,
        kind="arrays of an .npz file",
    )


def _channels_first(images: NDArray[Any]) -> NDArray[Any]:
    last = images.ndim == 4 and images.shape[-1] in (1, 3)
    images = images.transpose(0, 3, 1, 2) if last else images
    images.flags.writeable = False  # no other reference, so the split need not copy
    return images


def _flat(labels: NDArray[Any]) -> NDArray[Any]:
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
