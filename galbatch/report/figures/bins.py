"""Statistics in bins of magnitude, redshift or odds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from galbatch.quality.results import (
    BinnedDistributions,
    BinnedStatistics,
)
from galbatch.report.figures.base import MARKERS, Curve, literal
from galbatch.report.style import TRUTH, WIDTH, styled


@styled
def by_bins(tables: Sequence[tuple[Curve, BinnedStatistics]], label: str) -> Figure:
    """Scatter, bias, outliers and rows in bins, all models.

    Parameters
    ----------
    tables : sequence of ((str, str), BinnedStatistics)
        At least one.
    label : str
        Of the horizontal axis.

    Returns
    -------
    matplotlib.figure.Figure
    """
    counts = [rows for _, table in tables for rows in table.rows]
    # Equally filled bins, the usual case, need no panel of their counts.
    uneven = max(counts) > 1.5 * min(counts) + 10
    figure = Figure(figsize=(WIDTH, 5.6 if uneven else 4.8))
    panels = figure.subplots(4 if uneven else 3, 1, sharex=True,
                             height_ratios=(2, 2, 2, 1) if uneven else None)  # fmt: skip
    shown = ("sigma_nmad", "bias", "outliers")
    for place, ((name, colour), table) in enumerate(tables):
        for axes, statistic in zip(panels, shown, strict=False):
            axes.errorbar(
                table.centre, getattr(table, statistic), yerr=getattr(table, f"{statistic}_error"),
                color=colour, marker=MARKERS[place % len(MARKERS)], markersize=4.5, linewidth=1.3,
                elinewidth=1, label=literal(name),
            )  # fmt: skip
        if uneven:
            panels[3].stairs(table.rows, table.edges, color=colour, linewidth=1.4)
    panels[0].set_ylabel(r"$\sigma_{NMAD}$")
    panels[0].set_ylim(bottom=0)
    panels[1].set_ylabel("bias")
    panels[1].axhline(0, color=TRUTH, linewidth=0.9)
    panels[2].set_ylabel("outliers")
    panels[2].set_ylim(bottom=0)
    panels[2].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    if uneven:
        panels[3].set_ylabel("rows")
        panels[3].yaxis.set_major_locator(MaxNLocator(2, integer=True))
    panels[-1].set_xlabel(label)
    centres = np.array([place for _, table in tables for place in table.centre])
    centres = centres[np.isfinite(centres)]
    if centres.size:
        margin = 0.06 * float(np.ptp(centres)) or 0.5
        panels[-1].set_xlim(centres.min() - margin, centres.max() + margin)
    if len(tables) > 1:
        panels[0].legend(loc="best", ncols=2)
    figure.align_ylabels()
    return figure


@styled
def honesty_by_bins(tables: Sequence[tuple[Curve, BinnedDistributions]], label: str) -> Figure:
    """Coverage of the intervals and width of the pulls in bins, all models.

    Parameters
    ----------
    tables : sequence of ((str, str), BinnedDistributions)
        At least one.
    label : str
        Of the horizontal axis.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(WIDTH, 4.8))
    panels = figure.subplots(3, 1, sharex=True)
    shown = (("coverage68", 0.68), ("coverage95", 0.95), ("pull_width", 1.0))
    for axes, (statistic, honest) in zip(panels, shown, strict=True):
        axes.axhline(honest, color=TRUTH, linewidth=0.9)
        for place, ((name, colour), table) in enumerate(tables):
            values = [getattr(one, statistic) for one in table.bins]
            errors = [getattr(one, f"{statistic}_error") for one in table.bins]
            axes.errorbar(
                table.centre, values, yerr=errors, color=colour,
                marker=MARKERS[place % len(MARKERS)], markersize=4.5, linewidth=1.3, elinewidth=1,
                label=literal(name),
            )  # fmt: skip
    panels[0].set_ylabel("in 68 %")
    panels[1].set_ylabel("in 95 %")
    panels[2].set_ylabel("pull width")
    for axes in panels[:2]:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    panels[-1].set_xlabel(label)
    if len(tables) > 1:
        panels[0].legend(loc="best", ncols=2)
    figure.align_ylabels()
    return figure
