"""The catalogue as a whole, and how the networks were trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from galbatch.report.data import LossCurve, SkyPartition
from galbatch.report.figures.base import Curve, literal
from galbatch.report.style import TRUTH, WARNING, WIDTH, colour_of, styled
from galbatch.report.words import percent, thousands


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
