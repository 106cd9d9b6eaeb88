"""Figures of a training run, of one image, and of explanations, drawn without pyplot.

pyplot keeps global state.  Here each function makes a Figure with its own canvas instead, which
works without a screen and changes no other figure.  :func:`save_figure` writes one to a file; a
notebook shows it after ``%matplotlib inline``.
"""

from minifbi.plots.activations import plot_activations
from minifbi.plots.comparison import plot_comparison
from minifbi.plots.curves import plot_curves
from minifbi.plots.density import plot_densities
from minifbi.plots.figure import DPI, save_figure
from minifbi.plots.heatmaps import plot_heatmaps
from minifbi.plots.pixels import heatmap_pixels, image_pixels, save_pixels
from minifbi.plots.run import draw_run, example_image
from minifbi.plots.runs import plot_runs
from minifbi.plots.scheme import plot_scheme
from minifbi.plots.tradeoff import Point, plot_tradeoff

__all__ = ["DPI", "Point", "draw_run", "example_image", "plot_activations", "plot_comparison"]
__all__ += ["heatmap_pixels", "image_pixels", "plot_curves", "plot_densities", "plot_heatmaps"]
__all__ += ["plot_runs", "plot_scheme", "plot_tradeoff", "save_figure", "save_pixels"]
