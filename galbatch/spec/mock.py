"""How a simulated sky looks through a survey: the `mock` word of a survey."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from galbatch.spec.base import Words

Quantity = Literal[
    "running_number",
    "x",
    "y",
    "area",
    "fwhm",
    "ellipticity",
    "semi_major",
    "semi_minor",
    "position_angle",
    "kron_radius",
    "half_light_radius",
    "signal_to_noise",
    "stellarity_index",
    "saturated",
    "aperture_magnitude",
    "aperture_error",
    "observed_bands",
    "exposure_weight",
    "true_redshift",
    "true_log_mass",
    "true_mass",
    "true_spectral_type",
    "true_abs_mag_b",
    "star_flag",
    "ebv",
]


class MockSky(Words):
    """Footprint, depth and column layout of a simulated catalogue."""

    ra: tuple[float, float]
    """Right ascension range, degrees."""
    dec: tuple[float, float]
    """Declination range, degrees."""
    magnitudes: tuple[float, float]
    """Range of the reference band's AB magnitude."""
    star_fraction: float = Field(ge=0, le=1)
    """Share of stars in the catalogue."""
    seeing: float = Field(default=1.0, gt=0)
    """FWHM of a point source, arcsec."""
    pixel_scale: float = Field(default=0.22, gt=0)
    """Arcsec per pixel."""
    unobserved: float = Field(default=0.0, ge=0, lt=1)
    """Chance of a band not to be observed for an object."""
    saturation: float | None = None
    """Objects brighter than this in the reference band are saturated."""
    first_id: int = Field(default=1, ge=0)
    """Id of the first row."""
    columns: dict[str, Quantity] = Field(default_factory=dict)
    """What the survey's columns hold; bands, position and id are known without it."""
    constants: dict[str, float] = Field(default_factory=dict)
    """Columns that hold one number everywhere."""
