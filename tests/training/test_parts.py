"""Networks, regularizers, rules and data sets of one's own: from a file, and from Python."""

from __future__ import annotations

import contextlib
import hashlib
import json
import string
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import command, interrupt_after, small_mnist
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minifbi.backends import get_backend
from minifbi.errors import ConfigError, MinifbiError, ShapeError
from minifbi.explain.__main__ import main as explain_main
from minifbi.files.source import Source, is_own, load_source, parse_source, part_name
from minifbi.layers import Conv2d, Dense, Dropout, Flatten, Layer, ReLU, Residual, Sequential
from minifbi.models import mlp
from minifbi.regularizers import REGULARIZERS, Regularizer
from minifbi.rules import RULES, Composite, Epsilon
from minifbi.train import main
from minifbi.training import (
    RunState,
    TrainConfig,
    Trainer,
    default_folder,
    load_model,
    resume,
    train,
)
from minifbi.training.loading import load_run_data

NET = """
import numpy as np
from minifbi.layers import Conv2d, Dense, Flatten, ReLU, Sequential


def build(input_shape, num_classes, *, seed, backend, dtype, bias=True):
    options = {"rng": np.random.default_rng(seed), "backend": backend, "dtype": dtype, "bias": bias}
    channels, height, width = input_shape
    return Sequential({
        "conv": Conv2d(channels, 2, 3, stride=2, **options),
        "relu": ReLU(),
        "flatten": Flatten(),
        "out": Dense(2 * ((height - 3) // 2 + 1) * ((width - 3) // 2 + 1), num_classes, **options),
    })
"""
OTHERS = """
from minifbi.datasets import Dataset, Split, load_mnist
from minifbi.regularizers import Regularizer
from minifbi.rules import Epsilon


class SmallLogits(Regularizer):
    label = "logit penalty"
    default_weight = 0.02

    def terms(self, batch):
        return {"logits": (batch.logits**2).mean()}


def strong(epsilon=0.5):
    return Epsilon(epsilon)


def few():
    part = Split.from_arrays(*load_mnist().train.batch(slice(0, 100)))
    return Dataset("few digits", part, part, part, 10, tuple("0123456789"))
"""
QUICK = {"epochs": 1, "batch_size": 50, "backend": "numpy", "fbi_gate": 0}


def few():
    return small_mnist(100, 40, 40)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "mine.py").write_text(OTHERS)
    return tmp_path


# ---- what FILE.py:function says ----------------------------------------------------------
NAMES = st.text(string.ascii_letters + "_äλ", min_size=1, max_size=8).filter(str.isidentifier)
FOLDERS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@given(FOLDERS, NAMES, st.lists(NAMES, min_size=1, max_size=2), st.lists(st.integers(0, 9)))
def test_any_path_and_name_are_read_back(folder, stem, names, numbers):
    file, name = f"{folder}{stem}.py", ".".join(names)
    behind = ":" + ",".join(map(str, numbers)) if numbers else ""
    found = parse_source(f"{file}:{name}{behind}")
    assert found == Source(file, name, tuple(map(float, numbers)))
    assert is_own(f"{file}:{name}{behind}")
    assert part_name(f"{file}:{name}{behind}") == name
    # what a run stores has no folder, and says the same
    again = parse_source(found.text)
    assert (again.name, again.numbers) == (found.name, found.numbers)
    assert not {"/", "\\"} & set(again.file)


@pytest.mark.parametrize("text", [r"C:\nets\my net.py:build", "C:/nets/my net.py:build"])
def test_paths_of_windows(text):
    found = parse_source(text)
    assert (found.name, found.text) == ("build", "my net.py:build")


@pytest.mark.parametrize(
    "text",
    ["alexnet", "net.py", "net.py:", ":build", "net:build", "net.py:1a", "net.py:a b", "net.py:a.",
     "net.py:f:x", "net.py:f:1,", "a\0.py:f", "", 3, None],
)  # fmt: skip
def test_what_has_another_form_is_no_part(text):
    assert parse_source(text) is None
    assert not is_own(text)


# ---- running a file ----------------------------------------------------------------------
def load(path, name="f"):
    return load_source(parse_source(f"{path}:{name}"))


