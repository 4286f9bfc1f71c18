"""How a simulated sky looks through a survey: the `mock` setting of a survey."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from galbatch.spec.base import Magnitude, Settings, Share

Quantity = Literal[
    "running_number",
    "magnitude",
    "x",
    "y",
    "area",
    "fwhm",
    "ellipticity",
    "elongation",
    "semi_major",
    "semi_minor",
    "position_angle",
    "kron_radius",
    "half_light_radius",
    "peak_surface_brightness",
    "signal_to_noise",
    "stellarity_index",
    "saturated",
    "aperture_magnitude",
    "aperture_error",
    "aperture_magnitude_corrected",
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
"""Sizes and areas come in the column's own unit: arcsec (also where it has none), deg or pix."""

Degrees = Annotated[float, Field(ge=-360, le=720)]
Declination = Annotated[float, Field(ge=-90, le=90)]
Bright = Annotated[float, Field(ge=5, le=40)]
Arcsec = Annotated[float, Field(ge=0.01, le=1000)]


class MockSky(Settings):
    """Footprint, depth and column layout of a simulated catalogue."""

    ra: tuple[Degrees, Degrees] | None = None
    """Right ascension range, degrees; from 350 to 370 crosses 0. Needed where there is a sky."""
    dec: tuple[Declination, Declination] | None = None
    """Declination range, degrees."""
    magnitudes: tuple[Bright, Bright]
    """Range of the reference band's true AB magnitude."""
    star_fraction: float = Field(ge=0, le=1)
    """Share of stars in the catalogue."""
    qso_fraction: float = Field(default=0.0, ge=0, le=1)
    """Share of quasars; the survey's star label must say which value means quasar."""
    seeing: Arcsec = 1.0
    """FWHM of a point source, arcsec."""
    pixel_scale: Arcsec = 0.22
    """Arcsec per pixel."""
    aperture: Arcsec = 3.0
    """Diameter that aperture magnitudes are measured in, arcsec."""
    calibration: Share = 0.015
    """Systematic error of every flux, as a fraction; part of the stated errors."""
    detection: float = Field(default=0.0, ge=0, le=1000)
    """Signal to noise below which a band counts as not detected."""
    unobserved: Share = 0.0
    """Chance of a band not to be observed for an object (the reference band always is)."""
    unobserved_bands: dict[str, Share] = Field(default_factory=dict)
    """Bands with a chance of their own."""
    unobserved_error: float | None = None
    """What the error column holds for a band not observed; by default the value's sentinel."""
    saturation: Magnitude | None = None
    """Point sources brighter than this AB magnitude in the reference band are saturated."""
    star_flag_limit: Magnitude | None = None
    """Beyond this magnitude of the reference band, the star flag is 0.5: unknown."""
    first_id: int = Field(default=1, ge=0, le=10**18)
    """Id of the first row; for an id of two parts, the first high part."""
    id_digits: dict[str, Annotated[int, Field(ge=0, le=18)]] = Field(default_factory=dict)
    """Columns that hold one decimal digit of the id: its place, 0 for the units."""
    columns: dict[str, Quantity] = Field(default_factory=dict)
    """What the survey's columns hold; bands, position, id, labels, saturation flag and Galactic
    reddening are known without it."""
    constants: dict[str, float] = Field(default_factory=dict)
    """Columns that hold one number everywhere. Any other column is 0 (integers) or empty."""

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name, limits in (("ra", self.ra), ("dec", self.dec), ("magnitudes", self.magnitudes)):
            if limits is not None and limits[0] >= limits[1]:
                raise ValueError(f"{name}: the first number must be smaller than the second")
        if self.ra is not None and self.ra[1] - self.ra[0] > 360:
            raise ValueError("ra: the range is more than a full circle")
        if self.star_fraction + self.qso_fraction > 1:
            raise ValueError("star_fraction and qso_fraction: together at most 1")
        return self
