"""What mixtures of stellar populations show of a few spectra and of themselves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.shown import NumberShown, Portrait, Role, RowShown, Showing, SpectrumShown
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.mixture_flags import MixtureFlag

SHOWING = Showing(
    (
        Role("the best fit", "ssp_chi2", "smallest"),
        Role("a middling fit: the median chi-square", "ssp_chi2", "median"),
        Role("the worst fit", "ssp_chi2", "largest"),
    ),
    ("ssp_flags",),
)
_SHOWN = {
    "light_log_age": ("error of log age", "dex"),
    "light_metallicity": ("error of the metallicity", "dex"),
    "velocity": ("error of the velocity", "km/s"),
    "dispersion": ("error of the dispersion", "km/s"),
    "extinction": ("error of E(B-V)", "mag"),
    "log_gas": ("error of the strength of gas", "dex"),
}

Array = NDArray[np.float64]


def rows_shown(
    predicted: pa.Table, grid: LogGrid, flux: Array, made: Array, error: Array, unit: str
) -> tuple[RowShown, ...]:
    """Spectra at rest, and what is said of them.

    Parameters
    ----------
    predicted : pa.Table
        n rows.
    grid : LogGrid
        Of m points.
    flux, made, error : ndarray, shape (n, m)
        Measured, the nearest that components of mixtures make, and 1 sigma.
    unit : str
        Of these.

    Returns
    -------
    tuple of RowShown, length n
    """
    found = []
    for row, values in enumerate(predicted.to_pylist()):
        flags = MixtureFlag(values["ssp_flags"])
        if flags & (MixtureFlag.NODATA | MixtureFlag.NO_REDSHIFT):
            found.append(RowShown(f"No numbers: {flags.name}.", None))
            continue
        seen = np.isfinite(error[row])
        measured, nearest = (np.where(seen, one[row], np.nan) for one in (flux, made))
        spectrum = SpectrumShown(grid.wavelengths, measured, nearest, error[row], unit, "rest")
        age, metallicity = (values[f"ssp_light_{kind}"] for kind in ("log_age", "metallicity"))
        text = (
            f"Chi-square {values['ssp_chi2']:.2f} of the nearest spectrum that principal "
            "components of mixtures make, which is the one shown. By light: log age "
            f"{age:.2f} [Gyr], metallicity {metallicity:+.2f} dex."
        )
        found.append(RowShown(f"{text} {flags.name}." if flags else text, spectrum))
    return tuple(found)


def portrait_of(metrics: Mapping[str, Mapping[str, float]]) -> Portrait:
    """Errors of the galaxy's numbers, as far as they are known.

    Parameters
    ----------
    metrics : mapping
        Of the card: by the name of the number.
    """
    return Portrait(tuple(
        NumberShown(
            label, metrics[name]["mae"],
            f"{unit}; mean absolute error on simulated mixtures that taught nothing",
        )
        for name, (label, unit) in _SHOWN.items()
        if name in metrics
    ))  # fmt: skip
