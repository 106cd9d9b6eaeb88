"""The paper's figures: what they show is what the networks did."""

from __future__ import annotations

import numpy as np
import pytest
from figure_checks import assert_texts_apart
from helpers import small_mnist
from scipy.integrate import trapezoid

from minifbi.autograd import cross_entropy
from minifbi.errors import ConfigError
from minifbi.fbi import fbi_loss, fbi_terms, forward_pass, objective, relevance_pass
from minifbi.models import alexnet, lenet, mlp
from minifbi.plots import (
    Point,
    plot_comparison,
    plot_densities,
    plot_scheme,
    plot_tradeoff,
    save_figure,
)
from minifbi.plots.density import reflected_density

IMAGE = small_mnist().test.batch(slice(0, 1))[0][0]  # a 7
RNG = np.random.default_rng(5)


def texts(figure) -> str:
    from matplotlib.text import Text

    return "\n".join(t.get_text() for t in figure.findobj(Text))


# ---- Fig. 1 ------------------------------------------------------------------------------
@pytest.mark.parametrize("build", [alexnet, lenet, mlp], ids=lambda f: f.__name__)
def test_scheme_shows_the_networks_own_numbers(build):
    model = build(backend="numpy", seed=3)
    figure = plot_scheme(model, IMAGE, 7, fbi_weight=0.01)
    steps = forward_pass(model, IMAGE[None])
    terms = fbi_terms(steps, relevance_pass(steps, "target", [7]))
    task, fbi = cross_entropy(steps[-1].z, [7]), fbi_loss(terms)
    shown = texts(figure)
    for name, term in terms.items():
        assert name in shown
        assert f"= {term.item():.3g}" in shown
    assert f"= {task.item():.3g}" in shown
    assert f"= {fbi.item():.3g}" in shown
    assert f"= {objective(task, fbi, 0.01).item():.3g}" in shown
    assert rf"$a_{{{len(terms) + 1}}}^-$" in shown
    # an activation and a relevance for each layer, and both at the logits
    (axes,) = figure.axes
    assert len(axes.images) == 2 * len(terms) + 2
    first, relevance = (np.asarray(axes.images[i].get_array()) for i in (0, 1))
    np.testing.assert_allclose(first, IMAGE[0])
    at_image = relevance_pass(steps, "target", [7])[next(iter(terms))].numpy()
    np.testing.assert_allclose(relevance, at_image.reshape(28, 28), atol=1e-7)
    assert_texts_apart(figure)


def test_scheme_is_a_picture_of_evaluation():
    model = alexnet(backend="numpy")
    model.train()
    plot_scheme(model, IMAGE, 7)
    assert all(layer.training for _, layer in model.named_layers())
    with pytest.raises(ConfigError, match="fbi_weight"):
        plot_scheme(model, IMAGE, 7, fbi_weight=2)


# ---- Fig. 2 ------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def two():
    return {"first": alexnet(backend="numpy", seed=1), "second": alexnet(backend="numpy", seed=2)}


@pytest.mark.parametrize("normalization", ["none", "rms"])
def test_both_networks_share_one_range_from_zero(two, normalization):
    figure = plot_comparison(two, IMAGE, 7, normalization=normalization)
    axes = {str(a.get_label()): a for a in figure.axes}
    for layer, filters in (("conv1", 16), ("conv2", 16), ("conv3", 32)):
        limits, largest = set(), []
        for name, model in two.items():
            images = axes[f"{name} {layer} activation"].images
            assert len(images) == filters
            limits |= {image.get_clim() for image in images}
            steps = {s.name: s for s in forward_pass(model, IMAGE[None])}
            a = steps[f"relu_{layer}"].z.numpy()[0]
            a = a / np.sqrt(np.mean(a**2)) if normalization == "rms" else a
            largest.append(a.max())
            shown = np.stack([np.asarray(image.get_array()) for image in images])
            np.testing.assert_allclose(shown, a, rtol=1e-5, atol=1e-6)
        ((low, high),) = limits
        assert low == 0
        assert high == pytest.approx(max(largest), rel=1e-5)
    assert_texts_apart(figure)


def test_low_is_green_and_high_is_red_unless_asked_otherwise(two):
    def ends(**options):
        image = plot_comparison(two, IMAGE, 7, **options).axes[0].images[0]
        return image.get_cmap()(0.0), image.get_cmap()(1.0)

    (low, high), (safe_low, safe_high) = ends(), ends(colorblind=True)
    assert low[1] > 2 * low[0]  # more green than red
    assert high[0] > 2 * high[1]
    brightness = [sum(c[:3]) for c in (safe_low, safe_high)]
    assert brightness[1] > brightness[0] + 1  # told apart without hue


def test_comparison_refuses_what_cannot_be_compared(two):
    with pytest.raises(ConfigError, match="expected the same"):
        plot_comparison({"a": two["first"], "b": lenet(backend="numpy")}, IMAGE, 7)
    with pytest.raises(ConfigError, match="expected two"):
        plot_comparison({"a": two["first"]}, IMAGE, 7)
    with pytest.raises(ConfigError, match="normalization"):
        plot_comparison(two, IMAGE, 7, normalization="max")
    with pytest.raises(ConfigError, match="at least one"):
        plot_comparison({n: mlp(backend="numpy") for n in "ab"}, IMAGE, 7)


