"""The scan with coefficients that are given: each spectrum has one template of each class.

An encoder says what a spectrum is made of before its redshift is known: non-negative shares of a
basis' vectors, that sum to 1. What is left to solve at every shift is the amplitude, which is not
below 0, and the low polynomial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from galbatch.errors import SpecError
from galbatch.spectra.curves import factors_of
from galbatch.spectra.exact import ExactFits, Key
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.scan import (
    Curves,
    Scanner,
    ScanResult,
    ScanSettings,
    filled,
    joined,
    scanner_of,
)
from galbatch.spectra.solve import pairs
from galbatch.spectra.stacks import Stack, stacked, transform_length, wrapped
from galbatch.spectra.templates import Basis
from galbatch.spectra.weighted import Weighted, weigh

Array = NDArray[np.float64]
_ROWS = 32
_RIDGE = 1e-6


def encoded_scan(
    flux: Array,
    ivar: Array,
    grid: LogGrid,
    bases: Sequence[Basis],
    shares: NDArray[np.floating],
    settings: ScanSettings,
) -> ScanResult:
    """Fit spectra with one template of each class whose coefficients are given.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, m)
        As of `scan.scan`.
    grid : LogGrid
    bases : sequence of Basis
        First those that there are shares of, each of k vectors; others of one vector each.
    shares : ndarray, shape (n, c, k)
        Of the first c bases' vectors.
    settings : ScanSettings
        Curves of bases with shares are exact at every shift, the others quick.

    Returns
    -------
    ScanResult
        Its coefficients are the amplitude times the shares.

    Raises
    ------
    SpecError
        When the shares do not fit the bases.
    """
    count = shares.shape[1]
    fits = all(len(base.vectors) == shares.shape[2] for base in bases[:count])
    if not fits or any(len(base.vectors) != 1 for base in bases[count:]):
        raise SpecError(
            "shares",
            f"expected {shares.shape[2]} vectors in each of the first {count} bases, and one in "
            f"all others, got {[len(base.vectors) for base in bases]}",
        )
    scanner, rows = _encoded(grid, tuple(bases), count, settings), len(flux)
    # Batches of one size: else the last bits of a row would depend on how many come with it.
    flux, ivar, shares = (filled(values, -rows % _ROWS) for values in (flux, ivar, shares))
    found = [
        scanner(flux[part], ivar[part], shares[part])
        for part in (slice(start, start + _ROWS) for start in range(0, len(flux), _ROWS))
    ]
    return joined(found, rows) if found else scanner(flux, ivar, shares)


def encoded_curve(
    flux: Array,
    ivar: Array,
    grid: LogGrid,
    basis: Basis,
    shares: NDArray[np.floating],
    settings: ScanSettings,
) -> tuple[Array, Array]:
    """Chi-square at every shift, as `scan.curves`.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, m)
    grid : LogGrid
    basis : Basis
        Of k vectors.
    shares : ndarray, shape (n, k)
    settings : ScanSettings

    Returns
    -------
    redshifts : ndarray, shape (s,)
    chi2 : ndarray, shape (n, s)
    """
    (stack,) = stacked([basis], grid)
    lines = np.asarray(shares, np.float64) * stack.scales[0] @ stack.lines[0]
    values = _OwnLines(stack, lines)(weigh(flux, ivar, settings.degree))[:, 0]
    return grid.redshifts(stack.first + np.arange(stack.shifts)), values


@lru_cache(maxsize=4)
def _encoded(
    grid: LogGrid, bases: tuple[Basis, ...], count: int, settings: ScanSettings
) -> _EncodedScanner:
    return _EncodedScanner(grid, bases, count, settings)


class _OwnLines:
    """Chi-square at all shifts of a stack, each row with its own line; see `scan.Curves`.

    Parameters
    ----------
    stack : Stack
        Of one vector, or of what lines are made of.
    lines : ndarray, shape (n, shifts - 1 + m)
        As those of the stack.
    """

    slack = 0.0

    def __init__(self, stack: Stack, lines: Array) -> None:
        self.shifts = np.arange(stack.shifts)
        self._stack, self._lines = replace(stack, bases=(_single(stack.bases[0]),)), lines

    def __call__(self, batch: Weighted) -> Array:
        """Chi-square, of shape (n, 1, shifts)."""
        stack, lines, shifts = self._stack, self._lines, len(self.shifts)
        length = transform_length(stack.grid.points, shifts)
        own = np.conj(scipy.fft.rfft(wrapped(lines, shifts, length)))
        squares = np.conj(scipy.fft.rfft(wrapped(lines * lines, shifts, length)))
        weights = scipy.fft.rfft(batch.weights, length) * squares
        rest = scipy.fft.rfft(batch.rest, length) * own[:, None]
        products = scipy.fft.irfft(weights, length)[:, None, None, :shifts]
        crossed = scipy.fft.irfft(rest, length)[:, None, :, None, :shifts]
        factors = factors_of(products, crossed[:, :, 1:], stack)
        return np.asarray(batch.chi2[:, None, None] - factors.gain(crossed[:, :, 0]))


def _single(base: Basis) -> Basis:
    """A basis of one vector in place of one whose shares are given."""
    return replace(base, vectors=base.vectors.mean(axis=0, keepdims=True))


class _EncodedScanner:
    """Bases laid out for a grid, of which some become one template for each spectrum."""

    def __init__(
        self, grid: LogGrid, bases: tuple[Basis, ...], count: int, settings: ScanSettings
    ) -> None:
        self._count = count
        singles = (*(_single(base) for base in bases[:count]), *bases[count:])
        self._scanner: Scanner = scanner_of(grid, singles, settings)
        stacks = self._scanner.stacks
        self._of_stack = {
            number: stack.members[0]
            for number, stack in enumerate(stacks)
            if stack.members[0] < count
        }
        if any(len(stacks[number].members) > 1 for number in self._of_stack):
            raise SpecError("bases", "expected other redshifts for each basis with shares")
        self._given = [stacked([base], grid)[0] for base in bases[:count]]

    def __call__(self, flux: Array, ivar: Array, shares: NDArray[np.floating]) -> ScanResult:
        """Fit a batch."""
        scanner = self._scanner
        batch, fitted, result = scanner.ready(flux, ivar)
        if fitted.any():
            lines = {
                number: self._lines(number, member, shares)
                for number, member in self._of_stack.items()
            }
            astray = self._judge(batch, lines, scanner.near, result, fitted)
            if astray.any():
                self._judge(batch, lines, scanner.exact(np), result, astray)
        return replace(result, coefficients=self._shared(result, shares))

    def _judge(
        self,
        batch: Weighted,
        lines: dict[int, Array],
        engines: Sequence[Curves],
        result: ScanResult,
        rows: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Judge some rows of a batch, see `Scanner.judge`; engines are of bases without shares.

        Curves are those of the whole batch: the last bits of a row must not depend on others.
        Returns which rows of the batch are astray.
        """
        stacks = self._scanner.stacks
        engines = [
            _OwnLines(stacks[number], lines[number]) if number in lines else engine
            for number, engine in enumerate(engines)
        ]
        made = [engine(batch)[rows] for engine in engines]
        batch = batch.rows(rows)
        fits = _Fits(batch, stacks, {number: own[rows] for number, own in lines.items()})
        astray = np.zeros(len(rows), dtype=bool)
        astray[rows] = self._scanner.judge(batch, made, engines, result, rows, fits)
        return astray

    def _lines(self, number: int, member: int, shares: NDArray[np.floating]) -> Array:
        """Of each row, as the stack of single vectors has them."""
        given, single = self._given[member], self._scanner.stacks[number]
        scaled = shares[:, member].astype(np.float64) * given.scales[0]
        return np.asarray(scaled @ given.lines[0] / single.scales[0])

    def _shared(self, result: ScanResult, shares: NDArray[np.floating]) -> Array:
        """Amplitudes times shares; NaN beyond the one coefficient of other bases."""
        made = np.full((len(shares), shares.shape[2]), np.nan)
        made[:, 0] = result.coefficients[:, 0]
        given = np.flatnonzero((result.basis >= 0) & (result.basis < self._count))
        made[given] = result.coefficients[given] * shares[given, result.basis[given]]
        return made


