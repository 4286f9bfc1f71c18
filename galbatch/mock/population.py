"""What is in the simulated sky: galaxies, stars and quasars, with true fluxes and properties.

`redshift` is NaN for stars; what is only known of galaxies is for quasars as well. `abs_mag_b` is
the rest-frame AB magnitude in Johnson B of the light that leaves the galaxy: after its own dust, as
template fits without a separate dust correction report it. `spectral_type` runs continuously from 1
(reddest elliptical) to 11 (bluest starburst), linear in the rest-frame NUV-r colour *after* dust
for the same reason. `log_mass` counts living stars and remnants, Kroupa IMF. The cosmology is flat
with H0 = 70 km/s/Mpc and Omega_m = 0.3.
"""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from galbatch.mock.galaxies import Galaxies
from galbatch.mock.objects import Objects
from galbatch.mock.quasars import Quasars
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
    star_fraction, qso_fraction : float
        Shares of stars and of quasars.
    """

    def __init__(
        self,
        bands: tuple[Band, ...],
        reference: int,
        magnitudes: tuple[float, float],
        star_fraction: float,
        qso_fraction: float = 0.0,
    ) -> None:
        self.galaxies = Galaxies(bands, reference, magnitudes)
        self.stars = Stars(bands, reference, magnitudes)
        self.quasars = Quasars(bands, reference, magnitudes) if qso_fraction > 0 else None
        self.star_fraction = star_fraction
        self.qso_fraction = qso_fraction

    def draw(self, rng: np.random.Generator, rows: int) -> Objects:
        """Draw objects.

        Parameters
        ----------
        rng : numpy.random.Generator
        rows : int

        Returns
        -------
        Objects
            `rows` of them, galaxies, stars and quasars in random order.
        """
        share = rng.random(rows)
        is_star = share < self.star_fraction
        is_qso = ~is_star & (share < self.star_fraction + self.qso_fraction)
        sorts: list[tuple[NDArray[np.bool_], Galaxies | Stars | Quasars]] = [
            (~is_star & ~is_qso, self.galaxies),
            (is_star, self.stars),
        ]
        # Last: what comes before them is drawn as if there were none.
        if self.quasars is not None:
            sorts.append((is_qso, self.quasars))
        drawn = [(chosen, sort.draw(rng, int(chosen.sum()))) for chosen, sort in sorts]
        merged = {}
        for field in fields(Objects):
            first = getattr(drawn[0][1], field.name)
            column = np.empty((rows, *first.shape[1:]), first.dtype)
            for chosen, objects in drawn:
                column[chosen] = getattr(objects, field.name)
            merged[field.name] = column
        return Objects(**merged)


@lru_cache(maxsize=6)
def population(
    bands: tuple[Band, ...],
    reference: int,
    magnitudes: tuple[float, float],
    star_fraction: float,
    qso_fraction: float = 0.0,
) -> Population:
    """`Population`, made once per process."""
    return Population(bands, reference, magnitudes, star_fraction, qso_fraction)
