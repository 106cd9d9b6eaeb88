"""Every public name is documented: what goes in, what comes out, shapes, errors, and where."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
if not DOCS.exists():
    pytest.skip("installed without docs", allow_module_level=True)
API = (DOCS / "api.md").read_text(encoding="utf-8")

# what a user imports from; of those without __all__ all that they define is public
PUBLIC = [
    "minifbi",
    "minifbi.activation_maps",
    "minifbi.autograd",
    "minifbi.backends",
    "minifbi.datasets",
    "minifbi.errors",
    "minifbi.evaluate",
    "minifbi.evaluate.activations",
    "minifbi.exchange",
    "minifbi.explain",
    "minifbi.fbi",
    "minifbi.layers",
    "minifbi.models",
    "minifbi.optim",
    "minifbi.plots",
    "minifbi.regularizers",
    "minifbi.reproduce.claims",
    "minifbi.reproduce.experiments",
    "minifbi.reproduce.matching",
    "minifbi.reproduce.statistics",
    "minifbi.reproduce.store",
    "minifbi.reproduce.verdict",
    "minifbi.rules",
    "minifbi.runs",
    "minifbi.tensorboard",
    "minifbi.training",
]
ARRAYS = re.compile(r"\b(Tensor|Array|NDArray|ArrayLike|Floats|Sums)\b")
# a dtype or a number beside a type says the shape: shape (N, C), (N,), of one element
SHAPES = re.compile(r"shape|\(N\b|\(\)|broadcast|of each|any dtype")
NOT_CALLED = {"Array", "Pair", "Window"}  # names of types


def public_names(module: str) -> dict[str, object]:
    """The public names of a module, but for modules."""
    found = importlib.import_module(module)
    names = getattr(found, "__all__", None) or [
        name
        for name, value in vars(found).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module
    ]
    return {name: getattr(found, name) for name in names}


def callables() -> dict[str, object]:
    """Functions and classes, each once, by the name under which a user finds it."""
    found: dict[int, tuple[str, object]] = {}
    for module in PUBLIC[1:] + PUBLIC[:1]:
        for name, value in public_names(module).items():
            if name not in NOT_CALLED and (inspect.isclass(value) or inspect.isfunction(value)):
                found.setdefault(id(value), (f"{module}.{name}", value))
    return dict(sorted(found.values()))


CALLABLES = callables()
FUNCTIONS = {n: f for n, f in CALLABLES.items() if inspect.isfunction(f)}
CLASSES = {n: c for n, c in CALLABLES.items() if inspect.isclass(c)}


def methods(cls: type) -> dict[str, object]:
    """A class's own public methods and properties."""
    return {n: v for n, v in vars(cls).items() if not n.startswith("_") and n != "render"}


def parameters(function: object) -> list[inspect.Parameter]:
    found = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return [p for p in found if p.name not in ("self", "cls")]


