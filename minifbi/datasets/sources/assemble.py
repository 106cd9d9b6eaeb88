"""What the readers of arrays share: classes from labels, and splits that are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from minifbi.datasets._known import CLASS_NAMES
from minifbi.datasets.core import Dataset, Split
from minifbi.datasets.splits import TEST_SHARE, VALIDATION_SHARE, draw_splits
from minifbi.errors import DataError

__all__ = ["assemble", "names_of"]

_MOST_CLASSES = 2**16
Arrays = tuple[NDArray[Any], NDArray[Any]]


def names_of(name: str, labels: Sequence[NDArray[Any]], num_classes: int | None) -> tuple[str, ...]:
    """The names of the classes: those of a known data set, else their numbers.

    Parameters
    ----------
    name : str
        Of the data set.
    labels : sequence of arrays
        All labels that there are; they need not be right yet.
    num_classes : int or None
        How many classes there must be; None: as many as the labels need.

    Raises
    ------
    DataError
        If the labels need more than 65,536 classes.
    """
    known = CLASS_NAMES.get(name, ())
    if num_classes is None:
        largest = max((int(a.max()) for a in labels if a.size and a.dtype.kind in "iu"), default=0)
        if largest >= _MOST_CLASSES:
            raise DataError(
                f"{name}: label {largest}; expected class numbers from 0, below {_MOST_CLASSES:,}. "
                "Number the classes 0, 1, 2 and so on."
            )
        num_classes = max(largest + 1, len(known))
    if len(known) == num_classes:
        return known
    return tuple(str(label) for label in range(num_classes))


def assemble(
    name: str,
    where: str,
    train: Arrays,
    validation: Arrays | None = None,
    test: Arrays | None = None,
    *,
    class_names: tuple[str, ...],
    seed: int,
    kind: str,
) -> Dataset:
    """Check images and labels, draw the splits that are not there, and put all together.

    Parameters
    ----------
    name, where : str
        Of the data set, and of its file or folder in error messages.
    train, validation, test : pair of arrays
        Images and labels; what is missing is drawn from `train`, each class by itself.
    class_names : tuple of str
        One for each class.
    seed : int
        Of the drawn splits.
    kind : str
        What was read, for people.
    """

    def checked(which: str, arrays: Arrays) -> Split:
        return Split.from_arrays(*arrays, num_classes=len(class_names), name=f"{where} ({which})")

    given = {"validation": validation, "test": test}
    splits = {
        which: checked(which, arrays) for which, arrays in given.items() if arrays is not None
    }
    everything = checked("training", train)
    missing = [which for which in given if which not in splits]
    if missing:
        drawn = draw_splits(
            everything.labels,
            seed=seed,
            name=where,
            validation=VALIDATION_SHARE if "validation" in missing else 0.0,
            test=TEST_SHARE if "test" in missing else 0.0,
        )
        for which, indices in zip(("train", "validation", "test"), drawn, strict=True):
            if which not in splits:
                # read-only, and nobody else has them: the split need not copy
                images, labels = everything.images[indices], everything.labels[indices]
                images.flags.writeable = labels.flags.writeable = False
                splits[which] = Split(images, labels)
    else:
        splits["train"] = everything
    count = sum(len(split) for split in splits.values())
    description = f"{kind}: {count:,} images of {len(class_names)} classes"
    if missing:
        description += f"; {' and '.join(missing)} set drawn with split seed {seed}"
    return Dataset(
        name=name,
        **splits,
        num_classes=len(class_names),
        class_names=class_names,
        description=description,
    )
