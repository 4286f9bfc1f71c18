"""Errors of redshifts: the curvature of chi-square alone makes them too small.

What it leaves out is how far lines are from where templates have them, which depends on the lines
that a redshift brings into the spectrograph, and on what the noise lets a fit see of them. So the
error of a class has a scale and a floor, and a factor that goes by signal to noise and redshift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Array = NDArray[np.float64]

FEWEST = 50
"""Redshifts that are known, of a class, to calibrate its errors with."""
_MOST = 8000
"""Of them that are used; more tell nothing new."""
_FAILED = 0.01
"""Of 1 + z: what is farther off is another minimum, and tells nothing of the width of this one."""
_DEGREES = 4.0
"""Of freedom of Student's distribution, so that a few that are far off do not decide."""
_CORE = 0.6827
"""Of the redshifts are within one error."""
_KNOTS = (0.03, 0.25, 0.5, 0.75, 0.97)
"""Quantiles between which a factor is interpolated; it is constant beyond."""
_NARROW = 0.1
"""Of the logarithm: what varies by less than this has no factor."""
_PENALTY = 6.0
"""For a factor of e, against the summed quantile loss: few redshifts ask for no factor. Of 1, 3 and
6, tried with 200 to 3600 redshifts of simulated quasars, that which is best for 1000 of them."""
_LEAST = 1e-9
"""Of 1 + z: a redshift is not taken for nearer than this to the truth."""


@dataclass(frozen=True)
class Factor:
    """A factor of errors that is interpolated along a quantity, in logarithms of both.

    Parameters
    ----------
    knots : tuple of float
        Natural logarithms of the quantity, rising.
    values : tuple of float
        Natural logarithms of the factor there.
    """

    knots: tuple[float, ...]
    values: tuple[float, ...]

    def __call__(self, logarithm: Array) -> Array:
        """Logarithms of the factor, constant beyond the knots."""
        return np.asarray(np.interp(logarithm, self.knots, self.values), np.float64)


@dataclass(frozen=True)
class ErrorModel:
    """error**2 = factors**2 * ((scale * curvature error)**2 + (floor * (1 + z))**2).

    The floor is what templates cannot tell: lines of quasars are shifted by hundreds of km/s.

    Parameters
    ----------
    scale, floor : float
    rows : int
        Redshifts that it was fitted with; 0 for none.
    factors : dict of str to Factor
        By `signal_to_noise` (above 0.1) and by `redshift` (of which 1 + z is the quantity).
    """

    scale: float = 1.0
    floor: float = 0.0
    rows: int = 0
    factors: Mapping[str, Factor] = field(default_factory=dict)

    def errors(self, curvature: Array, z: Array, signal_to_noise: Array) -> Array:
        """The errors of redshifts.

        Parameters
        ----------
        curvature, z, signal_to_noise : ndarray, shape (n,)
            Error by the curvature of chi-square, redshift, and `clean.signal_to_noise`.

        Returns
        -------
        ndarray, shape (n,)
        """
        along = _logarithms(z, signal_to_noise)
        total = np.zeros(len(z))
        for name, factor in self.factors.items():
            total += factor(along[name])
        return np.asarray(
            np.hypot(self.scale * curvature, self.floor * (1.0 + z)) * np.exp(total), np.float64
        )


_BY_SIGNAL, _BY_REDSHIFT = "signal_to_noise", "redshift"

SIMULATED: dict[str, ErrorModel] = {
    "GALAXY": ErrorModel(1.23, 4.91e-5, 0, {
        _BY_SIGNAL: Factor((0.84, 1.75, 2.23, 2.71, 3.52), (0.06, -0.02, -0.01, 0.0, 0.0)),
        _BY_REDSHIFT: Factor((0.04, 0.08, 0.13, 0.23, 0.48), (0.0, 0.0, 0.0, 0.0, -0.52)),
    }),
    "QSO": ErrorModel(2.5, 2.02e-3, 0, {
        _BY_SIGNAL: Factor((-0.28, 0.38, 1.21, 1.91, 2.85), (0.26, 0.1, 0.0, -0.11, -0.24)),
        _BY_REDSHIFT: Factor((0.16, 0.81, 1.10, 1.26, 1.49), (-2.54, -0.72, 0.0, 0.0, 0.3)),
    }),
    "STAR": ErrorModel(1.25, 4.77e-5, 0, {
        _BY_SIGNAL: Factor((1.66, 2.53, 3.0, 3.47, 3.7), (0.0, -0.08, -0.02, 0.0, 0.0)),
    }),
}  # fmt: skip
"""Of simulated spectra, fitted with SDSS's templates: for classes that too little is known of."""


