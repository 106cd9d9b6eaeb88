"""The curves of a run, and figures as files."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from figure_checks import assert_texts_apart
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minifbi.errors import ConfigError, ShapeError
from minifbi.models import lenet, mlp
from minifbi.plots import plot_activations, plot_curves, save_figure
from minifbi.plots.curves import running_mean

RNG = np.random.default_rng(7)
IMAGE = RNG.random((1, 28, 28)).astype(np.float32)


# ---- curves ------------------------------------------------------------------------------
def a_run(steps: int, gate: int | None) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    step = np.arange(1, steps + 1)
    after = step > (math.inf if gate is None else gate)
    history = {
        "step": step,
        "task_loss": 2 * np.exp(-step / (steps / 5)) + 0.02 * RNG.random(steps) + 0.01,
        "penalty": np.where(after, 100 + 20 * RNG.random(steps), np.nan),
        "val_step": step[9::10],
        "val_accuracy": 1 - 0.9 * np.exp(-step[9::10] / (steps / 5)),
    }
    epochs: list[dict[str, Any]] = []
    for number in range(1, 5):
        end = steps * number // 4
        active = gate is not None and end > gate
        epochs.append(
            {
                "epoch": number,
                "step": end,
                "task_loss": float(history["task_loss"][:end].mean()),
                "penalty": 110.0 if active else None,
                "penalty_terms": {"conv1": 5.0 * number, "dense2": 400.0} if active else None,
                "val_accuracy": 0.9,
                "learning_rate": 0.1,
                "seconds": 1.0,
                "penalty_active": active,
            }
        )
    return history, epochs


def lines_with(axes: Axes, label: str) -> list[Any]:
    return [line for line in axes.lines if line.get_label() == label]


@pytest.mark.parametrize("gate", [0, 35, 300])
def test_curves_mark_the_gate(gate: int) -> None:
    history, epochs = a_run(400, gate)
    figure = plot_curves(history, epochs, gate_step=gate, title="t", gate_threshold=0.65)
    assert len(figure.axes) == 4
    for axes in figure.axes[:3]:
        (line,) = [line for line in axes.lines if line.get_gid() == "gate"]
        assert list(line.get_xdata()) == [gate, gate]
        assert line.get_linestyle() == "--"
        assert any(text.get_text() == f"gate: step {gate}" for text in axes.texts)
    assert not [line for line in figure.axes[3].lines if line.get_gid() == "gate"]
    (threshold,) = lines_with(figure.axes[2], "gate threshold 0.65")
    assert list(threshold.get_ydata()) == [0.65, 0.65]
    assert_texts_apart(figure)


@pytest.mark.parametrize("rising", [True, False])
def test_curves_of_another_regularizer(rising: bool) -> None:
    history, epochs = a_run(400, 100)
    step = history["step"]
    history["penalty"] = np.where(step > 100, step if rising else 500.0 - step, np.nan)
    for record, mean in zip(epochs, (None, 210.0, 250.0, 290.0), strict=True):
        record["penalty"] = mean
    figure = plot_curves(history, epochs, gate_step=100, title="t", label="L1 penalty")
    _, panel, _, terms = figure.axes
    assert panel.get_title(loc="left") == "L1 penalty"
    (measured,) = lines_with(panel, "measured")
    np.testing.assert_array_equal(measured.get_ydata(), history["penalty"])
    (means,) = lines_with(panel, "mean of an epoch")
    np.testing.assert_array_equal(means.get_ydata(), [np.nan, 210.0, 250.0, 290.0])
    assert terms.get_title(loc="left") == "terms of the L1 penalty"
    assert_texts_apart(figure)
    # the legend stands where the curve does not
    figure.draw_without_rendering()
    box = panel.get_legend().get_window_extent()
    points = panel.transData.transform(np.stack([step, history["penalty"]], axis=1)[100:])
    assert not any(box.contains(*point) for point in points)


def test_curves_show_the_numbers() -> None:
    history, epochs = a_run(400, 100)
    task, fbi, accuracy, terms = plot_curves(history, epochs, gate_step=100, title="t").axes
    (raw,) = lines_with(task, "measured")
    (mean,) = lines_with(task, "running mean")
    np.testing.assert_array_equal(raw.get_ydata(), history["task_loss"])
    assert raw.get_alpha() < 1
    assert mean.get_linewidth() > raw.get_linewidth()
    assert task.get_yscale() == "log"
    assert fbi.get_yscale() == "linear"  # 100 to 120
    (raw,) = lines_with(fbi, "measured")
    np.testing.assert_array_equal(raw.get_ydata(), history["penalty"])
    (dots,) = lines_with(fbi, "mean of an epoch")
    np.testing.assert_array_equal(dots.get_xdata()[1:], [150.5, 250.5, 350.5])
    np.testing.assert_array_equal(accuracy.lines[0].get_ydata(), history["val_accuracy"])
    assert terms.get_yscale() == "log"
    (conv1,) = lines_with(terms, "conv1")
    np.testing.assert_array_equal(conv1.get_xdata(), [1, 2, 3, 4])
    np.testing.assert_array_equal(conv1.get_ydata(), [np.nan, 10, 15, 20])
    # one scale of steps for all
    assert task.get_xlim() == fbi.get_xlim() == accuracy.get_xlim()


def test_conventional_training_says_not_measured() -> None:
    history, epochs = a_run(100, None)
    figure = plot_curves(history, epochs, gate_step=None, title="t")
    _, fbi, _, terms = figure.axes
    for axes in (fbi, terms):
        assert [text.get_text() for text in axes.texts] == ["not measured"]
    assert not [line for axes in figure.axes for line in axes.lines if line.get_gid() == "gate"]
    assert_texts_apart(figure)


@pytest.mark.parametrize("points", [0, 1, 2])
@pytest.mark.parametrize("value", [1.5, 0.0, math.nan, math.inf])
def test_curves_of_hardly_anything(points: int, value: float) -> None:
    history = {
        name: np.full(points, 1 if "step" in name else value)
        for name in ("step", "task_loss", "penalty", "val_step", "val_accuracy")
    }
    epochs = [
        {
            "epoch": 1,
            "step": 1,
            "task_loss": value,
            "penalty": value,
            "penalty_terms": {"conv1": value},
            "val_accuracy": value,
        }
    ][:points]
    figure = plot_curves(history, epochs, gate_step=None, title="")
    figure.canvas.draw()
    assert len(figure.axes) == 4


def test_running_mean() -> None:
    values = np.array([1.0, 2.0, 6.0, np.nan, 4.0])
    np.testing.assert_allclose(running_mean(values, 3), [1.5, 3.0, 4.0, np.nan, 4.0])
    np.testing.assert_array_equal(running_mean(values, 1), values)
    np.testing.assert_array_equal(running_mean(values[:0], 1), [])


def test_wrong_history() -> None:
    history, epochs = a_run(40, None)
    for lost in ("val_step", "penalty"):
        found = {k: v for k, v in history.items() if k != lost}
        with pytest.raises(ConfigError, match=f"lacks {lost}"):
            plot_curves(found, epochs, gate_step=None, title="t")
    with pytest.raises(ShapeError, match=r"history\['penalty'\] has 3 values"):
        plot_curves({**history, "penalty": np.zeros(3)}, epochs, gate_step=None, title="t")


def test_arrays_that_are_given_stay_as_they_are() -> None:
    history, epochs = a_run(40, None)
    history["task_loss"][3] = math.inf
    before = {name: array.copy() for name, array in history.items()}
    plot_curves(history, epochs, gate_step=None, title="t")
    for name, array in history.items():
        np.testing.assert_array_equal(array, before[name])


# ---- files -------------------------------------------------------------------------------
def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    history, epochs = a_run(60, 20)
    first, second = (plot_curves(history, epochs, gate_step=20, title="t") for _ in range(2))
    for name, figure in (("a", first), ("b", first), ("c", second)):
        save_figure(figure, tmp_path / f"{name}.png")
    content = (tmp_path / "a.png").read_bytes()
    assert content == (tmp_path / "b.png").read_bytes() == (tmp_path / "c.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert b"Software" not in content
    assert b"atplotlib" not in content
    assert len(content) < 1_000_000
    assert int.from_bytes(content[16:20], "big") == 1800
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png", "c.png"]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")
    figure = plot_activations(mlp(backend="numpy"), IMAGE, 0)

    def fail(*args: Any, **options: Any) -> None:
        args[0].write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        save_figure(figure, path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["figure.png"]


def test_only_png(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.png"):
        save_figure(Figure(), tmp_path / "figure.pdf")


def test_nothing_global_is_touched() -> None:
    """No pyplot, no settings; and minifbi alone does not import matplotlib."""
    before = dict(matplotlib.rcParams)
    history, epochs = a_run(60, 20)
    plot_curves(history, epochs, gate_step=20, title="t")
    plot_activations(lenet(backend="numpy"), IMAGE, 0)
    assert dict(matplotlib.rcParams) == before
    code = (
        "import sys, minifbi, minifbi.activation_maps\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import minifbi.plots\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
