"""Training on the cupy backend without a GPU: what waits, what is said, what moves where."""

from __future__ import annotations

import importlib.metadata
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import strict_cupy
from helpers import command, small_mnist

from minifbi import Tensor, backends, cli, diagnosis, doctor
from minifbi.backends import backend_status, cupy_backend, cupy_device, get_backend
from minifbi.datasets import Dataset, Split
from minifbi.datasets.resident import ResidentSplit, bring_near
from minifbi.errors import (
    BackendUnavailableError,
    DeviceError,
    DeviceMemoryError,
    NonFiniteError,
)
from minifbi.fusion import fuse
from minifbi.layers import Conv2d, Dense, Flatten, MaxPool2d, ReLU, Sequential
from minifbi.optim import Adam
from minifbi.training import RunState, TrainConfig, Trainer, load_model, three_step, train


def small_net(backend: str) -> Sequential:
    """All that a step needs: fused blocks with and without pooling, and a dense layer."""
    return Sequential(
        {
            "conv1": Conv2d(1, 3, 5, stride=2, backend=backend),
            "relu1": ReLU(),
            "pool1": MaxPool2d(2),
            "conv2": Conv2d(3, 4, 3, padding=1, backend=backend, rng=1),
            "relu2": ReLU(),
            "flatten": Flatten(),
            "dense": Dense(4 * 6 * 6, 10, backend=backend, rng=2),
        }
    )


def tiny() -> Dataset:
    return small_mnist(192, 48, 40)


def trainer_on(backend: str, **options) -> Trainer:
    settings = {"epochs": 2, "batch_size": 32, "fbi_gate": 0.0, "gate_interval": 3, **options}
    return Trainer(TrainConfig(backend=backend, **settings), tiny(), small_net(backend))


# ---- nothing waits ----------------------------------------------------------------------
def test_a_step_looks_at_no_number(strict):
    """Forward, relevance and backward pass, the optimiser and the log: all only queued."""
    trainer = trainer_on("cupy")
    trainer._near("train")
    trainer.run_epoch()  # what is made once has been made
    batches = ResidentSplit(tiny().train, strict)
    order = strict.asarray(np.arange(64))
    from minifbi.training.log import EpochLog

    log, before = EpochLog(strict), strict_cupy.synchronizations
    for start in (0, 32):
        chosen = slice(start, start + 32)
        trainer._update(batches, np.arange(64)[chosen], order[chosen], log)
    assert strict_cupy.synchronizations == before
    assert len(log) == 2
    records = log.read()  # two transfers: the losses of all steps, and the hits
    assert strict_cupy.synchronizations == before + 2
    assert all(np.isfinite(record.loss) for record in records)


def test_an_epoch_waits_a_handful_of_times(strict):
    trainer = trainer_on("cupy", fbi_gate=0.0)
    before = strict_cupy.synchronizations
    trainer.run_epoch()
    # the losses and hits (2), all parameters finite (1), validation (2): whatever the steps
    assert strict_cupy.synchronizations - before == 5


def test_images_go_to_the_device_once(strict):
    trainer = trainer_on("cupy")
    trainer.run_epoch()
    before = strict_cupy.uploads
    trainer.run_epoch()
    assert strict_cupy.uploads - before == 1  # the permutation


def test_the_windows_of_a_gradient_are_written_once(strict):
    model, (x, labels) = small_net("cupy"), tiny().train.batch(slice(0, 8))
    model = fuse(model)
    three_step(model, x, labels)
    strict_cupy.launches.clear()
    three_step(model, x, labels)
    # forward 2, adjoint of relevance 2, weight gradients of the forward pass 2
    assert strict_cupy.launches.count("im2col") == 6
    assert strict._kept is None  # and nothing is held after the step


# ---- the same numbers -------------------------------------------------------------------
def test_the_same_run_as_on_numpy(strict):
    runs = {name: trainer_on(name) for name in ("numpy", "cupy")}
    records = {name: [trainer.run_epoch() for _ in range(2)] for name, trainer in runs.items()}
    for ours, reference in zip(records["cupy"], records["numpy"], strict=True):
        for name in ("task_loss", "penalty"):
            assert ours[name] == pytest.approx(reference[name], rel=2e-3)
        assert ours["val_accuracy"] == pytest.approx(reference["val_accuracy"], abs=0.05)
        assert ours.keys() == reference.keys()
    history = {name: trainer.history for name, trainer in runs.items()}
    assert history["cupy"]["step"] == history["numpy"]["step"] == list(range(1, 13))
    # the first step starts from the same weights and the same batch
    for name in ("task_loss", "penalty"):
        assert history["cupy"][name][0] == pytest.approx(history["numpy"][name][0], rel=1e-5)


