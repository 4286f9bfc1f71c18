"""What the photometry of a simulated galaxy says of its redshift: the limit for any method.

The model that the sky is drawn from is known, so Bayes' theorem gives the redshift distribution
that no method can better on average, in any proper score:

    p(z | F, e) ~ sum over spectra, integral over magnitude, dust, mixture, lines, tilt and bend of
                  p(z, ...) p(nu | size) prod_b p(F_b | f_b(z, ...), nu)

- p(z, ...) is the density that galaxies are drawn from (`prior.GalaxyPrior`).
- f_b are true fluxes; a measured flux is normal about them with the variance that `NoiseLaw`
  gives it, ``(nu s_b)**2 + f_b s_b / 200 + (c f_b)**2``, s_b the sky's noise of a point source and
  c the calibration. It is the true flux that sets the variance: the stated errors, which are made
  from the measured one, are no part of it, but reveal nu, the same in all bands (`noise_factor`).
- A band not detected has the probability of a flux below the threshold of detection; one of which
  the catalogue does not say whether it was observed, that or the chance of not being observed.
- nu grows with the object's size, so that it says something of the redshift (`prior.SizeLaw`).

Left out, because only photometry and its errors are asked: the catalogue's sizes and shapes,
exposure weights, positions, and that the object could be a star.

The integral has seven dimensions beside the discrete ones. It is done by a sequential Monte Carlo
sampler (Del Moral, Doucet & Jasra 2006, J. R. Stat. Soc. B 68, 411), for many objects at once.
Galaxies drawn evenly over the magnitudes, each shifted to the object's brightness, are weighted by
prior and likelihood**beta, with the highest beta that leaves enough of them alive; then beta rises
to 1, the particles resampled at each step and moved by Metropolis steps that keep the target: moves
along the difference of two other particles (ter Braak 2006, Stat. Comput. 16, 239), and to a like
spectrum, with dust, tilt and bend shifted by what differs between the two in the broad. Two halves
of the particles share no ancestors: how much their results differ tells whether the sampler has
found all there is. Where they differ by more than `CONVERGED`, more is spent; where they still do,
`RedshiftPosterior.converged` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr
from threadpoolctl import threadpool_limits

from galbatch.errors import SpecError
from galbatch.flux.clean import MAGNITUDE_PER_LN_FLUX, flux_from_magnitude
from galbatch.flux.dust import band_extinction
from galbatch.mock.galaxies import BEND, NEIGHBOURS, TILT, Galaxies
from galbatch.mock.noise import NoiseLaw
from galbatch.mock.objects import Array
from galbatch.spec.survey import Survey
from galbatch.values import FluxBlock
from limit.prior import (
    BEND_AT,
    EBV,
    MAGNITUDE,
    SHARE,
    TILT_AT,
    ZETA,
    GalaxyPrior,
    Points,
    SizeLaw,
)

CONVERGED = 0.25
"""Largest distance between the cumulative distributions of the two halves of the particles."""

HARDER = 3
"""An object that has not converged is tried once more, with so many times the effort."""

MODE_SHARE = 0.3
"""Probability within the interval that `RedshiftPosterior.mode` is the middle of."""

_LN_FLUX = -0.4 * np.log(10.0)
_LEAST_BETA = 1e-4
_BISECTIONS = 24
_WIDEST = 0.5
# ln of no density at all: differences of it are numbers.
_IMPOSSIBLE = -1e30
# Of the moves to another spectrum: to so many that look alike, or this share of them to any.
_ALIKE = 8
_ANYWHERE = 0.15
# What dust, tilt and bend are taken to stand for: typical sizes, and ln(flux) they leave over.
_BROAD_WIDTHS = np.array([0.2, 2.0, 2.0])
_SHAPE_NOISE = 0.05
# Evaluations at a time: arrays of so many rows of a few dozen bands stay in a core's cache.
_AT_ONCE = 4096
_STEPS = np.array([1.0, 0.5, 0.25, 0.1])


@dataclass(frozen=True)
class Effort:
    """How much is spent on an object.

    Parameters
    ----------
    bank : int
        Galaxies drawn from the model, once.
    candidates : int
        Of those, the ones nearest in magnitude that an object is compared with.
    particles : int
        Even.
    moves : int
        Metropolis steps of each particle at each temperature.
    rounds : int
        Metropolis steps at the end, all of which count.
    """

    bank: int = 300_000
    candidates: int = 16_384
    particles: int = 256
    moves: int = 5
    rounds: int = 48

    def more(self, factor: int) -> Effort:
        """As many times the candidates, the particles and the moves."""
        return replace(
            self,
            candidates=factor * self.candidates,
            particles=factor * self.particles,
            moves=factor * self.moves,
        )


@dataclass(frozen=True)
class RedshiftPosterior:
    """Redshift distributions of n objects.

    Parameters
    ----------
    edges : array, shape (m + 1,), float64
        Edges of cells in redshift, ascending.
    density : array, shape (n, m), float64
        Mean density in each cell: its sum times the cells' widths is 1. NaN for an object without
        a measured flux, and for a saturated one.
    disagreement : array, shape (n,), float64
        Largest distance between the cumulative distributions that the two halves of the particles
        give; NaN where `density` is.
    """

    edges: Array
    density: Array
    disagreement: Array

    @property
    def converged(self) -> NDArray[np.bool_]:
        """Where the halves agree to `CONVERGED`, shape (n,)."""
        return self.disagreement <= CONVERGED

    @property
    def cumulative(self) -> Array:
        """Probability below each edge, shape (n, m + 1)."""
        inside = np.cumsum(self.density * np.diff(self.edges), axis=1)
        return np.concatenate([np.zeros((len(inside), 1)), inside], axis=1)

    def quantiles(self, levels: Sequence[float] | Array) -> Array:
        """Redshifts below which given shares of the probability lie.

        Parameters
        ----------
        levels : sequence of float, shape (k,)
            In (0, 1).

        Returns
        -------
        array, shape (n, k), float64
            Linear within a cell; NaN where `density` is.
        """
        level = np.asarray(levels, np.float64)
        cumulative = self.cumulative
        known = np.isfinite(cumulative[:, -1])
        # Each row's cumulative in its own interval of length 2: one interpolation for all.
        rows = 2.0 * np.arange(np.count_nonzero(known))[:, None]
        inside = np.minimum(cumulative[known], 1.0)
        inside[:, -1] = 1.0
        edges = np.broadcast_to(self.edges, inside.shape)
        found = np.full((len(known), len(level)), np.nan)
        found[known] = np.interp(level + rows, (inside + rows).ravel(), edges.ravel())
        return found

    @property
    def mode(self) -> Array:
        """Middle of the shortest interval with `MODE_SHARE` of the probability, shape (n,).

        The highest cell itself is as noisy as a Monte Carlo integral is.
        """
        low = np.linspace(0.005, 0.995 - MODE_SHARE, 150)
        ends = self.quantiles(np.concatenate([low, low + MODE_SHARE]))
        first, last = np.split(ends, 2, axis=1)
        best = np.nan_to_num(last - first, nan=0.0).argmin(axis=1)[:, None]
        middle: Array = 0.5 * np.take_along_axis(first + last, best, axis=1)[:, 0]
        return middle


class GalaxyPosterior:
    """Exact redshift distributions of the galaxies of a simulated survey.

    Parameters
    ----------
    survey : Survey
        With a `mock` section.
    seed : int
        Of the Monte Carlo integral.
    effort : Effort

    Raises
    ------
    SpecError
        If the survey has no `mock` section, a band no depth, or nothing can be detected.
    """

    def __init__(self, survey: Survey, seed: int = 0, effort: Effort | None = None) -> None:
        self.effort = effort or Effort()
        self.telescope = _Telescope.of(survey)
        self.seed = seed
        assert survey.mock is not None
        reference = survey.band_names.index(survey.reference_band)
        # How many threads share a matrix product changes its last bits: always one, as in the mock.
        with threadpool_limits(limits=1, user_api="blas"):
            galaxies = Galaxies(survey.bands, reference, survey.mock.magnitudes)
        rng = np.random.default_rng((seed, 0))
        self.prior = GalaxyPrior(galaxies)
        self.sizes = SizeLaw(rng, survey.mock.seeing)
        self.bank = self.prior.bank(rng, self.effort.bank)
        self.broad = _broad_shapes(galaxies)
        self.alike, self.log_switch = _alike(galaxies, self.broad)

    def redshift(
        self, block: FluxBlock, edges: Array, reddening: Array | None = None
    ) -> RedshiftPosterior:
        """Redshift distributions given fluxes and their errors.

        Parameters
        ----------
        block : FluxBlock
            n galaxies as `flux.clean.clean` gives them, *without* correction for extinction and
            without an error floor.
        edges : array, shape (m + 1,)
            Edges of the cells in redshift, ascending. What lies outside counts in the outermost
            cells.
        reddening : array, shape (n,), optional
            Galactic E(B-V), magnitudes; 0 by default.

        Returns
        -------
        RedshiftPosterior

        Raises
        ------
        SpecError
            If the edges do not ascend.

        Notes
        -----
        Some 50 ms of a core for each galaxy, more with more bands; 3 n m float64 are held. Objects
        share the sampler's random numbers by blocks: another selection of rows gives each the same
        distribution only to within the Monte Carlo error, the same rows the same to the last bit.
        """
        edges = np.asarray(edges, np.float64)
        if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise SpecError("redshift edges", "expected two or more, ascending")
        n, m = len(block), len(edges) - 1
        share = np.full((2, n, m), np.nan)
        factor = noise_factor(block, self.telescope.noise)
        usable = np.flatnonzero(np.isfinite(factor) & ~block.saturated)
        # Objects of like signal to noise need equally many temperatures.
        depth = np.where(block.detected, block.flux / np.maximum(block.error, 1e-30), 0.0)
        usable = usable[np.argsort(np.square(depth[usable]).sum(axis=1))]
        ebv = np.zeros(n) if reddening is None else np.asarray(reddening, np.float64)
        zeta = np.log1p(np.clip(edges, -0.999, None))
        for number, effort in enumerate((self.effort, self.effort.more(HARDER))):
            together = max(_AT_ONCE // (effort.particles // 2), 1)
            for start in range(0, len(usable), together):
                rows = usable[start : start + together]
                seen = _Seen.of(self.telescope, block, rows, factor[rows], ebv[rows])
                rng = np.random.default_rng((self.seed, 1 + number, int(rows[0])))
                with threadpool_limits(limits=1, user_api="blas"):
                    share[:, rows] = _Sampler(self, effort, seen, rng).shares(zeta)
            apart = np.abs(np.cumsum(share[0] - share[1], axis=1)).max(axis=1)
            usable = usable[apart[usable] > CONVERGED]
        return RedshiftPosterior(edges, share.mean(axis=0) / np.diff(edges), apart)


def noise_factor(block: FluxBlock, noise: NoiseLaw) -> Array:
    """Noise in each object's aperture over that of a point source, from the stated errors.

    ``error**2 = (nu s)**2 + F s / 200 + (c F)**2`` with F the measured flux, or 0 if negative,
    solved for nu in the band where the sky matters most. A band not detected states nu s itself.

    Parameters
    ----------
    block : FluxBlock
        n objects in b bands, without an error floor.
    noise : NoiseLaw
        Of b bands, float64.

    Returns
    -------
    array, shape (n,)
        NaN where no band has an error.
    """
    flux = np.where(block.detected, np.maximum(block.flux, 0.0), 0.0).astype(np.float64)
    variance = np.square(block.error.astype(np.float64))
    own = noise.variance_without_sky(flux)
    usable = block.observed & (variance > own)
    part = np.where(usable, 1.0 - own / np.where(usable, variance, 1.0), -1.0)
    best = part.argmax(axis=1)
    rows = np.arange(len(flux))
    nu = np.sqrt(np.maximum(variance - own, 0.0))[rows, best] / noise.sky[best]
    return np.where(usable[rows, best], nu, np.nan)


@dataclass(frozen=True)
class _Telescope:
    """How the survey measures."""

    noise: NoiseLaw
    detection: float
    extinction: Array
    missing: Array
    tells_apart: bool

    @classmethod
    def of(cls, survey: Survey) -> _Telescope:
        where, mock = f"survey {survey.name}", survey.mock
        if mock is None:
            raise SpecError(where, "has no 'mock' section", "nothing says how its sky is drawn")
        blind = [band.name for band in survey.bands if band.depth is None]
        if blind:
            raise SpecError(f"{where}: band {blind[0]}", "a mock needs its 'depth'")
        depth = np.array([band.depth for band in survey.bands], np.float64)
        if mock.detection * mock.calibration >= 1.0:
            raise SpecError(
                f"{where}: mock",
                f"at a calibration of {mock.calibration:g} nothing reaches a signal to noise of "
                f"{mock.detection:g}",
                "lower 'detection'",
            )
        missing = np.array(
            [mock.unobserved_bands.get(name, mock.unobserved) for name in survey.band_names]
        )
        missing[survey.band_names.index(survey.reference_band)] = 0.0
        photometry = survey.photometry
        meanings = {sentinel.meaning for sentinel in photometry.sentinels}
        return cls(
            noise=NoiseLaw(flux_from_magnitude(depth) / 5.0, mock.calibration),
            detection=mock.detection,
            extinction=np.array([band_extinction(band) for band in survey.bands]),
            missing=missing,
            # Fluxes are always stated; magnitudes need a word of their own for what has none.
            tells_apart=photometry.quantity == "flux" or "not_detected" in meanings,
        )


@dataclass(frozen=True)
class _Seen:
    """Measurements of r objects, ready to be compared with fluxes of p particles each.

    `sky2`, `own` and `relative2` are the three terms of `NoiseLaw.variance`, so that it is a
    polynomial of the true flux: most of the time is spent on that.

    `hidden` are the pairs (object, band) without a measured flux that still say something, sorted
    by object, with the flux below which there is none; `first` is where each of the objects
    `with_hidden` begins among them.
    """

    flux: NDArray[np.float32]
    weight: NDArray[np.float32]
    sky2: NDArray[np.float32]
    own: NDArray[np.float32]
    relative2: np.float32
    dimming: NDArray[np.float32]
    hidden: tuple[NDArray[np.intp], NDArray[np.intp]]
    threshold: NDArray[np.float32]
    missing: NDArray[np.float32]
    first: NDArray[np.intp]
    factor: Array

    @classmethod
    def of(
        cls,
        telescope: _Telescope,
        block: FluxBlock,
        rows: NDArray[np.intp],
        factor: Array,
        reddening: Array,
    ) -> _Seen:
        detected, observed = block.detected[rows], block.observed[rows]
        noise = telescope.noise
        sky2 = np.square(noise.sky * factor[:, None])
        own = noise.source
        unseen = observed & ~detected if telescope.tells_apart else ~detected
        hidden = np.nonzero(unseen)
        # Where error(F) detection = F: a quadratic equation.
        d2 = telescope.detection**2
        scale = 1.0 - d2 * noise.calibration**2
        threshold = (d2 * own + np.sqrt((d2 * own) ** 2 + 4.0 * scale * d2 * sky2)) / (2.0 * scale)
        missing = np.zeros_like(telescope.missing) if telescope.tells_apart else telescope.missing
        return cls(
            flux=np.where(detected, block.flux[rows], 0.0).astype("f4")[:, None],
            weight=detected.astype("f4")[:, None],
            sky2=sky2.astype("f4")[:, None],
            own=own.astype("f4"),
            relative2=np.float32(noise.calibration**2),
            dimming=np.exp(_LN_FLUX * reddening[:, None] * telescope.extinction).astype("f4")[
                :, None
            ],
            hidden=(hidden[0], hidden[1]),
            threshold=threshold[hidden].astype("f4")[:, None],
            missing=missing[hidden[1]].astype("f4")[:, None],
            first=np.unique(hidden[0], return_index=True)[1],
            factor=factor,
        )

    def only(self, row: int) -> _Seen:
        """One of the objects."""
        part = slice(row, row + 1)
        pairs = self.hidden[0] == row
        return replace(
            self,
            flux=self.flux[part],
            weight=self.weight[part],
            sky2=self.sky2[part],
            dimming=self.dimming[part],
            hidden=(np.zeros(np.count_nonzero(pairs), np.intp), self.hidden[1][pairs]),
            threshold=self.threshold[pairs],
            missing=self.missing[pairs],
            first=np.zeros(int(pairs.any()), np.intp),
            factor=self.factor[part],
        )

    def log_likelihood(self, true: NDArray[np.float32]) -> Array:
        """ln p(measurements | true fluxes before Galactic dust), (r, p, b) to (r, p)."""
        flux = true * self.dimming
        variance = flux * flux
        variance *= self.relative2
        variance += flux * self.own
        variance += self.sky2
        chi = self.flux - flux
        chi *= chi
        chi /= variance
        chi += np.log(variance)
        result: Array = -0.5 * np.einsum(
            "rpb,rpb->rp", chi, np.broadcast_to(self.weight, chi.shape)
        )
        result = result.astype(np.float64)
        if len(self.first):
            row, band = self.hidden
            below = (self.threshold - flux[row, :, band]) / np.sqrt(variance[row, :, band])
            log_chance = log_ndtr(below)
            some = self.missing > 0
            if some.any():
                mixed = np.log(self.missing + (1.0 - self.missing) * np.exp(log_chance) + 1e-37)
                log_chance = np.where(some, mixed, log_chance)
            result[row[self.first]] += np.add.reduceat(log_chance, self.first, axis=0)
        return result


@dataclass(frozen=True)
class _Swarm:
    """Particles (r, p) with what is known of them."""

    points: Points
    log_prior: Array
    log_like: Array


class _Sampler:
    """The sequential Monte Carlo sampler for r objects."""

    def __init__(
        self, model: GalaxyPosterior, effort: Effort, seen: _Seen, rng: np.random.Generator
    ) -> None:
        self.model, self.effort, self.seen, self.rng = model, effort, seen, rng
        self.particles = effort.particles
        self.rows = len(seen.factor)

    def shares(self, edges: Array) -> Array:
        """Shares of the particles in cells of ln(1+z), for each half: (2, r, m)."""
        swarm, beta = self._start()
        while True:
            for _ in range(self.effort.moves):
                swarm = self._move(swarm, beta)
            if (beta >= 1.0).all():
                break
            swarm, beta = self._cool(swarm, beta)
        cells = len(edges) - 1
        counts = np.zeros((2, self.rows, cells))
        offset = np.arange(self.rows)[:, None] * cells
        for _ in range(self.effort.rounds):
            swarm = self._move(swarm, beta)
            at = np.searchsorted(edges, swarm.points.x[ZETA].ravel(), side="right") - 1
            at = np.clip(at, 0, cells - 1).reshape(self.rows, -1) + offset
            for half, part in enumerate(np.split(at, 2, axis=1)):
                found = np.bincount(part.ravel(), minlength=self.rows * cells)
                counts[half] += found.reshape(self.rows, cells)
        return np.asarray(counts / counts.sum(axis=2, keepdims=True))

    def _start(self) -> tuple[_Swarm, Array]:
        """Particles from the bank, and the temperatures at which enough of them count."""
        model, wanted = self.model, self.effort.candidates
        flux = self.seen.flux[:, 0, model.prior.galaxies.reference]
        bank = model.bank.points.x[MAGNITUDE]
        bright, faint = model.prior.galaxies.magnitudes
        guess = 23.9 - 2.5 * np.log10(np.maximum(flux, 1e-4))
        guess += 2.5 * np.log10(self.seen.dimming[:, 0, model.prior.galaxies.reference])
        middle = np.searchsorted(bank, np.clip(guess, bright, faint))
        size = min(wanted, len(bank))
        low = np.clip(middle - size // 2, 0, len(bank) - size)
        chosen = low[:, None] + self.rng.permutation(size)
        weights, likes, shift, width = (np.empty(chosen.shape) for _ in range(4))
        for row in range(self.rows):
            weights[row], likes[row], shift[row], width[row] = self._weigh(row, chosen[row])
        halves = np.split(np.arange(size - size % 2), 2)
        beta = _hottest(
            [(weights[:, half], likes[:, half]) for half in halves],
            np.zeros(self.rows),
            self.particles / 4,
        )
        beta = np.maximum(beta, _LEAST_BETA)
        picked = np.concatenate(
            [
                half[0] + self._resample(weights[:, half] + beta[:, None] * likes[:, half])
                for half in halves
            ],
            axis=1,
        )
        at = np.take_along_axis(chosen, picked, axis=1)
        points = model.bank.points[at]
        spread = np.take_along_axis(width, picked, axis=1) / np.sqrt(beta)[:, None]
        x = points.x.copy()
        x[MAGNITUDE] += np.take_along_axis(shift, picked, axis=1)
        x[MAGNITUDE] += np.minimum(spread, _WIDEST) * self.rng.standard_normal(spread.shape)
        x[MAGNITUDE] = np.clip(x[MAGNITUDE], bright, faint)
        return self._evaluate(replace(points, x=x)), beta

    def _weigh(self, row: int, chosen: NDArray[np.intp]) -> tuple[Array, Array, Array, Array]:
        """Of bank galaxies moved to an object's brightness: ln weight, ln likelihood, by how much
        they were moved, and the likelihood's width in magnitude."""
        model, seen = self.model, self.seen.only(row)
        bank, magnitudes = model.bank, model.prior.galaxies.magnitudes
        points, template = bank.points[chosen], bank.described.flux[chosen]
        flux, dimming = seen.flux[0, 0], seen.dimming[0, 0]
        positive = np.maximum(flux, 0.0)
        variance = seen.sky2[0, 0] + positive * seen.own + seen.relative2 * positive**2
        inverse = seen.weight[0, 0] / variance
        square = np.maximum(np.square(template) @ (inverse * dimming**2), 1e-30)
        # A best scale of nothing or less: as faint as a fraction of the noise.
        scale = np.maximum(template @ (inverse * dimming * flux), 0.1 * np.sqrt(square)) / square
        wanted = points.x[MAGNITUDE] - 2.5 * np.log10(scale)
        shift = np.clip(wanted, *magnitudes) - points.x[MAGNITUDE]
        scale = np.exp(_LN_FLUX * shift).astype("f4")
        like = seen.log_likelihood((template * scale[:, None])[None])[0]
        width = np.minimum(MAGNITUDE_PER_LN_FLUX / (scale * np.sqrt(square)), _WIDEST)
        x = points.x.copy()
        x[MAGNITUDE] += shift
        described = bank.described
        log_mass = described.log_mass[chosen] - 0.4 * shift
        weight = model.prior.log_density(replace(points, x=x), log_mass)
        weight += model.sizes.log_density(
            seen.factor, described.log_radius[chosen], described.passive[chosen]
        )
        weight += np.log(width) - bank.log_density[chosen]
        return weight, like, shift, width

    def _evaluate(self, points: Points) -> _Swarm:
        described = self.model.prior.describe(points)
        size = self.model.sizes.log_density(
            self.seen.factor[:, None], described.log_radius, described.passive
        )
        prior = np.maximum(described.log_density + size, _IMPOSSIBLE)
        return _Swarm(points, prior, self.seen.log_likelihood(described.flux))

    def _cool(self, swarm: _Swarm, beta: Array) -> tuple[_Swarm, Array]:
        """Raise each object's beta as far as its particles allow, and resample."""
        halves = np.split(np.arange(self.particles), 2)
        flat = np.zeros((self.rows, self.particles // 2))
        following = _hottest(
            [(flat, swarm.log_like[:, half]) for half in halves], beta, self.particles / 4
        )
        step = (following - beta)[:, None]
        picked = np.concatenate(
            [half[0] + self._resample(step * swarm.log_like[:, half]) for half in halves], axis=1
        )
        at = np.arange(self.rows)[:, None], picked
        return _Swarm(swarm.points[at], swarm.log_prior[at], swarm.log_like[at]), following

    def _resample(self, log_weight: Array) -> NDArray[np.intp]:
        """Systematic resampling of each row to half of the particles."""
        weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
        cumulative = np.cumsum(weight, axis=1)
        cumulative /= cumulative[:, -1:]
        wanted = self.particles // 2
        position = (np.arange(wanted) + self.rng.random((self.rows, 1))) / wanted
        rows = np.arange(self.rows)[:, None]
        # Each row's cumulative lies in its own unit interval: one search for all.
        flat = np.searchsorted((cumulative + rows).ravel(), (position + rows).ravel())
        picked = flat.reshape(self.rows, wanted) - rows * cumulative.shape[1]
        return np.asarray(np.clip(picked, 0, cumulative.shape[1] - 1))

    def _move(self, swarm: _Swarm, beta: Array) -> _Swarm:
        """One Metropolis step of every particle, a half at a time."""
        half = self.particles // 2
        for moving in (slice(0, half), slice(half, None)):
            others = slice(half, None) if moving.start == 0 else slice(0, half)
            swarm = self._move_half(swarm, beta, moving, others)
        return swarm

    def _move_half(self, swarm: _Swarm, beta: Array, moving: slice, others: slice) -> _Swarm:
        points = swarm.points[:, moving]
        proposed, log_ratio = self._propose(points, swarm.points.x[:, :, others])
        new = self._evaluate(proposed)
        gain = new.log_prior - swarm.log_prior[:, moving] + log_ratio
        gain += beta[:, None] * (new.log_like - swarm.log_like[:, moving])
        taken = np.log(self.rng.random(gain.shape)) < gain
        taken &= new.log_prior > _IMPOSSIBLE
        sed, slot, x = swarm.points.sed.copy(), swarm.points.slot.copy(), swarm.points.x.copy()
        prior, like = swarm.log_prior.copy(), swarm.log_like.copy()
        sed[:, moving] = np.where(taken, proposed.sed, points.sed)
        slot[:, moving] = np.where(taken, proposed.slot, points.slot)
        x[:, :, moving] = np.where(taken, proposed.x, points.x)
        prior[:, moving] = np.where(taken, new.log_prior, prior[:, moving])
        like[:, moving] = np.where(taken, new.log_like, like[:, moving])
        return _Swarm(Points(sed, slot, x), prior, like)

    def _propose(self, points: Points, others: Array) -> tuple[Points, Array]:
        """Moved particles, and ln q(back) / q(there)."""
        rng, shape = self.rng, points.sed.shape
        kind = rng.random(shape)
        first, second = rng.integers(0, others.shape[2], (2, *shape))
        rows = np.arange(shape[0])[:, None]
        difference = others[:, rows, first] - others[:, rows, second]
        step = _STEPS[rng.integers(0, len(_STEPS), shape)] * (2.38 / np.sqrt(2.0 * len(points.x)))
        # Now and then the whole difference: from one peak to another.
        step = np.where(rng.random(shape) < 0.1, 1.0, step)
        x = points.x + step * difference
        x += 1e-5 * rng.standard_normal(x.shape)
        sed = points.sed

        switch = kind < 0.4
        alike = self.model.alike
        target = alike[sed, rng.integers(0, alike.shape[1], shape)]
        anywhere = rng.random(shape) < _ANYWHERE
        target = np.where(anywhere, rng.integers(0, len(alike), shape), target)
        # The shift depends on redshift, which must stay for the way back to be the same.
        node = np.rint(points.x[ZETA] / self.model.prior.galaxies.grid.step).astype(np.intp)
        shift = self.model.broad[sed, node] - self.model.broad[target, node]
        local = points.x + 0.3 * (x - points.x) * (kind < 0.2)
        local[ZETA] = points.x[ZETA]
        local[[EBV, TILT_AT, BEND_AT]] += np.moveaxis(shift, -1, 0)
        back = self.model.log_switch[target, sed] - self.model.log_switch[sed, target]
        x = np.where(switch, local, x)
        ratio = np.where(switch, back, 0.0)
        sed = np.where(switch, target, sed)

        mix = kind > 0.85
        slot = np.where(switch | mix, rng.integers(0, NEIGHBOURS, shape), points.slot)
        x[SHARE] = np.where(mix, rng.random(shape), x[SHARE])
        return Points(sed, slot, x), ratio


def _hottest(parts: list[tuple[Array, Array]], beta: Array, least: float) -> Array:
    """Highest beta up to 1 at which exp(weight + (beta - old) like) has an effective sample size.

    Kish's, (sum w)**2 / sum w**2, of at least `least` in each part, for each row.
    """
    room = 1.0 - beta
    low, high = np.full(len(beta), np.log(_LEAST_BETA)), np.zeros(len(beta))
    exponent = high
    for _ in range(_BISECTIONS):
        step = (room * np.exp(exponent))[:, None]
        enough = np.ones(len(beta), bool)
        for weight, like in parts:
            total = weight + step * like
            size = np.exp(total - total.max(axis=1, keepdims=True))
            enough &= np.square(size.sum(axis=1)) >= least * np.square(size).sum(axis=1)
        low, high = np.where(enough, exponent, low), np.where(enough, high, exponent)
        exponent = 0.5 * (low + high)
    # The first try was all the room there is.
    return np.asarray(np.where(low >= 0.0, 1.0, beta + room * np.exp(low)))


def _broad_shapes(galaxies: Galaxies) -> Array:
    """Dust, tilt and bend that a spectrum looks like, (n_sed, n_z, 3): ridge regression."""
    grid = galaxies.grid
    flux = grid.flux[:, :, 0].astype(np.float64)
    floor = 1e-3 * np.median(flux, axis=2, keepdims=True) + 1e-30
    shape = np.log(np.maximum(flux, floor))
    shape -= shape[:, :, galaxies.reference, None]
    colour = galaxies.colour.astype(np.float64)
    dust = grid.curve - grid.curve[:, galaxies.reference, None]
    broad = np.stack(np.broadcast_arrays(dust, TILT * colour, BEND * colour**2), axis=2)
    design = _LN_FLUX * broad
    penalty = np.diag(np.square(_SHAPE_NOISE / _BROAD_WIDTHS))
    normal = np.einsum("zbi,zbj->zij", design, design) + penalty
    projection = np.linalg.solve(normal, np.moveaxis(design, 1, 2))
    return np.asarray(np.einsum("zib,szb->szi", projection, shape, optimize=True))


def _alike(galaxies: Galaxies, broad: Array) -> tuple[NDArray[np.intp], Array]:
    """Spectra that look like each, dust, tilt and bend apart; ln of the chance to go there."""
    grid = galaxies.grid
    nodes = np.linspace(0.05, 0.7, 4) * grid.flux.shape[1]
    features = []
    for node in nodes.astype(np.intp):
        total = grid.flux[:, node].astype(np.float64).sum(axis=1)
        shape = np.log(np.maximum(total, 1e-3 * np.median(total, axis=1, keepdims=True)))
        shape -= shape[:, galaxies.reference, None]
        colour = galaxies.colour.astype(np.float64)
        dust = grid.curve[node] - grid.curve[node, galaxies.reference]
        shapes = np.stack([dust, TILT * colour, BEND * colour**2])
        features.append(shape - _LN_FLUX * broad[:, node] @ shapes)
    where = np.concatenate(features, axis=1)
    distance = np.square(where[:, None] - where).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    alike = np.argsort(distance, axis=1)[:, :_ALIKE]
    number = len(alike)
    chance = np.full((number, number), _ANYWHERE / number)
    chance[np.arange(number)[:, None], alike] += (1.0 - _ANYWHERE) / _ALIKE
    return alike, np.log(chance)
