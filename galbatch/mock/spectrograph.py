"""A fibre spectrograph like SDSS's: what it lets through, the night sky, noise and flaws.

Throughput and dichroic are roughly those of Smee et al. (2013, AJ 146, 32, fig. 38); the sky is
dark sky at a good site (20.9 mag per square arcsecond in r) in a fibre of 3 arcsec, with lines of
hydroxyl, oxygen, sodium and mercury, whose wavelengths are those of Osterbrock et al. (1996, PASP
108, 277) and Osterbrock & Martel (1992, PASP 104, 76), and whose strengths are rounded and vary
from night to night. The inverse variance is that of the photons of object and sky and of the
detector, so that it has the sky's lines in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galbatch.mock.objects import Array
from galbatch.mock.profiles import Lines, add_emission
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.medium import vacuum_wavelengths

NO_DATA, BRIGHT_SKY = 1 << 24, 1 << 23
"""Bits of the mask, those of SDSS's SPPIXMASK."""

PHOTONS = 65.0
"""Electrons per pixel at 6200 A of 1e-17 erg/s/cm2/A: 2.5 m, 45 minutes, throughput 0.15."""
_READ_VARIANCE = 150.0
"""Electrons squared per pixel: 5 electrons in some 6 pixels, no less."""

# Throughput over that of 6200 A: blue arm, red arm, both at the dichroic.
_THROUGHPUT_AT = (3500, 3700, 3900, 4200, 4600, 5200, 5700, 5900, 6050, 6200, 6500, 7000, 7600,
                  8200, 8800, 9200, 9700, 10200, 10500)  # fmt: skip
_THROUGHPUT = (0.05, 0.22, 0.48, 0.80, 1.00, 1.10, 1.02, 0.80, 0.78, 1.00, 1.18, 1.25, 1.15,
               1.02, 0.80, 0.58, 0.32, 0.13, 0.06)  # fmt: skip
_SKY_AT = (3500, 4000, 4500, 5000, 5500, 6000, 6500, 7000, 7500, 8000, 8500, 9000, 9500, 10500)
_SKY = (5.5, 5.0, 4.6, 4.6, 5.2, 6.0, 5.6, 5.2, 5.0, 5.2, 5.4, 5.6, 6.0, 7.0)
"""Between the lines, 1e-17 erg/s/cm2/A."""

# Wavelengths in air, Angstrom; flux of the strongest in 1e-17 erg/s/cm2, the others of the band
# fall off along the list's weights.
_SKY_LINES = (
    (300.0, ((5577.34, 1.0),)),
    (110.0, ((6300.30, 1.0), (6363.78, 0.33))),
    (60.0, ((5889.95, 1.0), (5895.92, 0.6))),
    (35.0, ((4046.56, 0.5), (4358.34, 1.0), (5460.74, 0.9), (5769.60, 0.3), (5790.66, 0.3))),
    (18.0, ((5198.8, 1.0),)),
    (14.0, ((5915.3, 1.0), (5932.9, 1.0), (5953.4, 0.9), (6170.6, 0.5), (6234.4, 0.6))),
    (30.0, ((6257.96, 0.8), (6287.43, 1.0), (6306.9, 0.7), (6321.4, 0.4), (6498.73, 0.8),
            (6533.04, 1.0), (6553.62, 0.8), (6577.2, 0.6), (6596.6, 0.4))),
    (80.0, ((6829.5, 0.3), (6834.0, 0.5), (6863.96, 1.0), (6871.0, 0.3), (6889.3, 0.3),
            (6912.6, 0.3), (6923.22, 1.0), (6939.5, 0.5), (6949.04, 0.6), (6969.9, 0.3),
            (6978.4, 0.35))),
    (130.0, ((7240.4, 0.5), (7244.9, 0.5), (7276.41, 1.0), (7284.44, 0.5), (7303.72, 0.6),
             (7316.28, 0.9), (7329.15, 0.6), (7340.89, 0.9), (7358.67, 0.5), (7369.25, 0.5),
             (7391.4, 0.3), (7401.9, 0.3))),
    (90.0, ((7524.1, 0.4), (7571.75, 0.5))),
    (210.0, ((7712.2, 0.3), (7716.6, 0.4), (7750.64, 1.0), (7759.9, 0.4), (7780.4, 0.4),
             (7794.11, 0.9), (7808.5, 0.5), (7821.50, 0.8), (7841.27, 0.5), (7853.24, 0.5),
             (7870.7, 0.3), (7890.4, 0.2))),
    (230.0, ((7913.71, 1.0), (7921.1, 0.3), (7949.2, 0.5), (7964.65, 1.0), (7993.33, 0.9),
             (8014.06, 0.5), (8025.81, 0.8), (8052.0, 0.4), (8061.98, 0.5), (8104.6, 0.2))),
    (300.0, ((8281.0, 0.3), (8288.6, 0.5), (8298.6, 0.4), (8310.7, 0.3), (8344.60, 0.9),
             (8352.8, 0.5), (8382.39, 0.8), (8399.17, 1.0), (8415.23, 0.7), (8430.17, 0.9),
             (8452.25, 0.6), (8465.36, 0.7), (8493.39, 0.5), (8504.6, 0.4), (8548.7, 0.3))),
    (120.0, ((8649.0, 0.8), (8655.0, 0.9), (8660.0, 1.0), (8665.5, 0.9), (8671.0, 0.7))),
    (420.0, ((8761.2, 0.3), (8767.91, 0.6), (8778.3, 0.5), (8790.99, 0.5), (8827.10, 0.9),
             (8836.0, 0.5), (8849.9, 0.6), (8867.61, 0.8), (8885.85, 1.0), (8903.12, 0.7),
             (8919.64, 0.9), (8943.40, 0.6), (8958.10, 0.8), (8988.38, 0.5), (9001.6, 0.5),
             (9038.1, 0.3), (9049.6, 0.3))),
    (480.0, ((9304.0, 0.4), (9313.0, 0.7), (9323.0, 0.6), (9337.9, 0.6), (9375.96, 0.8),
             (9399.7, 0.6), (9419.7, 0.7), (9439.67, 1.0), (9458.5, 0.6), (9476.9, 0.8),
             (9502.8, 0.6), (9519.5, 0.6), (9552.5, 0.5), (9567.6, 0.5))),
    (330.0, ((9681.5, 0.3), (9720.0, 0.4), (9735.8, 0.3), (9790.0, 0.5), (9800.4, 0.5),
             (9848.0, 0.4), (9872.1, 1.0), (9914.7, 0.9), (9956.2, 0.5), (10008.0, 0.5),
             (10013.2, 0.7), (10062.0, 0.5), (10082.5, 0.7), (10124.0, 0.9), (10171.5, 0.5),
             (10205.8, 0.4), (10278.0, 0.3), (10287.0, 0.6), (10371.5, 0.6), (10418.0, 0.6))),
)  # fmt: skip

