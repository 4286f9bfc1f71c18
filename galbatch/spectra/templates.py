"""Bases that spectra are fitted with, and the files that SDSS and redrock ship them in."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galbatch.errors import SpecError
from galbatch.spectra.grids import SDSS_STEP, LogGrid
from galbatch.spectra.resample import edges_of, resample_smooth

KINDS = ("GALAXY", "QSO", "STAR")
REDSHIFTS = {"GALAXY": (-0.003, 1.0), "QSO": (0.003, 5.0), "STAR": (-0.004, 0.004)}
"""Which redshifts a class is tried at, if nothing else is said."""
_SAME_PHASE = 1e-3
"""Of a pixel."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Basis:
    """Vectors whose sums are the spectra of a class, at rest in vacuum.

    Parameters
    ----------
    name : str
    kind : str
        GALAXY, QSO or STAR.
    subclass : str
        Of every spectrum that this basis fits best, e.g. a spectral type; or nothing.
    vectors : ndarray of float64, shape (k, m)
        Flux per unit of wavelength.
    grid : LogGrid
    redshifts : tuple of float
        The lowest and the highest that are tried.

    Raises
    ------
    SpecError
        When the vectors do not fit the grid, are not finite, or the redshifts do not increase.
    """

    name: str
    kind: str
    subclass: str
    vectors: Array
    grid: LogGrid
    redshifts: tuple[float, float]

    def __post_init__(self) -> None:
        """Refuse what no spectrum can be fitted with."""
        where = f"basis '{self.name}'"
        if self.kind not in KINDS:
            raise SpecError(where, f"expected a class of {', '.join(KINDS)}, got '{self.kind}'")
        if self.vectors.ndim != 2 or self.vectors.shape[1] != self.grid.points:
            raise SpecError(
                where,
                f"expected vectors of {self.grid.points} pixels, got the shape "
                f"{self.vectors.shape}",
            )
        if not np.all(np.isfinite(self.vectors)) or not np.all(np.any(self.vectors, axis=1)):
            raise SpecError(where, "expected finite vectors, none of zeros alone")
        low, high = self.redshifts
        if not -1 < low <= high:
            raise SpecError(where, f"expected redshifts from low to high, got {low} to {high}")

    def at_phase(self, grid: LogGrid) -> Basis:
        """The basis on pixels that differ by whole steps from those of a grid.

        Parameters
        ----------
        grid : LogGrid
            Of spectra.

        Returns
        -------
        Basis
            Itself when its pixels do already, to a thousandth of one; else resampled, without
            the outer pixels.
        """
        offset = (grid.first - self.grid.first) / grid.step
        same_step = abs(self.grid.step / grid.step - 1) * self.grid.points < _SAME_PHASE
        if same_step and abs(offset - round(offset)) < _SAME_PHASE:
            return self
        return self._moved(grid)

    def _moved(self, grid: LogGrid) -> Basis:
        last = self.grid.first + self.grid.step * (self.grid.points - 1)
        first = int(np.ceil((self.grid.first - grid.first) / grid.step)) + 1
        end = int(np.floor((last - grid.first) / grid.step)) - 1
        target = LogGrid(grid.first + first * grid.step, grid.step, end - first + 1)
        vectors = resample_smooth(self.vectors, self.grid.edges, target.edges)
        return replace(self, vectors=vectors, grid=target)


def from_linear(
    vectors: NDArray[np.floating], wavelengths: NDArray[np.floating], step: float = SDSS_STEP
) -> tuple[Array, LogGrid]:
    """Vectors of any increasing wavelengths on a grid even in the logarithm; flux is conserved.

    Parameters
    ----------
    vectors : ndarray, shape (k, m)
    wavelengths : ndarray, shape (m,)
        Angstrom, in vacuum.
    step : float
        Of log10(wavelength).

    Returns
    -------
    vectors : ndarray, shape (k, p)
    grid : LogGrid
        Its logarithms are whole multiples of the step.
    """
    first = int(np.ceil(np.log10(wavelengths[0]) / step)) + 1
    last = int(np.floor(np.log10(wavelengths[-1]) / step)) - 1
    grid = LogGrid(first * step, step, last - first + 1)
    return resample_smooth(vectors, edges_of(wavelengths), grid.edges), grid


def star_bases(
    names: Sequence[str],
    vectors: NDArray[np.floating],
    grid: LogGrid,
    redshifts: tuple[float, float] = REDSHIFTS["STAR"],
) -> list[Basis]:
    """One basis of one vector for each star.

    Parameters
    ----------
    names : sequence of str
        As SDSS has them, e.g. ``A0 (19510)``: type, and number of the star.
    vectors : ndarray, shape (len(names), m)
    grid : LogGrid
    redshifts : tuple of float

    Returns
    -------
    list of Basis
    """
    return [
        Basis(name, "STAR", name, np.asarray(vector, np.float64)[None], grid, redshifts)
        for name, vector in zip(names, vectors, strict=True)
    ]


