"""Libraries of stellar populations of one age and metallicity each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from galbatch.errors import SpecError, did_you_mean
from galbatch.spectra.grids import SDSS_STEP, LogGrid
from galbatch.spectra.medium import vacuum_wavelengths
from galbatch.spectra.resample import edges_of, resample_smooth

COLUMNS = ("age_gyr", "metallicity", "flux")
"""Of a table of populations: Gyr, log10 in units of the Sun's, and a spectrum."""
WAVELENGTHS = "wavelength"
_FIRST = 1e-6
"""Gyr: the logarithm of no age is that of this one."""
_DARK = 1e-4
"""Of a spectrum's mean: no flux is taken for less, since its logarithm is needed."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Populations:
    """Spectra of single populations.

    Parameters
    ----------
    ages, metallicities : ndarray
        log10 of Gyr, and of the Sun's; both rise.
    logarithms : ndarray, shape (metallicities, ages, points)
        ln of the flux, per solar mass formed where the library says so.
    grid : LogGrid
        At rest, in vacuum.
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
            Gyr; that of the youngest or the oldest population beyond them.
        metallicity : ndarray, shape (n,)
            log10 in units of the Sun's.
        """
        old, share_old = between(self.ages, np.log10(np.maximum(age, _FIRST)))
        rich, share_rich = between(self.metallicities, metallicity)
        found = np.zeros((len(age), self.grid.points))
        for more, weight in ((0, 1 - share_rich), (1, share_rich)):
            for later, other in ((0, 1 - share_old), (1, share_old)):
                found += (weight * other)[:, None] * self.logarithms[rich + more, old + later]
        return np.asarray(np.exp(found))

    def refined(self, step: float) -> Populations:
        """The same library with metallicities no further apart than `step`, by `spectra`'s rule.

        Between neighbours as near as that, straight in the flux is as good as in its logarithm.
        """
        nodes = [
            np.linspace(low, high, int(np.ceil((high - low) / step)) + 1)[:-1]
            for low, high in zip(self.metallicities[:-1], self.metallicities[1:], strict=True)
        ]
        metallicities = np.concatenate([*nodes, self.metallicities[-1:]])
        below, share = between(self.metallicities, metallicities)
        upper = share[:, None, None]
        logarithms = (1 - upper) * self.logarithms[below] + upper * self.logarithms[below + 1]
        return Populations(self.ages, metallicities, logarithms, self.grid)


def between(nodes: Array, values: Array) -> tuple[NDArray[np.int64], Array]:
    """The node below each value, and the share of the way to the next; held at both ends."""
    below = np.clip(np.searchsorted(nodes, values, side="right") - 1, 0, len(nodes) - 2)
    share = (values - nodes[below]) / (nodes[below + 1] - nodes[below])
    return below.astype(np.int64), np.clip(share, 0.0, 1.0)


def read_populations(file: Path, medium: str = "air") -> Populations:
    """The library in a file.

    Parameters
    ----------
    file : Path
        A Parquet table with the columns `COLUMNS` and ``wavelength.npy`` beside it, or a FITS file
        whose first table has these columns and a second one the column ``wavelength``. A row is a
        population; each age has each metallicity.
    medium : {"air", "vacuum"}
        What the wavelengths are in.

    Returns
    -------
    Populations
        In vacuum, on a grid that is even in the logarithm, with its flux conserved.

    Raises
    ------
    SpecError
        If there is no such file, or it is no library.
    """
    try:
        found, wavelengths = _of_fits(file) if _is_fits(file) else _of_parquet(file)
    except FileNotFoundError as error:
        raise SpecError(str(error.filename or file), "there is no such file") from None
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        problem = str(error).splitlines()[0]
        raise SpecError(str(file), f"cannot be read as a library: {problem}") from error
    flux = found["flux"]
    _check(file, found, wavelengths)
    if medium == "air":
        wavelengths = vacuum_wavelengths(wavelengths)
    ages, metallicities = (np.unique(found[name]) for name in COLUMNS[:2])
    order = np.lexsort((found["age_gyr"], found["metallicity"]))
    old = edges_of(wavelengths)
    first, last = np.ceil(np.log10(old[0]) / SDSS_STEP), np.floor(np.log10(old[-1]) / SDSS_STEP)
    grid = LogGrid(float(first + 1) * SDSS_STEP, SDSS_STEP, int(last - first) - 1)
    level = flux.mean(axis=1, keepdims=True)
    moved = np.maximum(resample_smooth(flux[order] / level[order], old, grid.edges), _DARK)
    shape = (len(metallicities), len(ages), grid.points)
    logarithms = np.log(moved * level[order]).reshape(shape)
    return Populations(np.log10(ages), metallicities, logarithms, grid)


def _is_fits(file: Path) -> bool:
    return file.name.endswith((".fits", ".fits.gz", ".fit"))


def _of_parquet(file: Path) -> tuple[dict[str, Array], Array]:
    table = pq.read_table(file)
    found = {_named(file, name, table.column_names): table[name] for name in COLUMNS}
    spectra = np.array(found["flux"].to_pylist(), np.float64)
    numbers = {name: np.asarray(found[name].to_numpy(), np.float64) for name in COLUMNS[:2]}
    wavelengths = np.load(file.parent / f"{WAVELENGTHS}.npy", allow_pickle=False)
    return {**numbers, "flux": spectra}, np.asarray(wavelengths, np.float64)


def _of_fits(file: Path) -> tuple[dict[str, Array], Array]:
    from astropy.io import fits

    with fits.open(file) as parts:
        tables = [part for part in parts if isinstance(part, fits.BinTableHDU)]
        if len(tables) < 2:
            problem = f"expected a table of populations and one of wavelengths, got {len(tables)}"
            raise SpecError(str(file), problem)
        data, names = tables[0].data, tables[0].columns.names
        found = {name: np.asarray(data[_named(file, name, names)], np.float64) for name in COLUMNS}
        column = _named(file, WAVELENGTHS, tables[1].columns.names)
        return found, np.asarray(tables[1].data[column], np.float64).ravel()


def _named(file: Path, name: str, names: list[str]) -> str:
    if name not in names:
        raise SpecError(str(file), f"has no column '{name}'", did_you_mean(name, names))
    return name


def _check(file: Path, found: dict[str, Any], wavelengths: Array) -> None:
    """Raise a SpecError where a file's columns are no library."""
    flux = found["flux"]
    if flux.ndim != 2 or flux.shape[1] != len(wavelengths):
        got = flux.shape[-1] if flux.ndim == 2 else "several lengths"
        raise SpecError(str(file), f"expected spectra of {len(wavelengths)} pixels, got {got}")
    for name in COLUMNS:
        if not np.isfinite(found[name]).all():
            raise SpecError(str(file), f"column '{name}' has values that are no numbers")
    if not (found["age_gyr"] > 0).all() or not (flux.mean(axis=1) > 0).all():
        raise SpecError(str(file), "expected ages and mean fluxes above 0")
    ages, metallicities = (len(np.unique(found[name])) for name in COLUMNS[:2])
    pairs = len(np.unique(np.stack([found[name] for name in COLUMNS[:2]]), axis=1).T)
    if min(ages, metallicities) < 2 or pairs != len(flux) or pairs != ages * metallicities:
        raise SpecError(
            str(file),
            f"expected one population for each of {metallicities} metallicities and {ages} ages, "
            f"at least 2 of both, got {len(flux)}",
        )
