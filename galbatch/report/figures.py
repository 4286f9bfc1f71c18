"""The figures of the page. Each is one column wide, so that a phone shows it in full.

Numbers come in ready: nothing here measures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from numpy.typing import NDArray

from galbatch.quality.results import (
    BinnedClass,
    BinnedDistributions,
    BinnedStatistics,
    ClassStatistics,
    DistributionStatistics,
    Histogram,
    MulticlassStatistics,
    PointStatistics,
)
from galbatch.report.data import LossCurve, SkyPartition
from galbatch.report.style import MUTED, TRUTH, WARNING, WIDTH, colour_of, shades, styled
from galbatch.report.words import CLASS_WORDS, WORDS, counted, decimals, percent, thousands
from galbatch.values import Target

Curve = tuple[str, str]
"""Name and colour of a model."""
MARKERS = "os^Dv<"
BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2.5}


def literal(text: str) -> str:
    """Text that shall not be read as mathematics, for matplotlib."""
    return text.replace("$", r"\$")


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
    x, y = _finite(true, predicted)
    end = 1.04 * float(max(np.quantile(x, 0.999), np.quantile(y, 0.999), 0.05))
    limit = statistics.threshold if math.isfinite(statistics.threshold) else 0.15
    _cloud(top, x, y, ((0, end), (0, end)), model[1], max_points)
    line = np.array([0.0, end])
    top.plot(line, line, color=TRUTH, linewidth=1)
    for sign in (-1, 1):
        top.plot(line, line + sign * limit * (1 + line), color=TRUTH, linewidth=0.9, linestyle="--")
    top.set(xlim=(0, end), ylim=(0, end), ylabel=r"predicted redshift  $z_{phot}$")
    _numbers(
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
    _cloud(bottom, x, (y - x) / (1 + x), ((0, end), (-reach, reach)), model[1], max_points)
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
    words = WORDS[target]
    figure = Figure(figsize=(WIDTH, 4.2))
    axes = figure.subplots()
    x, y = _finite(true, predicted)
    low = float(min(np.quantile(x, 0.002), np.quantile(y, 0.002)))
    high = float(max(np.quantile(x, 0.998), np.quantile(y, 0.998)))
    margin = 0.05 * (high - low or 1.0)
    ends = (low - margin, high + margin)
    _cloud(axes, x, y, (ends, ends), model[1], max_points)
    axes.plot(ends, ends, color=TRUTH, linewidth=1, label="1 : 1")
    if math.isfinite(statistics.slope):
        middle = float(x.mean()), float(y.mean())
        axes.axline(middle, slope=statistics.slope, color=TRUTH, linewidth=1.1, linestyle=":",
                    label=f"slope {decimals(statistics.slope, 3)}")  # fmt: skip
    unit = f"  [{words.unit}]" if words.unit else ""
    axes.set(
        xlim=ends, ylim=ends, xlabel=f"true {words.symbol}{unit}",
        ylabel=f"predicted {words.symbol}{unit}",
    )  # fmt: skip
    if target == "abs_mag_b":
        # Bright is to the right and up.
        axes.invert_xaxis()
        axes.invert_yaxis()
    axes.legend(loc="lower right")
    _numbers(
        axes,
        f"{literal(model[0])}, {counted(statistics.rows, 'row')}\n"
        rf"$\sigma_{{NMAD}}$ = {decimals(statistics.sigma_nmad, 3)} {words.unit}"
        f"\nbias = {decimals(statistics.bias, 3)} {words.unit}"
        f"\n$r^2$ = {decimals(statistics.r2, 3)}",
    )
    return figure


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
def roc(statistics: Sequence[tuple[Curve, ClassStatistics]]) -> Figure:
    """ROC curves, with a logarithmic false positive rate.

    Parameters
    ----------
    statistics : sequence of ((str, str), ClassStatistics)
        At least one.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.subplots()
    floor = min(0.5 / max(one.galaxies, 1) for _, one in statistics)
    for (name, colour), one in statistics:
        rate = np.maximum(one.false_positive_rate, floor)
        axes.plot(rate, one.true_positive_rate, color=colour, linewidth=1.8, drawstyle="steps-post",
                  label=f"{literal(name)}: AUC {decimals(one.auc)}")  # fmt: skip
        false = one.galaxies_as_stars / max(one.galaxies, 1)
        axes.plot(max(false, floor), one.star_completeness, color=colour, marker="o",
                  markeredgecolor="white", markersize=8, linestyle="none")  # fmt: skip
    chance = np.geomspace(floor, 1, 100)
    axes.plot(chance, chance, color=MUTED, linewidth=1, linestyle="--", label="by chance")
    axes.set(
        xscale="log", xlim=(floor, 1), ylim=(0, 1.02),
        xlabel="galaxies called stars (fraction)", ylabel="stars called stars (fraction)",
    )  # fmt: skip
    axes.legend(loc="lower right")
    return figure


