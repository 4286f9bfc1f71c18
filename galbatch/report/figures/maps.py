"""Self-organising maps and clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from galbatch.report.style import MUTED, WIDTH, colour_of, shades, styled
from galbatch.shown import ClustersTried

_WRITTEN = 15
"""Cells along a side of a map in which numbers can be read."""
_NONE = "#e4e7eb"


@styled
def cells(values: NDArray[Any], label: str) -> Figure:
    """Numbers of the cells of a map.

    Parameters
    ----------
    values : ndarray, shape (x, y)
    label : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(WIDTH, 3.8))
    axes = figure.subplots()
    image = axes.imshow(values.T, origin="lower", cmap=shades(colour_of(0)), aspect="equal")
    if np.issubdtype(values.dtype, np.integer):
        _write(axes, values, np.full(values.shape, values.max(initial=0) / 2))
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=30)
    bar.set_label(label)
    bar.outline.set_visible(False)
    _frame(axes)
    return figure


@styled
def cell_clusters(clusters: NDArray[Any], hits: NDArray[Any], k: int) -> Figure:
    """The clusters of the cells of a map; pale where a cell has no row.

    Parameters
    ----------
    clusters, hits : ndarray of int, shape (x, y)
    k : int
        How many clusters there are.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(WIDTH, 3.8))
    axes = figure.subplots()
    colours = ListedColormap([colour_of(place) for place in range(k)])
    shown = np.ma.masked_where(hits.T == 0, clusters.T)
    colours.set_bad(_NONE)
    norm = BoundaryNorm(np.arange(k + 1) - 0.5, k) if k > 1 else None
    axes.imshow(shown, origin="lower", cmap=colours, norm=norm, aspect="equal", alpha=0.75)
    _write(axes, clusters, np.full(clusters.shape, np.inf))
    _frame(axes)
    return figure


@styled
def clusters_tried(tried: Sequence[ClustersTried], k: int) -> Figure:
    """Silhouette and stability of numbers of clusters.

    Parameters
    ----------
    tried : sequence of ClustersTried
        At least one.
    k : int
        The number that was taken.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(WIDTH, 3.3))
    axes = figure.subplots()
    numbers = [one.k for one in tried]
    axes.axvline(k, color=MUTED, linewidth=0.9, linestyle="--", zorder=0)
    axes.plot(numbers, [one.silhouette for one in tried], color=colour_of(0), marker="o",
              label="silhouette")  # fmt: skip
    axes.plot(numbers, [one.stability for one in tried], color=colour_of(1), marker="s",
              linestyle="--", label="stability")  # fmt: skip
    axes.set(xlabel="number of clusters k", ylim=(min(0.0, axes.get_ylim()[0]), 1.05))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="best")
    return figure


def _write(axes: Any, values: NDArray[Any], dark: NDArray[Any]) -> None:
    """The number of each cell in it: white where the cell is dark."""
    if max(values.shape) > _WRITTEN:
        return
    for (x, y), value in np.ndenumerate(values):
        colour = "white" if value > dark[x, y] else "#20242a"
        axes.text(x, y, str(value), ha="center", va="center", fontsize=7.5, color=colour)


def _frame(axes: Any) -> None:
    axes.grid(visible=False)
    axes.set(xlabel="x", ylabel="y")
    for side in (axes.xaxis, axes.yaxis):
        side.set_major_locator(MaxNLocator(6, integer=True))
