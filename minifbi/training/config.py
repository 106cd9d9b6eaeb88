"""What a training run is asked to do: one dataclass, checked at once; and the parts it names."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minifbi.arguments import choice, number, pair, refused, whole
from minifbi.backends import BACKEND_NAMES, get_backend
from minifbi.datasets import Dataset, load_dataset
from minifbi.datasets.pictures import check_channels
from minifbi.errors import CheckpointError, ConfigError
from minifbi.exchange import LoadedWeights, checksum, load_weights
from minifbi.fbi import REDUCTIONS, STARTS
from minifbi.files.source import OWN, is_own, part_name
from minifbi.layers import Layer, Sequential
from minifbi.models import MODELS, build_model
from minifbi.optim import DEFAULT_LR, OPTIMIZERS, SGD, Adam, Optimizer, parse_schedule
from minifbi.regularizers import (
    FBI,
    Regularizer,
    get_regularizer,
    regularizer_names,
)
from minifbi.rules import RULES, Composite, get_rule

CUSTOM = "custom"
"""The `schedule` of a run whose learning rate follows a function that Python was given."""
LARGEST = 2**62
"""Of every integer option."""


@dataclass(frozen=True)
class TrainConfig:
    """All options of a run; the defaults are those of the paper or of docs/.

    `model`, `dataset`, `regularizer` and `fbi_rule` may also *name* a part of your own, as
    ``net.py:build`` or ``own:build``.  A name is a text and no file is opened for it: pass the
    part itself to :func:`train`, which then writes its name here.

    Attributes
    ----------
    model, dataset, backend, optimizer, fbi_start, fbi_reduction, dtype : str
        See ``python -m minifbi.train --help``.
    data_dir : str or None
        File or folder that stands for the data set, see :func:`minifbi.load_dataset`.
    num_classes : int or None
        None: as many as the data have.
    bias : bool
        Whether the network has biases; without them relevance is conserved.
    epochs, batch_size, seed : int
    lr : float or None
        None stands for the optimiser's own default.
    momentum, weight_decay : float
    fbi_weight : float
        lambda of Eq. (4); 0 is conventional training.
    fbi_gate : float
        The FBI loss (or the other regularizer) joins once the validation accuracy exceeds
        this; 0: from the start.
    gate_interval : int
        Iterations between two looks at the validation accuracy, before the gate opens.
    fbi_rule : str
        Rule of the relevance pass, as :func:`minifbi.rules.get_rule` reads it.
    regularizer : str
        What joins the task loss: "fbi", "none", or one of :mod:`minifbi.regularizers`.
    regularizer_weight : float or None
        Weight of a regularizer other than the FBI loss, which has `fbi_weight`; None stands
        for the regularizer's own default.
    check_numerics : bool
        Whether each layer looks for NaN and infinity in every pass, so that the first one at
        fault is named (:func:`minifbi.check_numerics`).  No number changes.
    weights : str or None
        File or run folder whose weights the network starts from, as
        :func:`minifbi.exchange.load_weights` reads it; None: random ones.
    weights_skip : str
        Layers that start with random weights all the same, separated by commas.
    weights_sha256 : str or None
        Checksum of that file; :func:`train` fills it in, so that a run says what it began with.
    image_size : int, (int, int) or None
        Rows and columns to which the images are resized; kept as a pair.
    channels : int or None
        1 makes the images grey, 3 colour.
    split_seed : int
        Of the splits that are not given and therefore drawn.
    images : int or None
        Use only this many training images.
    schedule : str
        Of the learning rate, as :func:`minifbi.optim.parse_schedule` reads it, for example
        "cosine" or "plateau:0.5,3".  "custom" stands for a function that is passed to
        :func:`train`.
    warmup : float
        Epochs in which the learning rate rises linearly, whatever the schedule; it multiplies
        that of the schedule.
    patience : int
        Epochs without a better validation accuracy after which the run stops; 0: never.  The
        count starts again when the gate opens.  See :class:`minifbi.training.EarlyStopping`.
    min_delta : float
        How much higher the validation accuracy must be to count as better.
    checksums : dict of str to str
        SHA-256 of the file of each part of your own, by "model", "regularizer", "rule" and
        "dataset"; :func:`train` fills it in.

    Raises
    ------
    ConfigError
        If a value is outside its range; the message names the option.
    """

    model: str = "alexnet"
    dataset: str = "mnist"
    data_dir: str | None = None
    num_classes: int | None = None
    bias: bool = True
    backend: str = "auto"
    epochs: int = 5
    batch_size: int = 128
    optimizer: str = "adam"
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    fbi_weight: float = 0.001
    fbi_gate: float = 0.7
    gate_interval: int = 50
    fbi_start: str = "target"
    fbi_reduction: str = "sum"
    fbi_rule: str = "zero"
    regularizer: str = "fbi"
    regularizer_weight: float | None = None
    dtype: str = "float32"
    seed: int = 0
    check_numerics: bool = False
    weights: str | None = None
    weights_skip: str = ""
    weights_sha256: str | None = None
    image_size: int | tuple[int, int] | None = None
    channels: int | None = None
    split_seed: int = 0
    images: int | None = None
    warmup: float = 0.0
    patience: int = 0
    min_delta: float = 0.0
    checksums: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        choices: dict[str, tuple[str, ...]] = {
            "model": tuple(MODELS),
            "backend": ("auto", *BACKEND_NAMES),
            "optimizer": tuple(OPTIMIZERS),
            "fbi_start": STARTS,
            "fbi_reduction": REDUCTIONS,
            "regularizer": regularizer_names(),
            "dtype": ("float32", "float64"),
        }
        for name, allowed in choices.items():
            if name not in ("model", "regularizer"):
                choice(name, getattr(self, name), allowed)
            elif not is_own(getattr(self, name)):
                choice(name, getattr(self, name), (*allowed, "FILE.py:function"))
        if self.lr is None:
            self._put("lr", DEFAULT_LR[self.optimizer])
        if self.schedule != CUSTOM:
            parse_schedule(self.schedule)
        least = {"epochs": 1, "batch_size": 1, "gate_interval": 1, "seed": 0, "split_seed": 0}
        least["patience"] = 0
        for name, smallest in least.items():
            self._put(name, whole(name, getattr(self, name), smallest, LARGEST))
        for name in ("lr", "weight_decay", "warmup", "min_delta"):
            self._put(name, number(name, getattr(self, name), 0))
        for name in ("fbi_weight", "fbi_gate"):
            self._put(name, number(name, getattr(self, name), 0, 1))
        self._put("momentum", number("momentum", self.momentum, 0, below=1))
        for name in ("bias", "check_numerics"):
            if not isinstance(getattr(self, name), bool):
                raise refused(name, getattr(self, name), "True or False")
        self._check_data()
        if not isinstance(self.fbi_rule, str):
            raise refused("fbi_rule", self.fbi_rule, "the name of a rule")
        if not is_own(self.fbi_rule):
            get_rule(self.fbi_rule)
        self._check_regularizer()
        self._check_checksums()
        self._check_weights()

    def _put(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the dataclass is frozen

    def _check_data(self) -> None:
        for name in ("data_dir", "weights"):
            if isinstance(getattr(self, name), os.PathLike):
                self._put(name, os.fspath(getattr(self, name)))
        names = {"dataset": "a name", "data_dir": "a file or folder"}
        names["weights"] = "a file or a run folder"
        for name, expected in names.items():
            value = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name == "dataset"):
                raise refused(name, value, expected)
            if "\0" in (value or ""):
                raise refused(name, value, f"{expected} without a NUL character")
        for name in ("num_classes", "images"):
            if getattr(self, name) is not None:
                self._put(name, whole(name, getattr(self, name), 1, LARGEST))
        if self.image_size is not None:
            self._put("image_size", pair("image_size", self.image_size, 1))
        check_channels(self.channels)

    def _check_regularizer(self) -> None:
        """One regularizer at a time, and no weight that nobody would look at."""
        if self.regularizer_weight is not None:
            self._put(
                "regularizer_weight", number("regularizer_weight", self.regularizer_weight, 0)
            )
            if self.regularizer in ("fbi", "none"):
                raise ConfigError(
                    f"regularizer_weight={self.regularizer_weight!r} has no meaning with "
                    f"regularizer={self.regularizer!r}: the weight of the FBI loss is fbi_weight"
                )
        if self.regularizer != "fbi" and self.fbi_weight not in (0, TrainConfig.fbi_weight):
            raise ConfigError(
                f"fbi_weight={self.fbi_weight!r} has no meaning with "
                f"regularizer={self.regularizer!r}: one regularizer at a time; "
                f"its weight is regularizer_weight"
            )

    def _check_checksums(self) -> None:
        given = self.checksums
        if not isinstance(given, Mapping) or not all(
            name in ("model", "regularizer", "rule", "dataset")
            and isinstance(value, str)
            and re.fullmatch("[0-9a-f]{64}", value)
            for name, value in given.items()
        ):
            raise refused("checksums", given, "64 hexadecimal digits for each part of your own")
        self._put("checksums", dict(given))

    def _check_weights(self) -> None:
        if not isinstance(self.weights_skip, str):
            raise refused("weights_skip", self.weights_skip, "layers, separated by commas")
        given = self.weights_sha256
        if given is not None and not re.fullmatch("[0-9a-f]{64}", str(given)):
            raise refused("weights_sha256", given, "64 hexadecimal digits")
        for name in ("weights_skip", "weights_sha256"):
            if self.weights is None and getattr(self, name):
                raise ConfigError(f"{name}={getattr(self, name)!r} has no meaning without weights")

    @property
    def penalty_weight(self) -> float:
        """The weight with which the regularizer joins; 0 is conventional training."""
        if self.regularizer == "fbi":
            return self.fbi_weight
        if self.regularizer == "none":
            return 0.0
        if self.regularizer_weight is None:
            if is_own(self.regularizer):
                raise ConfigError(
                    f"the weight of regularizer={self.regularizer!r} is not known before it is "
                    f"made; give regularizer_weight"
                )
            return get_regularizer(self.regularizer).default_weight
        return self.regularizer_weight

    def to_dict(self) -> dict[str, Any]:
        """As a mapping that JSON can hold."""
        values = dataclasses.asdict(self)
        # as it is read again, so that the two can be compared
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """From such a mapping; an unknown option is an error.

        Parameters
        ----------
        values : mapping of str to object
            As :meth:`to_dict` gives it; what is left out has its default.

        Returns
        -------
        TrainConfig

        Raises
        ------
        ConfigError
            If an option is unknown, or a value is outside its range.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"{values!r}: expected the options of a configuration by name"[:200])
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"unknown option {', '.join(unknown)} in the configuration")
        return cls(**values)

    @classmethod
    def from_run(cls, values: Mapping[str, Any]) -> TrainConfig:
        """From the options that a run has stored.

        A name that this process does not know, of a network, a regularizer or a rule, was the
        name of one that somebody had added to those of minifbi: it becomes ``own:NAME``.

        Parameters
        ----------
        values : mapping of str to object
            As :meth:`from_dict` takes it.

        Returns
        -------
        TrainConfig

        Raises
        ------
        ConfigError
            As from :meth:`from_dict`.
        """
        if isinstance(values, Mapping):
            known = {"model": MODELS, "regularizer": regularizer_names(), "fbi_rule": RULES}
            values = dict(values)
            for option, names in known.items():
                name = values.get(option)
                if not isinstance(name, str) or is_own(name) or name.partition(":")[0] in names:
                    continue
                if re.fullmatch(r"\w[\w.-]{0,99}", name):
                    values[option] = OWN + name
        return cls.from_dict(values)


