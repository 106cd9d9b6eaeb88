"""One part of a run that is the user's own: a network, a regularizer, a rule or a data set."""

from __future__ import annotations

import contextlib
import inspect
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minifbi.arguments import refused
from minifbi.datasets import Dataset
from minifbi.errors import ConfigError
from minifbi.files.source import (
    OWN,
    Source,
    is_own,
    load_source,
    parse_source,
    part_name,
    running,
)
from minifbi.layers import Layer
from minifbi.regularizers import Regularizer
from minifbi.rules import Composite, Rule


@dataclass(frozen=True)
class Kind:
    """One of the parts of a run that may be the user's own.

    Attributes
    ----------
    option : str
        The option of :class:`TrainConfig` that names it.
    noun : str
        What messages call it.
    classes : tuple of type
        What it must be.
    signature : str
        Of the function that makes it, for messages.
    """

    option: str
    noun: str
    classes: tuple[type, ...]
    signature: str

    @property
    def flag(self) -> str:
        """The flag of the commands."""
        return "--" + self.option.replace("_", "-")


KINDS = {
    "model": Kind(
        "model",
        "network",
        (Layer,),
        "(input_shape, num_classes, *, seed, backend, dtype, bias) -> minifbi.layers.Layer, which "
        "need not take all of these",
    ),
    "regularizer": Kind(
        "regularizer", "regularizer", (Regularizer,), "() -> minifbi.regularizers.Regularizer"
    ),
    "rule": Kind(
        "fbi_rule", "rule", (Rule, Composite), "() -> minifbi.rules.Rule or minifbi.rules.Composite"
    ),
    "dataset": Kind("dataset", "data set", (Dataset,), "() -> minifbi.datasets.Dataset"),
}


@dataclass(frozen=True, eq=False)
class Part:
    """A part of the user's own, not yet made.

    Attributes
    ----------
    kind : str
        A key of :data:`KINDS`.
    text : str
        What a configuration calls it.
    given : object
        The part itself, or the function or class that makes it.
    source : Source or None
        What the user wrote, for a part in a file.
    path : Path or None
        The file.
    checksum : str
        SHA-256 of the file's content; empty if Python was given the part.
    """

    kind: str
    text: str
    given: Any
    source: Source | None = None
    path: Path | None = None
    checksum: str = ""
    _made: list[Any] = field(default_factory=list)

    @contextlib.contextmanager
    def running(self, what: str = "") -> Iterator[None]:
        """While its code runs; an error in a file is one line, in Python a traceback."""
        with contextlib.nullcontext() if self.path is None else running(self.path, what):
            yield

    def make(self, **offered: Any) -> Any:
        """The part; a regularizer, a rule and a data set are made once.

        Parameters
        ----------
        **offered
            What a function that makes a network may take.

        Returns
        -------
        Layer, Regularizer, Rule, Composite or Dataset

        Raises
        ------
        ConfigError
            If the function takes or returns something else, or fails.
        """
        if self._made:
            return self._made[0]
        kind = KINDS[self.kind]
        made = self.given
        if not isinstance(made, kind.classes):
            numbers = self.source.numbers if self.source else ()
            arguments, options = self._arguments(numbers, offered)
            with self.running():
                made = self.given(*arguments, **options)
        if not isinstance(made, kind.classes):
            names = " or ".join(c.__name__ for c in kind.classes)
            raise refused(kind.option, self.text, f"a {names}, got {type(made).__name__}; {self}")
        if self.kind != "model" or made is self.given:
            self._made.append(made)
        return made

    def __str__(self) -> str:
        return f"the function is {part_name(self.text)}{KINDS[self.kind].signature}"

    def _arguments(
        self, numbers: tuple[float, ...], offered: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Those of the offered arguments that the function takes."""
        try:
            signature = inspect.signature(self.given)
        except (TypeError, ValueError):  # some classes that are not written in Python
            return numbers, {}
        parameters = signature.parameters.values()
        takes = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            takes |= set(offered)
        by_name = {name: value for name, value in offered.items() if name in takes}
        arguments: tuple[Any, ...] = numbers
        if offered.get("bias") is False and "bias" not in by_name:
            raise ConfigError(
                f"bias=False has no meaning with model={self.text!r}, which takes no bias; "
                f"leave --no-bias out, or give the function an argument bias"
            )
        if offered and not {"input_shape", "num_classes"} & set(by_name):  # other names for them
            positional = [
                p
                for p in parameters
                if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name not in by_name
            ]
            arguments = (offered["input_shape"], offered["num_classes"])[: len(positional)]
        try:
            signature.bind(*arguments, **by_name)
        except TypeError as error:
            raise refused(
                KINDS[self.kind].option, self.text, f"another signature ({error}); {self}"
            ) from None
        return arguments, by_name


def as_part(kind: str, given: Any) -> Part | None:
    """What the caller passed, as a part.

    Parameters
    ----------
    kind : str
        A key of :data:`KINDS`.
    given : object
        The part, a function or class that makes it, ``"FILE.py:function"``, or None.

    Returns
    -------
    Part or None
        None for None.

    Raises
    ------
    ConfigError
        If it is something else, or the file cannot be run.
    """
    if given is None or isinstance(given, Part):
        return given
    about = KINDS[kind]
    if isinstance(given, str):
        source = parse_source(given)
        if source is None or (source.numbers and kind != "rule"):
            behind = ", if need be with numbers: FILE.py:function:0.1,2" if kind == "rule" else ""
            raise refused(about.option, given, f"FILE.py:function{behind}")
        found, path, checksum = load_source(source)
        part = Part(kind, source.text, found, source, path, checksum)
        if kind == "model" and isinstance(found, Layer):
            raise refused(about.option, given, f"a function that builds the network; {part}")
    else:
        named = given if hasattr(given, "__qualname__") else type(given)
        name = str(named.__qualname__).rpartition("<locals>.")[2]
        if isinstance(given, Dataset):
            name = given.name
        part = Part(kind, f"{OWN}{name}"[:200], given)
    if not callable(part.given) and not isinstance(part.given, about.classes):
        names = " or ".join(c.__name__ for c in about.classes)
        raise refused(about.option, given, f"a {names}, or a function that makes one; {part}")
    return part


def need(texts: Mapping[str, str], command: str = "") -> None:
    """Raise unless these options name something that minifbi has.

    Parameters
    ----------
    texts : mapping of str to str
        The values of options, by the keys of :data:`KINDS`.
    command : str
        What else to type, such as ``--resume runs/mine``.

    Raises
    ------
    ConfigError
        If some are the user's own; the message says what to type.
    """
    own = {kind: text for kind, text in texts.items() if is_own(text)}
    if not own:
        return
    said = ", ".join(f"the {KINDS[kind].noun} {text!r}" for kind, text in own.items())
    flags = " ".join(f"{KINDS[kind].flag} {_again(text)}" for kind, text in own.items())
    raise ConfigError(
        f"{said} {'is' if len(own) == 1 else 'are'} your own, and no file is opened because a run "
        f"or a configuration names it; give it again: {f'{command} {flags}'.strip()}, or in Python "
        f"{', '.join(f'{kind}=' for kind in own)}"
    )


def _again(text: str) -> str:
    """What to type: without a folder, which may be anybody's."""
    source = parse_source(text)
    return "FILE.py:function" if source is None else shlex.quote(source.text)


Given = Callable[..., Any] | str | Part
"""A function or class that makes a part, or ``"FILE.py:function"``."""
