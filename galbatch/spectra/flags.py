"""What may be wrong with a fit: up to bit 9 with the names and the places of SDSS's ZWARNING."""

from __future__ import annotations

from enum import IntFlag


class SpecFlag(IntFlag):
    """Bits of a fit; 0 where nothing is known to be wrong.

    SKY
        No object is seen: the mean flux is less than five times its error, and the templates
        gain no more than noise does.
    LITTLE_COVERAGE
        Pixels with data that the template covers too make less than 0.18 dex of wavelength.
    SMALL_DELTA_CHI2
        The second minimum is less than 0.01 in chi-square per degree of freedom above the best.
    NEGATIVE_MODEL
        The best model of a star or QSO is below zero on average.
    MANY_OUTLIERS
        More than 5 % of the pixels are further than five sigma from the best model.
    Z_FITLIMIT
        The minimum is at an end of the redshifts that were tried: the redshift has no error.
    NEGATIVE_EMISSION
        The best model is a QSO with a broad line in absorption: C IV, C III], Mg II, H beta or
        H alpha has an area below zero by more than three times its error.
    UNPLUGGED, BAD_TARGET
        Known by who observed, and never set here.
    NODATA
        Too few pixels with data, or no flux at all: the row has no numbers.
    BAD_IVAR
        The inverse variances are not of this flux: the fit's chi-square per degree of freedom is
        below 1/100 or above 2500, or neighbouring pixels differ by more than 50 times their errors.
        Of another unit, say; with NODATA where the signal is more than 1e9 times its error.
    AT_REST
        A galaxy or QSO with a redshift within 0.0005 of zero: its wavelengths may be those at rest
        already, or it is a star.
    """

    SKY = 1 << 0
    LITTLE_COVERAGE = 1 << 1
    SMALL_DELTA_CHI2 = 1 << 2
    NEGATIVE_MODEL = 1 << 3
    MANY_OUTLIERS = 1 << 4
    Z_FITLIMIT = 1 << 5
    NEGATIVE_EMISSION = 1 << 6
    UNPLUGGED = 1 << 7
    BAD_TARGET = 1 << 8
    NODATA = 1 << 9
    BAD_IVAR = 1 << 16
    AT_REST = 1 << 17
