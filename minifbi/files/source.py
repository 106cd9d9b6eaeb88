"""One object of a Python file that the user has named: ``FILE.py:name``.

This is the only place where minifbi runs a file.  What is run was named by the caller of a
function or in a command, never by a file that was opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from minifbi.errors import ConfigError, MinifbiError

FORM = re.compile(r"(?P<file>.*\.py):(?P<name>[^:.]+(\.[^:.]+)*)(:(?P<numbers>[^:]*))?", re.S)


@dataclass(frozen=True)
class Source:
    """What ``FILE.py:name`` or ``FILE.py:name:0.1,2`` says.

    Attributes
    ----------
    file : str
        The path, as it was written.
    name : str
        Of a function, a class or another object; ``Outer.inner`` is one too.
    numbers : tuple of float
        What stands behind a second colon.
    """

    file: str
    name: str
    numbers: tuple[float, ...] = ()

    @property
    def text(self) -> str:
        """The same without folders, which are another machine's in a run that was passed on."""
        file = re.split(r"[/\\]", self.file)[-1]
        numbers = ",".join(repr(n).removesuffix(".0") for n in self.numbers)
        return f"{file}:{self.name}" + (numbers and f":{numbers}")


def parse_source(text: Any) -> Source | None:
    """Read ``FILE.py:name``; nothing is opened.

    Parameters
    ----------
    text : object
        Such as ``nets/small.py:build`` or ``C:\\nets\\small.py:build``.

    Returns
    -------
    Source or None
        None if it has another form.
    """
    found = FORM.fullmatch(text) if isinstance(text, str) and "\0" not in text else None
    if found is None or not all(part.isidentifier() for part in found["name"].split(".")):
        return None
    try:
        numbers = tuple(float(n) for n in found["numbers"].split(",")) if found["numbers"] else ()
    except ValueError:
        return None
    return Source(found["file"], found["name"], numbers)


# ---- running it --------------------------------------------------------------------------
class _Text(importlib.abc.ExecutionLoader):
    """Runs the very bytes whose checksum was taken; writes and reads no ``.pyc`` file."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path, self.content = path, content

    def get_filename(self, fullname: str) -> str:
        return str(self.path)

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self.content)


def load_source(source: Source) -> tuple[Any, Path, str]:
    """Run the file, unless this process has run the same content already, and get the object.

    Parameters
    ----------
    source : Source
        As the user wrote it.

    Returns
    -------
    found : object
        What has the name.
    path : Path
        The file's full path.
    checksum : str
        SHA-256 of the file's content, 64 hexadecimal digits.

    Raises
    ------
    ConfigError
        If there is no such file or name, or running it fails.
    """
    path = Path(os.path.realpath(os.path.expanduser(source.file)))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{source.file}: cannot be read ({error.strerror or error}); expected a Python file"
        ) from error
    module = _module(path, content)
    found: Any = module
    for part in source.name.split("."):
        found = getattr(found, part, None)
    if found is None:
        own = [
            n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__
        ]
        there = f"; it has {', '.join(own)}" if own else ""
        raise ConfigError(f"{source.file} has nothing called {source.name!r}{there}"[:2000])
    return found, path, hashlib.sha256(content).hexdigest()


def _module(path: Path, content: bytes) -> ModuleType:
    """The file as a module; it has a name of its own, so that classes in it can be found."""
    mark = hashlib.sha256(os.fsencode(path) + b"\0" + content).hexdigest()[:16]
    stem = re.sub(r"\W", "_", path.stem)
    name = f"minifbi_file_{stem}_{mark}"
    if name in sys.modules:
        return sys.modules[name]
    loader = _Text(path, content)
    spec = importlib.machinery.ModuleSpec(name, loader, origin=str(path))
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        with running(path):
            loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def running(path: Path, what: str = "") -> Iterator[None]:
    """While code of a file runs: its folder can be imported from, and an error is one line.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What is being done, for the message.

    Raises
    ------
    ConfigError
        In the place of any other exception, with the file, the line and the exception.
    """
    folder = str(path.parent)
    importlib.invalidate_caches()  # a module beside the file may be newer than the last look
    sys.path.insert(0, folder)
    try:
        yield
    except (Exception, SystemExit) as error:
        raise ConfigError(_complaint(path, error, what)) from error
    finally:
        with contextlib.suppress(ValueError):  # the file may have removed it
            sys.path.remove(folder)


def _complaint(path: Path, error: BaseException, what: str) -> str:
    """Where it happened, in the file or beside it, and what."""
    kind = type(error).__name__
    doing = f" while {what}" if what else ""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}, line {error.lineno}{doing}: {kind}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    folder = str(path.parent) + os.sep
    inside = [f for f in frames if f.filename.startswith(folder) and _is_own(f.filename)]
    said = str(error).strip() or "no message"
    if not inside:
        return f"{path}{doing}: {said if isinstance(error, MinifbiError) else f'{kind}: {said}'}"
    last = inside[-1]
    function = "" if last.name == "<module>" else f", in {last.name}"
    return f"{last.filename}, line {last.lineno}{function}{doing}: {kind}: {said}"


def _is_own(filename: str) -> bool:
    """Whether a file is the user's and not an installed package's, in whose folder it may be."""
    package = str(Path(__file__).parents[1]) + os.sep
    return not filename.startswith(package) and "site-packages" not in filename


# ---- the texts of configurations ---------------------------------------------------------
OWN = "own:"
"""What the name of an object that Python was given starts with: ``own:build``."""


def is_own(text: Any) -> bool:
    """Whether an option's value names a part of the user's own; nothing is opened.

    Parameters
    ----------
    text : object
        Such as ``net.py:build``, ``own:build`` or ``alexnet``.

    Returns
    -------
    bool
    """
    if parse_source(text) is not None:
        return True
    return isinstance(text, str) and text.startswith(OWN) and 0 < len(text) - len(OWN) <= 200


def part_name(text: str) -> str:
    """How titles call a part: ``build`` for ``net.py:build`` and ``own:build``, else its name.

    Parameters
    ----------
    text : str
        The value of an option.

    Returns
    -------
    str
    """
    source = parse_source(text)
    return text.removeprefix(OWN) if source is None else source.name
