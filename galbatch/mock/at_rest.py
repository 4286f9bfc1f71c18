"""Spectra of the simulated sky without noise, at rest, to learn from what a class is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from galbatch.mock.library import load_galaxies, load_stars
from galbatch.mock.spectra import Observing, observed_spectra
from galbatch.mock.targets import (
    GALAXY,
    QSO,
    STAR,
    THIRTEEN,
    Targets,
    of_every_subclass,
    stellar_subclasses,
)
from galbatch.spectra.grids import SDSS_STEP, LogGrid

GALAXIES_AT_REST = LogGrid(3.23, SDSS_STEP, 8000)
"""1700 to 10,700 Angstrom."""
STARS_AT_REST = LogGrid(3.54, SDSS_STEP, 4900)
"""3470 to 10,700 Angstrom."""
_OBSERVED = LogGrid(3.556, SDSS_STEP, 4620)
"""3600 to 10,420 Angstrom: what spectrographs see of quasars."""
_REST_FIRST, _REST_PIXELS = 2.82, 12_000
_NEAREST, _FARTHEST = 0.05, 5.8
"""Redshift, and 1 + z, of the quasars that are drawn evenly between them."""
_FEWEST = 0.01
"""Of the quasars: pixels at rest that fewer are seen in are left out."""
_PURE = Observing(flaws=False)


@dataclass(frozen=True)
class AtRest:
    """Spectra without noise.

    Parameters
    ----------
    flux : ndarray of float32, shape (n, m)
        Per Angstrom, each with the mean square 1 where it is seen.
    seen : ndarray of bool, shape (n, m)
    grid : LogGrid
        At rest, in vacuum.
    subclass : ndarray of str, shape (n,)
    """

    flux: NDArray[np.float32]
    seen: NDArray[np.bool_]
    grid: LogGrid
    subclass: NDArray[np.str_]

    def part(self, rows: slice) -> AtRest:
        """Some of the rows."""
        return AtRest(self.flux[rows], self.seen[rows], self.grid, self.subclass[rows])


def galaxies_at_rest(rows: int, seed: tuple[int, ...]) -> AtRest:
    """Galaxies of every subclass, and as many of any kind that the library has.

    Parameters
    ----------
    rows : int
    seed : tuple of int

    Returns
    -------
    AtRest
    """
    rng = np.random.default_rng([*seed, 1])
    targets = _of_kind(GALAXY, rows, rng)
    drawn = rng.integers(0, len(load_galaxies()), (rows, 2)).astype(np.int32)
    pair = np.where((rng.random(rows) < 0.5)[:, None], drawn, targets.pair)
    targets = replace(targets, pair=pair, redshift=np.zeros(rows))
    found = observed_spectra(targets, GALAXIES_AT_REST, (*seed, 2), _PURE)
    return _scaled(found.model, np.ones(found.model.shape, bool), GALAXIES_AT_REST, found.subclass)


def quasars_at_rest(rows: int, seed: tuple[int, ...]) -> AtRest:
    """Quasars, each seen where a spectrograph sees it.

    Parameters
    ----------
    rows : int
    seed : tuple of int

    Returns
    -------
    AtRest
    """
    rng = np.random.default_rng([*seed, 1])
    targets = _of_kind(QSO, rows, rng)
    # Near ones are rare, and show what is to the red of the others.
    even = np.log10(1.0 + _NEAREST) + rng.random(rows) * np.log10(_FARTHEST / (1.0 + _NEAREST))
    drawn = np.where(rng.random(rows) < 0.5, even, np.log10(1.0 + targets.redshift))
    shifts = np.rint(drawn / SDSS_STEP).astype(np.intp)
    targets = replace(targets, redshift=_OBSERVED.redshifts(shifts))
    found = observed_spectra(targets, _OBSERVED, (*seed, 2), _PURE)
    flux = np.zeros((rows, _REST_PIXELS), np.float32)
    seen = np.zeros(flux.shape, bool)
    starts = round((_OBSERVED.first - _REST_FIRST) / SDSS_STEP) - shifts
    for row, start in enumerate(starts):
        low = max(-start, 0)
        place = slice(start + low, start + _OBSERVED.points)
        flux[row, place], seen[row, place] = found.model[row, low:], True
    enough = np.flatnonzero(seen.mean(axis=0) > _FEWEST)
    kept = slice(int(enough[0]), int(enough[-1]) + 1)
    grid = LogGrid(_REST_FIRST + SDSS_STEP * kept.start, SDSS_STEP, kept.stop - kept.start)
    return _scaled(flux[:, kept], seen[:, kept], grid, found.subclass)


def stars_at_rest(each: int, seed: tuple[int, ...]) -> AtRest:
    """Every star of the library, and some of each subclass that `THIRTEEN` has.

    Parameters
    ----------
    each : int
        How many of a subclass.
    seed : tuple of int

    Returns
    -------
    AtRest
        Without dust.
    """
    kinds = sum(kind == STAR for kind, _ in THIRTEEN)
    rng = np.random.default_rng([*seed, 1])
    stars = len(load_stars())
    some = _of_kind(STAR, stars + each * kinds, rng)
    pair, share = some.pair.copy(), some.share.copy()
    pair[:stars], share[:stars] = np.arange(stars, dtype=np.int32)[:, None], 0.0
    rows = len(some)
    targets = replace(
        some, pair=pair, share=share, redshift=np.zeros(rows), ebv=np.zeros(rows, np.float32),
        tilt=np.zeros((rows, 2), np.float32),
    )  # fmt: skip
    found = observed_spectra(targets, STARS_AT_REST, (*seed, 2), _PURE)
    names = stellar_subclasses(pair, share)
    return _scaled(found.model, np.ones(found.model.shape, bool), STARS_AT_REST, names)


def _of_kind(kind: str, rows: int, rng: np.random.Generator) -> Targets:
    share = sum(one == kind for one, _ in THIRTEEN)
    # As many of each of the 13, so that a multiple of 13 has enough of a kind.
    drawn = of_every_subclass(rng, 13 * -(-rows // share))
    return drawn.taken(np.flatnonzero(drawn.kind == kind)[:rows])


def _scaled(
    flux: NDArray[np.float32],
    seen: NDArray[np.bool_],
    grid: LogGrid,
    subclass: NDArray[np.str_],
) -> AtRest:
    square = np.sum(np.square(flux, dtype=np.float64), axis=1) / seen.sum(axis=1)
    size = np.sqrt(square)[:, None].astype(np.float32)
    return AtRest(np.where(seen, flux, 0) / size, seen, grid, subclass)
