"""A library of galaxies' spectra at rest: populations of one age and metallicity, after a thesis.

Age, logarithm of the metallicity, velocity dispersion and stellar mass are uniform and independent;
there is neither gas nor dust. `ssp.npz` holds the populations (`tools/build_ssp.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from galbatch.spectra.grids import LogGrid
from galbatch.spectra.resample import edges_of, resampler

AGES = (0.0, 8.45)
"""Gyr. A population of no age is that of the youngest of the grid, `YOUNGEST`."""
YOUNGEST = 0.01
METALLICITIES = (-0.5, 0.2)
"""log10 in units of the Sun's."""
DISPERSIONS = (100.0, 300.0)
"""km/s."""
MASSES = (1e8, 1e12)
"""Solar masses formed."""
RANGE = (3600.0, 7350.0)
"""Angstrom, in vacuum: what the populations have, less what broadening takes at the ends."""
_LIGHT = 299_792.458

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Populations:
    """Spectra of single populations.

    Parameters
    ----------
    ages, metallicities : ndarray
        log10 of Gyr, and of the Sun's.
    logarithms : ndarray, shape (metallicities, ages, points)
        ln of the flux per solar mass formed.
    grid : LogGrid
    """

    ages: Array
    metallicities: Array
    logarithms: Array
    grid: LogGrid

    def spectra(self, age: Array, metallicity: Array) -> Array:
        """Between the populations: straight in the logarithms of all three, shape (n, points).

        Parameters
        ----------
        age : ndarray, shape (n,)
            Gyr.
        metallicity : ndarray, shape (n,)
            log10 in units of the Sun's.
        """
        old, share_old = _between(self.ages, np.log10(np.maximum(age, YOUNGEST)))
        rich, share_rich = _between(self.metallicities, metallicity)
        found = np.zeros((len(age), self.grid.points))
        for more, weight in ((0, 1 - share_rich), (1, share_rich)):
            for later, other in ((0, 1 - share_old), (1, share_old)):
                found += (weight * other)[:, None] * self.logarithms[rich + more, old + later]
        return np.asarray(np.exp(found))


def _between(nodes: Array, values: Array) -> tuple[NDArray[np.int64], Array]:
    """The node below each value, and the share of the way to the next."""
    below = np.clip(np.searchsorted(nodes, values, side="right") - 1, 0, len(nodes) - 2)
    share = (values - nodes[below]) / (nodes[below + 1] - nodes[below])
    return below.astype(np.int64), np.clip(share, 0.0, 1.0)


@lru_cache(maxsize=1)
def populations() -> Populations:
    """Those that are shipped."""
    with np.load(str(files("galbatch.mock") / "ssp.npz"), allow_pickle=False) as arrays:
        first, step, points = arrays["grid"]
        logarithms = arrays["mean"] + arrays["weights"] @ arrays["components"]
        shape = (len(arrays["metallicities"]), len(arrays["ages"]), int(points))
        return Populations(
            np.log10(arrays["ages"]),
            np.log10(arrays["metallicities"]),
            logarithms.reshape(shape).astype(np.float64),
            LogGrid(float(first), float(step), int(points)),
        )


def library_columns(
    wavelengths: Array, seed: tuple[int, ...], rows: int
) -> dict[str, NDArray[Any]]:
    """Spectra of the library and what they were made of.

    Parameters
    ----------
    wavelengths : ndarray, shape (m,)
        Of the pixels wanted, Angstrom in vacuum, within `RANGE`.
    seed : tuple of int
    rows : int

    Returns
    -------
    dict of str to ndarray
        ``flux`` and ``ivar`` (n, m), ``age`` (Gyr), ``metallicity`` (log10 of the Sun's),
        ``dispersion`` (km/s), ``mass`` (solar), each (n,). The flux has no noise, and the inverse
        variance is 1.

    Raises
    ------
    ValueError
        If the wavelengths are beyond `RANGE`.
    """
    if wavelengths[0] < RANGE[0] or wavelengths[-1] > RANGE[1]:
        raise ValueError(f"expected wavelengths from {RANGE[0]:g} to {RANGE[1]:g} Angstrom")
    rng = np.random.default_rng(seed)
    made: dict[str, NDArray[Any]] = {
        "age": rng.uniform(*AGES, rows),
        "metallicity": rng.uniform(*METALLICITIES, rows),
        "dispersion": rng.uniform(*DISPERSIONS, rows),
        "mass": rng.uniform(*MASSES, rows),
    }
    grid = populations().grid
    light = populations().spectra(made["age"], made["metallicity"])
    light = _broadened(light, made["dispersion"] / (_LIGHT * np.log(10.0) * grid.step))
    onto = resampler(grid.edges, edges_of(wavelengths))
    flux = onto.flux(light) * made["mass"][:, None]
    return made | {"flux": flux, "ivar": np.ones_like(flux)}


def _broadened(spectra: Array, pixels: Array) -> Array:
    """Spectra folded with Gaussians of so many pixels, each its own; the ends stay level."""
    ends = int(np.ceil(6 * pixels.max()))
    longer = np.pad(spectra, ((0, 0), (ends, ends)), mode="edge")
    length = longer.shape[1]
    cycles = scipy.fft.rfftfreq(length)
    folded = scipy.fft.rfft(longer) * np.exp(-2.0 * (np.pi * cycles * pixels[:, None]) ** 2)
    return np.asarray(scipy.fft.irfft(folded, length)[:, ends : length - ends])
