"""A folder of pictures, with a sub-folder for each class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minifbi.datasets.core import Dataset, Split
from minifbi.datasets.pictures import (
    PICTURE_SUFFIXES,
    check_channels,
    picture_size,
    shown_path,
)
from minifbi.datasets.sources.reader import NAMED, PictureReader
from minifbi.datasets.splits import TEST_SHARE, VALIDATION_SHARE, draw_splits
from minifbi.errors import DataError

__all__ = ["class_folders", "load_image_folder"]

TRAIN, TEST = "train", "test"
VALIDATION_NAMES = ("val", "validation", "valid")
SPLIT_NAMES = (TRAIN, *VALIDATION_NAMES, TEST)
_LITTER = ("thumbs.db", "desktop.ini", "__macosx")  # beside what begins with a dot


def load_image_folder(
    folder: str | os.PathLike[str],
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    seed: int = 0,
    validation: float = VALIDATION_SHARE,
    test: float = TEST_SHARE,
    name: str | None = None,
) -> Dataset:
    """Load a data set from a folder of pictures, with a sub-folder for each class.

    Two arrangements are understood::

        pictures/cat/1.png             pictures/train/cat/1.png
        pictures/cat/2.jpg             pictures/val/cat/2.jpg     (or validation, valid)
        pictures/dog/more/3.png        pictures/test/dog/3.png

    Without ``train``, all splits are drawn with a seed; each class has its share of each (see
    :func:`~minifbi.datasets.splits.draw_splits`).  A missing ``val`` or ``test`` is drawn from
    ``train`` in the same way.  The images of a split are in random order.

    Classes are numbered in the order of ``sorted``, as torchvision's ``ImageFolder`` numbers
    them, so "10" stands before "2".  Folders inside the folder of a class belong to it.  Links to
    folders are followed, each folder once.  Files and folders that begin with a dot,
    ``Thumbs.db``, ``desktop.ini`` and ``__MACOSX`` are passed over; beside the class folders any
    file is that is no picture.

    Parameters
    ----------
    folder : path
        The folder.
    image_size : int or (int, int), optional
        Rows and columns to which each picture is stretched, see
        :func:`~minifbi.datasets.read_picture`.  Without it, all pictures must be of one size.
    channels : 1 or 3, optional
        Grey or colour.  By default grey if all pictures are, else colour.
    seed : int
        Of the drawn splits.
    validation, test : float
        Shares of the images that are drawn for validation and for the test.
    name : str, optional
        What to call the data set; by default, the name of the folder.

    Returns
    -------
    Dataset
        Images of uint8.

    Raises
    ------
    DataError
        If there are fewer than two classes, a class is empty, a file cannot be read (all bad
        ones are named, up to five), sizes differ, or the pixels would take more than 4 GiB.
    ConfigError
        If an option is outside its range.
    """
    root = Path(folder)
    check_channels(channels)
    size = None if image_size is None else picture_size("image_size", image_size)
    given, classes = _find(root)
    files, labels = given.pop(TRAIN)
    missing = [which for which in ("validation", "test") if which not in given]
    shares = {
        "validation": validation if "validation" in missing else 0.0,
        "test": test if "test" in missing else 0.0,
    }
    drawn = draw_splits(labels, seed=seed, name=shown_path(root), **shares)
    plan = {
        which: ([files[i] for i in indices], labels[indices])
        for which, indices in zip((TRAIN, "validation", "test"), drawn, strict=True)
        if which not in given
    }
    rng = np.random.default_rng(seed)
    for which, (own, own_labels) in given.items():
        order = rng.permutation(len(own))
        plan[which] = [own[i] for i in order], own_labels[order]
    reader = PictureReader(root, size, channels, sum(len(own) for own, _ in plan.values()))
    images = {which: reader.read(own) for which, (own, _) in plan.items()}
    reader.check()
    splits = {
        which: Split.from_arrays(
            _read_only(reader.coloured(images.pop(which))),
            plan[which][1],
            num_classes=len(classes),
            name=f"{shown_path(root)} ({which})",
        )
        for which in list(images)
    }
    return Dataset(
        name=os.path.basename(os.path.realpath(root)) if name is None else name,
        **splits,
        num_classes=len(classes),
        class_names=classes,
        description=_describe(reader, classes, missing, seed),
    )


def _read_only(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    array.flags.writeable = False  # no other reference, so the split need not copy
    return array


def _describe(
    reader: PictureReader, classes: Sequence[str], missing: Sequence[str], seed: int
) -> str:
    some = ", ".join(classes[:NAMED]) + (", ..." if len(classes) > NAMED else "")
    rows, columns = reader.shape or (0, 0)
    parts = [
        f"{reader.count:,} pictures of {len(classes)} classes ({some})",
        f"{'colour' if reader.channels == 3 else 'grey'}, "
        f"{'resized to ' if reader.size else ''}{rows} x {columns}",
    ]
    if missing:
        parts.append(f"{' and '.join(missing)} set drawn with split seed {seed}")
    return "; ".join(parts)


# ---- which files there are ---------------------------------------------------------------
_Listed = tuple[list[Path], NDArray[np.int64]]


def class_folders(folder: Path) -> list[str]:
    """The names of the sub-folders that may be classes, sorted.

    Raises
    ------
    DataError
        If it cannot be read as a folder.
    """
    return sorted(entry.name for entry in _entries(folder) if os.path.isdir(entry.path))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, in a fixed order, without what computers leave there."""
    try:
        with os.scandir(folder) as found:
            entries = [
                entry
                for entry in found
                if not entry.name.startswith(".") and entry.name.lower() not in _LITTER
            ]
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{shown_path(folder)}: cannot be read as a folder ({reason}); expected a folder. "
            "Check the path (--data-dir) and its permissions."
        ) from error
    return sorted(entries, key=lambda entry: entry.name)


