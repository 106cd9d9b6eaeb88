"""Files made to do harm: to run code, to fill the memory, to write elsewhere, to wait for ever."""

from __future__ import annotations

import ast
import gzip
import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fuzz import mutators, targets
from helpers import command

import minifbi
from minifbi.cli import printable
from minifbi.datasets import load_idx_folder, read_idx
from minifbi.errors import CheckpointError, ConfigError, DataError
from minifbi.strict_json import parse_json, read_json
from minifbi.training import TrainConfig, Trainer, load_model, resume
from minifbi.training.checkpoint import load_checkpoint, save_checkpoint
from minifbi.training.folder import read_config
from minifbi.training.npz import read_npz

PACKAGE = Path(minifbi.__file__).parent


class Harmful:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def members(**changes: bytes) -> bytes:
    """A checkpoint with members replaced or added, its seal and check sums right."""
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(targets.tiny_checkpoint())) as archive:
        found = {info.filename: archive.read(info) for info in archive.infolist()}
    return pack({**found, **{f"{name}.npy": content for name, content in changes.items()}})


def pack(found: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, content in found.items():
            archive.writestr(zipfile.ZipInfo(name), content, packing)
        archive.comment = mutators.SEAL + b"0" * 64
    return mutators.seal(out.getvalue()[: -len(mutators.SEAL) - 64])


def described(**changes: object) -> bytes:
    """A checkpoint that says something else of itself."""
    with zipfile.ZipFile(io.BytesIO(targets.tiny_checkpoint())) as archive:
        content = archive.read("meta.npy")
    meta = json.loads(content[content.find(b"\n") + 1 :])
    text = json.dumps({**meta, **changes}).encode()
    return members(
        meta=mutators.npy(f"'|u1', 'fortran_order': False, 'shape': ({len(text)},), ", text)
    )


def refused(folder: Path, content: bytes, *expected: str) -> None:
    """Neither reading, nor building, nor resuming takes the file."""
    path = folder / "checkpoint.npz"
    path.write_bytes(content)

    def take() -> None:
        load_checkpoint(path)
        load_model(path, backend="numpy")
        resume(folder, dataset=targets.tiny_data(), quiet=True, figures=False)

    with pytest.raises(CheckpointError) as caught:
        take()
    for part in expected:
        assert part in str(caught.value)


def peak(action, *errors: type[Exception]) -> int:
    """Bytes that a refusal takes at most."""
    tracemalloc.start()
    try:
        with pytest.raises(errors):
            action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


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


# ---- memory ------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", ["2147483648, 28, 28", "4611686018427387904", "0, 9" + "9" * 18])
def test_an_array_is_no_larger_than_its_bytes(tmp_path, shape):
    header = f"'<f8', 'fortran_order': False, 'shape': ({shape},), "
    (tmp_path / "checkpoint.npz").write_bytes(
        members(**{"parameters:x": mutators.npy(header, bytes(80))})
    )
    assert peak(lambda: load_checkpoint(tmp_path / "checkpoint.npz"), CheckpointError) < 1_000_000


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    huge = mutators.npy("'|u1', 'fortran_order': False, 'shape': (50000000,), ", bytes(50_000_000))
    content = pack({"meta.npy": huge}, zipfile.ZIP_DEFLATED)
    assert len(content) < 100_000
    (tmp_path / "checkpoint.npz").write_bytes(content)
    assert peak(lambda: load_checkpoint(tmp_path / "checkpoint.npz"), CheckpointError) < 2_000_000


def test_members_that_lie_over_each_other(tmp_path):
    """A small archive whose directory names the same megabyte 150 times."""
    body = mutators.npy("'|u1', 'fortran_order': False, 'shape': (1000000,), ", bytes(1_000_000))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.npy"), body)
        archive.filelist *= 150
        archive._didModify = True
    assert len(out.getvalue()) < 1_100_000
    path = tmp_path / "a.npz"
    path.write_bytes(out.getvalue())
    with path.open("rb") as file, pytest.raises(ValueError, match=r"same name|longer"):
        read_npz(file)
    content = bytearray(out.getvalue())  # each with a name of its own in the directory
    for i, place in enumerate(range(content.find(b"PK\x01\x02"), len(content) - 60, 51)):
        content[place + 46] = [*range(48, 58), *range(65, 91), *range(97, 123), *range(161, 255)][
            i % 156
        ]
    path.write_bytes(content)
    with path.open("rb") as file:
        assert peak(lambda: read_npz(file), ValueError) < 3_000_000


@pytest.mark.parametrize(
    "changes",
    [
        {"num_classes": 10**9},
        {"input_shape": [1, 10**6, 10**6]},
        {"input_shape": [10**9, 2, 2]},
        {"input_shape": [2**62, 2**62, 2**62]},
    ],
    ids=str,
)
def test_a_network_is_no_larger_than_its_checkpoint(tmp_path, changes):
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(described(**changes))
    assert peak(lambda: load_model(path, backend="numpy"), CheckpointError) < 1_000_000


def test_gzip_bombs(tmp_path):
    path = tmp_path / "images"
    # 2 GiB of zeros in 9 MB: larger than the limit that any data need, and compressed too well
    block = gzip.compress(bytes(2**20), 9)
    head = gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 2**31))
    path.write_bytes(head + 2048 * block)
    assert peak(lambda: read_idx(path), DataError) < 1_000_000
    # a claim that no gzip file of this size can keep
    path.write_bytes(gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 2**28) + bytes(100)))
    with pytest.raises(DataError, match="expected at most"):
        read_idx(path)
    # what is small is read, however well it is compressed
    path.write_bytes(gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 2**20) + bytes(2**20)))
    assert read_idx(path).shape == (2**20,)


