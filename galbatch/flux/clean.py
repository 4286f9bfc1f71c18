"""From a survey's values and errors to fluxes in microjansky."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from galbatch.arrays import constant, namespace
from galbatch.errors import SpecError
from galbatch.flux.dust import band_extinction
from galbatch.spec import units
from galbatch.spec.job import StandardClean, ThesisClean
from galbatch.spec.survey import Band, Photometry, Sentinel
from galbatch.values import FluxBlock

ZERO_POINT = 23.9
"""AB magnitude of one microjansky."""
LN_FLUX_PER_MAGNITUDE = 0.4 * math.log(10.0)
"""By how much ln(flux) changes when the magnitude changes by one."""
MAGNITUDE_PER_LN_FLUX = 2.5 / np.log(10.0)
"""The inverse: magnitude error over relative flux error. A float64, which makes float32 double."""
# A limiting magnitude outside this range is another sentinel or a mistake, not a limit.
_LIMITS = (5.0, 40.0)


def flux_from_magnitude(magnitude: Any) -> Any:
    """Flux density of an AB magnitude.

    Parameters
    ----------
    magnitude : array, any shape
        AB magnitude.

    Returns
    -------
    array
        Microjansky.
    """
    return namespace(magnitude).exp(LN_FLUX_PER_MAGNITUDE * (ZERO_POINT - magnitude))


def magnitude_from_flux(flux: Any) -> Any:
    """AB magnitude of a flux density.

    Parameters
    ----------
    flux : array, any shape
        Microjansky.

    Returns
    -------
    array
        AB magnitude; NaN where the flux is not positive.
    """
    xp = namespace(flux)
    positive = flux > 0
    return xp.where(positive, ZERO_POINT - 2.5 * xp.log10(xp.where(positive, flux, 1)), xp.nan)


def microjansky(unit: str, wavelength: float, where: str) -> float:
    """How many microjansky one of a unit is.

    Parameters
    ----------
    unit : str
        A unit of F_nu or F_lambda.
    wavelength : float
        Of the band, Angstrom: what F_lambda is converted at.
    where : str
        For the message.

    Returns
    -------
    float

    Raises
    ------
    SpecError
        If it is no unit of flux density.
    """
    found = units.factor(unit, "uJy", wavelength)
    if found is None:
        raise SpecError(
            where, f"'{unit}' is not a unit of flux density", "e.g. uJy, erg / (s cm2 Angstrom)"
        )
    return found


def clean(
    value: Any,
    error: Any,
    photometry: Photometry,
    bands: Sequence[Band],
    recipe: StandardClean,
    *,
    mask: Any = None,
    saturated: Any = None,
    reddening: Any = None,
) -> FluxBlock:
    """Fluxes of n objects in b bands; bands without a measurement are marked.

    Parameters
    ----------
    value, error : array, shape (n, b)
        As the catalogue states them, NumPy or cupy, in the unit of `photometry`; NaN for null.
    photometry : Photometry
        How the survey writes its values.
    bands : sequence of Band
        The b bands, in the order of the columns.
    recipe : StandardClean
        What the job asks for.
    mask : array, shape (n, b), bool, optional
        True where a flag tells not to use the band.
    saturated : array, shape (n,), bool, optional
        The object's saturation flag.
    reddening : array, shape (n,), optional
        Galactic E(B-V), magnitudes; needed when `recipe.extinction`. No correction where it is
        NaN or negative.

    Returns
    -------
    FluxBlock
        Microjansky, float32.

    Notes
    -----
    - A sentinel means what the survey says. *Not detected* gives flux 0 and as error the flux of
      the 1-sigma limit: the error column's where it holds one (AB magnitude 5 to 40, or a positive
      flux), else a fifth of the band's 5-sigma depth; without either the band counts as not
      observed. *Saturated* makes the band not observed and the object saturated.
    - NaN and infinity, and what does not fit float32, are not observed.
    - Without an error nothing can weigh a value: one with an error that is NaN, infinite or
      negative is not observed. An error of exactly 0 was rounded: it is used where the recipe has
      an `error_floor` to give it a size, and is not observed otherwise.
    - Magnitude errors become ``flux * 0.4 ln(10) * error``, the first-order propagation that
      catalogues made their magnitude errors with.
    """
    xp = namespace(value)
    value, error = value.astype(xp.float64, copy=False), error.astype(xp.float64, copy=False)
    not_detected, limit, not_observed, too_bright = _sentinels(xp, value, error, photometry, bands)
    special = not_detected | not_observed | too_bright
    # What is too large for a float32 becomes infinite, and with that not observed.
    with np.errstate(over="ignore", invalid="ignore"):
        flux, sigma = _fluxes(xp, xp.where(special, xp.nan, value), error, photometry, bands)
        sigma = _with_floor(xp, flux, sigma, recipe.error_floor)
        flux, sigma = xp.where(not_detected, 0.0, flux), xp.where(not_detected, limit, sigma)
        if recipe.extinction:
            gain = _dust(xp, reddening, bands)
            flux, sigma = flux * gain, sigma * gain
        flux, sigma = flux.astype(xp.float32), sigma.astype(xp.float32)
    observed = xp.isfinite(flux) & xp.isfinite(sigma) & (sigma > 0) & ~not_observed & ~too_bright
    if photometry.quantity == "magnitude":
        observed &= not_detected | (flux > 0)
    if mask is not None:
        observed &= ~mask
    any_too_bright = too_bright.any(axis=1)
    return FluxBlock(
        flux=xp.where(observed, flux, xp.float32(0)),
        error=xp.where(observed, sigma, xp.float32(0)),
        observed=observed,
        detected=observed & ~not_detected,
        saturated=any_too_bright if saturated is None else any_too_bright | saturated,
    )


def thesis_clean(values: Any, recipe: ThesisClean) -> Any:
    """The cleaning of Cacho (2020), appendix A.4: -99 becomes 99, then all is clipped.

    Parameters
    ----------
    values : array, shape (n, i)
        Raw inputs of any kind: magnitudes, errors, positions and ids alike.
    recipe : ThesisClean

    Returns
    -------
    array, shape (n, i), float32
        NaN (which their file had not) becomes 99 too, so `recipe.high`.
    """
    xp = namespace(values)
    kept = xp.where(xp.isnan(values) | (values == -99.0), 99.0, values)
    return xp.clip(kept, recipe.low, recipe.high).astype(xp.float32)


def _fluxes(
    xp: Any, value: Any, error: Any, photometry: Photometry, bands: Sequence[Band]
) -> tuple[Any, Any]:
    """Values and errors as the catalogue states them, in microjansky."""
    if photometry.quantity == "magnitude":
        flux = flux_from_magnitude(value)
        factor = flux if photometry.error == "relative" else LN_FLUX_PER_MAGNITUDE * flux
        return flux, factor * error
    unit = _units(xp, photometry, bands)
    flux = value * unit
    return flux, xp.abs(flux) * error if photometry.error == "relative" else error * unit


def _units(xp: Any, photometry: Photometry, bands: Sequence[Band]) -> Any:
    """How many microjansky one of the photometry's unit is in each band."""
    factors = [microjansky(photometry.unit, b.wavelength, f"band {b.name}") for b in bands]
    return constant(xp, factors, xp.float64)


