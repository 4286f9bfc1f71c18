"""Spectra with what models make of them, and how good classes and redshifts are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galbatch.quality.metrics import redshift_residual
from galbatch.quality.spectra import WITHIN, KnownSpectra, Ranking
from galbatch.report.figures.base import MARKERS, literal
from galbatch.report.style import MUTED, TRUTH, WARNING, WIDTH, colour_of, styled
from galbatch.shown import Chi2Curve, Minimum, SpectrumShown

_POINTS = 1200
"""Along a curve, at most: more than a column of the page can show."""
_LINEAR = 2e-3
"""Residuals of redshifts below this are drawn as they are, others by their logarithm."""


def together(points: int) -> int:
    """How many pixels of a spectrum of so many are drawn as one."""
    return -(-points // _POINTS)


@styled
def spectrum(shown: SpectrumShown, colour: str) -> Figure:
    """A spectrum with its model, and what is left below.

    Parameters
    ----------
    shown : SpectrumShown
    colour : str
        Of the model.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(WIDTH, 3.7))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    number = together(len(shown.flux))
    fitted = np.where(np.isfinite(shown.flux), shown.model, np.nan)
    wavelength, flux, model = (
        _binned(values, number) for values in (shown.wavelength, shown.flux, fitted)
    )
    upper.plot(wavelength, flux, color=MUTED, linewidth=0.7)
    upper.plot(wavelength, model, color=colour, linewidth=1.1)
    upper.set_ylabel("flux" if shown.unit else "relative flux")
    upper.set_ylim(_range(flux, model))
    left = shown.flux - shown.model
    if shown.error is not None:
        # A mean of n pixels has an error smaller by the root of n.
        left = left / shown.error * np.sqrt(number)
    left = _binned(left, number)
    lower.axhline(0, color=TRUTH, linewidth=0.8)
    lower.plot(wavelength, left, color=MUTED, linewidth=0.7)
    lower.set_ylabel("left" if shown.error is None else r"left / $\sigma$")
    lower.set_ylim(_range(left, left))
    if shown.error is None:
        lower.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    lower.set_xlabel(f"wavelength {'at rest' if shown.frame == 'rest' else 'as observed'}  [Å]")
    seen = wavelength[np.isfinite(flux)]
    if seen.size:
        lower.set_xlim(seen[0], seen[-1])
    figure.align_ylabels()
    return figure


@styled
def chi2_curves(lines: Sequence[Chi2Curve], minima: Sequence[Minimum]) -> Figure:
    """Chi-square against redshift, a panel for each class, with both minima marked.

    Parameters
    ----------
    lines : sequence of Chi2Curve
        At least one.
    minima : sequence of Minimum
        The best one first.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(WIDTH, 3.7))
    panels = np.atleast_1d(figure.subplots(len(lines), 1))
    for axes, line in zip(panels, lines, strict=True):
        axes.plot(*_outlined(line.z, line.chi2), color=MUTED, linewidth=0.9)
        own = [(place, one) for place, one in enumerate(minima) if one.name == line.name]
        for place, one in own:
            _mark(axes, one, place)
        axes.set(xlabel=f"redshift as {literal(line.name)}", ylabel=r"$\chi^2$")
        axes.margins(y=0.12)
        axes.legend(loc="best", fontsize=8.5)
    return figure


@styled
def known_redshifts(known: KnownSpectra, classes: Sequence[str]) -> Figure:
    """Redshifts against known ones, and their residuals, by class.

    Parameters
    ----------
    known : KnownSpectra
    classes : sequence of str

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(WIDTH, 4.6))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1))
    both = np.isfinite(known.known_z) & np.isfinite(known.z)
    residual = redshift_residual(known.z, known.known_z)
    names = [*classes, *([""] if (both & ~np.isin(known.known_kind, classes)).any() else [])]
    for place, name in enumerate(names):
        rows = both & (known.known_kind == name if name else ~np.isin(known.known_kind, classes))
        if not rows.any():
            continue
        style: dict[str, Any] = {
            "color": colour_of(place), "marker": MARKERS[place % len(MARKERS)], "markersize": 3.5,
            "linestyle": "none", "alpha": 0.7, "markeredgewidth": 0, "rasterized": True,
        }  # fmt: skip
        upper.plot(known.known_z[rows], known.z[rows], label=literal(name or "unknown"), **style)
        lower.plot(known.known_z[rows], residual[rows], **style)
    ends = upper.get_xlim()
    upper.plot(ends, ends, color=TRUTH, linewidth=0.8, zorder=0)
    upper.set(xlim=ends, ylabel="redshift found")
    upper.legend(loc="upper left")
    lower.axhline(0, color=TRUTH, linewidth=0.8)
    for limit in (WITHIN[0], WITHIN[-1]):
        for side in (-limit, limit):
            lower.axhline(side, color=MUTED, linewidth=0.8, linestyle="--", zorder=0)
    lower.set_yscale("symlog", linthresh=_LINEAR)
    lower.set(xlabel="known redshift", ylabel="Δz / (1 + z)")
    figure.align_ylabels()
    return figure