@styled
def reliability(statistics: Sequence[tuple[Curve, ClassStatistics]]) -> Figure:
    """Fraction of stars against predicted probability.

    Parameters
    ----------
    statistics : sequence of ((str, str), ClassStatistics)
        At least one.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.subplots()
    axes.plot((0, 1), (0, 1), color=TRUTH, linewidth=1, linestyle="--")
    for place, ((name, colour), one) in enumerate(statistics):
        rows = np.asarray(one.reliability_rows, float)
        fraction = np.asarray(one.reliability_fraction)
        middle = (fraction * rows + 2) / (rows + 4)
        axes.errorbar(
            one.reliability_probability, fraction, yerr=np.sqrt(middle * (1 - middle) / (rows + 4)),
            color=colour, marker=MARKERS[place % len(MARKERS)], markersize=4.5, linewidth=1.3,
            label=f"{literal(name)}: error {decimals(one.calibration_error, 3)}",
        )  # fmt: skip
    axes.set(
        xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="predicted probability of being a star",
        ylabel="fraction that are stars",
    )  # fmt: skip
    axes.legend(loc="upper left")
    return figure


@styled
def classes_by_magnitude(tables: Sequence[tuple[Curve, BinnedClass]], label: str) -> Figure:
    """Confusion and dishonesty about one class by magnitude, all models.

    Parameters
    ----------
    tables : sequence of ((str, str), BinnedClass)
        At least one.
    label : str
        Of the horizontal axis.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(WIDTH, 3.8))
    panels = figure.subplots(2, 1, sharex=True)
    for place, ((name, colour), table) in enumerate(tables):
        look: dict[str, Any] = {
            "color": colour, "marker": MARKERS[place % len(MARKERS)], "markersize": 4.5,
            "linewidth": 1.3, "label": literal(name),
        }  # fmt: skip
        panels[0].errorbar(
            table.centre, 1 - np.asarray(table.auc), yerr=table.auc_error, elinewidth=1, **look
        )
        panels[1].plot(table.centre, table.calibration_error, **look)
    panels[0].set_ylabel("1 - AUC")
    panels[1].set_ylabel("calibration error")
    for axes in panels:
        axes.set_ylim(bottom=0)
    panels[1].set_xlabel(label)
    if len(tables) > 1:
        panels[0].legend(loc="best", ncols=2)
    figure.align_ylabels()
    return figure


