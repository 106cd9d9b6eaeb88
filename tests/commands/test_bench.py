"""The benchmark's bookkeeping: what it counts, checks and writes.  Never how fast it is."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from helpers import command

from minifbi.benchmark.arithmetic import matrix_product_peak, multiply_adds, step_gflop
from minifbi.benchmark.race import Contender, RaceError, race, ratios, write_case
from minifbi.benchmark.scaling import AXES, plot_scaling
from minifbi.models import alexnet, mlp, resnet


def test_multiply_adds_of_the_default_net():
    """Each convolution: output pixels x filters x channels x kernel, by hand."""
    expected = [
        28 * 28 * 16 * 1 * 25,
        14 * 14 * 16 * 16 * 25,
        7 * 7 * 32 * 16 * 9,
        7 * 7 * 32 * 32 * 9,
        7 * 7 * 32 * 32 * 9,
        288 * 128,
        128 * 128,
        128 * 10,
    ]
    assert multiply_adds(alexnet(backend="numpy"), (1, 28, 28)) == expected


def test_counting_leaves_running_statistics_alone():
    net = resnet((1, 4, 4), backend="numpy")  # one image leaves one number per channel at the end
    before = net.state_dict()
    assert len(multiply_adds(net, (1, 4, 4))) == 10
    assert net.training
    assert all((before[name] == array).all() for name, array in net.state_dict().items())


def test_step_gflop_is_the_cost_of_the_passes():
    net = mlp((1, 2, 2), 3, widths=(5,), backend="numpy")
    forward, first = 4 * 5 + 5 * 3, 4 * 5
    assert step_gflop(net, (1, 2, 2), 7, "inference") == pytest.approx(2e-9 * 7 * forward)
    conventional = step_gflop(net, (1, 2, 2), 7, "conventional")
    assert conventional == pytest.approx(2e-9 * 7 * (3 * forward - first))
    assert step_gflop(net, (1, 2, 2), 7, "fbi") == pytest.approx(2e-9 * 7 * (6 * forward - first))


def test_peak_is_a_rate():
    assert 0.01 < matrix_product_peak(size=64, repeats=2) < 1e6


def test_ratios_take_the_fastest_peer_in_its_faster_form():
    def row(who, form, step, ms):
        return {
            "who": who,
            "backend": "numba" if who == "minifbi" else "torch",
            "form": form,
            "batch": 64,
            "step": step,
            "median_ms": ms,
        }

    found = ratios(
        [
            row("minifbi", "ratio", "fbi", 3.0),
            row("torch-eager", "ratio", "fbi", 8.0),
            row("torch-eager", "divided", "fbi", 6.0),
            row("torch-compile", "ratio", "fbi", 7.0),
            row("torch-eager", "ratio", "inference", 1.0),
        ]
    )
    assert len(found) == 1
    assert found[0]["ratio"] == 0.5
    assert (found[0]["peer"], found[0]["form"]) == ("torch-eager", "divided")


@pytest.mark.parametrize(("size", "batch"), [(28, 3), (40, 2)])
def test_a_case_holds_real_digits_and_fits_the_model(tmp_path, size, batch):
    file, net = write_case(tmp_path, batch, size=size)
    with np.load(file, allow_pickle=False) as arrays:
        assert arrays["images"].shape == (batch, 1, size, size)
        assert 0.5 < arrays["images"].max() <= 1
        assert arrays["labels"].tolist() == [5, 0, 4][:batch]
        for name, p in net.parameters().items():
            np.testing.assert_array_equal(arrays[name], p.data)


def test_command_and_json(tmp_path):
    file = tmp_path / "bench.json"
    arguments = "--backend numpy --model mlp --batch 4 8 --repeats 2 --threads 1".split()
    done = command("bench", *arguments, "--json", file)
    assert done.returncode == 0, done.stderr
    assert "images/s" in done.stdout
    outcome = json.loads(file.read_text())
    assert len(outcome["results"]) == 6
    for result in outcome["results"]:
        assert result["who"] == "minifbi"
        assert result["backend"] == "numpy"
        assert result["step"] in ("inference", "conventional", "fbi")
        assert 0 < result["p10_ms"] <= result["median_ms"] <= result["p90_ms"]
        assert result["peak_memory_mb"] > 10
        assert result["images_per_s"] == pytest.approx(1e3 * result["batch"] / result["median_ms"])
    assert outcome["ratios"] == []


def test_two_backends_are_checked_equal():
    outcome = race(["numpy", "numpy"], [2], model="mlp", repeats=1)
    assert len(outcome["results"]) == 6


def test_a_contender_that_computes_something_else_is_found(tmp_path, monkeypatch):
    real = Contender.ask

    def cheat(self, **command):
        answer = real(self, **command)
        if command["do"] == "gradients" and "1.npz" in command["file"]:
            with np.load(command["file"]) as arrays:
                changed = {name: arrays[name] * 1.01 for name in arrays.files}
            np.savez(command["file"], **changed)
        return answer

    monkeypatch.setattr(Contender, "ask", cheat)
    with pytest.raises(RaceError, match="computes something else"):
        race(["numpy", "numpy"], [2], model="mlp", repeats=1)


def test_a_contender_that_dies_is_reported(tmp_path):
    contender = Contender({"who": "minifbi", "backend": "numpy", "case": "/nowhere.npz"})
    contender.start()
    with pytest.raises(RaceError, match="stopped"):
        contender.ask(do="peak")
    contender.stop()


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is here")
def test_without_pytorch():
    done = command("bench", "--peer", "torch")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install torch" in done.stderr


def test_scaling_figure(tmp_path):
    points = [
        {
            "axis": axis,
            "value": value,
            "step": step,
            "ms_per_sample": 0.1 * value,
            "gflop_per_sample": 0.01 * value,
            "peak_memory_mb": 100.0 + value,
        }
        for axis, values in AXES.items()
        for value in values
        for step in ("conventional", "fbi")
    ]
    plot_scaling({"points": points, "peak_gflops": 100.0}, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


@pytest.mark.parametrize("flag", [["--batch", "0"], ["--threads", "-1"], ["--threads", "9999"]])
def test_wrong_arguments(flag):
    done = command("bench", *flag)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_threads_of_the_trainer(tmp_path):
    done = command("train", "--threads", "-2")
    assert done.returncode == 2
    assert "threads" in done.stderr