@pytest.mark.parametrize("pixels", [np.uint8, np.float32])
def test_resident_batches_are_those_of_the_host(strict, pixels):
    split = tiny().train
    if pixels != np.uint8:
        split = Split.from_arrays(split.batch(slice(None), pixels)[0], split.labels)
    near = bring_near(split, strict)
    assert isinstance(near, ResidentSplit)
    assert len(near) == len(split)
    for indices in (slice(3, 9), np.array([5, 0, 5])):
        for dtype in (np.float32, np.float64):
            ours, reference = near.batch(indices, dtype), split.batch(indices, dtype)
            np.testing.assert_array_equal(ours[0].numpy(), reference[0])
            assert ours[0].dtype == dtype
            np.testing.assert_array_equal(strict.to_numpy(ours[1]), reference[1])


def test_images_that_do_not_fit_stay_on_the_host(strict):
    split = tiny().train
    with strict_cupy.limited(split.images.nbytes):
        assert bring_near(split, strict) is split
    assert bring_near(split, get_backend("numpy")) is split


def test_adam_agrees_with_the_reference():
    """The fused step of the contract is Algorithm 1 as the optimiser spelled it out."""
    p = Tensor(np.array([1.0, -2.0]), True)
    optimizer, expected = Adam({"p": p}, lr=0.1), np.array([1.0, -2.0])
    mean = square = np.zeros(2)
    for t, g in enumerate(np.array([[0.5, 1.0], [-1.0, 2.0], [0.1, 0.0]]), 1):
        p.grad = g
        optimizer.step()
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g * g
        scaled = mean / (1 - 0.9**t) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
        expected = expected - 0.1 * scaled
        np.testing.assert_allclose(p.numpy(), expected, rtol=1e-12)


# ---- checkpoints move -------------------------------------------------------------------
def test_checkpoints_move_between_backends(strict, tmp_path):
    options = {"model": "mlp", "batch_size": 64, "fbi_gate": 0.0, "epochs": 1}
    train(
        TrainConfig(backend="cupy", **options), tmp_path, dataset=tiny(), quiet=True, figures=False
    )
    assert json.loads((tmp_path / "result.json").read_text())["backend"] == "cupy"
    x, _ = tiny().test.batch(slice(0, 9))
    logits = []
    for name in ("numpy", "cupy"):
        model, _ = load_model(tmp_path, backend=name)
        assert model.backend.name == name
        logits.append(model(x).numpy())
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-4, atol=1e-5)
    # the optimiser's memory too
    other = Trainer(TrainConfig(backend="numpy", **{**options, "epochs": 2}), tiny())
    other.load_state(RunState.load(tmp_path / "checkpoint.npz"))
    assert np.isfinite(other.run_epoch()["task_loss"])
    back = Trainer(TrainConfig(backend="cupy", **{**options, "epochs": 3}), tiny())
    back.load_state(other.state())
    assert back.run_epoch()["epoch"] == 3


# ---- what is said -------------------------------------------------------------------------
def test_a_loss_that_is_not_finite_is_found_and_its_step_named(strict):
    trainer = trainer_on("cupy", lr=1e30)
    reference = trainer_on("numpy", lr=1e30)
    said = []
    for one in (trainer, reference):
        with pytest.raises(NonFiniteError, match="at step") as found:
            one.run_epoch()
        said.append(re.search(r"at step (\d+)", str(found.value))[1])
    assert said[0] == said[1]


def test_nan_pixels_are_found_before_they_leave_the_host(strict):
    x = np.zeros((2, 1, 28, 28))
    x[1, 0, 3, 3] = np.nan
    with pytest.raises(NonFiniteError, match="1 values"):
        small_net("cupy")(x)


