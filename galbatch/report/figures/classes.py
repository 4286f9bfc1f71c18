"""Probabilities of classes against known ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from galbatch.quality.results import (
    BinnedClass,
    ClassStatistics,
    MulticlassStatistics,
)
from galbatch.report.figures.base import MARKERS, Curve, literal
from galbatch.report.style import MUTED, TRUTH, WIDTH, colour_of, styled
from galbatch.report.words import CLASS_MEMBERS, decimals


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
            label=f"{CLASS_MEMBERS[name]}: error {decimals(one.calibration_error[place], 3)}",
        )  # fmt: skip
    axes.set(
        xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="predicted probability of the class",
        ylabel="fraction that are of the class",
    )  # fmt: skip
    axes.legend(loc="upper left")
    return figure