# ---- the parts of a run that it names ----------------------------------------------------
def make_model(config: TrainConfig, dataset: Dataset) -> Sequential:
    """The network, for the images and classes of a data set."""
    return build_model(
        config.model,
        input_shape=dataset.image_shape,
        num_classes=dataset.num_classes,
        bias=config.bias,
        seed=config.seed,
        backend=get_backend(config.backend),
        dtype=np.dtype(config.dtype),
    )


def start_from(config: TrainConfig, model: Layer) -> LoadedWeights | None:
    """Load the weights that the configuration names; None if it names none.

    Raises
    ------
    CheckpointError
        If they cannot be read, do not fit, or are not those that the run began with.
    """
    if config.weights is None:
        return None
    path = _native_path(config.weights)
    if config.weights_sha256 not in (None, checksum(path)):
        raise CheckpointError(f"{path} has changed since the run began; start a new run")
    skip = [name.strip() for name in config.weights_skip.split(",") if name.strip()]
    return load_weights(model, path, skip=skip)


def make_optimizer(config: TrainConfig, model: Layer) -> Optimizer:
    """The optimiser."""
    lr = float(config.lr)  # type: ignore[arg-type]  # TrainConfig has filled it in
    if config.optimizer == "sgd":
        return SGD(model.parameters(), lr, config.momentum, config.weight_decay)
    return Adam(model.parameters(), lr, weight_decay=config.weight_decay)