def test_out_of_memory_names_a_batch_size_that_fits(strict):
    def peak(batch):
        trainer = trainer_on("cupy", batch_size=batch)
        x, labels = tiny().train.batch(slice(0, batch))
        with strict_cupy.limited(2**40):
            three_step(trainer.model, x, labels)
            return strict_cupy.memory.used

    trainer = trainer_on("cupy", batch_size=128)
    trainer._near("train")
    limit = peak(64)
    with strict_cupy.limited(limit):
        with pytest.raises(DeviceMemoryError) as found:
            trainer.run_epoch()
        assert isinstance(found.value, MemoryError)
    text = str(found.value)
    assert "\n" not in text
    fits = int(re.search(r"at batch size 128: .* --batch-size (\d+) should fit", text)[1])
    assert 1 <= fits < 128
    assert peak(fits) <= limit


@pytest.mark.parametrize(
    ("needed", "available", "expected"), [(100, 100, 64), (400, 100, 16), (1000, 1, 0), (0, 9, 64)]
)
def test_fitting_batch(needed, available, expected):
    assert cupy_device.fitting_batch(128, needed, available) == expected


def test_a_lost_device_is_one_line_and_exit_code_1(strict, capsys, monkeypatch):
    lost = strict_cupy.CUDARuntimeError(719, "cudaErrorLaunchFailure: unspecified\nlaunch failure")

    def fail(*_):
        raise lost

    trainer = trainer_on("cupy")
    monkeypatch.setattr(strict_cupy, "executor", fail)
    with pytest.raises(DeviceError, match=r"cudaErrorLaunchFailure.*--resume"):
        trainer.run_epoch()
    assert cli.run_command(fail, "minifbi.train") == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("minifbi.train: error: the GPU stopped working")


def test_bugs_keep_their_traceback():
    def bug():
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        cli.run_command(bug, "minifbi.train")


# ---- CuPy is missing, or broken -----------------------------------------------------------
def pretend_installed(monkeypatch, **versions):
    def version(name):
        if name.replace("-", "_") in versions:
            return versions[name.replace("-", "_")]
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def fake_cupy(count, error=None):
    def devices():
        if error is not None:
            raise error
        return count

    runtime = SimpleNamespace(getDeviceCount=devices)
    return SimpleNamespace(
        cuda=SimpleNamespace(runtime=runtime), ones=strict_cupy.ones, asnumpy=strict_cupy.asnumpy
    )


def test_not_installed(monkeypatch):
    pretend_installed(monkeypatch)
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    with pytest.raises(
        BackendUnavailableError, match=r"not installed; .*minifbi\[cuda12\].*cuda13"
    ):
        cupy_device.load_cupy()


def test_installed_twice(monkeypatch):
    pretend_installed(monkeypatch, cupy_cuda12x="14.1.0", cupy_cuda13x="14.2.0")
    expected = (
        r"2 times, as cupy-cuda12x 14.1.0 and cupy-cuda13x 14.2.0.*pip uninstall cupy-cuda12x"
    )
    with pytest.raises(BackendUnavailableError, match=expected):
        cupy_device.load_cupy()
    assert "INSTALLED TWICE" in diagnosis.versions()["cupy"]


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (fake_cupy(1, strict_cupy.CUDARuntimeError(35, "too old")), "no NVIDIA driver"),
        (fake_cupy(1, strict_cupy.CUDARuntimeError(100, "none")), "finds no NVIDIA GPU"),
        (fake_cupy(0), "finds no NVIDIA GPU"),
        (fake_cupy(1, strict_cupy.CUDARuntimeError(999, "odd\nthing")), "odd thing"),
    ],
)
def test_no_driver_or_device(module, expected):
    with pytest.raises(BackendUnavailableError, match=expected) as found:
        cupy_device.check_device(module)
    assert "\n" not in str(found.value)
    assert "--backend numba" in str(found.value)


def test_libraries_are_missing():
    module = fake_cupy(1)

    def missing(*_, **__):
        raise ImportError("libcublas.so.12: cannot open shared object file")

    module.ones = missing
    with pytest.raises(BackendUnavailableError, match=r"libcublas.*minifbi\[cuda12\]"):
        cupy_device.check_device(module)
    cupy_device.check_device(fake_cupy(1))