CALIBRATION = 0.02
"""Scatter of each of the three lowest Legendre polynomials of the calibration's error."""
ARMS = 0.01
"""Scatter of the red arm's flux over the blue's."""
_DICHROIC = 6050.0


@dataclass(frozen=True)
class Exposures:
    """Spectra as they come from the telescope.

    Parameters
    ----------
    model : array, shape (n, m), float32
        Without noise, but with the error of the calibration, 1e-17 erg/s/cm2/A.
    flux : array, shape (n, m), float32
        With noise; 0 where there is no data.
    ivar : array, shape (n, m), float32
        1 over the noise's variance; 0 where there is no data.
    mask : array, shape (n, m), int32
        Bits NO_DATA and BRIGHT_SKY.
    flawed : array, shape (n, m), bool
        Pixels whose flux is further off than the inverse variance says: particles, and residuals
        of the brightest line of the sky.
    """

    model: NDArray[np.float32]
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    mask: NDArray[np.int32]
    flawed: NDArray[np.bool_]


class Spectrograph:
    """The instrument on a grid.

    Parameters
    ----------
    grid : LogGrid
        Observed wavelengths, in vacuum.
    """

    def __init__(self, grid: LogGrid) -> None:
        self.grid = grid
        wave = grid.wavelengths
        through = np.interp(wave, _THROUGHPUT_AT, _THROUGHPUT)
        self.electrons = PHOTONS * (wave / 6200.0) ** 2 * through
        self.continuum = np.interp(wave, _SKY_AT, _SKY)
        self.bands = np.array([self._band(top, lines) for top, lines in _SKY_LINES])
        at = np.linspace(-1.0, 1.0, grid.points)
        self.polynomials = np.stack([at, 1.5 * at**2 - 0.5, 2.5 * at**3 - 1.5 * at])
        self.red = np.where(wave > _DICHROIC, 1.0, 0.0)
        mean = self.bands.sum(axis=0)
        # The peaks of strong lines stand out of what is around them.
        self.bright = mean > 4.0 * self.continuum
        self.green = np.abs(wave - vacuum_wavelengths(np.array([5577.34]))) < 8.0

    def _band(self, top: float, lines: tuple[tuple[float, float], ...]) -> Array:
        wave, weight = np.array(lines).T
        spectrum = np.zeros((1, self.grid.points), np.float32)
        line = Lines(vacuum_wavelengths(wave)[None], np.zeros((1, len(wave))), top * weight[None])
        add_emission(spectrum, self.grid, line)
        return np.asarray(spectrum[0], np.float64)

    def level(self, signal_to_noise: Array) -> Array:
        """Flux, 1e-17 erg/s/cm2/A near 6500 A, that one set of exposures gives such a signal to
        noise."""
        at = int(np.clip(np.searchsorted(self.grid.wavelengths, 6500.0), 0, self.grid.points - 1))
        electrons = self.electrons[at]
        sky = self.continuum[at] + _READ_VARIANCE / electrons
        per = signal_to_noise**2 / electrons
        return np.asarray(0.5 * per * (1.0 + np.sqrt(1.0 + 4.0 * sky / per)))

    def expose(
        self,
        light: NDArray[np.float32],
        signal_to_noise: Array,
        rng: np.random.Generator,
        flaws: bool = True,
    ) -> Exposures:
        """Observe.

        Parameters
        ----------
        light : array, shape (n, m), float32
            What comes from the objects, 1e-17 erg/s/cm2/A.
        signal_to_noise : array, shape (n,)
            Median over the pixels; exposures are as long as it takes.
        rng : numpy.random.Generator
            Draws the same numbers for the same n, whatever the light is.
        flaws : bool
            Missing ends, dropped pixels, particles, residuals of the sky, errors of calibration.

        Returns
        -------
        Exposures
        """
        rows, points = light.shape
        normal = rng.standard_normal((rows, len(self.bands) + 6))
        noise = rng.standard_normal((rows, points), np.float32)
        nights = np.exp(0.35 * normal[:, 6:])
        brighter = np.exp(0.15 * normal[:, :1])
        sky = brighter * self.continuum + np.einsum("nb,bm->nm", nights, self.bands)
        photons = np.maximum(light, 0.0) + sky
        variance = (photons + _READ_VARIANCE / self.electrons) / self.electrons
        reached = np.median(light / np.sqrt(variance), axis=1)
        scale = (reached / signal_to_noise) ** 2
        # An object without light (none in the mock's range) keeps the exposure's own noise.
        scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
        sigma = np.sqrt(variance * scale[:, None]).astype(np.float32)
        model = light.copy()
        if flaws:
            error = CALIBRATION * np.einsum("nk,km->nm", normal[:, 1:4], self.polynomials)
            error += ARMS * normal[:, 4:5] * self.red
            model *= (1.0 + error).astype(np.float32)
        flux = model + sigma * noise
        ivar = 1.0 / np.square(sigma)
        mask = np.where(self.bright, BRIGHT_SKY, 0).astype(np.int32) + np.zeros((rows, 1), np.int32)
        flawed = np.zeros((rows, points), bool)
        if flaws:
            self._flaw(rng, flux, ivar, sigma, mask, flawed)
        return Exposures(model, flux, ivar, mask, flawed)

    def _flaw(
        self,
        rng: np.random.Generator,
        flux: NDArray[np.float32],
        ivar: NDArray[np.float32],
        sigma: NDArray[np.float32],
        mask: NDArray[np.int32],
        flawed: NDArray[np.bool_],
    ) -> None:
        """Spoil spectra in place."""
        rows, points = flux.shape
        uniform = rng.random((rows, 8))
        gone = np.zeros((rows, points), bool)
        pixel = np.arange(points)
        # Ends: none in half of the spectra, up to a twentieth of the pixels in others.
        low = np.where(uniform[:, 0] < 0.5, 0.0, 0.05 * points * uniform[:, 1] ** 2)
        high = np.where(uniform[:, 2] < 0.5, 0.0, 0.05 * points * uniform[:, 3] ** 2)
        gone |= (pixel < low[:, None]) | (pixel >= points - high[:, None])
        # Bad columns, the same for a spectrum's neighbours: runs of one to some 20 pixels.
        runs = rng.random((3, rows, 4))
        for start, length, used in zip(*runs.transpose(0, 2, 1), strict=True):
            first = (start * points)[:, None]
            long = np.where(used < 0.5, 1.0 + 20.0 * length**3, 0.0)[:, None]
            gone |= (pixel >= first) & (pixel < first + long)
        # Particles that were not noticed: one to three pixels, in every eighth spectrum.
        hit = np.flatnonzero(uniform[:, 4] < 0.125)
        for extra, share in ((0, 1.0), (1, 0.5)):
            at = np.minimum((uniform[hit, 5] * points).astype(np.intp) + extra, points - 1)
            height = share * (6.0 + 40.0 * uniform[hit, 6] ** 3)
            flux[hit, at] += (height * sigma[hit, at]).astype(np.float32)
            flawed[hit, at] = True
        # The brightest line of the sky leaves a residual like a derivative in every fourth.
        green = np.flatnonzero(self.green)
        if len(green):
            left = np.flatnonzero(uniform[:, 7] < 0.25)
            wiggle = np.sin(2.0 * np.pi * np.linspace(0.0, 1.0, len(green)))
            strength = 6.0 * (8.0 * uniform[left, 7] - 1.0)
            at = np.ix_(left, green)
            flux[at] += (strength[:, None] * wiggle).astype(np.float32) * sigma[at]
            flawed[at] = True
        flux[gone] = 0.0
        ivar[gone] = 0.0
        mask[gone] |= NO_DATA
        flawed[gone] = False
