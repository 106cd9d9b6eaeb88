"""Heatmaps: the colours are those of the numbers, and everything can be read."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import pytest
from figure_checks import assert_texts_apart
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from minifbi.errors import ConfigError, DataError, ShapeError
from minifbi.plots import (
    heatmap_pixels,
    image_pixels,
    plot_heatmaps,
    save_figure,
    save_pixels,
)

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


def test_a_label_has_the_room_that_it_needs() -> None:
    maps = {"lrp-0": np.ones((1, 1, 4, 4))}
    widths = []
    for label in ("7", "explained: 7 minus 1", "predicted square (0.990)"):
        figure = plot_heatmaps(maps, rows=[label])
        assert_texts_apart(figure)
        (text,) = [text for text in figure.texts if text.get_text() == label]  # on one line
        assert text.get_window_extent().x1 < figure.axes[0].get_window_extent().x0
        widths.append(figure.get_figwidth())
    assert widths == sorted(widths)


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


BLOCKS = {
    "a run\nmlp on digits, conventional training, epoch 20": MAPS,
    "another run\nmlp on digits, lambda = 0.001, epoch 20": {n: 3 * a for n, a in MAPS.items()},
}


def test_blocks_share_their_ranges() -> None:
    alone = limits(plot_heatmaps(MAPS))
    for shared, scale in (("none", 1), ("column", 3), ("all", 3)):
        one = limits(plot_heatmaps(MAPS, shared=shared))
        both = limits(plot_heatmaps(BLOCKS, shared=shared))
        assert len(both) == 2 * len(alone)
        for label, limit in one.items():
            first, second = (both[f"{block} {label}"] for block in BLOCKS)
            assert first == pytest.approx(scale * limit)
            assert second == pytest.approx(3 * limit)


@pytest.mark.parametrize("per_line", [1, 2, 3, 4, 5, 6, 9])
@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_texts_of_blocks_are_apart(per_line: int, pictures: int) -> None:
    sizes = [(3, 40, 90), (1, 90, 40), (1, 8, 8)]
    shown = {f"picture {i}": [RNG.random(size) for size in sizes] for i in range(pictures)}
    note = "predicted a class with a long name (0.123)\nlogit 1.23"
    figure = plot_heatmaps(
        BLOCKS,
        pictures=shown,
        rows=["a picture with a long name.png\nlabel T-shirt/top\nexplained: predicted"] * 3,
        notes={block: [note] * 3 for block in BLOCKS},
        per_line=per_line,
        ends=("for 9", "for 4"),
    )
    assert_texts_apart(figure)
    boxes = [axes.get_window_extent() for axes in figure.axes]
    for i, box in enumerate(boxes):
        assert box.x1 <= figure.bbox.x1
        assert box.y0 >= 0
        for other in boxes[:i]:
            apart_x = min(box.x1, other.x1) <= max(box.x0, other.x0)
            assert apart_x or min(box.y1, other.y1) <= max(box.y0, other.y0)
    names = [text.get_text() for text in axes_of(figure)["colours"].get_xticklabels()]
    assert names[0].endswith("for 9")
    assert names[2].endswith("for 4")


def test_pictures_keep_the_ratio_of_their_sides() -> None:
    shown = {"drawn": [RNG.random(size) for size in [(3, 40, 90), (1, 90, 40), (1, 8, 8)]]}
    axes = axes_of(plot_heatmaps(MAPS, pictures=shown))
    for row, (h, w) in enumerate([(40, 90), (90, 40), (8, 8)]):
        box = axes[f"drawn {row}"].get_window_extent()
        assert box.width / box.height == pytest.approx(w / h, rel=1e-6)


@pytest.mark.parametrize(
    ("attributions", "options", "error", "message"),
    [
        ({"a": {}}, {}, ConfigError, "no attribution"),
        ({"a": MAPS, "b": IMAGES}, {}, ConfigError, "and not both"),
        ({"a": MAPS, "b": {"m": IMAGES[:2]}}, {}, ShapeError, "'m' has shape"),
        (MAPS, {"pictures": {"p": IMAGES[:2]}}, ShapeError, r"pictures\['p'\] has 2 entries"),
        (MAPS, {"pictures": {"p": [IMAGES] * 3}}, ShapeError, "expected .channels, height, width"),
        ({"a": MAPS}, {"notes": {"a": ["x"]}}, ShapeError, r"notes\['a'\] has 1 entries"),
    ],
)
def test_wrong_blocks(attributions: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        plot_heatmaps(attributions, **options)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.sampled_from([1, 3]))
def test_pixels_come_back_from_the_file(h: int, w: int, scale: int, channels: int) -> None:
    rng = np.random.default_rng(h * w)
    image, values = rng.random((channels, h, w)), rng.standard_normal((h, w))
    with tempfile.TemporaryDirectory() as folder:
        for pixels in (image_pixels(image), heatmap_pixels(values, 2.0)):
            save_pixels(pixels, f"{folder}/p.png", scale=scale)
            with Image.open(f"{folder}/p.png") as picture:
                assert picture.size == (w * scale, h * scale)
                read = np.asarray(picture)
            np.testing.assert_array_equal(read, np.kron(pixels, _square(scale, pixels.ndim)))
    shown = plot_heatmaps({"m": values[None, None]}, shared="all").axes[0].images[0]
    expected = heatmap_pixels(values, float(np.abs(values).max()))
    np.testing.assert_array_equal(shown.to_rgba(shown.get_array(), bytes=True)[..., :3], expected)


def _square(scale: int, ndim: int) -> Any:
    return np.ones((scale, scale, 1)[:ndim], np.uint8)
