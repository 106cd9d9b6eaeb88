"""No file that is opened can run code: no pickle, no eval, nowhere."""

from __future__ import annotations

import ast
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from fuzz import mutators
from hostile import members, refused

import minifbi
from minifbi.datasets import read_idx
from minifbi.errors import ConfigError, DataError
from minifbi.files.strict_json import read_json
from minifbi.training import TrainConfig

PACKAGE = Path(minifbi.__file__).parent


class Harmful:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


# ---- no code from files ------------------------------------------------------------------
def calls(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = (
                function.attr
                if isinstance(function, ast.Attribute)
                else getattr(function, "id", "")
            )
            yield node, name, isinstance(function, ast.Attribute)


def offences(source: str) -> list[str]:
    """What could run code from data, in a file's source."""
    tree, found = ast.parse(source), []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        bad = {
            "pickle",
            "cPickle",
            "_pickle",
            "dill",
            "shelve",
            "marshal",
            "joblib",
            "yaml",
            "code",
        }
        found += [f"imports {name}" for name in names if name.split(".")[0] in bad]
    for node, name, is_method in calls(tree):
        # model.eval() is the evaluation mode of a network
        if name in ("eval", "exec", "compile", "__import__") and not is_method:
            found.append(f"line {node.lineno}: calls {name}")
        if name in ("literal_eval", "system", "popen", "loads") and is_method:
            owner = ast.unparse(node.func.value)  # type: ignore[attr-defined]
            if (owner, name) not in (("json", "loads"), ("platform", "system")):
                found.append(f"line {node.lineno}: calls {owner}.{name}")
        options = {option.arg: option.value for option in node.keywords}
        if "allow_pickle" in options and ast.unparse(options["allow_pickle"]) != "False":
            found.append(f"line {node.lineno}: allows pickles")
        if name == "load" and is_method and ast.unparse(node.func.value) == "np":  # type: ignore[attr-defined]
            if "allow_pickle" not in options:
                found.append(f"line {node.lineno}: np.load without allow_pickle=False")
        if name in ("run", "Popen", "call", "check_call", "check_output") and "shell" in options:
            found.append(f"line {node.lineno}: a shell")
    return found


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_nothing_in_the_package_runs_code_from_data(path):
    assert offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from pickle import loads", "import yaml", "eval(text)", "exec(text)",
        "np.load(path)", "np.load(path, allow_pickle=True)", "ast.literal_eval(text)",
        "marshal.loads(x)", "subprocess.run(x, shell=True)", "os.system(x)", "__import__(name)",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(line):
    assert offences(line)


def test_a_pickle_in_an_array_is_not_opened(tmp_path):
    trap = tmp_path / "trap"
    array = np.array([Harmful(trap)], dtype=object)
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    for content in (
        members(meta=buffer.getvalue()),
        members(**{"parameters:x": buffer.getvalue()}),
        pickle.dumps(array),
        buffer.getvalue(),
    ):
        refused(tmp_path, content)
    for read in (read_idx, read_json):
        (tmp_path / "file").write_bytes(pickle.dumps(Harmful(trap)))
        with pytest.raises((DataError, ValueError)):
            read(tmp_path / "file")
    assert not trap.exists()
    np.load(io.BytesIO(buffer.getvalue()), allow_pickle=True)  # the trap works
    assert trap.exists()


def test_code_in_a_header_is_not_run(tmp_path):
    trap = tmp_path / "trap"
    for description in (
        f"__import__('os').mkdir({str(trap)!r}), 'fortran_order': False, 'shape': (1,), ",
        f"'|u1', 'fortran_order': False, 'shape': (open({str(trap)!r}, 'w'),), ",
        "[('a', '|O')], 'fortran_order': False, 'shape': (1,), ",
    ):
        refused(tmp_path, members(meta=mutators.npy(description, b"x")), "damaged")
    assert not trap.exists()


@pytest.mark.parametrize("value", ["__class__", "os.system", "minifbi.models.mlp", "l1.__init__"])
def test_names_in_a_configuration_are_looked_up_never_imported(value):
    for option in ("model", "optimizer", "regularizer", "fbi_rule", "dtype", "backend"):
        with pytest.raises(ConfigError, match=option if option != "fbi_rule" else "rule"):
            TrainConfig.from_dict({option: value})
    with pytest.raises(ConfigError, match="unknown option"):
        TrainConfig.from_dict({"__class__": value})