def _find(root: Path) -> tuple[dict[str, _Listed], tuple[str, ...]]:
    """The files and labels of each split that there is, and the names of the classes."""
    names = class_folders(root)
    if TRAIN not in names or not class_folders(root / TRAIN):
        classes = _class_names(root, names)
        return {TRAIN: _list(root, classes)}, classes
    validation = [name for name in names if name in VALIDATION_NAMES]
    others = sorted(set(names) - set(SPLIT_NAMES))
    if others or len(validation) > 1:
        surplus = others[0] if others else " and ".join(validation)
        raise DataError(
            f"{shown_path(root)}: has the folder {TRAIN} with folders in it, and {surplus!r} "
            "beside it; expected train, val and test with a folder for each class in them, or "
            "only folders of classes. Move or rename it."
        )
    classes = _class_names(root / TRAIN, class_folders(root / TRAIN))
    found = {TRAIN: _list(root / TRAIN, classes)}
    for which, name in [("validation", name) for name in validation] + [(TEST, TEST)]:
        if name in names:
            unknown = sorted(set(class_folders(root / name)) - set(classes))
            if unknown:
                raise DataError(
                    f"{shown_path(root / name / unknown[0])}: there is no class of this name in "
                    f"{TRAIN}; expected one of {', '.join(classes[:20])}. Rename or move it."
                )
            found[which] = _list(root / name, classes, empty=True)
            if not found[which][0]:
                raise DataError(
                    f"{shown_path(root / name)}: holds no pictures; expected some in a folder for "
                    "each class. Add pictures, or remove the folder to have them drawn."
                )
    return found, classes


def _class_names(folder: Path, names: list[str]) -> tuple[str, ...]:
    for name in names:
        if not name.isprintable():  # nor is one that is not UTF-8
            raise DataError(
                f"{shown_path(folder / name)}: the folder's name is the name of a class, and it "
                "cannot be printed; expected letters in UTF-8 and no line breaks. Rename it."
            )
    if len(names) < 2:
        hint = f" Perhaps you mean {shown_path(folder / names[0])}?" if names else ""
        raise DataError(
            f"{shown_path(folder)}: {len(names) or 'no'} folder; expected at least 2, one for each "
            f"class, with pictures in them.{hint}"
        )
    return tuple(names)


def _list(folder: Path, classes: Sequence[str], empty: bool = False) -> _Listed:
    """All pictures in the folders of the classes; a class may be `empty` in some splits."""
    for entry in _entries(folder):
        if not os.path.isdir(entry.path) and _is_picture(entry.name):
            raise DataError(
                f"{shown_path(entry.path)}: lies beside the folders of the classes, so its class "
                "is unknown. Move it into one of them."
            )
    files: list[Path] = []
    labels: list[int] = []
    strange: list[str] = []
    for label, name in enumerate(classes):
        before = len(files)
        for path in _walk(folder / name) if os.path.isdir(folder / name) else ():
            if _is_picture(path.name):
                files.append(path)
                labels.append(label)
            else:
                strange.append(shown_path(path.relative_to(folder)))
                if len(strange) == NAMED:
                    break
        if strange:
            continue
        if len(files) == before and not empty:
            raise DataError(
                f"{shown_path(folder / name)}: holds no pictures; expected at least 1 in the "
                "folder of a class. Add pictures or remove the folder."
            )
    if strange:
        raise DataError(
            f"{shown_path(folder)}: {', '.join(strange[:NAMED])}: not named like pictures; "
            f"expected names that end in {', '.join(PICTURE_SUFFIXES)}. Remove or rename them."
        )
    return files, np.array(labels, np.int64)


def _is_picture(name: str) -> bool:
    return name.lower().endswith(PICTURE_SUFFIXES)


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder; a folder that links lead to again is entered once."""
    waiting, seen = [folder], set()
    while waiting:
        place = waiting.pop()
        real = os.path.realpath(place)
        if real in seen:
            continue
        seen.add(real)
        below = []
        for entry in _entries(place):
            path = place / entry.name
            if os.path.isdir(entry.path):
                below.append(path)
            else:
                yield path
        waiting.extend(reversed(below))
