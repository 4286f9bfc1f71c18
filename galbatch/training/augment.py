"""Training rows made worse: noisier, with bands missing, or as faint as the catalogue goes.

Labels often end where the catalogue goes on: stars and galaxies are told apart on the image down
to some magnitude and unknown beyond. A network would carry what it learnt of bright objects into
the noise. `Fainter` shows it those objects as they would be seen there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.flux.noise import NoiseModel, learn_noise
from galbatch.spec.survey import Photometry
from galbatch.values import FluxBlock

# Labels of all but the faintest hundredth of their rows are within their reach.
_REACH = 99.0
# A smaller share of the catalogue beyond the labels is not worth it.
_WORTH = 0.05
_FEWEST = 200
# Magnitudes above the limit over which number counts are taken for power laws.
_COUNTS = 2.5
_SHARES = (0.005, 0.995)
# How much deeper or shallower than usual one exposure may be, in variance.
_DEPTHS = (0.1, 30.0)
_ROUNDS = 25


@dataclass(frozen=True)
class Fainter:
    """Labelled objects as they would be seen at magnitudes that no label reaches.

    Parameters
    ----------
    limit : float
        Faintest AB magnitude of the labels in the reference band.
    block : FluxBlock
        Objects of the catalogue beyond it: what faint rows look like.
    shapes : ndarray, shape (d, m)
        Their morphology.
    magnitude : ndarray, shape (d,)
        Their AB magnitude in the reference band.
    noise : NoiseModel
    undetected : {"limit", "unobserved", "measured"}
        What the catalogue does with a flux that is lost in the noise: it states the 1-sigma limit,
        nothing, or the flux all the same.
    classes : ndarray, shape (c,)
        The classes that there are labels of.
    intercept, slope : ndarray, shape (c,)
        Log-odds of each against the first, at the limit and per magnitude.

    Notes
    -----
    Of each copy a faint object of the catalogue is the model: the copy gets its magnitude in the
    reference band, its depth in each band, its missing bands and its morphology. The morphology is
    of an object of *either* class, so that it says nothing of the copy's own: what shapes say of
    faint objects no label tells, and a bright galaxy's size is not a faint one's.

    The classes are as frequent as their number counts, taken for power laws, foretell: the odds
    change exponentially with magnitude. A network that learnt the bright rows' odds would see
    stars everywhere.

    Only the class is learnt from copies. It does not change with distance, but the redshift, mass
    and luminosity that go with a colour do: a faint object is not a bright one farther away.
    """

    limit: float
    block: FluxBlock
    shapes: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    noise: NoiseModel
    undetected: str
    classes: NDArray[np.float64]
    intercept: NDArray[np.float64]
    slope: NDArray[np.float64]

    def shares(self, magnitude: NDArray[np.float64]) -> NDArray[np.float64]:
        """Expected shares of the classes at a magnitude, shape (n, c)."""
        odds = self.intercept + self.slope * (magnitude[:, None] - self.limit)
        found = np.exp(odds - odds.max(axis=1, keepdims=True))
        found = np.clip(found / found.sum(axis=1, keepdims=True), *_SHARES)
        return np.asarray(found / found.sum(axis=1, keepdims=True))

    def sources(
        self,
        magnitude: NDArray[np.float64],
        classes: NDArray[np.float64],
        usable: NDArray[np.bool_],
        count: int,
        generator: np.random.Generator,
    ) -> NDArray[np.intp]:
        """Rows to make copies of, in the proportion of the classes beyond the labels.

        Parameters
        ----------
        magnitude : ndarray, shape (n,)
            Of labelled rows, AB in the reference band; NaN where unknown.
        classes : ndarray, shape (n,)
            NaN where unknown.
        usable : ndarray, shape (n,), bool
        count : int
        generator : numpy.random.Generator

        Returns
        -------
        ndarray, shape (at most count,)
            Row numbers.
        """
        bright = usable & (magnitude <= self.limit)
        wanted = count * self.shares(self.magnitude).mean(axis=0)
        drawn = []
        for one, size in zip(self.classes, np.rint(wanted).astype(int), strict=True):
            rows = np.flatnonzero(bright & (classes == one))
            if rows.size:
                drawn.append(rows[generator.integers(rows.size, size=size)])
        return np.concatenate(drawn) if drawn else np.zeros(0, np.intp)

    def models(
        self, classes: NDArray[np.float64], generator: np.random.Generator
    ) -> NDArray[np.intp]:
        """A faint object of the catalogue for each copy, at a magnitude usual for its class.

        Parameters
        ----------
        classes : ndarray, shape (n,)
        generator : numpy.random.Generator

        Returns
        -------
        ndarray, shape (n,)
        """
        draw = generator.random(classes.size)
        found = np.zeros(classes.size, np.intp)
        for one, share in zip(self.classes, self.shares(self.magnitude).T, strict=True):
            reached = np.cumsum(share)
            mine = classes == one
            found[mine] = np.searchsorted(reached, draw[mine] * reached[-1], side="right")
        return np.minimum(found, self.magnitude.size - 1)

    def seen(
        self,
        block: FluxBlock,
        magnitude: NDArray[np.float64],
        models: NDArray[np.intp],
        generator: np.random.Generator,
    ) -> tuple[FluxBlock, NDArray[np.float64]]:
        """Rows as they would be in the catalogue were they so faint.

        Parameters
        ----------
        block : FluxBlock
            n bright rows, NumPy.
        magnitude : ndarray, shape (n,)
            Theirs, AB in the reference band.
        models : ndarray, shape (n,)
            From `models`.
        generator : numpy.random.Generator

        Returns
        -------
        FluxBlock
            Fluxes scaled to the model's magnitude, with noise up to what the survey has there,
            errors restated from the noisy flux as catalogues do, and what is lost in the noise
            treated as the catalogue treats it.
        shapes : ndarray, shape (n, m)
        """
        faint = FluxBlock(*(array[models] for array in vars(self.block).values()))
        scale = np.exp(-0.4 * np.log(10.0) * (self.magnitude[models] - magnitude))[:, None]
        flux = block.flux * scale
        depth = np.clip(
            np.square(faint.error.astype(np.float64)) / self.noise.variance(faint.flux), *_DEPTHS
        )
        missing = np.maximum(
            depth * self.noise.variance(flux) - np.square(block.error * scale), 0.0
        )
        flux = flux + np.sqrt(missing) * generator.standard_normal(flux.shape, np.float32)
        error = np.sqrt(depth * self.noise.variance(flux))
        observed = block.observed & faint.observed
        detected = observed.copy()
        if self.undetected != "measured":
            lost = flux < np.maximum(self.noise.detection, 1e-9) * error
            detected &= ~lost
            if self.undetected == "limit":
                flux = np.where(lost, 0.0, flux)
                error = np.where(lost, np.sqrt(depth * self.noise.sky), error)
            else:
                observed &= ~lost
        return (
            FluxBlock(
                np.where(observed, flux, 0.0).astype(np.float32),
                np.where(observed, error, 0.0).astype(np.float32),
                observed,
                detected,
                np.zeros(len(block), bool),
            ),
            self.shapes[models],
        )

    def to_json(self) -> dict[str, Any]:
        """What a card says of it."""
        return {
            "limit": self.limit,
            "rows_beyond": len(self.block),
            "classes": self.classes.tolist(),
            "shares_beyond": self.shares(self.magnitude).mean(axis=0).tolist(),
        }


def learn_fainter(
    block: FluxBlock,
    shapes: NDArray[np.float64],
    magnitude: NDArray[np.float64],
    labelled: NDArray[np.float64],
    classes: NDArray[np.float64],
    photometry: Photometry,
) -> Fainter | None:
    """How labelled objects would look beyond the reach of their labels.

    Parameters
    ----------
    block : FluxBlock
        d random rows of the catalogue, NumPy.
    shapes : ndarray, shape (d, m)
        Their morphology.
    magnitude : ndarray, shape (d,)
        AB in the reference band; NaN where it is not detected.
    labelled : ndarray, shape (n,)
        Magnitudes of the training rows.
    classes : ndarray, shape (n,)
        Their class, a number; NaN where unknown.
    photometry : Photometry
        How the survey writes its values.

    Returns
    -------
    Fainter or None
        None where the labels go about as faint as the catalogue, or are too few.
    """
    known = np.isfinite(classes) & np.isfinite(labelled)
    if known.sum() < _FEWEST:
        return None
    limit = float(np.percentile(labelled[known], _REACH))
    beyond = magnitude > limit
    if beyond.sum() < max(_FEWEST, _WORTH * np.isfinite(magnitude).sum()):
        return None
    counted = known & (labelled <= limit) & (labelled > limit - _COUNTS)
    kinds = np.unique(classes[counted])
    if kinds.size < 2:
        return None
    odds = np.zeros((2, kinds.size))
    for number, kind in enumerate(kinds[1:], 1):
        pair = counted & ((classes == kind) | (classes == kinds[0]))
        odds[:, number] = _log_odds(labelled[pair] - limit, classes[pair] == kind)
    return Fainter(
        limit,
        FluxBlock(*(array[beyond] for array in vars(block).values())),
        shapes[beyond],
        magnitude[beyond],
        learn_noise(block),
        _undetected(photometry),
        kinds,
        *odds,
    )


def with_noise(block: FluxBlock, noise: float, generator: np.random.Generator) -> FluxBlock:
    """Fluxes perturbed by some of their own errors.

    Parameters
    ----------
    block : FluxBlock
        n rows, NumPy.
    noise : float
        In units of the errors.
    generator : numpy.random.Generator

    Returns
    -------
    FluxBlock
    """
    draw = generator.standard_normal(block.flux.shape, np.float32)
    # The error is 0 where nothing was observed, and nothing is added.
    flux = block.flux + np.float32(noise) * draw * block.error
    return FluxBlock(flux, block.error, block.observed, block.detected, block.saturated)


def without_bands(block: FluxBlock, share: float, generator: np.random.Generator) -> FluxBlock:
    """Rows of which some bands were not observed.

    Parameters
    ----------
    block : FluxBlock
        n rows, NumPy.
    share : float
        Probability of a band to be dropped. A row that would lose all keeps them: there is
        nothing to learn from nothing.
    generator : numpy.random.Generator

    Returns
    -------
    FluxBlock
    """
    kept = block.observed & (generator.random(block.flux.shape, np.float32) >= share)
    blind = ~kept.any(axis=1)
    kept[blind] = block.observed[blind]
    return FluxBlock(
        np.where(kept, block.flux, np.float32(0)),
        np.where(kept, block.error, np.float32(0)),
        kept,
        block.detected & kept,
        block.saturated,
    )


def _undetected(photometry: Photometry) -> str:
    if any(sentinel.meaning == "not_detected" for sentinel in photometry.sentinels):
        return "limit"
    return "unobserved" if photometry.quantity == "magnitude" else "measured"


def _log_odds(x: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Logistic regression on one variable: intercept and slope, by Newton's method."""
    design = np.stack([np.ones_like(x), x], axis=1)
    terms = np.zeros(2)
    # So weak a prior matters only where a class is hardly there.
    ridge = np.diag([1e-3, 1e-3])
    for _ in range(_ROUNDS):
        share = 1 / (1 + np.exp(-np.clip(design @ terms, -30, 30)))
        gradient = design.T @ (chosen - share) - ridge @ terms
        curvature = (design * (share * (1 - share))[:, None]).T @ design + ridge
        terms += np.clip(np.linalg.solve(curvature, gradient), -2, 2)
    return terms
