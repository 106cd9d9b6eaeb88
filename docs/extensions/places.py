"""Where a name lives: files and lines of functions and tests, notebooks of tagged cells.

The pages of the documentation name things, such as `minifbi.fbi.forward_pass`, and never lines,
since lines move.  This module finds the line.  It is used when the site is built, to make links,
and by the tests, which fail when a name leads nowhere.  It needs nothing but Python.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
Place = tuple[str, int]  # a file from the root of the repository, and a line from 1


@cache
def definitions(path: str) -> dict[str, int]:
    """Lines of all that a file defines: functions, classes, their methods, names that are set.

    Parameters
    ----------
    path : str
        From the root of the repository.

    Returns
    -------
    dict of str to int
        By qualified name, such as "Conv2d.forward".
    """
    found: dict[str, int] = {}

    def walk(body: list[ast.stmt], prefix: str) -> None:
        for item in body:
            if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.setdefault(prefix + item.name, item.lineno)
                if isinstance(item, ast.ClassDef):
                    walk(item.body, f"{prefix}{item.name}.")
            elif isinstance(item, (ast.Assign, ast.AnnAssign)):
                targets = item.targets if isinstance(item, ast.Assign) else [item.target]
                for target in targets:
                    if isinstance(target, ast.Name):
                        found.setdefault(prefix + target.id, item.lineno)
            elif isinstance(item, (ast.If, ast.Try)):
                walk(item.body, prefix)

    walk(ast.parse((ROOT / path).read_text(encoding="utf-8")).body, "")
    return found


def module_path(name: str) -> str | None:
    """The file of a module, from the root of the repository; None if there is no such module."""
    stem = ROOT.joinpath(*name.split("."))
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.exists():
            return path.relative_to(ROOT).as_posix()
    return None


def locate(name: str) -> Place:
    """Find what a dotted name means.

    Parameters
    ----------
    name : str
        For example "minifbi.layers.Conv2d.forward" or "minifbi.training.TrainConfig.fbi_weight".

    Returns
    -------
    path : str
        Where it is *defined*, however many packages hand it on.
    line : int

    Raises
    ------
    LookupError
        If there is no such thing.
    """
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if module_path(".".join(parts[:length])):
            break
    else:
        raise LookupError(f"{name}: there is no such module")
    if length == len(parts) > 1:  # a module, unless its package has a function of that name
        home = _origin(".".join(parts[:-1]), parts[-1])
        if parts[-1] not in definitions(str(module_path(home))):
            return str(module_path(name)), 1
        length -= 1
    module, rest = ".".join(parts[:length]), parts[length:]
    if not rest:
        return str(module_path(module)), 1
    owner = _origin(module, rest[0])
    path = str(module_path(owner))
    for qualified in (".".join(rest), _inherited(module, rest)):
        if qualified and ":" in qualified:
            path, qualified = qualified.split(":")
        if line := definitions(path).get(qualified):
            return path, line
    raise LookupError(f"{name}: {module} has no {'.'.join(rest)}")


def _origin(module: str, name: str) -> str:
    """The module that defines a name which `module` may have imported."""
    path = str(module_path(module))
    if name in definitions(path):
        return module
    for item in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(item, ast.ImportFrom) and item.module:
            for alias in item.names:
                if (alias.asname or alias.name) == name and module_path(item.module):
                    return _origin(item.module, alias.name)
    return module


def _inherited(module: str, rest: list[str]) -> str:
    """The file and the qualified name of a method that a class has from another one."""
    found: object = importlib.import_module(module)
    for part in rest:
        found = getattr(found, part, None)
    found = found.fget if isinstance(found, property) else inspect.unwrap(found)  # type: ignore[arg-type]
    home = module_path(str(getattr(found, "__module__", "")))
    return f"{home}:{found.__qualname__}" if home and hasattr(found, "__qualname__") else ""


def locate_test(node: str) -> Place:
    """Find a test by pytest's name for it, "tests/fbi/test_fbi.py::TestGate::test_opens".

    Raises
    ------
    LookupError
        If there is no such file or test.
    """
    path, *inside = node.split("::")
    if not (ROOT / path).exists():
        raise LookupError(f"{node}: there is no file {path}")
    line = definitions(path).get(".".join(inside))
    if line is None or not inside[-1].startswith("test_"):
        raise LookupError(f"{node}: {path} has no such test")
    return path, line


@cache
def tagged_cells() -> dict[str, dict[str, int]]:
    """How often each tag stands on a code cell, notebook by notebook.

    Returns
    -------
    dict of str to dict of str to int
        By tag, then by the notebook's name without its suffix, in the order of their names.
    """
    found: dict[str, dict[str, int]] = {}
    for path in sorted((ROOT / "tutorials").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for tag in cell["metadata"].get("tags", []):
                counts = found.setdefault(tag, {})
                counts[path.stem] = counts.get(path.stem, 0) + 1
    return found


def locate_cell(tag: str) -> str:
    """The notebook that has the cell with this tag; the first, if several have one.

    Raises
    ------
    LookupError
        If none has it, or the first has it on several cells.
    """
    notebooks = tagged_cells().get(tag, {})
    for name, count in notebooks.items():
        if count == 1:
            return name
        raise LookupError(f"tag {tag!r}: expected it on one cell of {name}, found it on {count}")
    raise LookupError(f"tag {tag!r}: no notebook has a cell with it")