# ---- Fig. 3 ------------------------------------------------------------------------------
@pytest.mark.parametrize("zeros", [0, 300, 500])
def test_density_is_a_density_of_what_is_not_negative(zeros):
    values = np.concatenate([np.zeros(zeros), RNG.gamma(2, size=500 - zeros)])
    at = np.linspace(0, 20, 4001)
    density = reflected_density(values, at, bandwidth=0.2)
    assert trapezoid(density, at) == pytest.approx(1, abs=2e-3)
    # against the plain sum of kernels
    for x in (0.0, 0.7, 3.0):
        kernels = np.exp(-0.5 * ((x - np.r_[values, -values]) / 0.2) ** 2)
        expected = kernels.sum() / (500 * 0.2 * np.sqrt(2 * np.pi))
        assert density[np.argmin(abs(at - x))] == pytest.approx(expected, rel=1e-6)


def test_densities_share_axes_and_bandwidth_and_print_the_zeros():
    sparse = RNG.gamma(1, size=4000) * (RNG.random(4000) > 0.75)
    dense = RNG.gamma(2, size=4000) * (RNG.random(4000) > 0.25)
    figure = plot_densities({"a": dense, "b": dense}, {"a": sparse, "b": sparse})
    shown = texts(figure)
    assert f"zeros {np.mean(sparse == 0):.0%}" in shown
    assert f"zeros {np.mean(dense == 0):.0%}" in shown
    assert len(figure.axes) == 4
    blue, red = figure.axes[0].get_lines()[:2]
    assert blue.get_color() == "#1f5fa8"
    assert red.get_color() == "#d62728"
    # one bandwidth: the heights of the lumps at 0 are to each other as the shares of zeros
    ratio = red.get_ydata()[0] / blue.get_ydata()[0]
    assert ratio == pytest.approx(np.mean(sparse == 0) / np.mean(dense == 0), rel=0.25)
    assert_texts_apart(figure)


def test_densities_of_a_silent_layer_warn_of_nothing(tmp_path):
    silent = {"conv1": np.zeros((2, 3, 4, 4))}
    save_figure(plot_densities(silent, silent), tmp_path / "silent.png")


def test_densities_refuse_other_layers_and_negative_values():
    with pytest.raises(ConfigError, match="expected the same"):
        plot_densities({"a": np.ones(3)}, {"b": np.ones(3)})
    with pytest.raises(ConfigError, match="at least 0"):
        plot_densities({"a": -np.ones(3)}, {"a": np.ones(3)})


# ---- lambda ------------------------------------------------------------------------------
def test_tradeoff_shows_every_weight_and_method():
    curve = {w: Point(f"{w}", 0.7 + w, 0.99 - w / 10) for w in (0.1, 0.0, 0.001)}
    figure = plot_tradeoff(curve, [Point("L1", 0.8, 0.98)])
    left, middle, right = figure.axes
    assert [t.get_text() for t in left.get_xticklabels()] == ["0", "0.001", "0.1"]
    np.testing.assert_allclose(middle.get_lines()[0].get_ydata(), [0.7, 0.701, 0.8])
    np.testing.assert_allclose(left.get_lines()[0].get_ydata(), [0.99, 0.9899, 0.98])
    assert [t.get_text() for t in right.get_legend().get_texts()][1:] == ["L1"]
    assert_texts_apart(figure)
    with pytest.raises(ConfigError, match="at least 2"):
        plot_tradeoff({0.1: Point("a", 0.5, 0.5)})


def test_tradeoff_stays_readable_beside_a_network_that_learnt_nothing():
    accuracies = {0.0: 0.988, 0.0001: 0.988, 0.0003: 0.987, 0.001: 0.986, 0.003: 0.983}
    accuracies |= {0.01: 0.975, 0.1: 0.93, 1.0: 0.098}
    curve = {w: Point("", 0.7 + i / 30, a) for i, (w, a) in enumerate(accuracies.items())}
    figure = plot_tradeoff(curve, [Point("L1", 0.8, 0.99), Point("L2", 0.7, 0.987)])
    assert_texts_apart(figure)
    axes = figure.axes[2]
    heights = axes.transData.transform([(0.7, a) for a in (0.988, 0.975, 0.098)])[:, 1]
    assert heights[0] - heights[1] > 0.1 * (heights[0] - heights[2])
    low, high = axes.get_ylim()
    ticks = [t for t in axes.get_yticks() if low <= t <= high]
    assert 5 <= len(ticks) <= 14
    perfect = plot_tradeoff({0.0: Point("", 0.7, 1.0), 0.1: Point("", 0.8, 0.5)})
    assert_texts_apart(perfect)


def test_networks_without_activity_keep_their_accuracy_in_the_tradeoff():
    curve = {
        0.0: Point("0", 0.7, 0.98),
        0.001: Point("0.001", 0.8, 0.97),
        1.0: Point("1", float("nan"), 0.1),
    }
    left, middle, right = plot_tradeoff(curve).axes
    assert list(left.lines[0].get_ydata()) == [0.98, 0.97, 0.1]
    assert left.get_ylim()[0] < 0.1
    assert right.get_ylim()[0] > 0.5  # what has no concentration does not press the others together
    assert any("= 1" in text.get_text() for text in middle.texts)
