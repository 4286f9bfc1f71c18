"""What may be wrong with a spectrum that is taken for a mixture of populations."""

from __future__ import annotations

from enum import IntFlag

POOR = 7.5
"""Chi-square of a poor fit. Of 1,024 galaxies of every subclass that the mock simulates, with SDSS's
noise, ten have more, eight of them starbursts; of 1,792 stars none: many components together pass
for one. Stars are told by their redshift, all of these."""
NEAR = 0.002
"""Redshifts as near to zero as this are those of stars."""


class MixtureFlag(IntFlag):
    """Bits of the column `ssp_flags`; 0 where nothing is known to be wrong."""

    NODATA = 1
    """Too few pixels with data where the library has light, or no light: there are no numbers."""
    NO_REDSHIFT = 2
    """The catalogue has no redshift above -1 for the row: there are no numbers."""
    LITTLE_NOISE = 4
    """Less noise than the simulated spectra had: intervals are those of their least, and the
    chi-square is that of a signal to noise of 200 where a pixel has a better one."""
    MUCH_NOISE = 8
    """More noise than the simulated spectra had."""
    POOR_FIT = 16
    """The chi-square is above 7.5: the spectrum is no mixture of the kind that taught. A star's or
    a constant one may be below."""
    OTHER_REDSHIFT = 32
    """Of spectra as observed: the redshift is within 0.002 of zero, which is that of a star, or
    nearer or farther than any that the simulated spectra had."""

    @classmethod
    def describe(cls) -> str:
        """``1 NODATA, 2 NO_REDSHIFT, ...``."""
        return ", ".join(f"{flag.value} {flag.name}" for flag in cls)
