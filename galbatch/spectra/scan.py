"""Class and redshift of spectra: chi-square of all bases at all whole shifts, and its minima.

Every hypothesis is a basis at a shift, with coefficients and a low polynomial solved for it anew.
Hypotheses are compared by their score: chi-square and a penalty for each coefficient, less what a
wide minimum holds more of the probability than a narrow one. Penalty and width were chosen on
simulated spectra of galaxies, quasars and stars that no basis was made of. The fast way
finds chi-square nearly at all shifts (`nearly`), then exactly where it may be the least (`exact`);
the other finds it exactly everywhere (`curves`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from galbatch.arrays import download, namespace, to_numpy
from galbatch.errors import SpecError
from galbatch.spectra.choose import Chooser, Chosen
from galbatch.spectra.curves import FEW_SHIFTS, ExactCurves
from galbatch.spectra.doubts import Fits, doubts, residual_peaks
from galbatch.spectra.exact import ExactFits, Key
from galbatch.spectra.flags import SpecFlag
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.minima import minima_of
from galbatch.spectra.nearly import NearCurves
from galbatch.spectra.stacks import stacked
from galbatch.spectra.templates import KINDS, Basis
from galbatch.spectra.weighted import Weighted, polynomials, weigh

Array = NDArray[np.float64]
_ROWS = 32
"""Spectra at once."""
_ROWS_OF_A_CARD = 128
"""So that their transforms fit in a few GB."""
_WIDE = 20.0
"""Above the best score, in units of the best reduced chi-square: what no probability can see."""


@dataclass(frozen=True)
class ScanSettings:
    """How spectra are fitted.

    Parameters
    ----------
    degree : int
        Of the polynomial; -1 for none.
    penalty : float
        Added to chi-square for each vector of a basis, when hypotheses are compared: on simulated
        spectra of S/N 1 and 2, 5 gives the most classes; 2 is Akaike's, 8 Schwarz'.
    width : float
        In log10(1 + z): how far to each side the probability of a minimum is summed, see
        `minima.minima_of`.
    apart : float
        In log10(1 + z): how far apart two minima of a class are at least.
    fewest : int
        Pixels with data, without which a spectrum is not fitted.
    fast : bool
        Exact chi-square only where a quick one is near the least. On a GPU it is exact anywhere.
    margin, share : float
        A quick chi-square is near the least within `margin` (a part of it where there are many
        shifts, see `nearly`) and `share` of what the best model gains over the polynomial.
    """

    degree: int = 2
    penalty: float = 5.0
    width: float = 0.002
    apart: float = 0.01
    fewest: int = 100
    fast: bool = True
    margin: float = 4.0
    share: float = 0.03


@dataclass(frozen=True, eq=False)
class ScanResult:
    """What the best hypothesis of each of n spectra is; NaN, -1 and '' where flags have NODATA.

    Parameters
    ----------
    kind, subclass : ndarray of str, shape (n,)
        GALAXY, QSO or STAR; and what the basis says.
    basis, shift : ndarray of int64
        Place among the bases, and pixels to the red.
    z, z_err : ndarray of float64
        Of the parabola through the minimum and its neighbours; the error is where it is 1 higher,
        NaN where the minimum is at an end.
    chi2 : ndarray of float64
        Of the best model.
    dof : ndarray of int64
        Pixels with data, less all coefficients.
    delta_chi2 : ndarray of float64
        The score of the second minimum, of another class or far enough in redshift, less the best.
    d_score : ndarray of float64
        The same as a part of the best chi-square; -1 where there is no second minimum.
    kind_second, z_second : ndarray
        Of the second minimum.
    coefficients : ndarray of float64, shape (n, largest k)
        Of the basis' vectors; NaN beyond its last.
    polynomial : ndarray of float64, shape (n, degree + 1)
        Of Legendre's polynomials from the first pixel to the last.
    pixels : ndarray of int64
        With data.
    probabilities : ndarray of float64, shape (n, 3)
        Of the classes in the order of `templates.KINDS`. See `scan`.
    flags : ndarray of int64
        Bits of `flags.SpecFlag`.
    residual : ndarray of float64
        See `doubts.residual_peaks`.
    """

    kind: NDArray[np.str_]
    subclass: NDArray[np.str_]
    basis: NDArray[np.int64]
    shift: NDArray[np.int64]
    z: Array
    z_err: Array
    chi2: Array
    dof: NDArray[np.int64]
    delta_chi2: Array
    d_score: Array
    kind_second: NDArray[np.str_]
    z_second: Array
    coefficients: Array
    polynomial: Array
    pixels: NDArray[np.int64]
    probabilities: Array
    flags: NDArray[np.int64]
    residual: Array


def scan(
    flux: Any, ivar: Any, grid: LogGrid, bases: Sequence[Basis], settings: ScanSettings
) -> ScanResult:
    """Fit spectra with every basis at each of its redshifts.

    Probabilities of classes are sums of exp(-score / 2) over the minima of a class, with scores
    divided by the best model's reduced chi-square where it is above 1: what the bases cannot
    describe makes all hypotheses less different. Classes have the same weight beforehand.

    Parameters
    ----------
    flux, ivar : array, shape (n, m)
        NumPy or cupy, cleaned (`clean.cleaned`). Pixels whose inverse variance is not a number
        above 0 are without data.
    grid : LogGrid
        m pixels, in vacuum.
    bases : sequence of Basis
        What is laid out for them is kept as long as the same objects are given.
    settings : ScanSettings

    Returns
    -------
    ScanResult

    Raises
    ------
    SpecError
        When the arrays do not fit the grid, or a basis meets no pixel of it.
    """
    _check(flux, ivar, grid)
    scanner = scanner_of(grid, tuple(bases), settings)
    xp, rows = namespace(flux), len(flux)
    step = _ROWS if xp is np else _ROWS_OF_A_CARD
    if xp is np and settings.fast:
        # Batches of one size: else the last bits of a row would depend on how many come with it.
        flux, ivar = (filled(values, -rows % step) for values in (flux, ivar))
    found = [
        scanner(flux[start : start + step], ivar[start : start + step])
        for start in range(0, len(flux), step)
    ]
    return joined(found, rows) if found else scanner(flux, ivar)


def joined(parts: Sequence[ScanResult], rows: int | None = None) -> ScanResult:
    """One result of several, of the first rows."""
    names = [field.name for field in fields(ScanResult)]
    return ScanResult(
        **{name: np.concatenate([getattr(part, name) for part in parts])[:rows] for name in names}
    )


def filled(values: NDArray[Any], more: int) -> NDArray[Any]:
    """With so many rows of zeros at the end, which have no data."""
    if not more:
        return values
    return np.concatenate([values, np.zeros((more, *values.shape[1:]), values.dtype)])


def curves(
    flux: Any, ivar: Any, grid: LogGrid, bases: Sequence[Basis], settings: ScanSettings
) -> list[tuple[Array, Array]]:
    """Chi-square at every shift, exactly; as `scan`, for a few spectra.

    Parameters
    ----------
    flux, ivar : array, shape (n, m)
    grid : LogGrid
    bases : sequence of Basis
    settings : ScanSettings

    Returns
    -------
    list of (redshifts, chi-square)
        For each basis, of shapes (s,) and (n, s); NaN where there are too few pixels.
    """
    _check(flux, ivar, grid)
    scanner = scanner_of(grid, tuple(bases), settings)
    batch = weigh(flux, ivar, settings.degree)
    bad = ~_fitted(batch, settings)
    found: dict[int, tuple[Array, Array]] = {}
    for stack, exact in zip(scanner.stacks, scanner.exact(namespace(flux)), strict=True):
        values = to_numpy(exact(batch))
        values[bad] = np.nan
        redshifts = grid.redshifts(stack.first + np.arange(stack.shifts))
        for place, member in enumerate(stack.members):
            found[member] = redshifts, values[:, place]
    return [found[place] for place in range(len(bases))]


def models(result: ScanResult, grid: LogGrid, bases: Sequence[Basis]) -> Array:
    """The best model of each spectrum, at its best whole shift.

    Parameters
    ----------
    result : ScanResult
    grid : LogGrid
    bases : sequence of Basis
        As `scan` was given them.

    Returns
    -------
    ndarray, shape (n, grid.points)
        NaN where there were no data.
    """
    moved = {place: bases[place].at_phase(grid) for place in set(result.basis.tolist()) - {-1}}
    found = result.polynomial @ polynomials(grid.points, result.polynomial.shape[1] - 1)
    for row, (place, shift) in enumerate(zip(result.basis, result.shift, strict=True)):
        if place >= 0:
            base = moved[place]
            start = round((grid.first - base.grid.first) / grid.step) - shift
            low, high = max(start, 0), min(start + grid.points, base.grid.points)
            own = result.coefficients[row, : len(base.vectors)] @ base.vectors[:, low:high]
            found[row, low - start : high - start] += own
    found[result.basis < 0] = np.nan
    return found


def _check(flux: Any, ivar: Any, grid: LogGrid) -> None:
    if flux.ndim != 2 or flux.shape != ivar.shape or flux.shape[1] != grid.points:
        raise SpecError(
            "spectra",
            f"expected flux and inverse variance of the shape (n, {grid.points}), as the grid, "
            f"got {flux.shape} and {ivar.shape}",
        )


@lru_cache(maxsize=4)
def scanner_of(grid: LogGrid, bases: tuple[Basis, ...], settings: ScanSettings) -> Scanner:
    """Bases laid out for a grid; kept as long as the same objects are given."""
    return Scanner(grid, bases, settings)


_LOUDEST = 1e18
"""Chi-square without a model: more is no spectrum, and products of it have no float32."""


def _fitted(batch: Weighted, settings: ScanSettings) -> NDArray[np.bool_]:
    enough = (batch.pixels >= settings.fewest) & (batch.none > 0)
    return to_numpy(enough)


class Curves(Protocol):
    """What makes chi-square of a stack at some of its shifts."""

    shifts: NDArray[np.int64]
    """Places of the shifts."""
    slack: float
    """How far it may be off, in parts of a margin."""

    def __call__(self, batch: Weighted) -> Any:
        """Chi-square, of shape (n, b, shifts)."""
        ...


class Scanner:
    """Bases laid out for a grid."""

    def __init__(self, grid: LogGrid, bases: tuple[Basis, ...], settings: ScanSettings) -> None:
        self._grid, self._bases, self._settings = grid, bases, settings
        self.stacks = stacked(bases, grid)
        self._size = max(stack.size for stack in self.stacks)
        self._apart = round(settings.apart / grid.step)
        self._width = round(settings.width / grid.step)
        self._exact: dict[Any, list[ExactCurves]] = {}

    @cached_property
    def near(self) -> list[Curves]:
        """Quick curves of each stack; exact ones where several vectors have few shifts.

        What coarse pixels leave of vectors that are nearly alike is not enough for a fit.
        """
        return [
            NearCurves(stack, self._settings.degree)
            if stack.size == 1 or stack.shifts >= FEW_SHIFTS
            else ExactCurves(stack, np)
            for stack in self.stacks
        ]

    def exact(self, xp: Any) -> list[ExactCurves]:
        """Curves of each stack."""
        if xp not in self._exact:
            self._exact[xp] = [ExactCurves(stack, xp) for stack in self.stacks]
        return self._exact[xp]

    def __call__(self, flux: Any, ivar: Any) -> ScanResult:
        """Fit a batch."""
        xp, settings = namespace(flux), self._settings
        batch, fitted, result = self.ready(flux, ivar)
        if not fitted.any():
            return result
        engines: Sequence[Curves] = self.near if settings.fast and xp is np else self.exact(xp)
        made = [to_numpy(engine(batch)) for engine in engines]
        batch = _on_host(batch)
        if not fitted.all():
            batch, made = batch.rows(fitted), [curve[fitted] for curve in made]
        astray = self.judge(batch, made, engines, result, fitted)
        if astray.any():
            batch, engines = batch.rows(astray), self.exact(np)
            fitted[fitted] = astray
            self.judge(batch, [engine(batch) for engine in engines], engines, result, fitted)
        return result

    def ready(self, flux: Any, ivar: Any) -> tuple[Weighted, NDArray[np.bool_], ScanResult]:
        """A batch, which of its rows can be fitted, and a result where none is yet."""
        xp, settings = namespace(flux), self._settings
        batch = weigh(flux, ivar, settings.degree)
        beyond = to_numpy(batch.none) > _LOUDEST
        if beyond.any():
            batch = weigh(flux, xp.where(batch.none[:, None] > _LOUDEST, 0, ivar), settings.degree)
        result = self._empty(batch)
        result.flags[beyond] |= int(SpecFlag.BAD_IVAR)
        return batch, _fitted(batch, settings), result

    def judge(
        self,
        batch: Weighted,
        made: list[Array],
        engines: Sequence[Curves],
        result: ScanResult,
        rows: NDArray[np.bool_],
        fits: ExactFits | None = None,
    ) -> NDArray[np.bool_]:
        """Find the best of curves and write it into a result's rows.

        Curves of another kind than those of the stacks come with exact fits of their own.
        Returns where a quick curve goes far below what is there, so that the best may have been
        left out.
        """
        settings, stacks = self._settings, self.stacks
        least = np.min([curve.min(axis=(1, 2)) for curve in made], axis=0)
        for curve, stack in zip(made, stacks, strict=True):
            curve += settings.penalty * stack.size
        fast = any(engine.slack > 0 for engine in engines)
        spots = [engine.shifts for engine in engines]
        soften = np.maximum(1.0, least / np.maximum(batch.pixels, 1))
        slack = np.array([engine.slack for engine in engines])[:, None]
        margin = settings.margin * slack + settings.share * (batch.chi2 - least)
        wide = np.maximum(3 * margin.max(axis=0), _WIDE * soften)
        minima = minima_of(made, spots, stacks, wide, self._apart, soften, self._width)
        fits = fits or ExactFits(batch, stacks)
        chooser = Chooser(minima, fits, stacks, settings.penalty, margin, self._apart, self._width)
        chosen = chooser.chosen(exact=not fast)
        for name, values in self._told(batch, fits, chosen).items():
            getattr(result, name)[rows] = values
        lowest = np.min([curve.min(axis=(1, 2)) for curve in made], axis=0)
        best = chosen.minima.score[chosen.best] + chosen.minima.bonus[chosen.best]
        return np.asarray(fast & (best > lowest + wide - margin.max(axis=0)))

    def _told(self, batch: Weighted, fits: ExactFits, chosen: Chosen) -> dict[str, Any]:
        """The columns of `ScanResult` for the rows of a batch."""
        best, grid = chosen.minima.part(chosen.best), self._grid
        keys = list(zip(best.row.tolist(), best.stack.tolist(), best.basis.tolist(),
                        best.place.tolist(), strict=True))  # fmt: skip
        members = [self.stacks[stack].members[basis] for _, stack, basis, _ in keys]
        coefficients, polynomial = self._solved(fits, keys)
        models, covered = self._models(fits, keys, coefficients, polynomial)
        kind = np.array(KINDS)[best.kind]
        z, z_err = _parabola(chosen.around, best.shift, grid)
        chi2 = (batch.weights * (batch.flux - models) ** 2).sum(axis=1)
        sizes = np.array([self.stacks[stack].size for _, stack, _, _ in keys])
        dof = batch.pixels - sizes - (self._settings.degree + 1)
        soften = np.maximum(1.0, chi2 / np.maximum(dof, 1))
        weights = chosen.weights(soften, len(KINDS))
        second = self._second(chosen, chi2)
        judged = Fits(models, covered, kind, z, chi2, dof, second["delta_chi2"], np.isnan(z_err))
        return {
            "kind": kind, "subclass": np.array([self._bases[place].subclass for place in members]),
            "basis": members, "shift": best.shift, "z": z, "z_err": z_err, "chi2": chi2,
            "dof": dof, "coefficients": coefficients, "polynomial": polynomial,
            "probabilities": weights / weights.sum(axis=1, keepdims=True),
            "flags": doubts(judged, batch, grid),
            "residual": residual_peaks(batch.flux - models, batch.weights), **second,
        }  # fmt: skip

    def _second(self, chosen: Chosen, chi2: Array) -> dict[str, Any]:
        there = chosen.second >= 0
        second = chosen.minima.part(np.where(there, chosen.second, 0))
        delta = np.where(there, second.score - chosen.least, np.inf)
        return {
            "delta_chi2": delta,
            "d_score": np.where(there, delta / chi2, -1.0),
            "kind_second": np.where(there, np.array(KINDS)[second.kind], ""),
            "z_second": np.where(there, self._grid.redshifts(second.shift), np.nan),
        }

    def _solved(self, fits: ExactFits, keys: list[Key]) -> tuple[Array, Array]:
        coefficients = np.full((len(keys), self._size), np.nan)
        polynomial = np.empty((len(keys), self._settings.degree + 1))
        for row, (own, rest) in enumerate(fits.coefficients(keys)):
            coefficients[row, : len(own)], polynomial[row] = own, rest
        return coefficients, polynomial

    def _models(
        self, fits: ExactFits, keys: list[Key], coefficients: Array, polynomial: Array
    ) -> tuple[Array, NDArray[np.bool_]]:
        table = polynomials(self._grid.points, self._settings.degree)
        models = np.empty((len(keys), self._grid.points))
        covered = np.zeros(models.shape, dtype=bool)
        for row, key in enumerate(keys):
            _, number, basis, spot = key
            stack = self.stacks[number]
            own = coefficients[row, : stack.size] * stack.scales[basis]
            models[row] = polynomial[row] @ table + own @ fits.window(key)
            covered[row] = stack.covered(basis, stack.first + spot)
        return models, covered

    def _empty(self, batch: Weighted) -> ScanResult:
        rows = len(batch.pixels)
        words = max(len(base.subclass) for base in self._bases) or 1

        def numbers(*shape: int) -> Array:
            return np.full((rows, *shape), np.nan)

        def none() -> NDArray[np.int64]:
            return np.full(rows, -1, dtype=np.int64)

        return ScanResult(
            kind=np.zeros(rows, "U6"), subclass=np.zeros(rows, f"U{words}"),
            basis=none(), shift=np.zeros(rows, np.int64), z=numbers(), z_err=numbers(),
            chi2=numbers(), dof=none(), delta_chi2=numbers(), d_score=numbers(),
            kind_second=np.zeros(rows, "U6"), z_second=numbers(),
            coefficients=numbers(self._size), polynomial=numbers(self._settings.degree + 1),
            pixels=to_numpy(batch.pixels).copy(), probabilities=numbers(len(KINDS)),
            flags=np.full(rows, int(SpecFlag.NODATA), dtype=np.int64), residual=numbers(),
        )  # fmt: skip


def _parabola(around: Array, shift: NDArray[np.int64], grid: LogGrid) -> tuple[Array, Array]:
    """Redshifts and errors of chi-square at three shifts; at an end as it is, without an error."""
    curvature = around[:, 0] - 2 * around[:, 1] + around[:, 2]
    curved = curvature > 0
    safe = np.where(curved, curvature, 1.0)
    offset = np.where(curved, 0.5 * (around[:, 0] - around[:, 2]) / safe, 0.0)
    z = grid.redshifts(shift + np.clip(offset, -0.5, 0.5))
    error = np.where(curved, np.sqrt(2.0 / safe) * grid.step * np.log(10.0) * (1 + z), np.nan)
    return z, error


def _on_host(batch: Weighted) -> Weighted:
    return Weighted(**download(vars(batch)))
