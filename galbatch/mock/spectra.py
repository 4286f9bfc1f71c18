"""Spectra of the simulated sky, as a fibre spectrograph like SDSS's takes them.

Galaxies are the library's continua under their own dust, broadened and redshifted, with lines of
their own (`gas`); stars those of the library with radial velocities; quasars are put together from
their parts (`quasar_light`), with the forest of their line of sight (`forest`). `spectrograph` adds
noise and flaws, `subclass` says what SDSS's rules make of the lines.

Spectra come in chunks of `CHUNK` rows; chunk i depends on the seed, its targets and i alone, and
each row on its own target: the same bytes come out for any batch size. Vacuum wavelengths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.flux.dust import extinction_curve
from galbatch.mock import gas, quasar_light
from galbatch.mock.attenuation import calzetti_curve
from galbatch.mock.forest import LYMAN_ALPHA, forest
from galbatch.mock.objects import Array, Objects
from galbatch.mock.optical import REST, galaxy_spectra, shifted, star_spectra
from galbatch.mock.profiles import LIGHT, Lines, add_emission
from galbatch.mock.spectrograph import Spectrograph
from galbatch.mock.subclass import measure, subclasses
from galbatch.mock.targets import (
    GALAXY,
    QSO,
    STAR,
    Targets,
    of_every_subclass,
    of_the_sky,
    stellar_subclasses,
)
from galbatch.spectra.grids import SDSS_STEP, LogGrid

CHUNK = 256
"""Spectra that share random streams. Part of what a seed means: never change it."""

EVERY_ROWS = 13 * CHUNK
"""Targets of a block of `every_subclass_columns`. Part of what a seed means as well."""

_PAD = 64
_PIXEL = LIGHT * np.log(10.0) * SDSS_STEP
# What an object is drawn with, apart from each other: so that what one kind draws moves no other.
_STREAMS = ("gas", "quasars", "absorbers", "limits", "telescope")


@dataclass(frozen=True)
class Observing:
    """How spectra are taken.

    Parameters
    ----------
    wavelength : float
        Where `Targets.microjansky` and `Targets.tilt` are meant, Angstrom: the reference band's.
    flaws : bool
        Missing ends, dropped pixels, particles, residuals of the sky, errors of calibration.
    """

    wavelength: float = 6231.0
    flaws: bool = True


@dataclass(frozen=True)
class MockSpectra:
    """Observed spectra with their truth.

    Parameters
    ----------
    flux : array, shape (n, m), float32
        1e-17 erg/s/cm2/Angstrom; 0 where there is no data.
    ivar : array, shape (n, m), float32
        Of the noise in `flux`; 0 where there is no data.
    mask : array, shape (n, m), int32
        Bits `spectrograph.NO_DATA` and `BRIGHT_SKY`.
    model : array, shape (n, m), float32
        `flux` without noise, the error of the calibration included.
    flawed : array, shape (n, m), bool
        Pixels further off than `ivar` says; nothing in a survey's files tells them.
    redshift : array, shape (n,), float64
        Of stars too.
    kind : array, shape (n,), str
        GALAXY, QSO or STAR.
    subclass : array, shape (n,), str
        By SDSS's rules, from the noise-free lines and how well the noise lets them be measured.
    subclass_measured : array, shape (n,), str
        By the same rules, from the lines as the noise shows them.
    signal_to_noise : array, shape (n,), float32
        Median over the pixels with data, of the noise-free flux.
    """

    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    mask: NDArray[np.int32]
    model: NDArray[np.float32]
    flawed: NDArray[np.bool_]
    redshift: Array
    kind: NDArray[np.str_]
    subclass: NDArray[np.str_]
    subclass_measured: NDArray[np.str_]
    signal_to_noise: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.flux)


def observed_spectra(
    targets: Targets, grid: LogGrid, seed: tuple[int, ...], observing: Observing, first: int = 0
) -> MockSpectra:
    """Take spectra: all at once (see `spectra_in_chunks` for many).

    Parameters
    ----------
    targets : Targets
    grid : LogGrid
        Observed, in vacuum, of SDSS's step.
    seed : tuple of int
    observing : Observing
    first : int
        Number of the first target in the whole set, a multiple of `CHUNK`.

    Returns
    -------
    MockSpectra

    Raises
    ------
    ValueError
        If the grid has another step, or `first` is no multiple.
    """
    parts = list(spectra_in_chunks(targets, grid, seed, observing, first))
    joined = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(MockSpectra)
    }
    return MockSpectra(**joined)


def spectra_in_chunks(
    targets: Targets, grid: LogGrid, seed: tuple[int, ...], observing: Observing, first: int = 0
) -> Iterator[MockSpectra]:
    """As `observed_spectra`, `CHUNK` at a time: memory does not grow with the targets."""
    if first % CHUNK:
        raise ValueError(f"first: expected a multiple of {CHUNK}, got {first}")
    if abs(grid.step - SDSS_STEP) > 1e-9:
        raise ValueError(
            f"grid: expected a step of {SDSS_STEP:g} in log10(wavelength), got {grid.step:g}: "
            "resample what comes out"
        )
    telescope = _telescope(grid, observing)
    for start in range(0, len(targets), CHUNK):
        rows = np.arange(start, start + CHUNK)
        taken = len(targets) - start
        # A chunk is always whole: the last target stands for those that are not there.
        chunk = targets.taken(np.minimum(rows, len(targets) - 1))
        whole = telescope.chunk(chunk, (*seed, (first + start) // CHUNK))
        if taken >= CHUNK:
            yield whole
        else:
            cut = {field.name: getattr(whole, field.name)[:taken] for field in fields(whole)}
            yield MockSpectra(**cut)


def spectrum_columns(
    objects: Objects,
    reference: int,
    wavelength: float,
    grid: LogGrid,
    seed: tuple[int, int],
    rows: slice = slice(None),
) -> dict[str, NDArray[Any]]:
    """Columns of the spectra of a block of the simulated sky.

    Parameters
    ----------
    objects : Objects
        A whole block: the targets' velocities and signal to noise are drawn for all of it.
    reference : int
        Position of the reference band in `objects.flux`.
    wavelength : float
        Of the reference band, Angstrom.
    grid : LogGrid
        Of SDSS's step, vacuum.
    seed : (int, int)
        The sky's seed, and the number of the block.
    rows : slice
        Rows of the block that are wanted; begins at a multiple of `CHUNK`. A row takes 13 bytes
        times the grid's points.

    Returns
    -------
    dict of str to array
        ``flux`` (n, m) float32, ``ivar`` (n, m) float32, ``mask`` (n, m) int32, ``redshift`` (n,)
        float64, ``class``, ``subclass``, ``subclass_measured`` (n,) str, ``signal_to_noise`` (n,)
        float32.
    """
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence((*seed, 1))))
    targets = of_the_sky(objects, reference, rng)
    start, stop, _ = rows.indices(len(objects))
    wanted = targets.taken(np.arange(start, stop))
    found = observed_spectra(wanted, grid, (*seed, 2), Observing(wavelength), start)
    return _columns(found)


def every_subclass_columns(
    grid: LogGrid, seed: tuple[int, int], rows: slice = slice(None), median: float | None = None
) -> dict[str, NDArray[Any]]:
    """Columns of spectra of every subclass, for a catalogue without photometry.

    Parameters
    ----------
    grid : LogGrid
        Of SDSS's step, vacuum.
    seed : (int, int)
        The catalogue's seed, and the number of the block of `EVERY_ROWS`.
    rows : slice
        Rows of the block that are wanted; begins at a multiple of `CHUNK`.
    median : float, optional
        As in `targets.of_every_subclass`.

    Returns
    -------
    dict of str to array
        As of `spectrum_columns`.
    """
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence((*seed, 1))))
    targets = of_every_subclass(rng, EVERY_ROWS, median, float(grid.wavelengths[-1]))
    start, stop, _ = rows.indices(EVERY_ROWS)
    wanted = targets.taken(np.arange(start, stop))
    return _columns(observed_spectra(wanted, grid, (*seed, 2), Observing(), start))


def _columns(found: MockSpectra) -> dict[str, NDArray[Any]]:
    return {
        "flux": found.flux,
        "ivar": found.ivar,
        "mask": found.mask,
        "redshift": found.redshift,
        "class": found.kind,
        "subclass": found.subclass,
        "subclass_measured": found.subclass_measured,
        "signal_to_noise": found.signal_to_noise,
    }


@lru_cache(maxsize=4)
def _telescope(grid: LogGrid, observing: Observing) -> _Telescope:
    return _Telescope(grid, observing)


@dataclass(frozen=True)
class _Emitted:
    """Continuum (n, M) on the wider grid, lines of the rules with their names, and rows (n,)."""

    rows: NDArray[np.intp]
    names: tuple[str, ...]
    lines: Lines
    beneath: Array


class _Telescope:
    """Takes chunks of spectra on one grid."""

    def __init__(self, grid: LogGrid, observing: Observing) -> None:
        self.grid = grid
        self.observing = observing
        self.wide = LogGrid(grid.first - _PAD * grid.step, grid.step, grid.points + 2 * _PAD)
        self.spectrograph = Spectrograph(grid)
        wave = self.wide.wavelengths
        self.distance = np.log(wave / observing.wavelength).astype(np.float32)
        self.galactic = extinction_curve(wave).astype(np.float32)
        self.curve = calzetti_curve(REST.wavelengths).astype(np.float32)
        near = np.abs(wave / observing.wavelength - 1.0) < 0.02
        # A band that the grid does not have: the middle stands for it.
        middle = np.abs(np.arange(len(wave)) - len(wave) // 2) < 100
        self.near = np.flatnonzero(near if near.any() else middle)
        at = np.searchsorted(REST.wavelengths, observing.wavelength)
        around = slice(int(at) - 50, int(at) + 50)
        self.star_level = np.median(star_spectra()[:, around], axis=1)

    def chunk(self, targets: Targets, seed: tuple[int, ...]) -> MockSpectra:
        sequences = np.random.SeedSequence(seed).spawn(len(_STREAMS))
        streams = {
            name: np.random.Generator(np.random.SFC64(sequence))
            for name, sequence in zip(_STREAMS, sequences, strict=True)
        }
        light = np.empty((len(targets), self.wide.points), np.float32)
        start = (self.wide.first - np.log10(1.0 + targets.redshift) - REST.first) / REST.step
        self._stars(light, targets, start)
        emitted = [
            self._galaxies(light, targets, start, streams["gas"]),
            self._quasars(light, targets, start, streams["quasars"]),
        ]
        self._absorb(light, targets, streams["absorbers"], streams["limits"])
        scale = self._scale(light, targets)
        light *= scale[:, None].astype(np.float32)
        inner = np.ascontiguousarray(light[:, _PAD:-_PAD])
        seen = self.spectrograph.expose(
            inner, targets.signal_to_noise, streams["telescope"], self.observing.flaws
        )
        # Other kinds' rows are of another library: theirs are put in place below.
        stars = np.where(np.isin(targets.kind, STAR)[:, None], targets.pair, 0)
        subclass = stellar_subclasses(stars.astype(np.int32), targets.share).astype("U24")
        measured = subclass.copy()
        noise = seen.flux - seen.model
        for part in emitted:
            rows = part.rows
            lines = part.lines.taken(np.arange(len(rows)), scale[rows])
            true, noisy = measure(
                self.grid,
                lines,
                part.beneath * scale[rows, None],
                1.0 + targets.redshift[rows],
                seen.ivar[rows],
                noise[rows],
            )
            subclass[rows] = subclasses(part.names, true)
            measured[rows] = subclasses(part.names, noisy)
        ratio = np.where(seen.ivar > 0, seen.model * np.sqrt(seen.ivar), np.nan)
        # A spectrum that lost every pixel has no signal.
        some = np.where(np.isfinite(ratio).any(axis=1, keepdims=True), ratio, 0.0)
        return MockSpectra(
            flux=seen.flux,
            ivar=seen.ivar,
            mask=seen.mask,
            model=seen.model,
            flawed=seen.flawed,
            redshift=targets.redshift,
            kind=targets.kind,
            subclass=subclass,
            subclass_measured=measured,
            signal_to_noise=np.nanmedian(some, axis=1).astype(np.float32),
        )

    def _scale(self, light: NDArray[np.float32], targets: Targets) -> Array:
        """To 1e-17 erg/s/cm2/A."""
        level = np.maximum(light[:, self.near].mean(axis=1, dtype=np.float64), 1e-30)
        # f_lambda = f_nu c / lambda^2; a microjansky is 1e-29 erg/s/cm2/Hz.
        given = targets.microjansky * 2.99792458e6 / self.observing.wavelength**2
        wanted = self.spectrograph.level(targets.signal_to_noise)
        return np.asarray(np.where(np.isfinite(given), given, wanted) / level)

    def _stars(self, light: NDArray[np.float32], targets: Targets, start: Array) -> None:
        rows = np.flatnonzero(targets.kind == STAR)
        if not len(rows):
            return
        star = targets.taken(rows)
        weights = np.stack([1.0 - star.share, star.share], axis=1) / self.star_level[star.pair]
        sigma = np.hypot(star.dispersion / _PIXEL, 0.5)
        piece = shifted(star_spectra(), star.pair, weights, start[rows], sigma, self.wide.points)
        dust = star.ebv[:, None] * self.galactic
        light[rows] = np.maximum(piece * self._dimming(star, dust), 0.0)

    def _dimming(self, targets: Targets, dust: NDArray[np.float32]) -> NDArray[np.float32]:
        """What dust, in magnitudes, and the tilt leave of the light."""
        tilt, bend = targets.tilt.T[:, :, None]
        faint = dust + self.distance * (tilt + bend * self.distance)
        return np.asarray(np.exp(np.float32(-0.4 * np.log(10.0)) * faint), np.float32)

    def _galaxies(
        self,
        light: NDArray[np.float32],
        targets: Targets,
        start: Array,
        rng: np.random.Generator,
    ) -> _Emitted:
        rows = np.flatnonzero(targets.kind == GALAXY)
        dust = targets.ebv.astype(np.float64)
        lines = gas.lines_of_galaxies(targets, rng, dust).taken(rows)
        galaxy = targets.taken(rows)
        weights = np.stack([1.0 - galaxy.share, galaxy.share], axis=1)
        sigma = np.maximum(galaxy.dispersion / _PIXEL, 0.6)
        points = self.wide.points
        piece = shifted(galaxy_spectra(), galaxy.pair, weights, start[rows], sigma, points)
        at = np.rint(start[rows]).astype(np.intp)[:, None] + np.arange(points)
        np.clip(at, 0, REST.points - 1, out=at)
        piece *= self._dimming(galaxy, galaxy.ebv[:, None] * self.curve[at])
        tilted = self._tilted(galaxy, lines)
        beneath = self._beneath(piece, lines.centre)
        add_emission(piece, self.wide, tilted)
        light[rows] = np.maximum(piece, 0.0)
        return _Emitted(rows, gas.NAMES, tilted, beneath)

    def _tilted(self, targets: Targets, lines: Lines) -> Lines:
        """Lines with the tilt that the continuum has."""
        at = np.log(lines.centre / self.observing.wavelength)
        tilt, bend = targets.tilt.T.astype(np.float64)[:, :, None]
        factor = 10.0 ** (-0.4 * at * (tilt + bend * at))
        return Lines(lines.centre, lines.sigma, lines.flux * factor)

    def _quasars(
        self,
        light: NDArray[np.float32],
        targets: Targets,
        start: Array,
        rng: np.random.Generator,
    ) -> _Emitted:
        rows = np.flatnonzero(targets.kind == QSO)
        piece, trough, emitted, ruled = quasar_light.light_of_quasars(
            targets.taken(rows),
            rng,
            (len(targets), rows),
            start[rows],
            self.wide.points,
            self.observing.wavelength,
        )
        beneath = self._beneath(piece, ruled.centre)
        add_emission(piece, self.wide, emitted)
        light[rows] = np.maximum(piece * trough, 0.0)
        return _Emitted(rows, quasar_light.NAMES, ruled, beneath)

    def _beneath(self, piece: NDArray[np.float32], centre: Array) -> Array:
        """Continuum at lines; that of the nearest pixel where a line is outside."""
        at = np.rint((np.log10(centre) - self.wide.first) / self.wide.step).astype(np.intp)
        np.clip(at, 0, self.wide.points - 1, out=at)
        return np.take_along_axis(piece, at, axis=1).astype(np.float64)

    def _absorb(
        self,
        light: NDArray[np.float32],
        targets: Targets,
        absorbers: np.random.Generator,
        limits: np.random.Generator,
    ) -> None:
        """Intergalactic gas, where Lyman alpha is on the grid."""
        wave = self.wide.wavelengths
        behind = (targets.kind != STAR) & (LYMAN_ALPHA * (1.0 + targets.redshift) > wave[0])
        rows = np.flatnonzero(behind)
        if not len(rows):
            return
        # What is drawn must not depend on who is behind the gas.
        normal = absorbers.standard_normal((2, len(targets), len(wave)), np.float32)[:, rows]
        limit = limits.standard_exponential(len(targets))[rows]
        light[rows] *= forest(wave, targets.redshift[rows], normal, limit)