def test_modules_beside_the_file_can_be_imported_and_the_path_is_as_before(tmp_path):
    folder = tmp_path / "eigene Netze ä"
    folder.mkdir()
    (folder / "beside_the_net.py").write_text("WIDTH = 7")
    (folder / "net.py").write_text("from beside_the_net import WIDTH\n\ndef f():\n    return WIDTH")
    before = list(sys.path)
    function, path, checksum = load(folder / "net.py")
    assert function() == 7
    assert path == folder / "net.py"
    assert checksum == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sys.path == before


def test_a_file_runs_once_and_again_when_it_has_changed(tmp_path):
    file = tmp_path / "count.py"
    log = "Path(__file__).with_suffix('.log').open('a').write('x')"
    file.write_text(f"from pathlib import Path\n{log}\nclass f:\n    pass\n")
    first, second = load(file)[0], load(file)[0]
    assert first is second
    assert (tmp_path / "count.log").read_text() == "x"
    # its classes are found by the name of their module, as dataclasses and copying need it
    assert sys.modules[first.__module__].f is first
    file.write_text(file.read_text() + "# changed\n")
    assert load(file)[0] is not first
    assert (tmp_path / "count.log").read_text() == "xx"
    assert not list(tmp_path.glob("__pycache__"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("def f(:\n", r"line 1: SyntaxError"),
        ("\nimport no_such_module_at_all\n", r"line 2: ModuleNotFoundError: No module named"),
        ("def g():\n    return 1 / 0\n\ng()\n", r"line 2, in g: ZeroDivisionError: division"),
        ("raise SystemExit(3)\n", r"line 1: SystemExit: 3"),
        ("raise ValueError\n", r"line 1: ValueError: no message"),
        ("def another():\n    pass\n", r"has nothing called 'f'; it has another"),
        ("f = None\n", r"has nothing called 'f'"),
        (b"\xff\xfe\x00", r"bad\.py"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(tmp_path, content, said):
    file = tmp_path / "bad.py"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    modules, path = set(sys.modules), list(sys.path)
    with pytest.raises(ConfigError, match=said) as caught:
        load(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sys.path == path
    if b"def another" not in file.read_bytes() and b"None" not in file.read_bytes():
        assert set(sys.modules) == modules  # a module that failed is not kept


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"nowhere/net\.py: cannot be read \(No such file"):
        load("nowhere/net.py")


# ---- networks ----------------------------------------------------------------------------
def take_all(input_shape, num_classes, *, seed, backend, dtype, bias):
    return mlp(
        input_shape, num_classes, widths=(4,), seed=seed, backend=backend, dtype=dtype, bias=bias
    )


def take_little(input_shape, num_classes):
    return mlp(input_shape, num_classes, widths=(4,), backend="numpy")


def take_any(**options):
    return take_all(**options)


def other_names(shape, classes, /):
    return take_little(shape, classes)


def nothing():
    return take_little((1, 28, 28), 10)


class Network(Sequential):
    def __init__(self, input_shape, num_classes, seed=0):
        net = mlp(input_shape, num_classes, widths=(4,), seed=seed)
        super().__init__(net.layers)


@pytest.mark.parametrize("build", [take_all, take_little, take_any, other_names, nothing, Network])
def test_a_function_gets_what_it_takes(build):
    config = TrainConfig(**QUICK, dtype="float64", seed=5)
    trainer = Trainer(config, few(), build)
    assert trainer.model.dtype == np.float64
    assert trainer.config.model == f"own:{build.__name__}"
    if build in (take_all, take_any, Network):  # those that take the seed
        expected = take_all((1, 28, 28), 10, seed=5, backend="numpy", dtype="float32", bias=True)
        for name, ours in trainer.model.state_dict().items():
            np.testing.assert_allclose(ours, expected.state_dict()[name], rtol=1e-6)
    trainer.run_epoch()


def test_a_network_is_brought_to_the_backend_and_dtype_of_the_run():
    net = take_little((1, 28, 28), 10)
    before, norm = net.state_dict(), net.layers["dense1"]
    norm.add_buffer("mean", np.arange(3.0), "numpy", "float32")
    assert net.to("numba", "float64") is net
    assert net.backend is get_backend("numba")
    assert {p.dtype for p in net.parameters().values()} == {np.dtype(np.float64)}
    assert norm.mean.dtype == np.float64
    assert norm.mean is norm.own_buffers["mean"]
    for name, array in before.items():
        np.testing.assert_array_equal(net.state_dict()[name], array)


def no_network(input_shape, num_classes):
    return "a network"


def untrainable(input_shape, num_classes):
    return Sequential(Flatten())


def seven_logits(input_shape, num_classes):
    return take_little(input_shape, 7)


def maps(input_shape, num_classes):
    return Sequential(Conv2d(1, 10, 3))


def too_small(input_shape, num_classes):
    return Sequential({"flatten": Flatten(), "dense": Dense(5, 10)})


def greedy(input_shape, num_classes, depth):
    return take_little(input_shape, num_classes)


@pytest.mark.parametrize(
    ("build", "error", "said"),
    [
        (no_network, ConfigError, r"expected a Layer, got str; the function is no_network\(input_"),
        (untrainable, ConfigError, "expected a network with parameters to train"),
        (seven_logits, ShapeError, r"makes \(2, 7\) of 2 images .* expected \(2, 10\)"),
        (maps, ShapeError, r"makes \(2, 10, 26, 26\) of 2 images"),
        (too_small, ShapeError, r"layer 'dense'"),
        (greedy, ConfigError, r"missing a required argument: 'depth'"),
        (3, ConfigError, r"expected a Layer, or a function that makes one"),
        ("net.py", ConfigError, r"model='net.py': expected FILE.py:function"),
        ("net.py:build:3", ConfigError, r"expected FILE.py:function"),
    ],
)
def test_a_wrong_network_is_refused_before_training(build, error, said, tmp_path):
    with pytest.raises(error, match=said):
        train(TrainConfig(**QUICK), tmp_path / "run", model=build, dataset=few(), quiet=True)
    assert not (tmp_path / "run").exists()


def test_an_option_that_the_function_does_not_take_is_not_ignored():
    with pytest.raises(ConfigError, match="takes no bias"):
        Trainer(TrainConfig(**QUICK, bias=False), few(), take_little)
    trainer = Trainer(TrainConfig(**QUICK, bias=False), few(), take_all)
    assert not any(name.endswith("bias") for name in trainer.model.parameters())


class Doubled(Layer):
    """Not a Sequential: holds a network, and gives its layers names with dots."""

    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.inner = mlp(input_shape, num_classes, widths=(6,))

    def named_layers(self):
        return [(f"deep.{name}", layer) for name, layer in self.inner.named_layers()]

    def trace(self, x, name=""):
        return self.inner.trace(self.as_input(x), "deep")


def tied(input_shape, num_classes):
    """Two layers with one weight, a shortcut and dropout."""
    rng = np.random.default_rng(0)
    first, second = Dense(8, 8, rng=rng), Dense(8, 8, rng=rng)
    second.weight = first.weight
    block = Residual({"first": first, "relu": ReLU(), "second": second})
    return Sequential(
        {
            "flatten": Flatten(),
            "in": Dense(784, 8, rng=rng),
            "drop": Dropout(0.1, rng=rng),
            "block": block,
            "out": Dense(8, num_classes, rng=rng),
        }
    )


def counting(input_shape, num_classes):
    """With a buffer, as the running mean of a normalisation."""
    net = take_little(input_shape, num_classes)

    class Counted(type(net.layers["dense1"])):
        def forward(self, backend, x, *parameters):
            if self.training:
                self.seen = self.seen + len(x)
            return super().forward(backend, x, *parameters)

    layer = net.layers["dense1"]
    layer.__class__ = Counted
    layer.add_buffer("seen", np.zeros(1), "numpy", "float32")
    return net


@pytest.mark.parametrize("build", [Doubled, tied, counting])
def test_any_network_is_trained_killed_resumed_and_opened(build, tmp_path, monkeypatch):
    config = TrainConfig(**{**QUICK, "epochs": 2})
    whole = train(config, tmp_path / "whole", model=build, dataset=few(), quiet=True)
    with monkeypatch.context() as patch:
        interrupt_after(1, patch)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run", model=build, dataset=few(), quiet=True)
    again = resume(tmp_path / "run", model=build, dataset=few(), quiet=True)
    assert {k: v for k, v in again.items() if k != "seconds"} == {
        k: v for k, v in whole.items() if k != "seconds"
    }
    model, meta = load_model(tmp_path / "run", model=build, backend="numpy")
    expected = RunState.load(tmp_path / "whole" / "checkpoint.npz").parameters
    assert set(model.state_dict()) == set(expected)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, expected[name])
    assert meta["config"]["model"] == f"own:{build.__name__}"
    if build is counting:
        assert expected["dense1.seen"] >= 200
    if build is tied:
        assert "block.first.weight" in expected
        assert "block.second.weight" not in expected


# ---- regularizers and rules --------------------------------------------------------------
class SmallLogits(Regularizer):
    label = "logit penalty"
    default_weight = 0.02

    def terms(self, batch):
        return {"logits": (batch.logits**2).mean()}


@pytest.mark.parametrize("given", [SmallLogits, SmallLogits(), lambda: SmallLogits()])
def test_a_regularizer_of_ones_own(given):
    trainer = Trainer(TrainConfig(**QUICK, model="mlp"), few(), regularizer=given)
    assert trainer.config.regularizer.startswith("own:")
    assert trainer.config.penalty_weight == 0.02
    record = trainer.run_epoch()
    assert list(record["penalty_terms"]) == ["logits"]
    config = TrainConfig(**QUICK, model="mlp", regularizer="own:x", regularizer_weight=0.3)
    assert Trainer(config, few(), regularizer=given).config.penalty_weight == 0.3


RULES_GIVEN = [Epsilon(0.5), Composite.uniform(Epsilon(0.5)), lambda: Epsilon(0.5)]


@pytest.mark.parametrize("given", RULES_GIVEN)
def test_a_rule_of_ones_own_is_what_training_uses(given):
    config = TrainConfig(**QUICK, model="mlp")
    ours = Trainer(config, few(), rule=given).run_epoch()
    named = Trainer(TrainConfig(**QUICK, model="mlp", fbi_rule="epsilon:0.5"), few()).run_epoch()
    plain = Trainer(config, few()).run_epoch()
    assert ours["penalty"] == named["penalty"] != plain["penalty"]


def failing():
    class Failing(Regularizer):
        def terms(self, batch):
            raise RuntimeError("no terms")

    return Failing()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"regularizer": take_little}, "missing a required argument"),
        ({"regularizer": few}, "expected a Regularizer, got Dataset"),
        ({"rule": SmallLogits}, "expected a Rule or Composite, got SmallLogits"),
        ({"rule": "epsilon"}, r"fbi_rule='epsilon': expected FILE.py:function, if need be with"),
        ({"model": "FILE.py:build"}, "cannot be read"),
    ],
)
def test_wrong_parts_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        Trainer(TrainConfig(**QUICK, model="mlp"), few(), **options)