@pytest.mark.parametrize("count", [257, 10**9, 2**63])
def test_classes_beyond_a_byte(tmp_path, count):
    assert peak(lambda: load_idx_folder(tmp_path, num_classes=count), ConfigError) < 100_000


# ---- JSON --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a": NaN}', "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"1e999", "too large"),
        (b"1" * 101, "digits"),
        (b"1" * 10_000, "digits"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b"[" * 100_000, "deeply"),
        (b'{"a":' * 100_000, "deeply"),
        (b'"\xff"', "utf-8"),
        (b'"\\ud800"', "surrogates"),
        (b'{"\\uDFFF": 1}', "surrogates"),
        ('{"a": 1}'.encode("utf-16"), "utf-8"),
        (b"{'a': 1}", "property name"),
        (b"", "Expecting value"),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_json_that_is_refused(tmp_path, text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_json(text)
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(CheckpointError, match="cannot read"):
        read_config(tmp_path)


def test_json_that_is_read():
    assert parse_json('{"a": [1, -2.5e3, "\\ud83d\\ude00", null, true]}') == {
        "a": [1, -2500.0, "\U0001f600", None, True]
    }
    assert parse_json(b"340282366920938463463374607431768211455") == 2**128 - 1
    assert parse_json(b" 0 ") == 0


@pytest.mark.parametrize("text", ["[]", "3", '"text"', "null"])
def test_a_configuration_that_is_no_object(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="expected the options by name"):
        read_config(tmp_path)


# ---- what a checkpoint says of itself: each once was an error of another kind ----------------
@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": "2"}, {"epoch": -1}, {"epoch": True}, {"epoch": 2}, {"step": 0.5},
        {"records": []},
        {"records": [{}]}, {"records": None}, {"best": {"epoch": 1}}, {"best": []},
        {"gate_step": "x"},
        {"seconds": None}, {"input_shape": [1, 2]}, {"input_shape": "122"}, {"num_classes": 0},
        {"num_classes": 3.0}, {"rng": []}, {"rng": {}}, {"layer_rngs": 1}, {"data": {"name": 1}},
        {"config": []}, {"config": {"epochs": 10**99}}, {"config": {"data_dir": 5}},
        {"class_names": [1]},
        {"config": {"dataset": []}}, {"config": {"lr": "0.1"}}, {"config": {"unknown": 1}},
    ],
    ids=str,
)  # fmt: skip
def test_meta_of_the_wrong_kind(tmp_path, changes):
    refused(tmp_path, described(**changes))


def state():
    trainer = Trainer(targets.tiny_config(), targets.tiny_data())
    trainer.run_epoch()
    return trainer.state()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", np.array(-5)), ("steps", np.array(2.5)), ("steps", np.array(2**63, np.uint64)),
        ("mean/dense1.weight", np.full((3, 4), np.nan)), ("steps", np.array([1, 2])),
    ],
)  # fmt: skip
def test_the_optimisers_memory(name, value):
    arrays, meta = state()
    arrays["optimizer"][name] = value
    with pytest.raises(CheckpointError, match="optimiser"):
        Trainer(targets.tiny_config(), targets.tiny_data()).load_state(arrays, meta)


@pytest.mark.parametrize("value", [np.array(1.0), np.zeros((2, 2)), np.zeros(99)])
def test_the_history(value):
    arrays, meta = state()
    arrays["history"]["task_loss"] = value
    with pytest.raises(CheckpointError, match="history of task_loss"):
        Trainer(targets.tiny_config(), targets.tiny_data()).load_state(arrays, meta)


