"""Names of units, in the spellings that catalogues use, as astropy units."""

from __future__ import annotations

import math
import re
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astropy.units import UnitBase

_MICROJANSKY_OF_A_MAGGY = 3631e6
"""AB: magnitude zero is 3631 Jy (Oke & Gunn 1983)."""
_AB_MAGNITUDE = re.compile(
    r"(ab[ _-]?mags?|mags?[ _-]?ab|mags?\s*\(ab\)|\[?mags?\]?|magnitudes?)", re.IGNORECASE
)
_OTHER_MAGNITUDE = re.compile(r"vega|\bst\b|stmag|mag_?st|johnson|asinh|lup(t|titude)", re.I)
_SEXAGESIMAL = re.compile(r"""["']?(hh?|dd?)[: ]mm?[: ]ss?(\.s*)?["']?""", re.IGNORECASE)
# What catalogues write for units that astropy knows under another name.
_SPELLINGS = (
    (r"\bdegrees?\b", "deg"),
    (r"\bradians?\b", "rad"),
    (r"\barc ?sec(ond)?s?\b", "arcsec"),
    (r"\bhours?\b|\bhrs?\b", "h"),
    (r"\bangstroms?\b|\bang\b|Å", "Angstrom"),
    (r"\bmicro-?ja?nskys?\b|\bmicro-?jy\b|\bmujy\b|µJy", "uJy"),
    (r"\bnano-?ja?nskys?\b|\bnano-?jy\b", "nJy"),
    (r"\bmilli-?ja?nskys?\b|\bmilli-?jy\b", "mJy"),
    (r"\bja?nskys?\b", "Jy"),
    (r"\bnano-?maggies\b|\bnano-?maggy\b|\bn(mgy|maggy|maggies)\b", "nmgy"),
    (r"\bmicro-?maggies\b|\bmicro-?maggy\b|\bu(mgy|maggy|maggies)\b", "umgy"),
    (r"\bmaggies\b|\bmaggy\b", "mgy"),
    (r"\bpixels?\b", "pix"),
    (r"\bm_?sun\b|\bsolmass\b|\bmsol\b", "solMass"),
)  # fmt: skip


@lru_cache(maxsize=1024)
def unit(text: str) -> UnitBase | None:
    """A unit as a catalogue spells it.

    Parameters
    ----------
    text : str
        VOUnit, FITS, CDS or astropy's own spelling, or one that catalogues are known to use
        (``degrees``, ``nanomaggies``, ``erg/s/cm2/A``).

    Returns
    -------
    astropy.units.UnitBase or None
        None for text that is no unit, such as the empty text. AB magnitudes of any spelling are
        plain ``mag``.
    """
    text = text.strip().strip("'\"")
    if not text or is_other_magnitude(text):
        return None
    if _AB_MAGNITUDE.fullmatch(text):
        text = "mag"
    found = _parsed(text)
    if found is None or "erg" in text or "W" in text:
        for spelling, known in _SPELLINGS:
            text = re.sub(spelling, known, text, flags=re.IGNORECASE)
        # In a flux density, A is no ampere.
        if "erg" in text or text.startswith("W"):
            text = re.sub(r"\bA(?![A-Za-z])", "Angstrom", text)
        found = _parsed(text) or _parsed(re.sub(r"^1E", "1e", text))
    return found


def is_other_magnitude(text: str) -> bool:
    """Whether it names magnitudes that are not AB: Vega, ST, or asinh ones (luptitudes)."""
    return _OTHER_MAGNITUDE.search(text) is not None


def is_magnitude(text: str) -> bool:
    """Whether it names AB magnitudes, or magnitudes of no system."""
    import astropy.units as u

    found = unit(text)
    return found is not None and found.is_equivalent(u.mag)


def is_sexagesimal(text: str) -> bool:
    """Whether it says that angles are text such as 10:12:03.5, as VizieR does (``"h:m:s"``)."""
    return _SEXAGESIMAL.fullmatch(text) is not None


def is_hours(text: str) -> bool:
    """Whether it names hours: of time too, as catalogues write it of a right ascension."""
    import astropy.units as u

    return unit(text) in (u.hourangle, u.hour)


def factor(arrived: str, wanted: str, wavelength: float | None = None) -> float | None:
    """The factor that converts values from one unit to another.

    Parameters
    ----------
    arrived, wanted : str
        As catalogues spell them.
    wavelength : float, optional
        Angstrom; with it, flux densities per frequency and per wavelength are converted into
        each other.

    Returns
    -------
    float or None
        None where one of them is no unit, or they are units of different things.
    """
    import astropy.units as u

    ours, theirs = unit(wanted), unit(arrived)
    if ours is None or theirs is None:
        return None
    rules: list[Any] = [(unit("mgy"), u.uJy, _from_maggies, _to_maggies)]
    if wavelength is not None:
        rules += u.spectral_density(wavelength * u.AA)
    try:
        found = float(theirs.to(ours, 1.0, equivalencies=rules))
    except u.UnitConversionError:
        if wavelength is None:
            return None
        # By way of microjansky: astropy does not chain equivalencies.
        try:
            in_microjansky = float(theirs.to(u.uJy, 1.0, equivalencies=rules))
            found = in_microjansky * float(u.uJy.to(ours, 1.0, equivalencies=rules))
        except u.UnitConversionError:
            return None
    return found


def is_per_frequency(text: str) -> bool:
    """Whether it names a flux density or luminosity per frequency, or a magnitude of such."""
    import astropy.units as u

    found = unit(text)
    if found is None:
        return is_other_magnitude(text)
    return (
        found.is_equivalent(u.mag)
        or factor(text, "uJy") is not None
        or found.is_equivalent(u.erg / u.s / u.Hz)
    )


def variance_factor(arrived: str, flux: str) -> float | None:
    """The factor that converts inverse variances to those of fluxes in a unit.

    Parameters
    ----------
    arrived : str
        Unit of the inverse variances.
    flux : str
        Unit of the fluxes.

    Returns
    -------
    float or None
        None where one of them is no unit, or they are not of one thing.
    """
    import astropy.units as u

    theirs, ours = unit(arrived), unit(flux)
    if theirs is None or ours is None:
        return None
    try:
        found = float(theirs.to(ours**-2))
    except u.UnitConversionError:
        return None
    # Powers of ten have rounding errors.
    return 1.0 if math.isclose(found, 1.0, rel_tol=1e-9) else found


def _from_maggies(value: float) -> float:
    return value * _MICROJANSKY_OF_A_MAGGY


def _to_maggies(value: float) -> float:
    return value / _MICROJANSKY_OF_A_MAGGY


def _parsed(text: str) -> UnitBase | None:
    import astropy.units as u
    from astropy.units import photometric

    for grammar in (None, "vounit", "fits", "cds", "ogip"):
        with warnings.catch_warnings(), u.add_enabled_units(photometric):
            # astropy warns about several slashes and about deprecated names.
            warnings.simplefilter("ignore")
            try:
                found: UnitBase = u.Unit(text, format=grammar)
            except (ValueError, TypeError, KeyError):
                continue
            return found
    return None