@pytest.mark.skipif(backend_status()["cupy"] == "ok", reason="there is a GPU here")
@pytest.mark.parametrize("program", ["train", "bench"])
def test_commands_without_a_gpu(program, tmp_path):
    more = ["--out", tmp_path / "run"] if program == "train" else []
    done = command(program, "--backend", "cupy", *more)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "backend 'cupy' cannot run here" in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_doctor_knows_the_cards(strict, monkeypatch):
    runtime = SimpleNamespace(
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda n: {
            "name": b"Card",
            "major": 9,
            "minor": 0,
            "totalGlobalMem": 2**33,
        },
        driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 12090,
    )
    monkeypatch.setattr(strict_cupy.cuda, "runtime", runtime)
    report = doctor.examine()
    assert report["backends"]["cupy"] == "ok"
    assert report["cuda"] == {
        "devices": [{"name": "Card", "compute_capability": "9.0", "memory_mb": 8192}],
        "driver": "13.0",
        "runtime": "12.9",
    }
    assert "Card, compute capability 9.0, 8,192 MiB" in doctor.describe(report)
    assert backends.get_backend("auto").name != "cupy"


# ---- the stand-in itself --------------------------------------------------------------------
def test_the_stand_in_refuses_what_cupy_refuses(strict):
    x = strict.asarray(np.ones((2, 3)))
    for mix in (
        lambda: np.asarray(x),
        lambda: x + np.ones((2, 3)),
        lambda: np.ones((2, 3)) + x,
        lambda: strict_cupy.maximum(x, np.zeros((2, 3))),
        lambda: np.sum(x),
        lambda: x.__setitem__(0, np.ones(3)),
    ):
        with pytest.raises(TypeError):
            mix()
    assert not hasattr(strict_cupy, "einsum_path")
    assert (np.float32(2) * x).dtype == np.float64
    assert x.T.flags.c_contiguous is False
    assert (x.T + 1).flags.c_contiguous
    assert x.sum().shape == ()
    for arguments in ((x.T, x, x, 6), (x, x, x, np.int64(6)), (x, x, x)):
        with pytest.raises(AssertionError):
            strict._run("gate", 6, *arguments)
    assert np.isnan(strict_cupy.empty(3).get()).all()


def test_wide_indices_where_an_int_is_too_small(strict, monkeypatch):
    monkeypatch.setattr(cupy_backend, "NARROW", 10)
    x, w = np.ones((2, 1, 3, 3)), np.ones((1, 1, 2, 2))
    z = strict.conv2d(strict.asarray(x), strict.asarray(w), (1, 1), (0, 0))
    assert (strict.to_numpy(z) == 4).all()
    assert any(wide for _, _, wide in strict._kernels)


# ---- on a card --------------------------------------------------------------------------------
@pytest.mark.gpu
@pytest.mark.parametrize("model", ["alexnet", "lenet", "mlp"])
def test_float32_gradients_on_a_card(model):
    """Within 1e-4 of NumPy's in float64, in norm, for each parameter."""
    from minifbi.models import build_model

    x, labels = small_mnist().train.batch(slice(0, 64))
    found = {}
    for backend, dtype in (("numpy", np.float64), ("cupy", np.float32)):
        net = build_model(model, backend=backend, dtype=dtype)
        three_step(net, x.astype(dtype), labels, weight=0.1)
        found[backend] = {n: net.backend.to_numpy(p.grad) for n, p in net.parameters().items()}
    for name, reference in found["numpy"].items():
        error = np.linalg.norm(found["cupy"][name] - reference) / np.linalg.norm(reference)
        assert error < 1e-4, name


@pytest.mark.gpu
def test_training_on_a_card_learns_as_on_the_cpu():
    options = {"model": "alexnet", "epochs": 6, "batch_size": 64, "gate_interval": 5}
    trainer = Trainer(TrainConfig(backend="cupy", **options), small_mnist())
    records = [trainer.run_epoch() for _ in range(6)]
    assert records[-1]["val_accuracy"] > 0.7
    assert records[-1]["task_loss"] < records[0]["task_loss"]


@pytest.mark.gpu
def test_the_worker_of_the_bench_on_a_card():
    done = command(
        "bench", "--backend", "cupy", "--model", "mlp", "--batch", "64", "--repeats", "3"
    )
    assert done.returncode == 0, done.stderr
    assert "cuBLAS" in done.stdout
