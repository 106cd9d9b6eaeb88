"""What the tests of figures share."""

from __future__ import annotations

import itertools

from matplotlib.figure import Figure
from matplotlib.text import Text


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
