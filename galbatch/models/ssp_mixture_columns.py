"""The columns of mixtures of stellar populations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.spec.population_models import SspMixtureModel
from galbatch.spectra.components import FINEST, LIGHT
from galbatch.spectra.mixture_flags import MixtureFlag
from galbatch.spectra.mixture_parameters import LIGHT_WEIGHTED, OF_GALAXY, OF_STARS
from galbatch.values import PredictedColumn

Array = NDArray[np.float64]

_MEANING = {
    "weight": ("", "stat.weight;phys.luminosity", "share of the light"),
    "log_age": ("[Gyr]", "time.age", "log10 of the age"),
    "metallicity": ("", "phys.abund.Z", "log10 of the metallicity in units of the Sun's"),
    "velocity": ("km/s", "phys.veloc", "velocity beside the redshift"),
    "dispersion": ("km/s", "phys.veloc.dispersion", "velocity dispersion"),
    "extinction": ("mag", "phys.absorption", "reddening E(B-V) of the stars"),
    "gas": ("Angstrom", "spect.line.eqWidth", "equivalent width of H beta from gas"),
    "light_log_age": ("[Gyr]", "time.age", "log10 of the age, mean over the light"),
    "light_metallicity": (
        "", "phys.abund.Z", "log10 of the metallicity in units of the Sun's, mean over the light",
    ),
}  # fmt: skip
_OF_ALL = tuple(kind.removeprefix("log_") if kind == "log_gas" else kind for kind in OF_GALAXY)


def columns_of(settings: SspMixtureModel) -> tuple[PredictedColumn, ...]:
    """The columns that a model predicts.

    Parameters
    ----------
    settings : SspMixtureModel

    Returns
    -------
    tuple of PredictedColumn
    """
    count = settings.components
    lists = ["weight", *OF_STARS, *(_OF_ALL if settings.own else ())]
    found = [_column(kind, f"of each component: {_MEANING[kind][2]}", count) for kind in lists]
    for kind in (*(() if settings.own else _OF_ALL), *LIGHT_WEIGHTED):
        text = _MEANING[kind][2]
        found += [
            _column(kind, f"{text}, median"),
            _column(kind, f"{text}, 68 % from here", suffix="_low"),
            _column(kind, f"{text}, 68 % to here", suffix="_high"),
        ]
    if settings.network == "invertible":
        pair = "light-weighted log age and metallicity"
        found += [
            PredictedColumn("ssp_age_metallicity_cov", "float32", "", "stat.covariance",
                            f"Covariance of {pair} in the posterior"),
            PredictedColumn("ssp_age_metallicity_corr", "float32", "", "stat.correlation",
                            f"Correlation of {pair} in the posterior"),
        ]  # fmt: skip
    if settings.redshift is not None and not settings.own:
        found.append(
            PredictedColumn("ssp_redshift", "float64", "", "src.redshift",
                            "Redshift with the velocity that was found")
        )  # fmt: skip
    return (
        *found,
        PredictedColumn("ssp_signal_to_noise", "float32", "", "stat.snr",
                        "Median signal to noise of a pixel of 69 km/s"),
        PredictedColumn("ssp_chi2", "float32", "", "stat.fit.chi2",
                        "Mean square of what no mixture explains, over the noise's; a signal to "
                        f"noise of a pixel above {FINEST:.0f} counts as {FINEST:.0f}"),
        PredictedColumn("ssp_flags", "int32", "", "meta.code.qual", MixtureFlag.describe()),
    )  # fmt: skip


def _column(kind: str, text: str, count: int = 0, suffix: str = "") -> PredictedColumn:
    unit, ucd, _ = _MEANING[kind]
    shape, dimensions = ((count,), ("ssp_component",)) if count else ((), ())
    described = text[0].upper() + text[1:]
    return PredictedColumn(
        f"ssp_{kind}{suffix}", "float32", unit, ucd, described, shape, dimensions
    )


def values_of(
    settings: SspMixtureModel,
    places: dict[str, int],
    quantiles: Array,
    together: Array,
    redshift: Array,
) -> dict[str, NDArray[Any]]:
    """Values of the columns but for those of the noise and the flags.

    Parameters
    ----------
    settings : SspMixtureModel
    places : dict of str to int
        Of the quantities.
    quantiles : ndarray, shape (n, quantities, 5)
        From 2.5 to 97.5 %; NaN in rows without data.
    together : ndarray, shape (n, 2)
        Covariance and correlation of age and metallicity.
    redshift : ndarray, shape (n,)
        That was given.

    Returns
    -------
    dict of str to ndarray
    """
    count = settings.components

    def each(kind: str) -> Array:
        return np.stack([quantiles[:, places[f"{kind}_{one + 1}"], 2] for one in range(count)], 1)

    weight = each("weight")
    weight = np.where(weight < 0.5 * settings.least_weight, 0.0, weight)
    total = weight.sum(axis=1, keepdims=True)
    weight = np.divide(weight, total, where=total != 0, out=np.full_like(weight, np.nan))
    # Medians of weights that fall need not fall.
    order = np.argsort(-weight, axis=1, kind="stable")
    weight = np.take_along_axis(weight, order, axis=1)
    values: dict[str, NDArray[Any]] = {"ssp_weight": weight}
    none = ~(weight > 0)
    for kind in (*OF_STARS, *(OF_GALAXY if settings.own else ())):
        found = np.take_along_axis(each(kind), order, axis=1)
        found = 10.0**found if kind == "log_gas" else found
        values[f"ssp_{kind.replace('log_gas', 'gas')}"] = np.where(none, np.nan, found)
    for kind in (*(() if settings.own else OF_GALAXY), *LIGHT_WEIGHTED):
        for suffix, level in (("", 2), ("_low", 1), ("_high", 3)):
            found = quantiles[:, places[kind], level]
            found = 10.0**found if kind == "log_gas" else found
            values[f"ssp_{kind.replace('log_gas', 'gas')}{suffix}"] = found
    values["ssp_age_metallicity_cov"], values["ssp_age_metallicity_corr"] = together.T
    if settings.redshift is not None and not settings.own:
        speed = 1.0 + values["ssp_velocity"] / LIGHT
        values["ssp_redshift"] = (1.0 + redshift) * speed - 1.0
    return values
