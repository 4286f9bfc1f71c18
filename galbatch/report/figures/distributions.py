"""Distributions of one quantity, and of the probability integral transform."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galbatch.quality.results import (
    DistributionStatistics,
    Histogram,
)
from galbatch.report.figures.base import Curve, literal
from galbatch.report.style import MUTED, TRUTH, WIDTH, styled
from galbatch.report.words import decimals, thousands


@styled
def pit_histogram(statistics: Sequence[tuple[Curve, DistributionStatistics]]) -> Figure:
    """Histogram of the probability integral transform, with the scatter that chance allows.

    Parameters
    ----------
    statistics : sequence of ((str, str), DistributionStatistics)
        Those with a PIT; at least one.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(WIDTH, 3.4))
    axes = figure.subplots()
    first = True
    for (name, colour), one in statistics:
        if one.pit is None:
            continue
        counts = np.asarray(one.pit.counts, float)
        expected = counts.sum() / counts.size
        if first:
            chance = 1.96 * math.sqrt(expected * (1 - 1 / counts.size)) / max(expected, 1e-9)
            axes.axhspan(1 - chance, 1 + chance, color=MUTED, alpha=0.2, linewidth=0)
            axes.axhline(1, color=TRUTH, linewidth=1, linestyle="--")
        axes.stairs(counts / max(expected, 1e-9), one.pit.edges, color=colour, linewidth=1.6,
                    fill=False, label=f"{literal(name)}: KS {decimals(one.pit_ks, 3)}")  # fmt: skip
        if first:
            axes.stairs(counts / max(expected, 1e-9), one.pit.edges, color=colour, alpha=0.2,
                        fill=True)  # fmt: skip
        first = False
    axes.set(xlim=(0, 1), xlabel=r"PIT = P($z \leq z_{true}$)", ylabel="relative to uniform")
    axes.set_ylim(0, max(2.0, axes.get_ylim()[1]))
    axes.legend(loc="upper center")
    return figure


@styled
def distributions(
    filled: Sequence[tuple[str, Histogram]],
    outlined: Sequence[tuple[Curve, Histogram]],
    label: str,
) -> Figure:
    """Normalised distributions of one quantity in several samples.

    Parameters
    ----------
    filled : sequence of (str, Histogram)
        Samples of known rows, in grey.
    outlined : sequence of ((str, str), Histogram)
    label : str
        Of the horizontal axis.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(WIDTH, 3.3))
    axes = figure.subplots()
    for name, histogram in filled:
        axes.stairs(_density(histogram), histogram.edges, color=MUTED, alpha=0.35, fill=True,
                    label=f"{literal(name)} ({thousands(sum(histogram.counts))})")  # fmt: skip
    for (name, colour), histogram in outlined:
        axes.stairs(_density(histogram), histogram.edges, color=colour, linewidth=1.6,
                    label=f"{literal(name)} ({thousands(sum(histogram.counts))})")  # fmt: skip
    axes.set(xlabel=label, ylabel="normalised rows")
    axes.set_ylim(bottom=0)
    axes.legend(loc="best")
    return figure


@styled
def ood(histograms: Sequence[tuple[Curve, Histogram]]) -> Figure:
    """Out-of-distribution scores over the catalogue.

    Parameters
    ----------
    histograms : sequence of ((str, str), Histogram)
        At least one.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(WIDTH, 3.3))
    axes = figure.subplots()
    for (name, colour), histogram in histograms:
        axes.stairs(
            histogram.counts, histogram.edges, color=colour, linewidth=1.6, label=literal(name)
        )
    axes.set(xlabel="out-of-distribution score", ylabel="rows of the catalogue", yscale="log")
    axes.set_ylim(bottom=0.7)
    axes.legend(loc="best")
    return figure


def _density(histogram: Histogram) -> NDArray[np.float64]:
    counts = np.asarray(histogram.counts, float)
    width = np.diff(np.asarray(histogram.edges))
    density: NDArray[np.float64] = counts / (max(counts.sum(), 1.0) * width)
    return density
