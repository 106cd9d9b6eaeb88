"""The data sets of a reproduction, loaded once and cut to the requested number of images."""

from __future__ import annotations

import os
from pathlib import Path

from minifbi.datasets import (
    Dataset,
    Split,
    cache_folder,
    load_dataset,
    load_fashion_mnist,
    load_idx_folder,
)
from minifbi.errors import DataError
from minifbi.files.source import is_own
from minifbi.reproduce.experiments import NOTHING
from minifbi.reproduce.settings import Settings
from minifbi.training import TrainConfig
from minifbi.training.parts import Parts


class Data:
    """Data sets by the name in a configuration.

    Parameters
    ----------
    settings : Settings
        How many images, and where Fashion-MNIST is.
    parts : Parts
        With the data set of the user's own, if there is one.
    """

    def __init__(self, settings: Settings, parts: Parts = NOTHING) -> None:
        self.settings, self.parts = settings, parts
        self.loaded: dict[str, Dataset] = {}

    def __call__(self, config: TrainConfig) -> Dataset:
        """The data set of a configuration.

        Raises
        ------
        DataError
            If its files are not on this machine.
        """
        name = config.dataset
        if name not in self.loaded:
            if name == "fashion-mnist":
                data, why = self.fashion()
                if data is None:
                    raise DataError(why)
            elif is_own(name):
                data = self.parts.make_data(config)
            else:
                data = load_dataset(name)
            s = self.settings
            self.loaded[name] = Dataset(
                name=data.name,
                train=first(data.train, s.train),
                validation=first(data.validation, s.validation),
                test=first(data.test, s.test),
                num_classes=data.num_classes,
                class_names=data.class_names,
            )
        return self.loaded[name]

    def fashion(self) -> tuple[Dataset | None, str]:
        """Fashion-MNIST if it is on this machine; nothing is downloaded.

        Returns
        -------
        dataset : Dataset or None
        why : str
            If the data set is None, the folder in which the files were expected.
        """
        if self.settings.fashion_dir is not None:
            return load_idx_folder(self.settings.fashion_dir, name="fashion-mnist"), ""
        folder = cache_folder() / "fashion-mnist"
        if len(list(folder.glob("*-ubyte.gz"))) == 4:  # all that is downloaded
            return load_fashion_mnist(progress=False), ""
        return None, (
            f"Fashion-MNIST was not on this machine (looked for in {_shown(folder)}); give its "
            "folder with --fashion-dir, or download it with `python -m minifbi.train --dataset "
            "fashion-mnist`"
        )


def _shown(folder: Path) -> str:
    """The folder's name for a report: ~ replaces the home folder, which names the user."""
    home = Path(os.path.expanduser("~"))
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)


def first(split: Split, count: int | None) -> Split:
    """The first `count` images of a split; all for None."""
    if count is None or count >= len(split):
        return split
    masks = None if split.masks is None else split.masks[:count]
    return Split(split.images[:count], split.labels[:count], masks)