def raised(function: object) -> set[str]:
    """The errors that a function raises itself, where it does not catch them again."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))  # type: ignore[arg-type]
    tries = [node for node in ast.walk(tree) if isinstance(node, ast.Try) and node.handlers]
    caught = {id(node) for each in tries for part in each.body for node in ast.walk(part)}
    found = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and id(node) not in caught
        ):
            name = ast.unparse(node.exc.func).split(".")[-1]
            if name.endswith("Error") and name != "NotImplementedError":
                found.add(name)
    return found


def missing(function: object, text: str) -> list[str]:
    """Parameters and errors of a function that a text does not name, and shapes."""
    named = [p.name for p in parameters(function)]
    lost = [name for name in named if not re.search(rf"\b{re.escape(name)}\b", text)]
    lost += sorted(error for error in raised(function) if error not in text)
    arrays = [p for p in parameters(function) if ARRAYS.search(str(p.annotation))]
    if arrays and not SHAPES.search(text):
        lost.append("shapes")
    return lost


# ---- docstrings --------------------------------------------------------------------------
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name):
    function = FUNCTIONS[name]
    text = inspect.getdoc(function) or ""
    assert text, "no docstring"
    assert not parameters(function) or "\nParameters\n---" in text
    result = str(inspect.signature(function).return_annotation)
    with_block = ("Iterator[None]", "contextlib.AbstractContextManager[None]")  # gives nothing
    if result not in ("None", *with_block):
        assert re.search(r"\n(Returns|Yields)\n---", text), f"returns {result}"
    assert not missing(function, text)


@pytest.mark.parametrize("name", CLASSES)
def test_class(name):
    cls = CLASSES[name]
    text = cls.__doc__ or ""
    assert text, "no docstring"
    assert not text.startswith(f"{cls.__name__}("), "no docstring but the one that dataclass makes"
    inits = [vars(cls)[n] for n in ("__init__", "__post_init__") if n in vars(cls)]
    own = dataclasses.is_dataclass(cls) or "__init__" in vars(cls)
    if own and not issubclass(cls, Exception):
        named = [p.name for p in parameters(cls)]
        lost = [n for n in named if not re.search(rf"\b{re.escape(n)}\b", text)]
        assert not lost
        assert not named or re.search(r"(Parameters|Attributes)\n\s*---", text)
    for init in inits:
        if Path(init.__code__.co_filename).exists():  # dataclass makes some without a source
            assert {e for e in raised(init) if e not in text} == set()


@pytest.mark.parametrize("name", CLASSES)
def test_methods(name):
    """A method may leave to its class what holds for all, and to the base class what it shares."""
    cls = CLASSES[name]
    for key, value in methods(cls).items():
        if isinstance(value, property):
            assert value.__doc__, f"{key}: no docstring"
        function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if inspect.isfunction(function):
            text = inspect.getdoc(getattr(cls, key)) or ""
            assert text, f"{key}: no docstring"
            bases = [getattr(base, key, None) for base in cls.__mro__[1:]]
            inherited = [inspect.getdoc(base) or "" for base in bases if base]
            whole = "\n".join([text, cls.__doc__ or "", *inherited])
            assert not missing(function, whole), key


# ---- the pages of the reference ----------------------------------------------------------
def listed() -> set[str]:
    """All names that the directives of docs/api.md bring onto the page."""
    found: set[str] = set()
    pattern = r"\.\. auto(\w+):: ([\w.]+)\n((?:[ ]{3,}.*\n)*)"
    for kind, name, options in re.findall(pattern, API):
        if kind != "module":
            found.add(name)
        elif ":no-members:" not in options:
            left_out = re.search(r":exclude-members: ((?:.|\n\s{4,})*)", options)
            excluded = set(re.split(r"[,\s]+", left_out[1])) if left_out else set()
            found |= {f"{name}.{member}" for member in public_names(name) if member not in excluded}
    return found


def test_every_public_name_is_in_the_reference():
    pages = listed()
    modules = set(re.findall(r"automodule:: ([\w.]+)", API))
    known = {id(resolve(name)) for name in pages}
    for module in PUBLIC:
        for name, value in public_names(module).items():
            qualified = f"{module}.{name}"
            if name == "__version__" or name in NOT_CALLED or qualified in pages | modules:
                continue
            # a number or a tuple may equal another one: those have to be named themselves
            shared = inspect.isclass(value) or inspect.isfunction(value) or isinstance(value, dict)
            assert shared, f"{qualified} is missing from docs/api.md"
            assert id(value) in known, f"{qualified} is missing from docs/api.md"


def resolve(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_no_package_is_forgotten():
    """A new package or module of the kind that users import from has to be listed above."""
    root = Path(importlib.import_module("minifbi").__file__ or "").parent
    with_all = {
        f"minifbi.{path.parent.relative_to(root).as_posix()}"
        for path in root.glob("*/__init__.py")
        if "\n__all__ = " in path.read_text(encoding="utf-8")
    }
    assert with_all <= set(PUBLIC)


# ---- the checks themselves ---------------------------------------------------------------
def test_gaps_are_noticed():
    class ShapeError(Exception):
        pass

    def fit(x: Array, weight: Array) -> float:  # noqa: F821
        """Fit x.

        Parameters
        ----------
        x : array
        """
        if x is weight:
            raise ShapeError("x")
        return 0.0

    assert missing(fit, inspect.getdoc(fit)) == ["weight", "ShapeError", "shapes"]
    assert not missing(fit, "x : array, shape (N,); weight : (N,); ShapeError: if they differ")
