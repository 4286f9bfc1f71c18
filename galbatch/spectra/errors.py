"""Errors of redshifts: the curvature of chi-square alone makes them too small."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from galbatch.spectra.templates import KINDS

FEWEST = 50
"""Redshifts that are known, of a class, to calibrate its errors with."""
_FAILED = 0.01
"""Of 1 + z: what is farther off is another minimum, and tells nothing of the width of this one."""
_DEGREES = 4.0
"""Of freedom of Student's distribution, so that a few that are far off do not decide."""


@dataclass(frozen=True)
class ErrorModel:
    """error**2 = (scale * curvature error)**2 + (floor * (1 + z))**2.

    The floor is what templates cannot tell: lines of quasars are shifted by hundreds of km/s.

    Parameters
    ----------
    scale, floor : float
    rows : int
        Redshifts that it was fitted with; 0 for none.
    """

    scale: float = 1.0
    floor: float = 0.0
    rows: int = 0

    def errors(self, curvature: NDArray[np.float64], z: NDArray[np.float64]) -> Any:
        """The errors of redshifts, of the same shape."""
        return np.hypot(self.scale * curvature, self.floor * (1.0 + z))


SIMULATED: dict[str, ErrorModel] = {
    "GALAXY": ErrorModel(1.15, 4.6e-5),
    "QSO": ErrorModel(1.2, 1.7e-3),
    "STAR": ErrorModel(1.07, 4.7e-5),
}
"""Of simulated spectra, fitted with SDSS's templates: for classes that too little is known of."""


def calibrate(
    kind: NDArray[np.str_],
    z: NDArray[np.float64],
    curvature: NDArray[np.float64],
    truth: NDArray[np.float64],
) -> dict[str, ErrorModel]:
    """Fit the errors of each class to redshifts that are known.

    Parameters
    ----------
    kind : ndarray of str, shape (n,)
        The class that was found.
    z, curvature, truth : ndarray, shape (n,)
        Redshift, its error by the curvature of chi-square, and what it is; NaN where unknown.

    Returns
    -------
    dict of str to ErrorModel
        For every class; that of one with fewer than `FEWEST` is the one in `SIMULATED`.
    """
    off = z - truth
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(off) & (curvature > 0) & (np.abs(off) < _FAILED * (1.0 + truth))
    found = {}
    for one in KINDS:
        rows = usable & (kind == one)
        enough = rows.sum() >= FEWEST
        found[one] = _fitted(off[rows], curvature[rows], z[rows]) if enough else SIMULATED[one]
    return found


def _fitted(
    off: NDArray[np.float64], curvature: NDArray[np.float64], z: NDArray[np.float64]
) -> ErrorModel:
    """The likeliest, by Student's distribution with the width that a Gaussian's core has."""

    def loss(logarithms: NDArray[np.float64]) -> float:
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
    width = float(np.quantile(pull, 0.6827))
    return ErrorModel(float(scale * width), float(floor * width), len(off))


def to_json(models: Mapping[str, ErrorModel]) -> dict[str, dict[str, float]]:
    """As a JSON-ready dictionary."""
    return {kind: asdict(model) for kind, model in models.items()}


def from_json(record: Mapping[str, Any]) -> dict[str, ErrorModel]:
    """The inverse of `to_json`."""
    return {kind: ErrorModel(**found) for kind, found in record.items()}