class _Fits(ExactFits):
    """Exact fits where some stacks have a line of each row's own."""

    def __init__(self, batch: Weighted, stacks: Sequence[Stack], lines: dict[int, Array]) -> None:
        super().__init__(batch, stacks)
        self._lines = lines

    def window(self, key: Key) -> Array:
        """See `ExactFits.window`."""
        row, number, _, spot = key
        if number not in self._lines:
            return super().window(key)
        stack = self._stacks[number]
        return stack.window(self._lines[number][row][None, None], 0, stack.first + spot)


def systems(
    flux: Array, ivar: Array, grid: LogGrid, basis: Basis, redshift: Array, degree: int
) -> tuple[Array, Array]:
    """What an encoder is taught by: how well shares fit spectra whose redshift is known.

    Shares c with the best amplitude lower chi-square by (b c)**2 / (c A c).

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, m)
    grid : LogGrid
    basis : Basis
        Of k vectors.
    redshift : ndarray, shape (n,)
        Within those of the basis, else the nearest of them.
    degree : int

    Returns
    -------
    products : ndarray, shape (n, k (k + 1) / 2)
        A, packed, at any scale.
    right : ndarray, shape (n, k)
        b, so that the best c, of any signs, has 1.
    """
    (stack,) = stacked([basis], grid)
    size = stack.size
    batch = weigh(flux, ivar, degree)
    spots = np.rint(np.log10(1.0 + redshift) / grid.step).astype(np.intp) - stack.first
    spots = np.clip(spots, 0, stack.shifts - 1)
    products, right = np.empty((len(flux), len(pairs(size)))), np.empty((len(flux), size))
    for row, spot in enumerate(spots.tolist()):
        window = stack.window(stack.lines, 0, stack.first + spot) * stack.scales[0][:, None]
        shared = batch.rest[row] @ window.T
        matrix = (window * batch.weights[row]) @ window.T - shared[1:].T @ shared[1:]
        scale = max(float(np.trace(matrix)) / size, 1e-30)
        matrix = matrix / scale + _RIDGE * np.eye(size)
        gain = float(shared[0] @ np.linalg.solve(matrix, shared[0]))
        products[row] = [matrix[one, other] for one, other in pairs(size)]
        right[row] = shared[0] / np.sqrt(max(gain, 1e-30))
    return products, right


def unpacked(products: Any, size: int) -> list[tuple[int, int, Any]]:
    """Row, column and values (n,) of a packed symmetric matrix; what is off the diagonal twice."""
    return [
        (row, column, products[:, place] * (1.0 if row == column else 2.0))
        for place, (row, column) in enumerate(pairs(size))
    ]
