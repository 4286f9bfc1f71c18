"""What may be wrong with a spectrum that is taken for a mixture of populations."""

from __future__ import annotations

from enum import IntFlag


class MixtureFlag(IntFlag):
    """Bits of the column `ssp_flags`; 0 where nothing is known to be wrong."""

    NODATA = 1
    """Too few pixels with data where the library has light, or no light: there are no numbers."""
    NO_REDSHIFT = 2
    """The catalogue has no redshift above -1 for the row: there are no numbers."""
    LITTLE_NOISE = 4
    """Less noise than the simulated spectra had: intervals are those of their least."""
    MUCH_NOISE = 8
    """More noise than the simulated spectra had."""

    @classmethod
    def describe(cls) -> str:
        """``1 NODATA, 2 NO_REDSHIFT, ...``."""
        return ", ".join(f"{flag.value} {flag.name}" for flag in cls)