@styled
def ranked_failures(ranking: Ranking) -> Figure:
    """What a limit on the score keeps, and how many failures are among it.

    Parameters
    ----------
    ranking : Ranking
        With at least one limit.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(WIDTH, 3.3))
    axes = figure.subplots()
    score = np.array(ranking.score)
    axes.plot(score, 100 * np.array(ranking.kept), color=colour_of(0), linewidth=1.6,
              label="rows kept")  # fmt: skip
    axes.plot(score, 100 * np.array(ranking.failing), color=WARNING, linewidth=1.6, linestyle="--",
              label="failures among these")  # fmt: skip
    if (score > 0).sum() > 1:
        axes.set_xscale("log")
    axes.set(xlabel=f"least {literal(ranking.name)}", ylabel="%")
    axes.set_ylim(bottom=0)
    axes.legend(loc="best")
    return figure


def _mark(axes: Axes, one: Minimum, place: int) -> None:
    best = place == 0
    axes.plot(
        one.z, one.chi2, marker="o" if best else "D", markersize=7, linestyle="none",
        color=colour_of(0) if best else colour_of(1),
        markerfacecolor=colour_of(0) if best else "white",
        label=f"{'best' if best else 'second'}: z = {one.z:.4f}",
    )  # fmt: skip


def _binned(values: NDArray[Any], number: int) -> NDArray[np.float64]:
    """Means of so many pixels that follow each other, without those that are NaN."""
    filled = np.full(-(-len(values) // number) * number, np.nan)
    filled[: len(values)] = values
    parts = filled.reshape(-1, number)
    known = np.isfinite(parts)
    count = known.sum(axis=1)
    total = np.where(known, parts, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _range(one: NDArray[Any], other: NDArray[Any]) -> tuple[float, float] | tuple[None, None]:
    """What nearly all of the first and all of the second lie between."""
    values, whole = one[np.isfinite(one)], other[np.isfinite(other)]
    if not values.size or not whole.size:
        return None, None
    low, high = np.percentile(values, (0.5, 99.5))
    low, high = min(low, whole.min()), max(high, whole.max())
    margin = 0.06 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def _outlined(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The lowest and the highest point of each stretch of a long curve: no minimum is lost."""
    good = np.isfinite(y)
    x, y = x[good], y[good]
    if len(x) <= _POINTS:
        return x, y
    edges = np.linspace(0, len(x), _POINTS // 2 + 1).astype(int)
    kept = {0, len(x) - 1}
    for start, stop in pairwise(edges.tolist()):
        kept |= {start + int(y[start:stop].argmin()), start + int(y[start:stop].argmax())}
    places = sorted(kept)
    return x[places], y[places]
