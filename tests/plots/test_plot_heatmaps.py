"""Heatmaps: the colours are those of the numbers, and everything can be read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from figure_checks import assert_texts_apart
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minifbi.errors import ConfigError, DataError, ShapeError
from minifbi.plots import plot_heatmaps, save_figure

RNG = np.random.default_rng(3)
MAPS = {"lrp-0": RNG.standard_normal((3, 1, 8, 8)), "gradient": RNG.random((3, 1, 8, 8))}
IMAGES = RNG.random((3, 1, 8, 8))


def axes_of(figure: Figure) -> dict[str, Axes]:
    return {str(axes.get_label()): axes for axes in figure.axes}


def limits(figure: Figure) -> dict[str, float]:
    found = {}
    for label, axes in axes_of(figure).items():
        if label != "colours" and not label.startswith("image"):
            (image,) = axes.images
            assert image.norm.vmin == -image.norm.vmax  # symmetric about 0
            found[label] = image.norm.vmax
    return found


def test_each_map_shows_its_numbers_summed_over_channels() -> None:
    colour = {name: np.concatenate([a, 2 * a, -a], axis=1) for name, a in MAPS.items()}
    axes = axes_of(plot_heatmaps(colour, RNG.random((3, 3, 8, 8))))
    assert len(axes) == 3 * 3 + 1
    for name, expected in MAPS.items():
        for row in range(3):
            shown = np.asarray(axes[f"{name} {row}"].images[0].get_array())
            np.testing.assert_allclose(shown, 2 * expected[row, 0], atol=1e-12)
    assert np.asarray(axes["image 1"].images[0].get_array()).shape == (8, 8, 3)


def test_zero_is_white_and_the_ends_differ_in_colour() -> None:
    for colorblind in (False, True):
        values = np.zeros((1, 1, 2, 2))
        values[0, 0, 0] = (-1, 1)
        image = axes_of(plot_heatmaps({"m": values}, colorblind=colorblind))["m 0"].images[0]
        low, high, zero, _ = image.cmap(image.norm(values.ravel()))
        assert zero[:3].min() > 0.95
        assert np.abs(low - high).max() > 0.3


@pytest.mark.parametrize("shared", ["none", "row", "column", "all"])
def test_shared_ranges(shared: str) -> None:
    found = limits(plot_heatmaps(MAPS, IMAGES, shared=shared))
    for name, values in MAPS.items():
        for row in range(3):
            together = {
                "none": [values[row]],
                "row": [other[row] for other in MAPS.values()],
                "column": [values],
                "all": list(MAPS.values()),
            }[shared]
            expected = max(np.abs(part).max() for part in together)
            assert found[f"{name} {row}"] == pytest.approx(expected)
    figure = plot_heatmaps(MAPS, shared=shared)
    ends = [text.get_text() for text in axes_of(figure)["colours"].get_xticklabels()]
    assert ("range" in ends[0]) == (shared != "all")


def test_maps_of_zeros_and_constants() -> None:
    values = {"zero": np.zeros((1, 1, 4, 4)), "constant": np.full((1, 1, 4, 4), -3.0)}
    axes = axes_of(plot_heatmaps(values))
    assert axes["zero 0"].get_xlabel() == "0 everywhere"
    assert axes["constant 0"].get_xlabel() == "range ±3"
    assert axes["zero 0"].images[0].norm.vmax == 1
    alone = limits(plot_heatmaps({"zero": values["zero"]}, shared="all"))
    assert alone == {"zero 0": 1}


NAMES = ("lrp-0", "lrp-epsilon-alpha2-beta1-flat", "integrated-gradients", "smoothgrad")


@pytest.mark.parametrize("shape", [(28, 28), (12, 30), (30, 12)])
@pytest.mark.parametrize(
    ("count", "per_line", "many"), [(1, 3, 3), (3, 7, 1), (2, 2, 1), (1, 7, 1)]
)
def test_texts_are_apart(shape: Any, count: int, per_line: int, many: int) -> None:
    values = {
        f"{name}{'-again' * i}": 1e-5 * RNG.standard_normal((count, 1, *shape))
        for i in range(many)
        for name in NAMES
    }
    rows = [
        f"test image {i}\nlabel Ankle boot\nexplained: T-shirt/top\n(logit 1)" for i in range(count)
    ]
    assert_texts_apart(
        plot_heatmaps(
            values,
            RNG.random((count, 1, *shape)),
            rows=rows,
            per_line=per_line,
            title="a title that is longer than the figure is wide, since it says all about the run",
        )
    )
    assert_texts_apart(plot_heatmaps({"m": np.ones((1, 1, *shape))}, shared="all"))


def test_the_same_figure_gives_the_same_bytes(tmp_path: Any) -> None:
    for name in ("a.png", "b.png"):
        save_figure(plot_heatmaps(MAPS, IMAGES), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("attributions", "options", "error", "message"),
    [
        ({}, {}, ConfigError, "no attribution"),
        (MAPS, {"shared": "some"}, ConfigError, "shared='some'"),
        (MAPS, {"per_line": 0}, ConfigError, "per_line=0"),
        (MAPS, {"rows": ["one"]}, ShapeError, "rows has 1 entries for 3 images"),
        (MAPS, {"images": IMAGES[:2]}, ShapeError, "expected 3 of 8 x 8"),
        ({"m": np.zeros((8, 8))}, {}, ShapeError, r"'m' has shape \(8, 8\)"),
        ({**MAPS, "m": np.zeros((2, 1, 8, 8))}, {}, ShapeError, "'m' has shape"),
        ({"m": np.full((1, 1, 2, 2), np.nan)}, {}, DataError, "'m' holds NaN"),
    ],
)
def test_wrong_arguments(attributions: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        plot_heatmaps(attributions, **options)
