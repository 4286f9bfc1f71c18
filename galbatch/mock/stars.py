"""Stars of the simulated sky.

Main-sequence stars of a thin and a thick disc and a halo, and white dwarfs, along a line of sight
at high Galactic latitude: dN/dm follows from the local luminosity function and the density at the
distance where a star of that luminosity has that magnitude. Giants and binaries are left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from galbatch.mock.library import StarLibrary, load_stars
from galbatch.mock.objects import Array, Objects
from galbatch.mock.photometry import star_fluxes
from galbatch.spec.survey import Band

STAR_SCATTER = 0.02
"""Scatter of a star's colours around the library's, magnitudes per unit of ln(wavelength)."""

# Absolute AB magnitude in i of main-sequence stars by effective temperature in K: Pecaut & Mamajek
# (2013, ApJS 208, 9) with their online table of 2022 (M_V and V-Ic), + 0.45 to AB, rounded.
_DWARF_TEFF = (750, 1300, 1700, 2100, 2400, 2800, 3050, 3250, 3450, 3700, 3950, 4500, 5250,
               5750, 6050, 6600, 7200, 8200, 9700, 14000, 30000)  # fmt: skip
_DWARF_I = (22.5, 18.5, 17.3, 16.0, 14.9, 13.2, 11.6, 10.4, 9.4, 8.3, 7.4, 6.4, 5.3,
            4.6, 4.1, 3.3, 2.6, 2.1, 1.4, 0.2, -3.0)  # fmt: skip
# Local number density against that magnitude, 1e-3 stars per pc3 and mag: after Reid, Gizis &
# Hawley (2002, AJ 124, 2721) and, for the coolest, Cruz et al. (2007, AJ 133, 439).
_LOCAL_I = (-3.0, 0.0, 2.0, 3.5, 4.5, 6.0, 7.5, 8.5, 9.5, 10.5, 11.5, 13.0, 15.0, 17.0, 19.0)
_LOCAL_DENSITY = (1e-5, 3e-3, 0.2, 1.2, 2.6, 3.1, 4.0, 7.0, 11.0, 12.0, 8.0, 4.0, 2.0, 1.5, 1.5)

# (local share, scale height in pc, hottest dwarf in K that has not evolved yet, metal-weak): thin
# and thick disc after Juric et al. (2008, ApJ 673, 864, table 10); the halo is a power law.
_THIN = (0.875, 300.0, 1e9)
_THICK = (0.12, 900.0, 6300.0)
_HALO = (0.005, 0.0, 6600.0)
_SIN_LATITUDE = 0.85
_WHITE_DWARF_I = (15.2, 14.0, 13.2, 12.5, 12.0, 11.5, 11.0, 10.4)
"""Absolute i magnitude of the library's white dwarfs, coolest first (Bergeron et al. 1995)."""
_WHITE_DWARF_DENSITY = 4e-3
"""White dwarfs per pc3 (Holberg et al. 2016, MNRAS 462, 2295), shared among the temperatures."""
_WHITE_DWARF_SHARES = (0.42, 0.22, 0.15, 0.09, 0.05, 0.04, 0.02, 0.01)


