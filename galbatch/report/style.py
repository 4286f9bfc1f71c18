"""How figures look, and how they get into the page."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec
from urllib.parse import quote

import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.style import context

P = ParamSpec("P")

# Okabe & Ito (2008): told apart by colour-blind readers and in grey print.
MODEL_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
TRUTH = "#3a3f47"
MUTED = "#8a8f98"
WARNING = "#b3261e"
WIDTH = 4.6
"""Inches: one column of the page, the whole width of a phone."""
RASTER = 150
"""Dots per inch of clouds of points; everything else is lines."""
NO_METADATA = {"Date": None, "Creator": None}

_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.labelsize": 10,
    "axes.labelcolor": "#20242a",
    "axes.edgecolor": "#9aa0a8",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e7eb",
    "grid.linewidth": 0.7,
    "xtick.color": "#5a6068",
    "ytick.color": "#5a6068",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.facecolor": "white",
    "legend.edgecolor": "white",
    "legend.framealpha": 0.85,
    "legend.fancybox": False,
    "legend.fontsize": 9,
    "mathtext.default": "regular",
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "svg.fonttype": "path",
    # The same data make the same bytes.
    "svg.hashsalt": "galbatch",
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw a figure in the report's style, whatever matplotlib is set to elsewhere."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with context(_STYLE, after_reset=True):
            return draw(*args, **kwargs)

    return inside


def colour_of(index: int) -> str:
    """The colour of a model, by its place in the job: the same in every figure."""
    return MODEL_COLOURS[index % len(MODEL_COLOURS)]


def shades(colour: str) -> LinearSegmentedColormap:
    """A sequential map from pale to dark through a model's colour."""
    middle = np.array(to_rgb(colour))
    stops = np.stack((0.72 + 0.28 * middle, middle, 0.35 * middle))
    return LinearSegmentedColormap.from_list(colour, stops)


def data_uri(figure: Figure) -> str:
    """The figure as an SVG inside a ``data:`` address, the same bytes for the same figure.

    Parameters
    ----------
    figure : matplotlib.figure.Figure

    Returns
    -------
    str
    """
    with context(_STYLE, after_reset=True):
        FigureCanvasSVG(figure)
        file = io.BytesIO()
        figure.savefig(file, format="svg", dpi=RASTER, metadata=NO_METADATA)
    # A third smaller than base64, which would wrap the dense parts twice.
    return "data:image/svg+xml," + quote(file.getvalue().decode(), safe=" /:;,=+!()*@?~'[]{}")
