"""Predicted against true values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galbatch.quality.results import (
    PointStatistics,
)
from galbatch.report.figures.base import Curve, both_finite, cloud, corner_text, literal
from galbatch.report.style import MUTED, TRUTH, WIDTH, styled
from galbatch.report.words import counted, decimals, percent
from galbatch.targets import RECORDS
from galbatch.values import Target


@styled
def redshift_scatter(
    true: NDArray[Any],
    predicted: NDArray[Any],
    statistics: PointStatistics,
    model: Curve,
    max_points: int,
) -> Figure:
    """Predicted against true redshift, and the normalised residual below.

    Parameters
    ----------
    true, predicted : array, shape (n,)
        Redshifts; rows in which one is not finite are not drawn.
    statistics : PointStatistics
        Numbers to write into the figure.
    model : (str, str)
    max_points : int
        More rows are drawn as a density.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(WIDTH, 5.2))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1.0))
    x, y = both_finite(true, predicted)
    end = 1.04 * float(max(np.quantile(x, 0.999), np.quantile(y, 0.999), 0.05))
    limit = statistics.threshold if math.isfinite(statistics.threshold) else 0.15
    cloud(top, x, y, ((0, end), (0, end)), model[1], max_points)
    line = np.array([0.0, end])
    top.plot(line, line, color=TRUTH, linewidth=1)
    for sign in (-1, 1):
        top.plot(line, line + sign * limit * (1 + line), color=TRUTH, linewidth=0.9, linestyle="--")
    top.set(xlim=(0, end), ylim=(0, end), ylabel=r"predicted redshift  $z_{phot}$")
    corner_text(
        top,
        f"{literal(model[0])}, {counted(statistics.rows, 'row')}\n"
        rf"$\sigma_{{NMAD}}$ = {decimals(statistics.sigma_nmad)}"
        f"\nbias = {decimals(statistics.bias)}"
        f"\noutliers = {percent(statistics.outliers)}",
    )
    beyond = int(np.sum((x > end) | (y > end)))
    if beyond:
        top.text(0.99, 0.02, f"{beyond} beyond the axes", transform=top.transAxes, ha="right",
                 color=MUTED, fontsize=8)  # fmt: skip
    reach = 2.2 * limit
    cloud(bottom, x, (y - x) / (1 + x), ((0, end), (-reach, reach)), model[1], max_points)
    bottom.axhline(0, color=TRUTH, linewidth=1)
    for sign in (-1, 1):
        bottom.axhline(sign * limit, color=TRUTH, linewidth=0.9, linestyle="--")
    bottom.set(
        ylim=(-reach, reach),
        xlabel=r"true redshift  $z_{true}$",
        ylabel=r"$\Delta z/(1+z)$",
    )
    figure.align_ylabels()
    return figure


@styled
def target_scatter(
    target: Target,
    true: NDArray[Any],
    predicted: NDArray[Any],
    statistics: PointStatistics,
    model: Curve,
    max_points: int,
) -> Figure:
    """Predicted against true values of a target, with the fitted slope.

    Parameters
    ----------
    target : Target
    true, predicted : array, shape (n,)
        Rows in which one is not finite are not drawn.
    statistics : PointStatistics
    model : (str, str)
    max_points : int

    Returns
    -------
    matplotlib.figure.Figure
    """
    record = RECORDS[target]
    figure = Figure(figsize=(WIDTH, 4.2))
    axes = figure.subplots()
    x, y = both_finite(true, predicted)
    low = float(min(np.quantile(x, 0.002), np.quantile(y, 0.002)))
    high = float(max(np.quantile(x, 0.998), np.quantile(y, 0.998)))
    margin = 0.05 * (high - low or 1.0)
    ends = (low - margin, high + margin)
    cloud(axes, x, y, (ends, ends), model[1], max_points)
    axes.plot(ends, ends, color=TRUTH, linewidth=1, label="1 : 1")
    if math.isfinite(statistics.slope):
        middle = float(x.mean()), float(y.mean())
        axes.axline(middle, slope=statistics.slope, color=TRUTH, linewidth=1.1, linestyle=":",
                    label=f"slope {decimals(statistics.slope, 3)}")  # fmt: skip
    unit = f"  [{record.axis_unit}]" if record.axis_unit else ""
    axes.set(
        xlim=ends, ylim=ends, xlabel=f"true {record.symbol}{unit}",
        ylabel=f"predicted {record.symbol}{unit}",
    )  # fmt: skip
    if record.reversed_axes:
        # Bright is to the right and up.
        axes.invert_xaxis()
        axes.invert_yaxis()
    axes.legend(loc="lower right")
    corner_text(
        axes,
        f"{literal(model[0])}, {counted(statistics.rows, 'row')}\n"
        rf"$\sigma_{{NMAD}}$ = {decimals(statistics.sigma_nmad, 3)} {record.axis_unit}"
        f"\nbias = {decimals(statistics.bias, 3)} {record.axis_unit}"
        f"\n$r^2$ = {decimals(statistics.r2, 3)}",
    )
    return figure
