"""The figures: what they show is what the model computed, and nothing overlaps."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from minifbi.activation_maps import activation_maps
from minifbi.autograd import Tensor
from minifbi.errors import ConfigError, DataError, NonFiniteError, ShapeError
from minifbi.fbi import forward_pass, relevance_pass
from minifbi.layers import AvgPool2d, Conv2d, Dense, Dropout, Flatten, ReLU, Sequential
from minifbi.models import alexnet, lenet, mlp
from minifbi.plots import plot_activations, plot_curves, save_figure
from minifbi.plots.activations import _number
from minifbi.plots.curves import running_mean

RNG = np.random.default_rng(7)
IMAGE = (RNG.random((1, 28, 28)) * (RNG.random((1, 28, 28)) > 0.7)).astype(np.float32)


def axes_of(figure: Figure) -> dict[str, Axes]:
    return {str(axes.get_label()): axes for axes in figure.axes}


def shown(axes: Axes) -> np.ndarray:
    """All pictures of an axes: (images, H, W)."""
    return np.stack([np.asarray(image.get_array()) for image in axes.images])


def assert_texts_apart(figure: Figure) -> None:
    """Every visible text lies inside the figure, and no two overlap."""
    figure.draw_without_rendering()
    hidden = _labels_out_of_view(figure)
    drawn = [
        (text.get_text(), text.get_window_extent())
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden
    ]
    assert drawn
    page = figure.bbox
    for name, box in drawn:
        assert page.x0 <= box.x0 < box.x1 <= page.x1, name
        assert page.y0 <= box.y0 < box.y1 <= page.y1, name
    for (a, first), (b, second) in itertools.combinations(drawn, 2):
        overlap_x = min(first.x1, second.x1) - max(first.x0, second.x0)
        overlap_y = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert overlap_x <= 0.5 or overlap_y <= 0.5, f"{a!r} and {b!r} overlap"


def _labels_out_of_view(figure: Figure) -> set[int]:
    """Labels of ticks beyond the ends of an axis: they exist and are never drawn."""
    hidden = set()
    for axes in figure.axes:
        for axis, interval in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            low, high = sorted(interval)
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low <= tick.get_loc() <= high:
                    hidden |= {id(tick.label1), id(tick.label2)}
    return hidden


# ---- activations -------------------------------------------------------------------------
def test_every_map_is_the_models_own_activation() -> None:
    model = alexnet(backend="numpy", seed=3)
    axes = axes_of(plot_activations(model, IMAGE, 7))
    steps = {step.name: step for step in forward_pass(model, IMAGE[None])}
    for name, filters, size in (("conv1", 16, 28), ("conv2", 16, 14), ("conv3", 32, 7)):
        expected = steps[f"relu_{name}"].z.numpy()[0]
        assert expected.shape == (filters, size, size)
        np.testing.assert_array_equal(shown(axes[f"{name} activation"]), expected)
        assert shown(axes[f"{name} relevance"]).shape == expected.shape
    assert not any(label.startswith("conv4") for label in axes)
    np.testing.assert_array_equal(shown(axes["input"])[0], IMAGE[0])
    # input, its relevance, two blocks a layer; a colour bar for all but the input
    assert len(axes) == 2 + 6 + 7


@pytest.mark.parametrize("start", ["target", "predicted"])
def test_relevance_at_the_image_is_the_relevance_pass(start: str) -> None:
    model = lenet(backend="numpy", seed=1, dtype=np.float64)
    axes = axes_of(plot_activations(model, IMAGE, 4, start=start))
    first = relevance_pass(forward_pass(model, IMAGE[None]), start, [4])["conv1"]
    np.testing.assert_allclose(shown(axes["input relevance"])[0], first.numpy()[0].sum(axis=0))


def test_relevance_of_a_map_is_activation_times_gradient() -> None:
    """The closed form of LRP-0, by the backward pass of the layers above the map."""
    model = alexnet(backend="numpy", seed=5, dtype=np.float64)
    maps = activation_maps(model, IMAGE, 2)
    names = list(model.layers)
    for layer in maps.layers:
        above = Sequential(
            {name: model.layers[name] for name in names[names.index(f"relu_{layer.name}") + 1 :]}
        )
        a = Tensor(layer.activation[None], requires_grad=True)
        logits = above(a)
        logits.backward(np.eye(10)[[2]])
        np.testing.assert_allclose(layer.relevance, layer.activation * a.grad[0], atol=1e-12)
        assert np.abs(layer.relevance).max() > 0


def test_without_biases_every_layer_keeps_the_logit() -> None:
    model = alexnet(backend="numpy", seed=2, bias=False, dtype=np.float64)
    maps = activation_maps(model, IMAGE, 9, layers=5)
    assert [layer.name for layer in maps.layers] == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    logits = model(IMAGE[None]).numpy()[0]
    assert maps.logit == pytest.approx(logits[9])
    assert maps.predicted == logits.argmax()
    assert maps.probability == pytest.approx(np.exp(logits.max()) / np.exp(logits).sum())
    for layer in maps.layers:
        assert layer.relevance.sum() == pytest.approx(maps.logit)
    assert maps.image_relevance.sum() == pytest.approx(maps.logit)


def test_one_colour_range_a_layer() -> None:
    axes = axes_of(plot_activations(alexnet(backend="numpy"), IMAGE, 0))
    for name in ("conv1", "conv2", "conv3"):
        activation, relevance = axes[f"{name} activation"], axes[f"{name} relevance"]
        assert {image.get_clim() for image in activation.images} == {
            (0.0, float(shown(activation).max()))
        }
        largest = float(np.abs(shown(relevance)).max())
        assert {image.get_clim() for image in relevance.images} == {(-largest, largest)}
    low, high = axes["input relevance"].images[0].get_clim()
    assert low == -high


def test_a_colour_range_can_be_shared_by_two_models() -> None:
    figure = plot_activations(
        lenet(backend="numpy"), IMAGE, 0, activation_max={"conv1": 12.5}
    )
    axes = axes_of(figure)
    assert axes["conv1 activation"].images[0].get_clim() == (0.0, 12.5)
    assert axes["conv2 activation"].images[0].get_clim()[1] != 12.5


def test_colours() -> None:
    def colour(figure: Figure, name: str, value: float) -> np.ndarray:
        return np.array(axes_of(figure)[name].images[0].get_cmap()(value))

    model = lenet(backend="numpy")
    figure = plot_activations(model, IMAGE, 0)
    low, high = (colour(figure, "conv1 activation", v) for v in (0.0, 1.0))
    assert low[1] > 1.5 * max(low[0], low[2])  # green
    assert high[0] > 2 * max(high[1], high[2])  # red
    safe = plot_activations(model, IMAGE, 0, colorblind=True)
    assert axes_of(safe)["conv1 activation"].images[0].get_cmap().name == "viridis"
    assert axes_of(safe)["conv1 relevance"].images[0].get_cmap().name == "PuOr_r"
    white = colour(figure, "conv1 relevance", 0.5)
    np.testing.assert_allclose(white[:3], 1, atol=0.05)


def test_the_tiles_are_really_painted() -> None:
    """Every filter constant: the pixel amid each tile has the colour of its value."""
    conv = Conv2d(1, 10, 1)
    conv.weight.data = np.zeros_like(conv.weight.data)
    conv.bias.data = np.arange(10, dtype=np.float32)  # type: ignore[union-attr]
    model = Sequential({"conv": conv, "relu": ReLU(), "flatten": Flatten(), "out": Dense(7840, 3)})
    figure = plot_activations(model, IMAGE, 0)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    axes = axes_of(figure)["conv activation"]
    for i, image in enumerate(axes.images):
        row, column = divmod(i, 8)
        x, y = axes.transData.transform((column + 0.5, row + 0.5))
        expected = image.get_cmap()(i / 9, bytes=True)
        np.testing.assert_allclose(pixels[len(pixels) - 1 - int(y), int(x)], expected, atol=3)


def test_fewer_convolutions_or_none() -> None:
    two = axes_of(plot_activations(lenet(backend="numpy"), IMAGE, 0))
    assert {name for name in two if "colours" not in name} == {
        "input", "input relevance", "conv1 activation", "conv1 relevance", "conv2 activation",
        "conv2 relevance",
    }
    none = plot_activations(mlp(backend="numpy"), IMAGE, 0)
    assert set(axes_of(none)) == {"input", "input relevance", "input relevance colours"}
    model = mlp(backend="numpy")
    first = relevance_pass(forward_pass(model, IMAGE[None]), "target", [0])["dense1"]
    np.testing.assert_allclose(
        shown(axes_of(none)["input relevance"])[0], first.numpy().reshape(28, 28), rtol=1e-6
    )
    one = axes_of(plot_activations(lenet(backend="numpy"), IMAGE, 0, layers=1))
    assert "conv1 activation" in one
    assert "conv2 activation" not in one


def test_constant_maps(tmp_path: Path) -> None:
    """A black image in a net without biases: every map is 0, and so is every relevance."""
    black = np.zeros((1, 28, 28), np.float32)
    figure = plot_activations(alexnet(backend="numpy", bias=False), black, 1)
    axes = axes_of(figure)
    assert axes["conv1 activation"].images[0].get_clim() == (0, 1)
    assert axes["conv1 relevance"].images[0].get_clim() == (-1, 1)
    save_figure(figure, tmp_path / "black.png")


def test_colour_images_that_are_not_square_and_a_convolution_without_relu() -> None:
    conv = Conv2d(3, 40, 3, padding=1)
    model = Sequential(
        {"a": conv, "relu": ReLU(), "b": Conv2d(40, 3, (3, 5)), "pool": AvgPool2d(2),
         "flatten": Flatten(), "out": Dense(3 * 7 * 10, 4)}
    )
    image = RNG.random((3, 16, 24)).astype(np.float32)
    figure = plot_activations(model, image, start="predicted", title="costs $5 and $6")
    axes = axes_of(figure)
    assert shown(axes["input"]).shape == (1, 16, 24, 3)
    plain = shown(axes["b activation"])
    assert plain.min() < 0
    low, high = axes["b activation"].images[0].get_clim()
    assert low == -high
    assert "no ReLU" in axes["b activation"].get_title("left")
    assert "true class" not in figure.get_suptitle()
    assert_texts_apart(figure)


def test_the_model_is_left_as_it_was() -> None:
    model = Sequential(
        {"conv": Conv2d(1, 2, 3), "relu": ReLU(), "frozen": Dropout(0.5), "dropout": Dropout(0.5),
         "flatten": Flatten(), "out": Dense(2 * 26 * 26, 3)}
    )
    model["frozen"].eval()
    before = model.random_states()
    first, second = (activation_maps(model, IMAGE, 0) for _ in range(2))
    np.testing.assert_array_equal(first.layers[0].relevance, second.layers[0].relevance)
    assert model.training
    assert model["dropout"].training
    assert not model["frozen"].training
    assert model.random_states() == before
    assert all(p.grad is None for p in model.parameters().values())


def test_title_says_what_was_predicted() -> None:
    model = lenet(backend="numpy")
    maps = activation_maps(model, IMAGE, 3)
    figure = plot_activations(model, IMAGE, 3, title="my net")
    assert figure.get_suptitle().split("\n") == [
        "my net",
        f"true class 3,  predicted {maps.predicted}  (probability {maps.probability:.3f})",
    ]
    assert "class 3" in axes_of(figure)["input relevance"].get_title("left")


@pytest.mark.parametrize("scale", [1.0, 1e-5, 1e7])
@pytest.mark.parametrize(
    ("build", "title"),
    [(lenet, None), (mlp, "short"), (mlp, "a title that is too long for one line " * 6)],
)
def test_texts_of_activations_are_apart(build: Any, title: str | None, scale: float) -> None:
    model = build(backend="numpy")
    first, *_, last, _ = model.parameters().values()
    first.data = first.data * np.float32(scale)  # the activations
    last.data = last.data * np.float32(1.7 * scale)  # the relevances, once more
    figure = plot_activations(model, IMAGE, 7, title=title)
    assert figure.get_figwidth() * figure.dpi < 2000
    assert_texts_apart(figure)


def test_numbers_beside_a_colour_bar_are_short() -> None:
    for value, text in (
        (0.0, "0"), (0.015, "0.015"), (-0.6, "-0.6"), (-1.5e-5, "-1.5e-5"), (1e-5, "1e-5"),
        (120.0, "120"), (6e4, "6e4"), (-0.00015, "-1.5e-4"),
    ):
        assert _number(value) == text.replace("-", "\N{MINUS SIGN}")


def test_wrong_arguments() -> None:
    model = mlp(backend="numpy")
    with pytest.raises(ShapeError, match="one image"):
        plot_activations(model, IMAGE[None], 0)
    with pytest.raises(DataError, match="Divide uint8 pixels by 255"):
        plot_activations(model, np.full((1, 28, 28), 255, np.uint8), 0)
    with pytest.raises((DataError, NonFiniteError)):
        plot_activations(model, np.full((1, 28, 28), np.nan), 0)
    with pytest.raises(ConfigError, match="labels"):
        plot_activations(model, IMAGE)
    with pytest.raises(ConfigError, match="start='logits'"):
        plot_activations(model, IMAGE, 0, start="logits")
    with pytest.raises(ConfigError, match="layers=-1"):
        plot_activations(model, IMAGE, 0, layers=-1)


# ---- curves ------------------------------------------------------------------------------
def a_run(steps: int, gate: int | None) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    step = np.arange(1, steps + 1)
    after = step > (math.inf if gate is None else gate)
    history = {
        "step": step,
        "task_loss": 2 * np.exp(-step / (steps / 5)) + 0.02 * RNG.random(steps) + 0.01,
        "fbi_loss": np.where(after, 100 + 20 * RNG.random(steps), np.nan),
        "val_step": step[9::10],
        "val_accuracy": 1 - 0.9 * np.exp(-step[9::10] / (steps / 5)),
    }
    epochs: list[dict[str, Any]] = []
    for number in range(1, 5):
        end = steps * number // 4
        active = gate is not None and end > gate
        epochs.append({
            "epoch": number, "step": end, "task_loss": float(history["task_loss"][:end].mean()),
            "fbi_loss": 110.0 if active else None,
            "fbi_terms": {"conv1": 5.0 * number, "dense2": 400.0} if active else None,
            "val_accuracy": 0.9, "learning_rate": 0.1, "seconds": 1.0, "fbi_active": active,
        })
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
    np.testing.assert_array_equal(raw.get_ydata(), history["fbi_loss"])
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
        for name in ("step", "task_loss", "fbi_loss", "val_step", "val_accuracy")
    }
    epochs = [
        {"epoch": 1, "step": 1, "task_loss": value, "fbi_loss": value,
         "fbi_terms": {"conv1": value}, "val_accuracy": value}
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
    with pytest.raises(ConfigError, match="lacks val_step"):
        plot_curves({k: v for k, v in history.items() if k != "val_step"}, epochs, gate_step=None,
                    title="t")
    with pytest.raises(ShapeError, match=r"history\['fbi_loss'\] has 3 values"):
        plot_curves({**history, "fbi_loss": np.zeros(3)}, epochs, gate_step=None, title="t")


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
