"""Spectra as SDSS publishes them: an object in each file, or a plate.

https://data.sdss.org/datamodel/files/BOSS_SPECTRO_REDUX/RUN2D/spectra/PLATE4/spec.html and
https://data.sdss.org/datamodel/files/BOSS_SPECTRO_REDUX/RUN2D/PLATE4/spPlate.html
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from galbatch.errors import DataError, SpecError
from galbatch.readers.fits_parts import (
    array_column,
    even_grid,
    open_parts,
    same_rows,
    see_image,
    see_table,
    table_columns,
)
from galbatch.readers.groups import GroupColumn
from galbatch.readers.spectra import PartsReader, SpectraFile
from galbatch.values import EvenGrid

_SPEC, _PLATE = "a 'spec' file of SDSS", "an 'spPlate' file of SDSS"
_LOW, _HIGH = 100.0, 1e7
"""Angstrom: the wavelengths that anything here is for."""
UNIT = "1e-17 erg / (s cm2 Angstrom)"
_IMAGES = {
    "PRIMARY": "flux",
    "IVAR": "ivar",
    "ANDMASK": "and_mask",
    "ORMASK": "or_mask",
    "WAVEDISP": "wdisp",
    "SKY": "sky",
}


class SdssSpecReader(PartsReader):
    """Reads the one object of a `spec` file."""

    def parts(self, path: str, stack: ExitStack) -> SpectraFile:
        """The row of SPECOBJ, and each column of COADD as its array."""
        file = open_parts(path, stack, ("COADD",), _SPEC)
        see_table(path, file["COADD"], _SPEC)
        if len(file) < 3 or len(_rows(file[2])) != 1:
            raise SpecError(path, f"expected {_SPEC}, HDU 2 is no table of one row")
        columns = table_columns(file[2])
        pixels, logarithms = file["COADD"].data, None
        for one in file["COADD"].columns:
            name, values = one.name.lower(), np.asarray(pixels.field(one.name))
            if name == "loglam":
                logarithms = values.astype(np.float64)
                continue
            unit = UNIT if name in ("flux", "sky", "model") else ""
            columns[one.name] = array_column(values[None, :], unit, beside=True)
        if logarithms is None:
            raise SpecError(path, f"expected {_SPEC}, COADD has no column 'loglam'")
        grid = even_grid(path, logarithms, logarithmic=True)
        return SpectraFile(columns, grid, "vacuum")


class SdssPlateReader(PartsReader):
    """Reads the fibres of an `spPlate` file."""

    def parts(self, path: str, stack: ExitStack) -> SpectraFile:
        """The rows of PLUGMAP, and the images."""
        file = open_parts(path, stack, ("IVAR", "PLUGMAP"), _PLATE)
        see_image(path, file[0], _PLATE, 2)
        see_table(path, file["PLUGMAP"], _PLATE)
        header = file[0].header
        rows = len(file["PLUGMAP"].data)
        columns = table_columns(file["PLUGMAP"])
        _in_order(path, file["PLUGMAP"])
        arrays = _images(file)
        same_rows(path, arrays, rows, "PLUGMAP")
        for keyword in ("PLATEID", "MJD"):
            if keyword in header and keyword not in columns:
                columns[keyword] = array_column(np.full(rows, int(header[keyword]), np.int64))
        return SpectraFile(columns | arrays, _grid(path, header, file[0].data.shape[1]), "vacuum")


def _rows(part: Any) -> Any:
    """The rows of a table; none of another part."""
    return part.data if not part.is_image and part.data is not None else ()


def _images(file: Any) -> dict[str, GroupColumn]:
    found = {}
    for place, part in enumerate(file):
        name = _IMAGES.get("PRIMARY" if place == 0 else part.name)
        if name and part.data is not None and part.data.ndim == 2:
            unit = UNIT if name in ("flux", "sky") else ""
            found[name] = array_column(part.data, unit, beside=True)
    return found


def _in_order(path: str, plugmap: Any) -> None:
    """The images have their rows in the order of the fibres: so must the table.

    Raises
    ------
    DataError
        If it has not.
    """
    names = {one.name.lower(): one.name for one in plugmap.columns}
    if "fiberid" not in names:
        return
    fibres = np.asarray(plugmap.data.field(names["fiberid"]))
    wrong = np.flatnonzero(np.diff(fibres) <= 0)
    if len(wrong):
        row = int(wrong[0]) + 2
        raise DataError(
            path,
            f"expected PLUGMAP in the order of the fibres, as the images are: row {row} is fibre "
            f"{fibres[row - 1]}, the row before it fibre {fibres[row - 2]}",
            "nobody can tell which spectrum is whose",
        )


def _grid(path: str, header: Mapping[str, Any], points: int) -> EvenGrid:
    """The wavelengths: even in their logarithms, or themselves where DC-FLAG is 0.

    Where the header has no DC-FLAG, COEFF0 tells which: no logarithm is as large as a wavelength.

    Raises
    ------
    SpecError
        If they are no wavelengths.
    """
    try:
        first, step = float(header["COEFF0"]), float(header["COEFF1"])
    except (KeyError, TypeError, ValueError):
        raise SpecError(path, "expected COEFF0 and COEFF1 in the header of the first HDU") from None
    logarithmic = bool(header["DC-FLAG"]) if "DC-FLAG" in header else first < _LOW
    low, high = np.log10([_LOW, _HIGH]) if logarithmic else (_LOW, _HIGH)
    if not (step > 0 and low <= first and first + step * (points - 1) <= high):
        what = "logarithms of wavelengths" if logarithmic else "wavelengths"
        raise SpecError(
            path,
            f"expected rising {what} in Angstrom, COEFF0 is {first:g} and COEFF1 {step:g} for "
            f"{points:,} pixels",
            "DC-FLAG says 1 for logarithms, 0 for wavelengths",
        )
    return EvenGrid(first, step, points, logarithmic)