def _with_floor(xp: Any, flux: Any, sigma: Any, floor: float) -> Any:
    """Errors with a fraction of the flux added in quadrature; NaN for those that are negative."""
    if floor <= 0:
        return sigma
    return xp.where(sigma >= 0, xp.hypot(sigma, floor * xp.abs(flux)), xp.nan)


def _sentinels(
    xp: Any, value: Any, error: Any, photometry: Photometry, bands: Sequence[Band]
) -> tuple[Any, Any, Any, Any]:
    """Not detected, with which 1-sigma limit (microjansky); not observed; saturated."""
    not_detected, not_observed, too_bright = (xp.zeros(value.shape, bool) for _ in range(3))
    limit = xp.full(value.shape, xp.nan)
    depths = [math.nan if band.depth is None else band.depth for band in bands]
    depth = constant(xp, depths, xp.float64)
    fallback = xp.broadcast_to(flux_from_magnitude(depth) / 5.0, value.shape)
    for sentinel in photometry.sentinels:
        is_it = xp.abs(value - sentinel.value) <= sentinel.tolerance
        if sentinel.meaning == "not_observed":
            not_observed |= is_it
        elif sentinel.meaning == "saturated":
            too_bright |= is_it
        else:
            stated = _limit(xp, error, photometry, sentinel, bands)
            found = xp.where(xp.isfinite(stated), stated, fallback)
            limit = xp.where(is_it, found, limit)
            not_detected |= is_it & xp.isfinite(found)
            not_observed |= is_it & ~xp.isfinite(found)
    return not_detected, limit, not_observed, too_bright


def _limit(
    xp: Any, error: Any, photometry: Photometry, sentinel: Sentinel, bands: Sequence[Band]
) -> Any:
    if not sentinel.error_is_limit:
        return xp.full(error.shape, xp.nan)
    if photometry.quantity == "magnitude":
        sensible = (error > _LIMITS[0]) & (error < _LIMITS[1])
        return xp.where(sensible, flux_from_magnitude(xp.where(sensible, error, 0.0)), xp.nan)
    stated = error * _units(xp, photometry, bands)
    return xp.where((error > 0) & xp.isfinite(error), stated, xp.nan)


def _dust(xp: Any, reddening: Any, bands: Sequence[Band]) -> Any:
    if reddening is None:
        raise SpecError("clean.extinction", "there is no E(B-V) column", "set 'extinction: false'")
    usable = xp.where(xp.isfinite(reddening) & (reddening > 0), reddening, 0.0)
    per_band = constant(xp, [band_extinction(band) for band in bands], xp.float64)
    return xp.exp(LN_FLUX_PER_MAGNITUDE * usable[:, None] * per_band)
