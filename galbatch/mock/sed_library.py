"""A library of galaxies' spectra at rest: populations of one age and metallicity, after a thesis.

Age, logarithm of the metallicity, velocity dispersion and stellar mass are uniform and independent;
there is neither gas nor dust, or by choice both. `ssp.npz` holds the populations
(`tools/build_ssp.py`).
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.mock.kinematics import broadened
from galbatch.mock.mixtures import Mixer
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.mixture_parameters import Mixtures
from galbatch.spectra.populations import Populations
from galbatch.spectra.resample import edges_of, resampler

AGES = (0.0, 8.45)
"""Gyr. A population of no age is that of the youngest of the grid."""
METALLICITIES = (-0.5, 0.2)
"""log10 in units of the Sun's."""
DISPERSIONS = (100.0, 300.0)
"""km/s."""
MASSES = (1e8, 1e12)
"""Solar masses formed."""
RANGE = (3600.0, 7350.0)
"""Angstrom, in vacuum: what the populations have, less what broadening takes at the ends."""
EXTINCTIONS = (0.0, 0.6)
"""E(B-V) of the stars in magnitudes, of a dusty library."""
GAS = (-1.0, 2.0)
"""log10 of the equivalent width of H beta in Angstrom, of a dusty library."""
_LIGHT = 299_792.458

Array = NDArray[np.float64]


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
    wavelengths: Array, seed: tuple[int, ...], rows: int, *, dusty: bool = False
) -> dict[str, NDArray[Any]]:
    """Spectra of the library and what they were made of.

    Parameters
    ----------
    wavelengths : ndarray, shape (m,)
        Of the pixels wanted, Angstrom in vacuum, within `RANGE`.
    seed : tuple of int
    rows : int
    dusty : bool
        With dust and lines of gas, both uniform as well: see `galbatch.mock.mixtures`.

    Returns
    -------
    dict of str to ndarray
        ``flux`` and ``ivar`` (n, m), ``age`` (Gyr), ``metallicity`` (log10 of the Sun's),
        ``dispersion`` (km/s), ``mass`` (solar), each (n,), and if dusty ``extinction`` (E(B-V))
        and ``log_gas`` (log10 of the equivalent width of H beta in Angstrom). The flux has no
        noise, and the inverse variance is 1.

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
    if dusty:
        made |= {"extinction": rng.uniform(*EXTINCTIONS, rows), "log_gas": rng.uniform(*GAS, rows)}
        moved = _mixer().at_rest(_alone(made), rng)
    else:
        light = populations().spectra(made["age"], made["metallicity"])
        moved = broadened(light, made["dispersion"] / (_LIGHT * np.log(10.0) * grid.step))
    onto = resampler(grid.edges, edges_of(wavelengths))
    flux = onto.flux(moved) * made["mass"][:, None]
    return made | {"flux": flux, "ivar": np.ones_like(flux)}


@lru_cache(maxsize=1)
def _mixer() -> Mixer:
    return Mixer(populations())


def _alone(made: dict[str, NDArray[Any]]) -> Mixtures:
    """Mixtures of one population each."""
    rows = len(made["age"])
    youngest = 10.0 ** populations().ages[0]
    parts = {name: made[name][:, None] for name in ("metallicity", "dispersion", "extinction",
                                                    "log_gas")}  # fmt: skip
    return Mixtures(
        weight=np.ones((rows, 1)),
        log_age=np.log10(np.maximum(made["age"], youngest))[:, None],
        velocity=np.zeros((rows, 1)),
        redshift=np.zeros(rows),
        **parts,
    )
