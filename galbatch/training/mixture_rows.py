"""Simulated mixtures of populations to learn from, with the noise and the gaps of a catalogue.

What is kept of a simulated spectrum is its principal components without noise, with those pixels
missing that one of the catalogue's rows lacks. Noise is added whenever a row is shown, as that row
has it: normal numbers through the square root of its covariance among the components.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.mock.mixtures import Mixer, drawn_mixtures
from galbatch.models.ssp_mixture import MixtureReader
from galbatch.spectra.components import FINEST, LIGHT, SpectralComponents, to_rest, usable
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.mixture_parameters import MixtureParameters, Mixtures
from galbatch.training.base import OnEpoch

_CHUNK = 1000
_PATTERNS = 64
"""Rows that noise and gaps are taken from, at most; their levels of noise are taken from all."""
_LEAST = 3.0
"""Signal to noise that the catalogue's own is held above; and below `FINEST`."""
_JITTER = 0.1
"""dex, of a signal to noise that is taken from a row."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NoisePatterns:
    """How noise and gaps lie in spectra at rest.

    Parameters
    ----------
    variance : ndarray, shape (p, m)
        Of spectra over their level, for a signal to noise of 1; 0 where there is no data.
    redshift : ndarray, shape (p,)
        Of the rows that they are taken from.
    levels : ndarray
        Signals to noise, of any number of rows; or the two ends of a range if `even`.
    even : bool
        Draw evenly in the logarithm between the two levels.
    """

    variance: Array
    redshift: Array
    levels: Array
    even: bool

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest signal to noise."""
        return float(self.levels.min()), float(self.levels.max())

    @property
    def redshifts(self) -> tuple[float, float]:
        """The least and the largest."""
        return float(self.redshift.min()), float(self.redshift.max())

    def drawn(self, rows: int, rng: np.random.Generator) -> Array:
        """Signals to noise, shape (rows,)."""
        low, high = self.limits
        if self.even:
            return low * (high / low) ** rng.random(rows)
        jitter = 10.0 ** (_JITTER * rng.standard_normal(rows))
        return np.clip(rng.choice(self.levels, rows) * jitter, low, high)

    @classmethod
    def flat(cls, components: SpectralComponents, limits: tuple[float, float]) -> NoisePatterns:
        """The same noise in each pixel, and no gap, of galaxies at rest."""
        variance = np.full((1, components.grid.points), float(np.median(components.mean)) ** 2)
        return cls(variance, np.zeros(1), np.array(limits), even=True)


def patterns_of(
    table: pa.Table,
    reader: MixtureReader,
    components: SpectralComponents,
    limits: tuple[float, float] | None,
    seed: int,
) -> NoisePatterns | None:
    """The noise and the gaps of rows that are drawn; None where no row has data.

    The nearest and the farthest row are among them.

    Parameters
    ----------
    table : pa.Table
    reader : MixtureReader
    components : SpectralComponents
    limits : pair of float or None
        Signals to noise to draw from; by default those of the rows.
    seed : int
        Of the draw.

    Returns
    -------
    NoisePatterns or None
    """
    levels, redshifts, places = [], [], []
    for start in range(0, table.num_rows, _CHUNK):
        some = table.slice(start, _CHUNK)
        flux, ivar, _ = reader.read(some, components.grid)
        found = components(flux, ivar)
        good = np.flatnonzero(found.good & (found.signal_to_noise > 0))
        levels.append(found.signal_to_noise[good])
        redshifts.append(reader.redshifts(some)[good])
        places.append(start + good)
    every = np.concatenate(levels) if levels else np.zeros(0)
    if not len(every):
        return None
    redshift = np.concatenate(redshifts)
    drawn = _drawn_rows(redshift, np.random.default_rng([seed, 5]))
    flux, ivar, _ = reader.read(table.take(np.concatenate(places)[drawn]), components.grid)
    variance = np.divide(1.0, ivar, where=usable(flux, ivar), out=np.zeros_like(ivar))
    variance *= components.signal_to_noise(variance)[:, None] ** 2
    chosen = np.array(limits) if limits else np.clip(every, _LEAST, FINEST)
    return NoisePatterns(variance, redshift[drawn], chosen, even=limits is not None)


