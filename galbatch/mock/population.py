"""What is in the simulated sky: galaxies and stars, with true fluxes and true properties.

`redshift` is NaN for stars, like all that is only known of galaxies. `abs_mag_b` is the rest-frame
AB magnitude in Johnson B of the light that leaves the galaxy: after its own dust, as template fits
without a separate dust correction report it. `spectral_type` runs continuously from 1 (reddest
elliptical) to 11 (bluest starburst), linear in the rest-frame NUV-r colour *after* dust for the
same reason. `log_mass` counts living stars and remnants, Kroupa IMF. The cosmology is flat with
H0 = 70 km/s/Mpc and Omega_m = 0.3.
"""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache

import numpy as np

from galbatch.mock.galaxies import Galaxies
from galbatch.mock.objects import Objects
from galbatch.mock.stars import Stars
from galbatch.spec.survey import Band

BLOCK_ROWS = 16_384
"""Objects drawn from one random stream. Part of what a seed means: never change it."""


class Population:
    """The objects that a survey in these bands finds between two magnitudes.

    Parameters
    ----------
    bands : tuple of Band
    reference : int
        Position of the reference band.
    magnitudes : (float, float)
        Range of the true AB magnitude in the reference band.
    star_fraction : float
        Share of stars.
    """

    def __init__(
        self,
        bands: tuple[Band, ...],
        reference: int,
        magnitudes: tuple[float, float],
        star_fraction: float,
    ) -> None:
        self.galaxies = Galaxies(bands, reference, magnitudes)
        self.stars = Stars(bands, reference, magnitudes)
        self.star_fraction = star_fraction

    def draw(self, rng: np.random.Generator, rows: int) -> Objects:
        """Draw objects.

        Parameters
        ----------
        rng : numpy.random.Generator
        rows : int

        Returns
        -------
        Objects
            `rows` of them, stars and galaxies in random order.
        """
        is_star = rng.random(rows) < self.star_fraction
        galaxies = self.galaxies.draw(rng, int(np.count_nonzero(~is_star)))
        stars = self.stars.draw(rng, int(np.count_nonzero(is_star)))
        merged = {}
        for field in fields(Objects):
            of_galaxies, of_stars = getattr(galaxies, field.name), getattr(stars, field.name)
            column = np.empty((rows, *of_galaxies.shape[1:]), of_galaxies.dtype)
            column[~is_star] = of_galaxies
            column[is_star] = of_stars
            merged[field.name] = column
        return Objects(**merged)


@lru_cache(maxsize=6)
def population(
    bands: tuple[Band, ...],
    reference: int,
    magnitudes: tuple[float, float],
    star_fraction: float,
) -> Population:
    """`Population`, made once per process."""
    return Population(bands, reference, magnitudes, star_fraction)