def calibrate(
    kind: NDArray[np.str_],
    z: Array,
    curvature: Array,
    truth: Array,
    signal_to_noise: Array,
    kinds: Mapping[str, ErrorModel] = SIMULATED,
) -> dict[str, ErrorModel]:
    """Fit the errors of each class to redshifts that are known.

    Two thirds (68.27 %) of those that are near the truth are within one error, whatever their
    signal to noise and redshift, as far as they are enough to tell.

    Parameters
    ----------
    kind : ndarray of str, shape (n,)
        The class that was found.
    z, curvature, truth, signal_to_noise : ndarray, shape (n,)
        Redshift, its error by the curvature of chi-square, what it is (NaN where unknown), and
        `clean.signal_to_noise`.
    kinds : mapping of str to ErrorModel
        The classes, and what one with fewer than `FEWEST` has.

    Returns
    -------
    dict of str to ErrorModel
        For every class.
    """
    off = z - truth
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(off) & (curvature > 0) & (np.abs(off) < _FAILED * (1.0 + truth))
    found = {}
    for one, otherwise in kinds.items():
        rows = np.flatnonzero(usable & (kind == one))
        if len(rows) < FEWEST:
            found[one] = otherwise
            continue
        rows = rows[:: -(-len(rows) // _MOST)]
        base = _fitted(off[rows], curvature[rows], z[rows])
        along = _logarithms(z[rows], signal_to_noise[rows])
        found[one] = _with_factors(base, off[rows], curvature[rows], z[rows], along)
    return found


def _logarithms(z: Array, signal_to_noise: Array) -> dict[str, Array]:
    """Of the quantities that factors go by."""
    return {
        _BY_SIGNAL: np.log(np.maximum(signal_to_noise, 0.1)),
        _BY_REDSHIFT: np.log1p(np.maximum(z, -0.9)),
    }


def _with_factors(
    base: ErrorModel, off: Array, curvature: Array, z: Array, along: Mapping[str, Array]
) -> ErrorModel:
    """By quantile regression of the logarithms of what is off, so that tails do not decide."""
    from sklearn.linear_model import QuantileRegressor

    plain = np.hypot(base.scale * curvature, base.floor * (1.0 + z))
    knots = {name: np.quantile(values, _KNOTS) for name, values in along.items()}
    knots = {name: at for name, at in knots.items() if at[-1] - at[0] > _NARROW}
    if not knots:
        return base
    away = np.log(np.maximum(np.abs(off), _LEAST * (1.0 + z)) / plain)
    design = np.concatenate(
        [
            np.stack([np.interp(along[name], at, row) for row in np.eye(len(at))], axis=1)
            for name, at in knots.items()
        ],
        axis=1,
    )
    fit = QuantileRegressor(quantile=_CORE, alpha=_PENALTY / len(off), solver="highs")
    fit.fit(design, away)
    values = np.split(fit.coef_, len(knots))
    factors = {
        name: Factor(tuple(at.tolist()), tuple(own.tolist()))
        for (name, at), own in zip(knots.items(), values, strict=True)
    }
    common = float(np.exp(fit.intercept_))
    return replace(base, scale=base.scale * common, floor=base.floor * common, factors=factors)


def _fitted(off: Array, curvature: Array, z: Array) -> ErrorModel:
    """The likeliest, by Student's distribution with the width that a Gaussian's core has."""

    def loss(logarithms: Array) -> float:
        scale, floor = np.exp(logarithms)
        width = np.hypot(scale * curvature, floor * (1.0 + z))
        pull = (off / width) ** 2
        return float(np.sum(np.log(width) + (_DEGREES + 1) / 2 * np.log1p(pull / _DEGREES)))

    spread = max(1.4826 * float(np.median(np.abs(off / (1.0 + z)))), 1e-7)
    begin = np.log([1.0, 0.5 * spread])
    limits = [(np.log(0.1), np.log(30.0)), (np.log(1e-8), np.log(0.01))]
    scale, floor = np.exp(minimize(loss, begin, method="Nelder-Mead", bounds=limits).x)
    # What is left is put right at the core, by the interval that holds 68 %.
    pull = np.abs(off) / np.hypot(scale * curvature, floor * (1.0 + z))
    width = float(np.quantile(pull, _CORE))
    return ErrorModel(float(scale * width), float(floor * width), len(off))


def to_json(models: Mapping[str, ErrorModel]) -> dict[str, dict[str, Any]]:
    """As a JSON-ready dictionary."""
    return {kind: asdict(model) for kind, model in models.items()}


def from_json(record: Mapping[str, Any]) -> dict[str, ErrorModel]:
    """The inverse of `to_json`."""
    return {
        kind: ErrorModel(
            found["scale"],
            found["floor"],
            found["rows"],
            {
                name: Factor(tuple(one["knots"]), tuple(one["values"]))
                for name, one in found.get("factors", {}).items()
            },
        )
        for kind, found in record.items()
    }