def read_sdss(
    path: Path, kind: str, redshifts: tuple[float, float] | None = None, most: int | None = None
) -> list[Basis]:
    """Bases of a file ``spEigenGal``, ``spEigenQSO`` or ``spEigenStar`` of SDSS.

    Parameters
    ----------
    path : Path
    kind : str
        GALAXY or QSO: all vectors make one basis. STAR: each vector (NAME0 and so on) makes one.
    redshifts : tuple of float, optional
        As `REDSHIFTS` if not given.
    most : int, optional
        So many vectors from the first, of GALAXY and QSO.

    Returns
    -------
    list of Basis

    Raises
    ------
    SpecError
        When the file has no COEFF0 and COEFF1, or names too few stars.
    """
    from astropy.io import fits

    with fits.open(path) as file:
        header = file[0].header
        missing = [word for word in ("COEFF0", "COEFF1") if word not in header]
        if missing or file[0].data is None:
            raise SpecError(str(path), "expected an image with COEFF0 and COEFF1")
        vectors = np.atleast_2d(np.asarray(file[0].data, np.float64))
        names = [header.get(f"NAME{place}") for place in range(len(vectors))]
    grid = LogGrid(float(header["COEFF0"]), float(header["COEFF1"]), vectors.shape[1])
    limits = redshifts or REDSHIFTS[kind]
    if kind != "STAR":
        return [Basis(path.stem, kind, "", vectors[:most], grid, limits)]
    if None in names:
        raise SpecError(
            str(path),
            f"expected a name for each of {len(vectors)} stars, got no NAME{names.index(None)}",
        )
    return star_bases([str(name).strip() for name in names], vectors, grid, limits)


def read_redrock(path: Path, redshifts: tuple[float, float] | None = None) -> Basis:
    """The basis of a template file of redrock.

    Parameters
    ----------
    path : Path
        With BASIS_VECTORS, CRVAL1, CDELT1, LOGLAM and RRTYPE; stars are linear in wavelength.
    redshifts : tuple of float, optional
        Those of the table REDSHIFTS if the file has one, else `REDSHIFTS`, if not given.

    Returns
    -------
    Basis
        Even in the logarithm.

    Raises
    ------
    SpecError
        When the file is none of redrock's, or has too short wavelengths for its step.
    """
    from astropy.io import fits

    with fits.open(path) as file:
        if "BASIS_VECTORS" not in file:
            raise SpecError(str(path), "expected BASIS_VECTORS of a template file of redrock")
        image = file["BASIS_VECTORS"]
        header, vectors = image.header, np.atleast_2d(np.asarray(image.data, np.float64))
        shipped = np.asarray(file["REDSHIFTS"].data, np.float64) if "REDSHIFTS" in file else None
    first, step = float(header["CRVAL1"]), float(header["CDELT1"])
    kind, subclass = str(header["RRTYPE"]).strip(), str(header.get("RRSUBTYP", "")).strip()
    if header.get("LOGLAM", False):
        grid = LogGrid(first, step, vectors.shape[1])
    else:
        vectors, grid = from_linear(vectors, first + step * np.arange(vectors.shape[1]))
    if redshifts is None and shipped is not None:
        redshifts = float(shipped.min()), float(shipped.max())
    return Basis(path.stem, kind, subclass, vectors, grid, redshifts or REDSHIFTS[kind])


def read_templates(
    path: Path,
    kind: str | None = None,
    redshifts: tuple[float, float] | None = None,
    most: int | None = None,
) -> list[Basis]:
    """Bases of a file of SDSS or of redrock.

    Parameters
    ----------
    path : Path
    kind : str, optional
        The class that a file of SDSS does not say.
    redshifts : tuple of float, optional
    most : int, optional
        So many vectors from the first.

    Returns
    -------
    list of Basis

    Raises
    ------
    SpecError
        If it is neither, or the class is not what the file says.
    """
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyUserWarning

    try:
        with warnings.catch_warnings():
            # Of a file that is cut short, which is an error below.
            warnings.simplefilter("ignore", AstropyUserWarning)
            with fits.open(path) as file:
                is_redrock = "BASIS_VECTORS" in file
            if is_redrock:
                bases = [read_redrock(path, redshifts)]
            elif kind is None:
                raise SpecError(str(path), "does not say its class", f"say it: of: {KINDS[0]}")
            else:
                bases = read_sdss(path, kind, redshifts, most)
    except FileNotFoundError:
        raise SpecError(str(path), "there is no such file") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        # What astropy says of a file that is cut short, or lacks a keyword.
        reason = str(error).strip("'\"") or type(error).__name__
        raise SpecError(str(path), f"cannot be read as templates: {reason}") from error
    if is_redrock and kind not in (None, bases[0].kind):
        raise SpecError(str(path), f"expected templates of {kind}, they are of {bases[0].kind}")
    return [replace(one, vectors=one.vectors[:most]) for one in bases] if is_redrock else bases