def test_a_random_state_beyond_128_bits():
    arrays, meta = state()
    meta["rng"]["state"]["state"] = 10**99
    with pytest.raises(CheckpointError, match="does not fit"):
        Trainer(targets.tiny_config(), targets.tiny_data()).load_state(arrays, meta)


# ---- paths -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name", ["../../escaped", "/tmp/escaped", "a/../../escaped", "C:\\escaped"]
)
def test_names_in_an_archive_are_never_paths(tmp_path, monkeypatch, name):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    before = sorted(tmp_path.rglob("*"))
    one = mutators.npy("'|u1', 'fortran_order': False, 'shape': (1,), ", b"x")
    path = inner / "checkpoint.npz"
    path.write_bytes(members(**{f"parameters:{name}": one}))
    with pytest.raises(CheckpointError, match="not in this model"):
        load_model(path, backend="numpy")
    path.unlink()
    assert sorted(tmp_path.rglob("*")) == before


def test_pipes_and_devices_are_not_waited_for(tmp_path):
    for name in ("checkpoint.npz", "config.json", "images"):
        os.mkfifo(tmp_path / name)
    for path in (tmp_path / "checkpoint.npz", Path("/dev/zero")):
        with pytest.raises(CheckpointError, match="not a regular file"):
            load_checkpoint(path)
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_config(tmp_path)
    with pytest.raises(DataError, match="not a regular file"):
        read_idx("/dev/zero")


def test_links_are_read_through_and_never_written_through(tmp_path):
    """A run folder whose files are links to somebody's own files leaves those as they are."""
    own = tmp_path / "own"
    own.mkdir()
    names = (
        "checkpoint.npz",
        "previous.npz",
        "best.npz",
        "config.json",
        "metrics.jsonl",
        "result.json",
    )
    for name in names:
        (own / name).write_bytes(b"precious")
    (own / "checkpoint.npz").write_bytes(targets.tiny_checkpoint())
    folder = tmp_path / "run"
    folder.mkdir()
    for name in names:
        if name != "config.json":
            (folder / name).symlink_to(own / name)
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    resume(folder, dataset=targets.tiny_data(), quiet=True, figures=False)
    assert (folder / "result.json").exists()
    assert not (folder / "result.json").is_symlink()
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before
    (folder / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="cannot write"):
        resume(folder, epochs=3, dataset=targets.tiny_data(), quiet=True, figures=False)
    assert not (tmp_path / "elsewhere").exists()


def test_links_that_go_round_in_a_circle(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for read, error in (
        (read_idx, DataError), (load_idx_folder, DataError), (load_checkpoint, CheckpointError),
    ):  # fmt: skip
        with pytest.raises(error):
            read(tmp_path / "loop")
    done = command("train", "--data-dir", tmp_path / "loop", "--quiet")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_names_with_a_nul():
    for read, error in ((read_idx, DataError), (load_idx_folder, DataError)):
        with pytest.raises(error, match="null"):
            read("a\0b")
    with pytest.raises(ConfigError, match="NUL"):
        TrainConfig(data_dir="a\0b")
    with pytest.raises(CheckpointError):
        load_checkpoint("a\0b")


# ---- what is shown -----------------------------------------------------------------------
def test_messages_do_nothing_to_a_terminal():
    assert printable("a\x1b[2Jb\r\x07\udcff\u202e") == "a\\x1b[2Jb\\r\\x07\\udcff\\u202e"
    assert printable("Größe, 数, \U0001f600") == "Größe, 数, \U0001f600"
    assert len(printable("x" * 10**6)) < 3000


def test_a_name_from_a_file_on_the_terminal(tmp_path):
    one = np.zeros(1, np.float32)
    save_checkpoint(tmp_path / "checkpoint.npz", *state())
    arrays, meta = load_checkpoint(tmp_path / "checkpoint.npz")
    meta["config"] = {**meta["config"], "model": "mlp\x1b[31m"}
    save_checkpoint(tmp_path / "checkpoint.npz", {**arrays, "x": {"y": one}}, meta)
    done = command("explain", tmp_path)
    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "line",
    [
        "train --resume run --epochs 99999999999999999999",
        "train --seed 999999999999999999999999999999",
        "train --threads 99999999999999999999",
        "bench --batch 1000000000000",
        "reproduce --plan --seeds 1000000000000",
        "reproduce --plan --epochs 99999999999999",
    ],
)
def test_numbers_beyond_reason(tmp_path, line):
    from fuzz import commands

    assert commands.run(line.replace(" ", "\n").encode()) is False