def make_fbi(config: TrainConfig, rule: Composite | None = None) -> FBI:
    """The FBI loss with the configuration's options, or another rule, to train or to measure."""
    return FBI(config.fbi_start, config.fbi_reduction, rule=rule or config.fbi_rule)


def make_regularizer(
    config: TrainConfig, dataset: Dataset, made: Regularizer | None = None
) -> Regularizer:
    """The regularizer; with "none" the FBI loss, which is then measured and not minimised.

    One's own is `made` already, and only looked at.

    Raises
    ------
    ConfigError
        If it needs masks and the training images have none.
    """
    if config.regularizer in ("fbi", "none"):
        return make_fbi(config)
    regularizer = made or get_regularizer(config.regularizer)
    if regularizer.needs_masks and getattr(dataset.train, "masks", None) is None:
        raise ConfigError(
            f"regularizer={config.regularizer!r} needs to know which pixels must not matter, and "
            f"{dataset.name} has no masks; use --dataset decoy-mnist"
        )
    return regularizer


def describe_regularizer(config: TrainConfig) -> str:
    """What is added to the task loss, in a few words for people."""
    if config.regularizer == "none":
        return "no regularizer"
    if config.regularizer == "fbi":
        return f"lambda {config.fbi_weight:g}"
    own = is_own(config.regularizer)
    label = part_name(config.regularizer) if own else get_regularizer(config.regularizer).label
    return f"{label} with weight {config.penalty_weight:g}"


def portable_path(path: str, option: str = "data_dir") -> str:
    """A folder or file in Unicode, as a run stores it: the same in every locale.

    Raises
    ------
    ConfigError
        If the bytes of its name are not UTF-8: no JSON file could hold it.
    """
    try:
        return os.fsencode(os.path.realpath(path)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{option}={path!r}: expected a name in UTF-8 ({error.reason}); rename it"
        ) from error


def _native_path(path: str) -> str:
    """The other way round: as the locale of this process has it."""
    return os.fsdecode(path.encode("utf-8", "surrogateescape"))


def load_data(config: TrainConfig) -> Dataset:
    """What the configuration names; a folder goes by its own name, unless it is a known set's."""
    name: str | None = config.dataset
    folder = None if config.data_dir is None else _native_path(config.data_dir)
    if folder is not None and config.dataset == TrainConfig.dataset:
        # the same letters in every locale, and none that cannot be drawn
        name = os.fsencode(Path(folder).name).decode("utf-8", "replace")
    return load_dataset(
        name or "data",
        data_dir=folder,
        num_classes=config.num_classes,
        image_size=config.image_size,
        channels=config.channels,
        split_seed=config.split_seed,
        images=config.images,
    )