# ---- the run folder ----------------------------------------------------------------------
COMMAND = [
    "--epochs",
    "1",
    "--batch-size",
    "50",
    "--backend",
    "numpy",
    "--fbi-gate",
    "0",
    "--quiet",
]
ALL = [
    "--model",
    "net.py:build",
    "--dataset",
    "mine.py:few",
    "--regularizer",
    "mine.py:SmallLogits",
]


def test_the_commands_train_resume_and_say_what_is_missing(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    every = [*ALL, "--fbi-rule", "mine.py:strong:0.2"]
    assert main([*COMMAND, *every, "--out", "run"]) == 0
    config = json.loads(Path("run/config.json").read_text())
    assert config["model"] == "net.py:build"
    assert config["dataset"] == "mine.py:few"
    assert config["regularizer"] == "mine.py:SmallLogits"
    assert config["regularizer_weight"] == 0.02
    assert config["fbi_rule"] == "mine.py:strong:0.2"
    net, mine = (hashlib.sha256(Path(f).read_bytes()).hexdigest() for f in ("net.py", "mine.py"))
    assert config["checksums"] == {
        "model": net,
        "dataset": mine,
        "regularizer": mine,
        "rule": mine,
    }
    assert RunState.load("run/checkpoint.npz").config["checksums"] == config["checksums"]
    for name in ("curves.png", "activations.png", "result.json", "best.npz", "metrics.csv"):
        assert (files / "run" / name).exists()
    more = ["--resume", "run", "--epochs", "2", "--quiet"]
    capsys.readouterr()
    assert main(more) == 2
    said = capsys.readouterr().err
    # one line, and its end is what to type
    assert said.count("\n") == 1
    typed = said.partition("give it again: ")[2].partition(", or in Python")[0].split()
    assert typed[:2] == ["--resume", "run"]
    assert main([*more[2:], *typed]) == 0
    assert json.loads(Path("run/result.json").read_text())["epochs"] == 2


def test_a_changed_file_does_not_slip_into_a_run(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    parts = ALL[:4]
    assert main([*COMMAND, *parts, "--out", "run"]) == 0
    Path("net.py").write_text(NET + "\n# a word more\n")
    more = ["--resume", "run", "--epochs", "2", "--quiet", *parts]
    assert main(more) == 2
    said = capsys.readouterr().err
    assert "net.py is not the file that the run began with" in said
    assert "--changed-parts" in said
    assert main([*more, "--changed-parts"]) == 0
    assert "net.py is not the file" in capsys.readouterr().err
    # from there on the new file is the run's
    config = json.loads(Path("run/config.json").read_text())
    assert config["checksums"]["model"] == hashlib.sha256(Path("net.py").read_bytes()).hexdigest()
    assert main(["--resume", "run", "--epochs", "3", "--quiet", *parts]) == 0
    Path("net.py").write_text(NET)
    with pytest.warns(UserWarning, match="is not the file that the run began with"):
        load_model("run", model="net.py:build", backend="numpy")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "alexnte"], "'alexnet', 'alexnet-overlapping', 'lenet', 'mlp'"),
        (["--model", "net.py:biuld"], "net.py has nothing called 'biuld'; it has build"),
        (["--model", "no.py:build"], "no.py: cannot be read"),
        (["--dataset", "mine.py:few", "--data-dir", "."], "data_dir='.': expected none beside"),
        (["--changed-parts"], "--changed-parts goes with --resume"),
        (["--fbi-rule", "mine.py:strong:-1"], "epsilon=-1.0"),
        (["--regularizer", "mine.py:strong"], "expected a Regularizer, got Epsilon"),
    ],
)
def test_what_is_wrong_in_a_command_is_one_line(files, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(files)
    try:
        code = main([*COMMAND, *arguments])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    found = capsys.readouterr().err
    assert said in found
    assert found.count("\n") == 1
    assert not Path("runs").exists()


def test_code_that_fails_within_a_part_is_one_line(files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    Path("bad.py").write_text(
        "from minifbi.regularizers import Regularizer\n"
        "from minifbi.layers import ReLU, Sequential\n"
        "from net import build\n\n"
        "class Terms(Regularizer):\n"
        "    def terms(self, batch):\n"
        "        return {'x': batch.nothing}\n\n"
        "class Odd(ReLU):\n"
        "    def forward(self, backend, x):\n"
        "        return x + undefined, x\n\n"
        "def odd(input_shape, num_classes, **options):\n"
        "    net = build(input_shape, num_classes, **options)\n"
        "    net.layers['relu'] = Odd()\n"
        "    return net\n\n"
        "def net(input_shape, num_classes):\n"
        "    raise ValueError('not yet')\n"
    )
    for flags, said in {
        ("--model", "bad.py:net"): r"bad.py, line 19, in net: ValueError: not yet",
        ("--model", "bad.py:odd"): r"bad.py, line 11, in forward while",
        ("--regularizer", "bad.py:Terms"): r"bad.py, line 7, in terms while",
    }.items():
        assert main([*COMMAND, "--dataset", "mine.py:few", *flags]) == 2
        found = capsys.readouterr().err
        assert said in found
        assert found.count("\n") == 1
    assert not Path("runs").exists()


def test_a_resumed_run_takes_the_parts_that_it_had_and_no_others(files):
    net, run = f"{files}/net.py:build", files / "run"
    train(TrainConfig(**QUICK, model="mlp"), run, dataset=few(), quiet=True, figures=False)
    with pytest.raises(ConfigError, match=r"model='mlp', which is not of your own; resume it with"):
        resume(run, model=net, dataset=few(), epochs=2)
    (files / "net.py").write_text(NET + "\nother = build\n")
    train(TrainConfig(**QUICK), files / "own", model=net, dataset=few(), quiet=True, figures=False)
    with pytest.raises(
        ConfigError, match=r"the network of the run is net.py:build, not net.py:oth"
    ):
        resume(files / "own", model=f"{files}/net.py:other", dataset=few(), epochs=2)
    (files / "moved").mkdir()
    (files / "net.py").rename(files / "moved" / "new_name.py")
    moved = f"{files}/moved/new_name.py:build"  # the same content under another name
    assert resume(files / "own", model=moved, dataset=few(), epochs=2, quiet=True)["epochs"] == 2


def test_what_does_not_need_a_part_works_without_it(files):
    train(
        TrainConfig(**QUICK, model="mlp"),
        files / "run",
        regularizer=f"{files}/mine.py:SmallLogits",
        rule=f"{files}/mine.py:strong",
        dataset=f"{files}/mine.py:few",
        quiet=True,
    )
    model, meta = load_model(files / "run", backend="numpy")
    assert model(few().test.batch([0])[0]).shape == (1, 10)
    with pytest.raises(ConfigError, match=r"data set 'mine\.py:few' is your own"):
        load_run_data(meta)
    assert load_run_data(meta, dataset=f"{files}/mine.py:few").name == "few digits"


def test_explain_opens_runs_with_parts_of_ones_own(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    config = TrainConfig(**QUICK)
    data = {"dataset": "mine.py:few", "quiet": True, "figures": False}
    train(config, "a", model="net.py:build", regularizer="mine.py:SmallLogits", **data)
    train(TrainConfig(**QUICK, model="mlp"), "b", rule="mine.py:strong", **data)
    Path("wide.py").write_text(
        NET.replace("channels, 2,", "channels, 4,").replace("2 * (", "4 * (")
    )
    train(config, "c", model="wide.py:build", **data)
    every = ["a", "b", "c", "--backend", "numpy", "--out", "three.png"]
    networks = ["--model", "wide.py:build", "--model", "net.py:build"]
    assert explain_main([*every, *networks, "--dataset", "mine.py:few"]) == 0
    said = capsys.readouterr().out
    assert "a: build on few digits, SmallLogits with weight 0.02, epoch 1" in said
    assert Path("three.png").exists()
    # what does not need a part works without it
    stroke = np.zeros((28, 28), np.uint8)
    stroke[6:22, 12:16] = 255
    Image.fromarray(stroke).save("stroke.png")
    assert explain_main(["b", "--backend", "numpy", "--image", "stroke.png"]) == 0
    assert explain_main(["b", "--backend", "numpy"]) == 2
    assert "--dataset mine.py:few" in capsys.readouterr().err
    assert explain_main([*every, "--dataset", "mine.py:few"]) == 1
    assert "--model net.py:build" in capsys.readouterr().err
    Path("net.py").write_text(NET + "# changed\n")
    assert (
        explain_main(["a", *every[3:], "--model", "net.py:build", "--dataset", "mine.py:few"]) == 0
    )
    assert "net.py is not the file that the run began with" in capsys.readouterr().err


def test_a_run_names_data_that_was_given_unless_it_is_what_the_option_says(tmp_path):
    config = TrainConfig(**QUICK, model="mlp")
    train(config, tmp_path / "cut", dataset=few(), quiet=True, figures=False)
    assert load_model(tmp_path / "cut")[1]["config"]["dataset"] == "mnist"
    from minifbi.datasets import Dataset

    cut = few()
    other = Dataset("shapes", cut.train, cut.validation, cut.test, 10, cut.class_names)
    train(config, tmp_path / "other", dataset=other, quiet=True, figures=False)
    assert load_model(tmp_path / "other")[1]["config"]["dataset"] == "own:shapes"


def test_names_added_to_the_tables_work_and_the_run_opens_elsewhere(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(REGULARIZERS, "small-logits", SmallLogits)
        patch.setitem(RULES, "strong", lambda: Composite.uniform(Epsilon(0.5)))
        config = TrainConfig(**QUICK, model="mlp", regularizer="small-logits", fbi_rule="strong")
        train(config, tmp_path / "run", dataset=few(), quiet=True, figures=False)
        resume(tmp_path / "run", epochs=2, dataset=few(), quiet=True, figures=False)
    meta = load_model(tmp_path / "run", backend="numpy")[1]
    assert load_run_data(meta).name == "mnist"
    with pytest.raises(
        ConfigError, match="regularizer 'own:small-logits', the rule 'own:strong' are"
    ):
        resume(tmp_path / "run", epochs=3, dataset=few())
    parts = {"regularizer": SmallLogits, "rule": Epsilon(0.5)}
    assert resume(tmp_path / "run", epochs=3, dataset=few(), quiet=True, **parts)["epochs"] == 3


def test_folders_of_runs_have_names_that_every_system_takes():
    config = TrainConfig(
        model="my nets/a.py:build", regularizer="own:<lambda>", regularizer_weight=2
    )
    assert str(default_folder(config)) == "runs/build-mnist-_lambda_-2-seed0"


# ---- nothing that a run names is run -----------------------------------------------------
def everywhere(value, trap):
    """Every text in a JSON value replaced, one at a time."""
    if isinstance(value, str):
        yield trap
    elif isinstance(value, dict):
        for name, item in value.items():
            for changed in everywhere(item, trap):
                yield {**value, name: changed}
    elif isinstance(value, list):
        for i, item in enumerate(value):
            for changed in everywhere(item, trap):
                yield [*value[:i], changed, *value[i + 1 :]]


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("honest")
    train(
        TrainConfig(**QUICK, model="mlp"), folder / "run", dataset=few(), quiet=True, figures=False
    )
    return folder / "run"


def open_in_every_way(folder, config, data):
    """Whatever a run is good for; each may fail, with an error that minifbi raises on purpose."""
    meta = {**RunState.load(folder / "checkpoint.npz").__dict__, "config": config}
    for attempt in (
        lambda: load_model(folder, backend="numpy"),
        lambda: load_run_data(meta),
        lambda: resume(folder, epochs=2, dataset=data, quiet=True, figures=False),
        lambda: TrainConfig.from_dict(config),
        lambda: train(TrainConfig.from_run(config), folder / "new", dataset=data, quiet=True),
    ):
        with contextlib.suppress(MinifbiError):
            attempt()


@pytest.mark.parametrize("form", ["{}:build", "{}:build:0.1"])
def test_a_planted_path_is_never_run(honest, tmp_path, form):
    planted, mark = tmp_path / "planted.py", tmp_path / "mark"
    planted.write_text(f"open({str(mark)!r}, 'w')\nbuild = None\n")
    state = RunState.load(honest / "checkpoint.npz")
    stored = {**state.config, "data_dir": "", "epochs": 1}
    modules = set(sys.modules)
    for number, config in enumerate(everywhere(stored, form.format(planted))):
        state.config = config
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        state.save(folder / "checkpoint.npz")
        (folder / "config.json").write_text(json.dumps(config))
        open_in_every_way(folder, config, few())
        assert not mark.exists(), config
    assert number > 8  # each option that is a text was one
    assert not {name for name in set(sys.modules) - modules if "planted" in name}


def test_opening_a_run_with_a_planted_path_as_a_user_would(honest, tmp_path):
    mark = tmp_path / "mark"
    (tmp_path / "planted.py").write_text(f"open({str(mark)!r}, 'w')\n")
    state = RunState.load(honest / "checkpoint.npz")
    state.config.update(model="planted.py:build", dataset="planted.py:build")
    (tmp_path / "run").mkdir()
    state.save(tmp_path / "run" / "checkpoint.npz")
    (tmp_path / "run" / "config.json").write_text(json.dumps(state.config))
    for arguments in (("explain", "run"), ("train", "--resume", "run", "--epochs", "2")):
        done = command(*arguments, cwd=tmp_path)
        assert done.returncode in (1, 2)
        assert "--model planted.py:build" in done.stderr
        assert done.stderr.count("\n") == 1
        assert not mark.exists()
