"""Coadded spectra of DESI, whose arms are put together.

https://desidatamodel.readthedocs.io/en/latest/DESI_SPECTRO_REDUX/SPECPROD/healpix/SURVEY/PROGRAM/PIXGROUP/PIXNUM/coadd-SURVEY-PROGRAM-PIXNUM.html
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.errors import DataError, SpecError
from galbatch.readers.fits_parts import (
    even_grid,
    open_parts,
    see_image,
    see_table,
    table_columns,
)
from galbatch.readers.groups import GroupColumn, row_type
from galbatch.readers.spectra import PartsReader, SpectraFile
from galbatch.values import EvenGrid

_COADD = "a 'coadd' file of DESI"
UNIT = "1e-17 erg / (s cm2 Angstrom)"
_WHOLE = 0.01
"""Of a pixel: by so much less than whole pixels arms may be apart."""


class DesiCoaddReader(PartsReader):
    """Reads the targets of a `coadd` file.

    The arms have one grid of wavelengths. Where two of them overlap, the flux is the mean weighted
    by the inverse variances, which add up; a pixel that has flags in one arm is taken from the
    other. Flags are kept where every arm has some.
    """

    def parts(self, path: str, stack: ExitStack) -> SpectraFile:
        """The rows of FIBERMAP, and the arms together."""
        file = open_parts(path, stack, ("FIBERMAP",), _COADD)
        names = {one.name for one in file}
        arms = [name.removesuffix("_FLUX") for name in names if name.endswith("_FLUX")]
        if not arms:
            raise SpecError(path, f"expected {_COADD}, no part is called '..._FLUX'")
        _see_parts(path, file, arms)
        columns = table_columns(file["FIBERMAP"])
        rows = len(file["FIBERMAP"].data)
        _same_targets(path, file)
        grids = {}
        for arm in arms:
            wavelengths = np.asarray(file[f"{arm}_WAVELENGTH"].data, np.float64)
            grids[arm] = even_grid(path, wavelengths, logarithmic=False)
        arms.sort(key=lambda arm: grids[arm].first)
        grid, places = _one_grid(path, [grids[arm] for arm in arms])
        found = []
        for arm, place in zip(arms, places, strict=True):
            flux, ivar = file[f"{arm}_FLUX"].data, file[f"{arm}_IVAR"].data
            mask = file[f"{arm}_MASK"].data if f"{arm}_MASK" in names else None
            for name, image in (("FLUX", flux), ("IVAR", ivar), ("MASK", mask)):
                shape = None if image is None else image.shape
                if shape not in (None, (rows, grids[arm].points)):
                    raise DataError(
                        path, f"'{arm}_{name}' has the shape {shape}, expected "
                        f"({rows}, {grids[arm].points}) as FIBERMAP and {arm}_WAVELENGTH have",
                    )  # fmt: skip
            found.append(_Arm(flux, ivar, mask, place))
        together = _Together(found, grid.points, rows)
        columns |= together.columns()
        return SpectraFile(columns, grid, "vacuum")


@dataclass(frozen=True)
class _Arm:
    """Images of an arm, and the pixel of the whole grid that it begins at."""

    flux: Any
    ivar: Any
    mask: Any
    place: int


class _Together:
    """Rows of all arms, computed once for the columns that are read in step."""

    def __init__(self, arms: Sequence[_Arm], points: int, rows: int) -> None:
        self._arms, self._points, self._rows = arms, points, rows
        self._range = (0, 0)
        self._found: dict[str, NDArray[Any]] = {}

    def columns(self) -> dict[str, GroupColumn]:
        """Flux, inverse variance and flags."""
        kinds = {"flux": np.float32, "ivar": np.float32, "mask": np.int32}
        found = {}
        for name, kind in kinds.items():
            type_ = row_type(np.dtype(kind), (self._points,))
            unit = UNIT if name == "flux" else ""
            found[name] = GroupColumn(self._rows, type_, unit, self._reader(name), beside=True)
        return found

    def _reader(self, name: str) -> Any:
        def read(start: int, stop: int) -> NDArray[Any]:
            if (start, stop) != self._range:
                self._found, self._range = self._added(start, stop), (start, stop)
            return self._found[name]

        return read

    def _added(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        shape = (stop - start, self._points)
        weights, weighted = np.zeros(shape), np.zeros(shape)
        plain, covered = np.zeros(shape), np.zeros(shape)
        flags = np.full(shape, -1, np.int64)
        for arm in self._arms:
            flux = np.asarray(arm.flux[start:stop], np.float64)
            ivar = np.asarray(arm.ivar[start:stop], np.float64)
            mask = None if arm.mask is None else np.asarray(arm.mask[start:stop], np.int64)
            there = slice(arm.place, arm.place + flux.shape[1])
            good = np.isfinite(flux) & (ivar > 0) & np.isfinite(ivar)
            flags[:, there] &= 0 if mask is None else mask
            if mask is not None:
                good &= mask == 0
            weight = np.where(good, ivar, 0.0)
            weights[:, there] += weight
            weighted[:, there] += weight * np.where(good, flux, 0.0)
            plain[:, there] += np.where(np.isfinite(flux), flux, 0.0)
            covered[:, there] += 1
        known = weights > 0
        mean = np.divide(plain, covered, where=covered > 0, out=np.full(shape, np.nan))
        flux = np.divide(weighted, weights, where=known, out=mean)
        return {
            "flux": flux.astype(np.float32),
            "ivar": weights.astype(np.float32),
            "mask": np.where(covered > 0, flags, 0).astype(np.int32),
        }


def _one_grid(path: str, grids: Sequence[EvenGrid]) -> tuple[EvenGrid, list[int]]:
    """The grid of all arms, and the pixel that each of them begins at.

    Raises
    ------
    DataError
        If they are not on one.
    """
    first, step = grids[0].first, grids[0].step
    places = []
    for grid in grids:
        place = (grid.first - first) / step
        if (
            abs(grid.step - step) * grid.points > _WHOLE * step
            or abs(place - round(place)) > _WHOLE
        ):
            raise DataError(
                path, f"expected arms on one grid of {step:g} Angstrom, one begins at "
                f"{grid.first:.4f} with steps of {grid.step:g}, the first at {first:.4f}",
            )  # fmt: skip
        places.append(round(place))
    points = max(place + grid.points for place, grid in zip(places, grids, strict=True))
    return EvenGrid(first, step, points, logarithmic=False), places


def _see_parts(path: str, file: Any, arms: Sequence[str]) -> None:
    """See that nothing is missing.

    Raises
    ------
    SpecError
        Naming what is.
    """
    see_table(path, file["FIBERMAP"], _COADD, ("TARGETID",))
    names = {one.name for one in file}
    for arm in arms:
        for part, axes in (("FLUX", 2), ("WAVELENGTH", 1), ("IVAR", 2)):
            name = f"{arm}_{part}"
            if name not in names:
                raise SpecError(path, f"expected {_COADD}, there is no part '{name}'")
            see_image(path, file[name], _COADD, axes)
        if f"{arm}_MASK" in names:
            see_image(path, file[f"{arm}_MASK"], _COADD, 2)


def _same_targets(path: str, file: Any) -> None:
    """Refuse a file whose tables are not in step: the spectra would be somebody else's.

    Raises
    ------
    DataError
        Naming the first row.
    """
    ids = np.asarray(file["FIBERMAP"].data["TARGETID"])
    for part in file:
        if part.name == "SCORES" and "TARGETID" in part.columns.names:
            others = np.asarray(part.data["TARGETID"])
            wrong = np.flatnonzero(others != ids) if len(others) == len(ids) else np.array([0])
            if len(wrong):
                raise DataError(
                    path, f"SCORES and FIBERMAP name other targets in row {int(wrong[0]) + 1}",
                    "nobody can tell which spectrum is whose",
                )  # fmt: skip
