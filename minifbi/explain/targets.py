"""What is explained: a class, the difference of two, a hidden unit, or a function of the logits.

A target is one number per image, computed at one place of the network.  The relevance pass starts
at this place with the target's gradient as the ratio: 1 at the logit of a class; 1 and -1 for a
difference; 1 at a hidden unit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.arguments import labels_of, pair, whole
from minifbi.autograd import Tensor, enable_grad
from minifbi.errors import ConfigError, ShapeError
from minifbi.layers import Layer, Step

Classes = int | NDArray[Any]


class Target(ABC):
    """A number per image that is explained.

    Attributes
    ----------
    layer : str or None
        The layer at whose output it is computed; None for the logits.
    """

    layer: str | None = None

    @abstractmethod
    def value(self, z: Tensor) -> Tensor:
        """The number that is explained, on the tape.

        Parameters
        ----------
        z : Tensor, shape (N, F) for the logits, else that of the layer's output
            What the network computes at the target's place.

        Returns
        -------
        Tensor, shape (N,)
        """

    def for_images(self, count: int, rows: slice = slice(None)) -> Target:
        """The target for some of the images.

        Parameters
        ----------
        count : int
            How many images there are.
        rows : slice
            Which of them.

        Returns
        -------
        Target

        Raises
        ------
        ShapeError
            If it is made for another number of images.
        """
        return self

    def describe(self, class_names: Sequence[str] | None = None) -> str:
        """What is explained, in words.

        Parameters
        ----------
        class_names : sequence of str, optional
            Shown in the place of the classes' numbers.

        Returns
        -------
        str
        """
        return str(self)

    def place(self, steps: Sequence[Step]) -> Tensor:
        """The output at which the target is computed.

        Parameters
        ----------
        steps : sequence of Step
            A forward pass, not empty.

        Returns
        -------
        Tensor, shape (N, ...)

        Raises
        ------
        ConfigError
            If there is no layer of that name.
        """
        if self.layer is None:
            return steps[-1].z
        return step_named(steps, self.layer).z

    def ratio(self, z: Tensor) -> Tensor:
        """The gradient of :meth:`value`, off the tape: where the relevance pass starts.

        Parameters
        ----------
        z : Tensor
            What the network computes at the target's place.

        Returns
        -------
        Tensor, shape of z

        Raises
        ------
        ShapeError
            If the value is not one number per image, computed from z.
        """
        with enable_grad():
            leaf = Tensor(z.data, True, z.backend)
            value = self.value(leaf)
            if value.shape != z.shape[:1] or not value.requires_grad:
                raise ShapeError(
                    f"what is explained has shape {value.shape}; expected {z.shape[:1]}, one "
                    "number per image, computed from the logits with operations on tensors"
                )
            value.sum().backward()
        return Tensor(leaf.grad, backend=z.backend)


@dataclass(frozen=True, eq=False)
class Class(Target):
    """The logit of a class.

    Parameters
    ----------
    classes : int, or array of int, shape (N,)
        One for all images, or one per image.
    """

    classes: Classes

    def value(self, z: Tensor) -> Tensor:
        return _logit(z, self.classes)

    def for_images(self, count: int, rows: slice = slice(None)) -> Class:
        return Class(check_classes(self.classes, count)[rows])

    def describe(self, class_names: Sequence[str] | None = None) -> str:
        return _words(self.classes, class_names)


@dataclass(frozen=True, eq=False)
class Difference(Target):
    """Logit of one class minus logit of another: why this class and not that one?

    Parameters
    ----------
    classes, others : int, or array of int, shape (N,)
        One for all images, or one per image.
    """

    classes: Classes
    others: Classes

    def value(self, z: Tensor) -> Tensor:
        return _logit(z, self.classes) - _logit(z, self.others)

    def for_images(self, count: int, rows: slice = slice(None)) -> Difference:
        both = (check_classes(c, count)[rows] for c in (self.classes, self.others))
        return Difference(*both)

    def describe(self, class_names: Sequence[str] | None = None) -> str:
        return f"{_words(self.classes, class_names)} minus {_words(self.others, class_names)}"


@dataclass(frozen=True)
class Unit(Target):
    """A unit of a layer, or a whole channel of a convolution.

    Parameters
    ----------
    layer : str
        Whose output; "relu_conv3" is after the ReLU, "conv3" before it.
    channel : int
        The channel, or the unit of a dense layer.
    position : (int, int), optional
        Row and column in the channel's map; the sum over the map if left out.

    Raises
    ------
    ConfigError
        If `channel` or `position` is no whole number of at least 0.
    """

    layer: str = field()  # type: ignore[assignment]
    channel: int
    position: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        whole("channel", self.channel, 0)
        if self.position is not None:
            pair("position", self.position, 0)

    def value(self, z: Tensor) -> Tensor:
        index = (self.channel, *(self.position or ()))
        within = all(i < size for i, size in zip(index, z.shape[1:], strict=False))
        if not within or z.ndim not in ((4,) if self.position else (2, 4)):
            raise ConfigError(
                f"{self}: the output of layer {self.layer!r} has shape {z.shape[1:]} per image; "
                "expected a channel and, in a map, a position inside it"
            )
        unit = z[(slice(None), *index)]
        return unit if unit.ndim == 1 else unit.sum(axis=(1, 2))

    def __str__(self) -> str:
        return f"{self.layer}:{','.join(map(str, (self.channel, *(self.position or ()))))}"


@dataclass(frozen=True)
class Output(Target):
    """Any function of the logits, such as a class's log-probability.

    Relevance starts as the function's gradient g times the logits, sum_k g_k z_k.  This is
    the function's value only where the function is linear in the logits.

    Parameters
    ----------
    function : callable
        Logits, Tensor (N, F), to Tensor (N,), with operations on tensors.  The number of an image
        must depend on its own logits only.
    """

    function: Callable[[Tensor], Tensor]

    def value(self, z: Tensor) -> Tensor:
        return self.function(z)

    def __str__(self) -> str:
        return getattr(self.function, "__name__", "a function of the logits")


def as_target(target: Any, count: int) -> Target:
    """A target for `count` images.

    Parameters
    ----------
    target : Target, int, array of int of shape (N,), or callable
        A class or classes are :class:`Class`; a callable is :class:`Output`.
    count : int
        N.

    Returns
    -------
    Target

    Raises
    ------
    ShapeError
        If it is made for another number of images.
    """
    if isinstance(target, Target):
        return target.for_images(count)
    if callable(target):
        return Output(target)
    return Class(target).for_images(count)


def check_classes(classes: Any, count: int) -> NDArray[Any]:
    """Classes for `count` images, shape (count,); a single one is for all of them."""
    chosen = np.asarray(classes)
    if chosen.ndim == 0:
        chosen = np.broadcast_to(chosen, count)
    if chosen.shape != (count,):
        raise ShapeError(f"classes have shape {chosen.shape}, expected ({count},): one per image")
    return chosen


def step_named(steps: Sequence[Step], name: str) -> Step:
    """The step of that name; raises ConfigError, with the names that there are."""
    for step in steps:
        if step.name == name:
            return step
    names = ", ".join(step.name for step in steps)
    raise ConfigError(f"no layer is called {name!r}: expected one of {names}")


def parse_target(
    text: str,
    class_names: Sequence[str],
    model: Layer | None = None,
    words: Mapping[str, int] | None = None,
) -> Target:
    """A target as one writes it.

    Parameters
    ----------
    text : str
        A class by name or number: ``"4"``.  The difference of two: ``"4-9"``.  A channel or a
        dense layer's unit: ``"conv3:5"``; one unit of a channel's map: ``"conv3:5,2,3"``.  A
        class whose whole name is the text comes first, whatever characters it has.
    class_names : sequence of str
        Of the data set.
    model : Layer, optional
        Whose layer names are checked.
    words : mapping of str to int, optional
        Further names of classes, such as "label" and "predicted" of the image at hand.

    Returns
    -------
    Target

    Raises
    ------
    ConfigError
        If it is none of these, or says two things.

    Examples
    --------
    >>> from minifbi.explain import parse_target
    >>> print(parse_target("4-9", [str(c) for c in range(10)]).describe())
    4 minus 9
    """
    known = {str(c): c for c in range(len(class_names))}
    known |= {name: c for c, name in enumerate(class_names)}
    known |= dict(words or {})  # last: the image's own label, whatever a class is called
    if text in known:
        return Class(known[text])
    cuts = [i for i, letter in enumerate(text) if letter == "-"]
    pairs = [(text[:i].strip(), text[i + 1 :].strip()) for i in cuts]
    pairs = [(a, b) for a, b in pairs if a in known and b in known]
    if len(pairs) > 1:
        both = " or ".join(f"{a!r} minus {b!r}" for a, b in pairs)
        raise ConfigError(f"target {text!r} is {both}; name the classes by number")
    if pairs:
        one, other = (known[name] for name in pairs[0])
        return Difference(one, other)
    layer, colon, places = text.rpartition(":")
    index = places.split(",")
    if colon and all(i.isdecimal() and len(i) < 10 for i in index) and len(index) in (1, 3):
        names = [name for name, _ in model.named_layers()] if model else [layer]
        inside = any(name.startswith(f"{layer}.") for name in names)  # the sum that ends a block
        if layer not in names and not inside:
            raise ConfigError(
                f"target {text!r}: no layer is called {layer!r}; expected one of {', '.join(names)}"
            )
        channel, *position = map(int, index)
        return Unit(layer, channel, (position[0], position[1]) if position else None)
    raise ConfigError(
        f"target {text!r}: expected a class ({', '.join([*(words or {}), *class_names])}), two "
        "with a minus between them ('4-9'), or a layer with a channel ('conv3:5', or 'conv3:5,2,3' "
        "for row 2 and column 3)"
    )


def _logit(z: Tensor, classes: Classes) -> Tensor:
    if z.ndim != 2:
        raise ShapeError(f"the relevance pass starts at logits (N, F), got shape {z.shape}")
    n, count = z.shape
    chosen = labels_of(check_classes(classes, n), n, count)
    return z[np.arange(n), chosen]


def _words(classes: Classes, class_names: Sequence[str] | None) -> str:
    unique = np.unique(classes)
    return ", ".join(class_names[c] if class_names else str(c) for c in unique)