def _drawn_rows(redshift: Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """`_PATTERNS` rows at most, with those of the least and the largest redshift."""
    ends = [int(redshift.argmin()), int(redshift.argmax())]
    others = np.setdiff1d(np.arange(len(redshift)), ends)
    some = rng.permutation(others)[: _PATTERNS - len(ends)]
    return np.union1d(ends, some).astype(np.intp)


@dataclass(frozen=True, eq=False)
class SimulatedMixtures:
    """Mixtures and the components of their spectra without noise.

    Parameters
    ----------
    mixtures : Mixtures
        With velocities as a network sees them: beside the whole pixels of the redshift.
    scores : ndarray of float32, shape (n, k)
    pattern : ndarray, shape (n,)
        Whose noise and gaps each has.
    noise : NoiseOfScores
    """

    mixtures: Mixtures
    scores: NDArray[np.float32]
    pattern: NDArray[np.intp]
    noise: NoiseOfScores

    def __len__(self) -> int:
        return len(self.scores)

    def features(
        self,
        rows: NDArray[np.intp],
        rng: np.random.Generator,
        signal_to_noise: Array | None = None,
    ) -> NDArray[np.float32]:
        """What a network reads of some of them, with noise that is drawn anew.

        Parameters
        ----------
        rows : ndarray
        rng : numpy.random.Generator
        signal_to_noise : ndarray, shape (len(rows),), optional
            By default drawn as well.

        Returns
        -------
        ndarray of float32, shape (len(rows), features)
        """
        noise = self.noise
        if signal_to_noise is None:
            signal_to_noise = noise.patterns.drawn(len(rows), rng)
        normal = rng.standard_normal((len(rows), self.scores.shape[1]), np.float32)
        scores, pattern = self.scores[rows], self.pattern[rows]
        for one in np.unique(pattern):
            some = pattern == one
            drawn = normal[some] @ noise.factors[one].T
            scores[some] += drawn / signal_to_noise[some, None].astype(np.float32)
        wide = noise.wide[pattern] / signal_to_noise[:, None]
        return noise.components.features(scores, wide, signal_to_noise, noise.seen[pattern])


@dataclass(frozen=True, eq=False)
class NoiseOfScores:
    """Noise among components, of each pattern.

    Parameters
    ----------
    components : SpectralComponents
    patterns : NoisePatterns
    factors : ndarray of float32, shape (p, k, k)
        See `SpectralComponents.noise_factor`.
    wide : ndarray, shape (p, k)
        Standard deviations.
    seen : ndarray, shape (p, PARTS)
    """

    components: SpectralComponents
    patterns: NoisePatterns
    factors: NDArray[np.float32]
    wide: Array
    seen: Array

    @classmethod
    def of(cls, components: SpectralComponents, patterns: NoisePatterns) -> NoiseOfScores:
        """That of patterns."""
        variance = patterns.variance
        known = variance > 0
        factors = [
            components.noise_factor(one, some) for one, some in zip(variance, known, strict=True)
        ]
        flat = np.where(known, components.mean, 0.0)
        inverse = np.divide(1.0, variance, where=known, out=np.zeros_like(variance))
        found = components(flat, inverse)
        return cls(components, patterns, np.stack(factors), found.noise, found.seen)


def learned_components(
    parameters: MixtureParameters, mixer: Mixer, grid: LogGrid, count: int, rows: int, seed: int
) -> SpectralComponents:
    """Principal components of some mixtures at rest.

    Parameters
    ----------
    parameters : MixtureParameters
    mixer : Mixer
    grid : LogGrid
        At rest, within the library's.
    count : int
        Components.
    rows : int
        Mixtures.
    seed : int

    Returns
    -------
    SpectralComponents
    """
    rng = np.random.default_rng([seed, 1])
    mixtures = drawn_mixtures(parameters, rows, rng)
    parts = [mixer.observed(one, grid, rng)[0] for one in in_chunks(mixtures)]
    return SpectralComponents.of(np.concatenate(parts), grid, count)


def simulated_mixtures(
    parameters: MixtureParameters,
    mixer: Mixer,
    axis: LogGrid,
    noise: NoiseOfScores,
    rows: int,
    seed: tuple[int, ...],
    progress: OnEpoch,
) -> SimulatedMixtures:
    """Draw mixtures, observe them on a survey's axis, and bring them to rest as its rows are.

    Parameters
    ----------
    parameters : MixtureParameters
    mixer : Mixer
    axis : LogGrid
        Of the survey.
    noise : NoiseOfScores
    rows : int
    seed : tuple of int
    progress : callable
        Told how many there are.

    Returns
    -------
    SimulatedMixtures
    """
    rng = np.random.default_rng([*seed, 2])
    pattern = rng.integers(0, len(noise.patterns.redshift), rows)
    mixtures = drawn_mixtures(parameters, rows, rng, noise.patterns.redshift[pattern])
    components = noise.components
    scores, offsets, done = [], [], 0
    for part in in_chunks(mixtures):
        flux, seen = mixer.observed(part, axis, rng)
        rest = to_rest(flux, seen.astype(np.float32), part.redshift, axis, components.grid)
        known = noise.patterns.variance[pattern[done : done + len(part)]] > 0
        scores.append(components(rest[0], np.where(known, rest[1], 0.0)).scores.astype(np.float32))
        offsets.append(rest[2])
        done += len(part)
        progress(done, rows, "simulated mixtures")
    offset = np.concatenate(offsets)[:, None]
    velocity = LIGHT * ((1.0 + mixtures.velocity / LIGHT) * (1.0 + offset / LIGHT) - 1.0)
    return SimulatedMixtures(mixtures.moved(velocity), np.concatenate(scores), pattern, noise)


def in_chunks(mixtures: Mixtures) -> Iterator[Mixtures]:
    """Mixtures, a part at a time."""
    for start in range(0, len(mixtures), _CHUNK):
        yield mixtures.part(slice(start, start + _CHUNK))
