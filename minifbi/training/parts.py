"""Networks, regularizers, rules and data sets of one's own.

A configuration only *names* such a part: ``net.py:build`` for a function in a file, ``own:build``
for one that Python was given.  What is run is what the caller passes, or what stands in the
command; a file that a configuration or a run names is never opened.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minifbi.arguments import refused
from minifbi.autograd import no_grad
from minifbi.backends import get_backend
from minifbi.datasets import Dataset
from minifbi.errors import ConfigError, ShapeError
from minifbi.fbi import forward_pass
from minifbi.files.source import is_own
from minifbi.layers import Layer
from minifbi.regularizers import FBI, Batch, Regularizer
from minifbi.rules import get_rule
from minifbi.switch import evaluating
from minifbi.training.config import (
    TrainConfig,
    load_data,
    make_fbi,
    make_model,
    make_regularizer,
)
from minifbi.training.part import KINDS, Part, as_part, need


@dataclass(frozen=True)
class Parts:
    """The parts of a run that are the user's own; None where they are not.

    Attributes
    ----------
    model, regularizer, rule, dataset : Part or None
    """

    model: Part | None = None
    regularizer: Part | None = None
    rule: Part | None = None
    dataset: Part | None = None

    @classmethod
    def of(cls, **given: Any) -> Parts:
        """From what the caller passed; see :func:`as_part`.

        Parameters
        ----------
        **given
            By the names of the attributes.

        Returns
        -------
        Parts
        """
        return cls(**{kind: as_part(kind, value) for kind, value in given.items()})

    def given(self) -> dict[str, Any]:
        """As keyword arguments of :func:`train`."""
        return {name: getattr(self, name) for name in KINDS}

    def named_in(self, config: TrainConfig) -> TrainConfig:
        """The configuration with the names and checksums of these parts.

        Parameters
        ----------
        config : TrainConfig
            Where it names a part of one's own already, it must be given here.

        Returns
        -------
        TrainConfig
            With the weight of a regularizer of one's own filled in.

        Raises
        ------
        ConfigError
            If a part is missing, or it cannot be made.
        """
        need({name: text for name, text in self.missing(config).items() if name != "dataset"})
        changes: dict[str, Any] = {}
        checksums: dict[str, str] = {}
        for name, kind in KINDS.items():
            part: Part | None = getattr(self, name)
            if name == "dataset" and (part is None or _is_as_named(part, config)):
                if name in config.checksums:
                    checksums[name] = config.checksums[name]
                continue
            if part is None:
                continue
            changes[kind.option] = part.text
            if part.checksum:
                checksums[name] = part.checksum
        if self.dataset is not None and "dataset" in changes and config.data_dir is not None:
            raise refused("data_dir", config.data_dir, f"none beside dataset={self.dataset.text!r}")
        if self.regularizer is not None and config.regularizer_weight is None:
            changes["regularizer_weight"] = self.regularizer.make().default_weight
        return dataclasses.replace(config, checksums=checksums, **changes)

    def missing(self, config: TrainConfig) -> dict[str, str]:
        """The values of the options for which no part was given, by the names of the parts."""
        return {
            name: getattr(config, kind.option)
            for name, kind in KINDS.items()
            if getattr(self, name) is None
        }

    # ---- made ----------------------------------------------------------------------------
    def make_data(self, config: TrainConfig) -> Dataset:
        """The data set."""
        if self.dataset is not None:
            made: Dataset = self.dataset.make()
            return made
        need({"dataset": config.dataset})
        return load_data(config)

    def make_model(self, config: TrainConfig, dataset: Dataset) -> Layer:
        """The network, on the backend and in the dtype of the configuration."""
        if self.model is None:
            return make_model(config, dataset)
        return build(self.model, config, dataset.image_shape, dataset.num_classes)

    def make_regularizer(self, config: TrainConfig, dataset: Dataset) -> Regularizer:
        """The regularizer; the FBI loss where none is minimised."""
        if config.regularizer in ("fbi", "none"):
            return self.make_fbi(config)
        made = None if self.regularizer is None else self.regularizer.make()
        return make_regularizer(config, dataset, made)

    def make_fbi(self, config: TrainConfig) -> FBI:
        """The FBI loss, with the rule."""
        return make_fbi(config, None if self.rule is None else get_rule(self.rule.make()))

    def try_out(self, model: Layer, regularizer: Regularizer, dataset: Dataset) -> None:
        """Look at two images before a training begins, so that what does not fit is said then.

        Nothing is changed, no random number of the network is drawn.

        Parameters
        ----------
        model : Layer
            The network.
        regularizer : Regularizer
            What is added to the task loss.
        dataset : Dataset
            Whose images are taken.

        Raises
        ------
        ShapeError
            If the logits have another shape than (images, classes).
        ConfigError
            If code in a file fails.
        """
        part = slice(0, min(2, len(dataset.train)))
        x, labels = dataset.train.batch(part, model.dtype)
        masks = None if dataset.train.masks is None else dataset.train.masks[part]
        with evaluating(model), no_grad():
            with _maybe(self.model, f"it looks at images {x.shape}"):
                steps = forward_pass(model, x)
            expected = (len(x), dataset.num_classes)
            if not steps or steps[-1].z.shape != expected:
                shape = steps[-1].z.shape if steps else x.shape
                raise ShapeError(
                    f"the network makes {shape} of {len(x)} images of {x.shape[1:]}; expected "
                    f"{expected}: one logit for each of the {dataset.num_classes} classes of "
                    f"{dataset.name}"
                )
            with _maybe(self.regularizer or self.rule, f"it looks at a batch of {len(x)} images"):
                regularizer.penalty(regularizer.terms(Batch(model, steps, labels, masks)))


def _is_as_named(part: Part, config: TrainConfig) -> bool:
    """Whether it is, or is taken from, the data set that the configuration names anyway."""
    data = part.given
    return isinstance(data, Dataset) and (
        data.name == config.dataset or config.data_dir is not None or is_own(config.dataset)
    )


def _maybe(part: Part | None, what: str) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if part is None else part.running(what)


def build(part: Part, config: TrainConfig, input_shape: tuple[int, ...], num_classes: int) -> Layer:
    """A network of one's own, on the backend and in the dtype of the configuration.

    Parameters
    ----------
    part : Part
        Of kind "model".
    config : TrainConfig
        Its `seed`, `backend`, `dtype` and `bias` are offered to the function.
    input_shape : tuple of int
        (channels, height, width) of an image.
    num_classes : int
        How many logits there must be.

    Returns
    -------
    Layer

    Raises
    ------
    ConfigError
        If it cannot be built, or has nothing to train.
    """
    model: Layer = part.make(
        input_shape=tuple(input_shape),
        num_classes=num_classes,
        seed=config.seed,
        backend=get_backend(config.backend).name,
        dtype=np.dtype(config.dtype),
        bias=config.bias,
    )
    if not model.parameters():
        raise refused("model", part.text, "a network with parameters to train, it has none")
    if getattr(model, "input_shape", ()) is None:
        model.input_shape = tuple(input_shape)  # type: ignore[attr-defined]  # for its summary
    if model is part.given and config.backend == "auto":
        return model  # it has its backend and dtype already, and nothing else was asked for
    return model.to(config.backend, config.dtype)


def changes(config: TrainConfig, parts: Parts) -> list[str]:
    """In what parts that are given again differ from those of a run.

    Parameters
    ----------
    config : TrainConfig
        Of the run.
    parts : Parts
        What was given.

    Returns
    -------
    list of str
        A sentence for each part with another checksum or, in the same file, another name.
    """
    found = []
    for name, kind in KINDS.items():
        part: Part | None = getattr(parts, name)
        before = config.checksums.get(name)
        if part is None or not part.checksum or not before:
            continue
        text = getattr(config, kind.option)
        if part.checksum != before:
            found.append(
                f"{part.path} is not the file that the run began with: for {text} it has the "
                f"SHA-256 checksum {before[:12]}..., and this file has {part.checksum[:12]}..."
            )
        elif text.partition(".py:")[2] != part.text.partition(".py:")[2]:
            found.append(f"the {kind.noun} of the run is {text}, not {part.text}")
    return found


def check_resumed(
    config: TrainConfig, parts: Parts, folder: Path, changed: bool = False
) -> list[str]:
    """Raise unless a run can go on with these parts.

    Parameters
    ----------
    config : TrainConfig
        Of the run.
    parts : Parts
        What was given.
    folder : Path
        Of the run, for messages.
    changed : bool
        Whether it may go on with files that have changed.

    Returns
    -------
    list of str
        What has changed.

    Raises
    ------
    ConfigError
        If a part is missing, or none of one's own belongs there, or it has changed.
    """
    need(parts.missing(config), f"--resume {folder}")
    for name, kind in KINDS.items():
        part, text = getattr(parts, name), getattr(config, kind.option)
        if part is None or is_own(text) or isinstance(part.given, Dataset):
            continue  # a data set is compared with the run's by what is in it
        raise ConfigError(
            f"the run in {folder} has {kind.option}={text!r}, which is not of your own; resume it "
            f"without {kind.flag} {part.text}"
        )
    found = changes(config, parts)
    if found and not changed:
        raise ConfigError(
            f"{'; '.join(found)}. The run would no longer be one experiment; to go on "
            f"nevertheless, add --changed-parts (changed_parts=True)"
        )
    return found
