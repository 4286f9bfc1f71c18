"""What the figures share: names of models, clouds of points, numbers in a corner."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from numpy.typing import NDArray

from galbatch.report.style import shades

Curve = tuple[str, str]
"""Name and colour of a model."""
MARKERS = "os^Dv<"
_BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2.5}


def literal(text: str) -> str:
    """Text that shall not be read as mathematics, for matplotlib."""
    return text.replace("$", r"\$")


def cloud(
    axes: Axes,
    x: NDArray[Any],
    y: NDArray[Any],
    extent: tuple[tuple[float, float], tuple[float, float]],
    colour: str,
    max_points: int,
) -> None:
    """Points coloured by how many others are near, or a density of hexagons."""
    inside = (x >= extent[0][0]) & (x <= extent[0][1]) & (y >= extent[1][0]) & (y <= extent[1][1])
    x, y = x[inside], y[inside]
    if x.size > max_points:
        axes.hexbin(x, y, gridsize=90, extent=(*extent[0], *extent[1]), bins="log", mincnt=1,
                    cmap=shades(colour), linewidths=0.1, rasterized=True)  # fmt: skip
        return
    cells, edges_x, edges_y = np.histogram2d(x, y, bins=60, range=extent)
    column = np.clip(np.searchsorted(edges_x, x) - 1, 0, 59)
    row = np.clip(np.searchsorted(edges_y, y) - 1, 0, 59)
    near = cells[column, row]
    order = np.argsort(near, kind="stable")
    size = float(np.clip(20_000 / max(x.size, 1), 2, 12))
    axes.scatter(x[order], y[order], c=near[order], s=size,
                 cmap=shades(colour), norm=LogNorm(1, max(float(near.max(initial=1)), 2)),
                 linewidths=0, rasterized=True)  # fmt: skip


def corner_text(axes: Axes, text: str) -> None:
    """Numbers in the upper left corner."""
    axes.text(0.03, 0.97, text, transform=axes.transAxes, va="top", fontsize=9, bbox=_BOX,
              linespacing=1.35)  # fmt: skip


def both_finite(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The rows in which both are finite."""
    known = np.isfinite(x) & np.isfinite(y)
    return x[known], y[known]