class Stars:
    """The stars that a survey in these bands finds between two magnitudes.

    Parameters
    ----------
    bands : tuple of Band
    reference : int
        Position of the reference band.
    magnitudes : (float, float)
        Range of the AB magnitude in the reference band.
    """

    def __init__(
        self, bands: tuple[Band, ...], reference: int, magnitudes: tuple[float, float]
    ) -> None:
        library: StarLibrary = load_stars()
        fluxes = star_fluxes(bands)
        self.flux = fluxes / fluxes[:, reference : reference + 1]
        wavelength = np.array([band.wavelength for band in bands])
        self.colour = np.log(wavelength / wavelength[reference]).astype(np.float32)
        self.edges = np.linspace(*magnitudes, max(int(10 * (magnitudes[1] - magnitudes[0])), 2))
        middle = 0.5 * (self.edges[1:] + self.edges[:-1])
        self.neighbour = self._neighbours(library)
        # Absolute magnitudes are in i; the colour between i and the reference band is the star's.
        i_band = Band(name="i", wavelength=7625.0, width=1500.0)
        in_i = star_fluxes((*bands, i_band))
        offset = 2.5 * np.log10(in_i[:, -1] / in_i[:, reference])
        number = self._densities(library, middle, offset.astype(np.float64))
        self.cumulative = np.cumsum(number.ravel())

    @staticmethod
    def _neighbours(library: StarLibrary) -> NDArray[np.intp]:
        """The next cooler star of the same sort."""
        sort = [
            f"{'WD' if c == 'WD' else 'dwarf' if c in ('V', 'IV') else 'giant'}{m}"
            for c, m in zip(library.luminosity_class, library.metallicity, strict=True)
        ]
        teff = library.teff
        neighbour = np.arange(len(library))
        for index in range(len(library)):
            cooler = [
                other
                for other in range(len(library))
                if sort[other] == sort[index] and teff[other] < teff[index]
            ]
            if cooler:
                neighbour[index] = max(cooler, key=lambda other: float(teff[other]))
        return neighbour

    @staticmethod
    def _densities(library: StarLibrary, magnitude: Array, offset: Array) -> Array:
        """Stars per template and magnitude, (n_star, n_magnitude), in any unit."""
        number = np.zeros((len(library), len(magnitude)))
        dwarf = np.isin(library.luminosity_class, ("V", "IV"))
        absolute = np.interp(library.teff, _DWARF_TEFF, _DWARF_I)
        # Each template stands for the interval half way to its neighbours in absolute magnitude;
        # templates of one temperature share it.
        for weak in (False, True):
            group = dwarf & ((library.metallicity < 0) if weak else (library.metallicity >= 0))
            if not group.any():
                group = dwarf
            members = np.flatnonzero(group)
            values, inverse, repeats = np.unique(
                absolute[members], return_inverse=True, return_counts=True
            )
            edges = np.concatenate(
                [[values[0] - 0.5], 0.5 * (values[1:] + values[:-1]), [values[-1] + 0.5]]
            )
            width = (np.diff(edges) / repeats)[inverse]
            density = np.exp(np.interp(absolute[members], _LOCAL_I, np.log(_LOCAL_DENSITY)))
            density *= width * 1e-3
            modulus = magnitude + (offset - absolute)[members, None]
            distance = 10.0 ** (0.2 * modulus + 1.0)
            for share, height, hottest in (_HALO,) if weak else (_THIN, _THICK):
                seen = density * (library.teff[members] < hottest) * share
                number[members] += seen[:, None] * distance**3 * _profile(distance, height)
        white = np.flatnonzero(library.luminosity_class == "WD")
        cooling = np.interp(np.arange(len(white)), np.arange(8), _WHITE_DWARF_I)
        shares = np.interp(np.arange(len(white)), np.arange(8), _WHITE_DWARF_SHARES)
        distance = 10.0 ** (0.2 * (magnitude + offset[white, None] - cooling[:, None]) + 1)
        number[white] = (
            _WHITE_DWARF_DENSITY * shares[:, None] * distance**3 * _profile(distance, _THIN[1])
        )
        return number

    def draw(self, rng: np.random.Generator, rows: int) -> Objects:
        """Draw stars.

        Parameters
        ----------
        rng : numpy.random.Generator
        rows : int

        Returns
        -------
        Objects
        """
        chosen = np.searchsorted(self.cumulative, rng.random(rows) * self.cumulative[-1])
        star, at = np.divmod(chosen, len(self.edges) - 1)
        magnitude = self.edges[at] + rng.random(rows) * np.diff(self.edges)[at]
        share = rng.random(rows, np.float32)[:, None]
        flux = (1.0 - share) * self.flux[star] + share * self.flux[self.neighbour[star]]
        tilt = np.float32(STAR_SCATTER) * rng.standard_normal(rows, np.float32)[:, None]
        flux *= np.exp(np.float32(-0.4 * np.log(10.0)) * tilt * self.colour)
        flux *= (10.0 ** (0.4 * (23.9 - magnitude))).astype(np.float32)[:, None]
        unknown = np.full(rows, np.nan)
        return Objects(
            is_star=np.ones(rows, bool),
            is_qso=np.zeros(rows, bool),
            redshift=unknown,
            log_mass=unknown,
            abs_mag_b=unknown,
            spectral_type=unknown,
            radius=np.zeros(rows),
            axis_ratio=np.ones(rows),
            flux=flux,
            pair=np.stack([star, self.neighbour[star]], axis=1).astype(np.int32),
            share=share[:, 0],
            ebv=np.zeros(rows, np.float32),
            lines=np.zeros((rows, 3), np.float32),
            tilt=np.concatenate([tilt, np.zeros_like(tilt)], axis=1),
        )


def _profile(distance: Array, height: float) -> Array:
    """Density relative to the Sun's neighbourhood; a height of 0 stands for the halo."""
    above = distance * _SIN_LATITUDE
    if height:
        return np.asarray(np.exp(-above / height))
    # Towards the pole, 8 kpc from the centre: r**-2.8, flattened to 0.64 (Juric et al. 2008).
    return np.asarray((1.0 + (above / (0.64 * 8000.0)) ** 2) ** -1.4)
