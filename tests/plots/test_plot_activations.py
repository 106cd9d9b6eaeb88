"""Activation and relevance maps: what they show is what the model computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from figure_checks import assert_texts_apart
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minifbi.activation_maps import activation_maps
from minifbi.autograd import Tensor
from minifbi.errors import ConfigError, DataError, NonFiniteError, ShapeError
from minifbi.fbi import forward_pass, relevance_pass
from minifbi.layers import AvgPool2d, Conv2d, Dense, Dropout, Flatten, ReLU, Sequential
from minifbi.models import alexnet, lenet, mlp, resnet, vgg
from minifbi.plots import plot_activations, save_figure
from minifbi.plots.figure import number

RNG = np.random.default_rng(7)
IMAGE = (RNG.random((1, 28, 28)) * (RNG.random((1, 28, 28)) > 0.7)).astype(np.float32)


def axes_of(figure: Figure) -> dict[str, Axes]:
    return {str(axes.get_label()): axes for axes in figure.axes}


def shown(axes: Axes) -> np.ndarray:
    """All pictures of an axes: (images, H, W)."""
    return np.stack([np.asarray(image.get_array()) for image in axes.images])


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


@pytest.mark.parametrize("build", [vgg, resnet])
def test_a_relu_behind_batch_normalisation_is_found(build: Any) -> None:
    model = build(backend="numpy")
    model.eval()
    steps = {step.name: step for step in forward_pass(model, IMAGE[None])}
    for layer in activation_maps(model, IMAGE, 7, layers=4).layers:
        last = layer.name.endswith(".conv2")  # of a residual block: a sum comes before the ReLU
        assert layer.after_relu == (not last)
        source = layer.name if last else layer.name.replace("conv", "relu")
        np.testing.assert_array_equal(layer.activation, steps[source].z.numpy()[0])


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
    figure = plot_activations(lenet(backend="numpy"), IMAGE, 0, activation_max={"conv1": 12.5})
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
        "input",
        "input relevance",
        "conv1 activation",
        "conv1 relevance",
        "conv2 activation",
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
        {
            "a": conv,
            "relu": ReLU(),
            "b": Conv2d(40, 3, (3, 5)),
            "pool": AvgPool2d(2),
            "flatten": Flatten(),
            "out": Dense(3 * 7 * 10, 4),
        }
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
        {
            "conv": Conv2d(1, 2, 3),
            "relu": ReLU(),
            "frozen": Dropout(0.5),
            "dropout": Dropout(0.5),
            "flatten": Flatten(),
            "out": Dense(2 * 26 * 26, 3),
        }
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
        (0.0, "0"),
        (0.015, "0.015"),
        (-0.6, "-0.6"),
        (-1.5e-5, "-1.5e-5"),
        (1e-5, "1e-5"),
        (120.0, "120"),
        (6e4, "6e4"),
        (-0.00015, "-1.5e-4"),
    ):
        assert number(value) == text.replace("-", "\N{MINUS SIGN}")


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