@styled
def class_reliability(one: MulticlassStatistics) -> Figure:
    """Fraction of each class' members against its predicted probability.

    Parameters
    ----------
    one : MulticlassStatistics

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.subplots()
    axes.plot((0, 1), (0, 1), color=TRUTH, linewidth=1, linestyle="--")
    for place, name in enumerate(one.classes):
        rows = np.asarray(one.reliability_rows[place], float)
        fraction = np.asarray(one.reliability_fraction[place])
        middle = (fraction * rows + 2) / (rows + 4)
        axes.errorbar(
            one.reliability_probability[place], fraction,
            yerr=np.sqrt(middle * (1 - middle) / (rows + 4)), color=colour_of(place + 2),
            marker=MARKERS[place % len(MARKERS)], markersize=4.5, linewidth=1.3,
            label=f"{CLASS_WORDS[name]}: error {decimals(one.calibration_error[place], 3)}",
        )  # fmt: skip
    axes.set(
        xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="predicted probability of the class",
        ylabel="fraction that are of the class",
    )  # fmt: skip
    axes.legend(loc="upper left")
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


@styled
def quality_flags(counts: Sequence[tuple[Curve, Mapping[str, int]]], rows: int) -> Figure:
    """Rows by named quality bit.

    Parameters
    ----------
    counts : sequence of ((str, str), mapping of str to int)
        At least one.
    rows : int
        Of the catalogue.

    Returns
    -------
    matplotlib.figure.Figure
    """
    names = list(dict.fromkeys(name for _, one in counts for name in one))
    figure = Figure(figsize=(WIDTH, 0.9 + 0.3 * len(names) * max(1, 0.8 * len(counts))))
    axes = figure.subplots()
    thick = 0.8 / len(counts)
    for place, ((name, colour), one) in enumerate(counts):
        height = np.arange(len(names)) + place * thick
        numbers = [one.get(flag, 0) for flag in names]
        axes.barh(height, numbers, thick * 0.92, color=colour, alpha=0.85, label=literal(name))
        for y, number in zip(height, numbers, strict=True):
            share = (
                f"  {thousands(number)} ({percent(number / rows, 1)})" if rows else f"  {number}"
            )
            axes.text(number, y, share, va="center", fontsize=8.5, color=TRUTH)
    axes.set_yticks(
        np.arange(len(names)) + thick * (len(counts) - 1) / 2, [literal(flag) for flag in names]
    )
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    most = max([number for _, one in counts for number in one.values()], default=1)
    axes.set(xlim=(0, 1.55 * max(most, 1)), xlabel="rows of the catalogue")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: thousands(int(value))))
    if len(counts) > 1:
        axes.legend(loc="lower right")
    return figure


@styled
def loss_curves(history: Sequence[LossCurve], model: Curve) -> Figure:
    """Loss by epoch, training and validation.

    Parameters
    ----------
    history : sequence of LossCurve
        At least one.
    model : (str, str)

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(WIDTH, 3.3))
    axes = figure.subplots()
    low = math.inf
    for place, curve in enumerate(history):
        colour = model[1] if len(history) == 1 else colour_of(place)
        epochs = np.arange(1, len(curve.training) + 1)
        axes.plot(epochs, curve.training, color=colour, linewidth=1, alpha=0.55, linestyle="--")
        if curve.validation:
            axes.plot(np.arange(1, len(curve.validation) + 1), curve.validation, color=colour,
                      linewidth=1.6, label=literal(curve.name))  # fmt: skip
            best = int(np.nanargmin(curve.validation)) if np.isfinite(curve.validation).any() else 0
            axes.plot(best + 1, curve.validation[best], color=colour, marker="o", markersize=5,
                      markeredgecolor="white")  # fmt: skip
        low = min(low, *curve.training, *curve.validation)
    if 0 < low < math.inf:
        axes.set_yscale("log")
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_major_formatter(plain)
        axes.yaxis.set_minor_formatter(plain)
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
    axes.set(xlabel="epoch", ylabel="loss")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if any(curve.validation for curve in history):
        axes.legend(loc="upper right", ncols=2 if len(history) > 3 else 1)
    return figure


@styled
def sky(partitions: Sequence[SkyPartition]) -> Figure:
    """Partitions on the sky by their rows; those set aside are crossed out.

    Parameters
    ----------
    partitions : sequence of SkyPartition
        At least one.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.subplots()
    ra = np.array([one.ra for one in partitions])
    if ra.max() - ra.min() > 180:
        # Fields on both sides of 0 h stay together.
        wrapped = (ra + 180) % 360 - 180
        ra = wrapped if np.ptp(wrapped) < np.ptp(ra) else ra
    dec = np.array([one.dec for one in partitions])
    rows = np.array([max(one.rows, 1) for one in partitions])
    size = float(np.clip(4000 / len(partitions), 8, 90))
    shown = axes.scatter(ra, dec, c=rows, s=size, cmap="cividis_r", norm=LogNorm(),
                         linewidths=0.3, edgecolors="white", rasterized=len(ra) > 2000)  # fmt: skip
    bad = np.array([one.quarantined for one in partitions])
    if bad.any():
        axes.scatter(ra[bad], dec[bad], s=size, marker="x", color=WARNING, linewidths=1.8,
                     label="in quarantine")  # fmt: skip
        axes.legend(loc="upper right", bbox_to_anchor=(1, 1.12))
    axes.invert_xaxis()
    axes.set(xlabel="right ascension  [deg, ICRS]", ylabel="declination  [deg, ICRS]")
    axes.ticklabel_format(useOffset=False)
    axes.margins(0.08)
    bar = figure.colorbar(shown, ax=axes, pad=0.02, aspect=30)
    counts = FuncFormatter(lambda value, _: thousands(int(value)))
    bar.ax.yaxis.set_major_formatter(counts)
    bar.ax.yaxis.set_minor_formatter(counts)
    bar.ax.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    bar.set_label("rows in the partition")
    bar.outline.set_visible(False)
    return figure


def _cloud(
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


def _numbers(axes: Axes, text: str) -> None:
    axes.text(0.03, 0.97, text, transform=axes.transAxes, va="top", fontsize=9, bbox=BOX,
              linespacing=1.35)  # fmt: skip


def _finite(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    known = np.isfinite(x) & np.isfinite(y)
    return x[known], y[known]


def _density(histogram: Histogram) -> NDArray[np.float64]:
    counts = np.asarray(histogram.counts, float)
    width = np.diff(np.asarray(histogram.edges))
    density: NDArray[np.float64] = counts / (max(counts.sum(), 1.0) * width)
    return density
