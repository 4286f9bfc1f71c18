"""A simulated catalogue of spectra, in the columns of a survey without bands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.columns import arrow_type, from_numpy
from galbatch.errors import SpecError
from galbatch.intake.ids import made_id
from galbatch.mock.sed_library import RANGE, library_columns
from galbatch.mock.spectra import CHUNK, EVERY_ROWS, every_subclass_columns
from galbatch.spec.columns import Column
from galbatch.spec.survey import Survey
from galbatch.spectra.grids import SDSS_STEP, LogGrid, log_grid_of

_IN_GROUP = 1000
"""Rows with the same first part of an id: fibres of a plate."""


def spectral_batches(
    survey: Survey, rows: int, seed: int, batch_rows: int, first: int = 0
) -> Iterator[pa.Table]:
    """Spectra of stars, galaxies and quasars of all subclasses, or of a library, batch by batch.

    Parameters
    ----------
    survey : Survey
        With `spectra.mock`.
    rows, seed, batch_rows : int
        See `galbatch.mock.observe.mock_batches`. Batches are smaller where a chunk of the same
        random stream ends.
    first : int
        Rows to leave out at the beginning, a multiple of `CHUNK`.

    Returns
    -------
    iterator of pa.Table
        With the survey's columns, in its order and types.

    Raises
    ------
    SpecError
        If the survey's axis is none that they can be made on.
    """
    if first % CHUNK:
        raise ValueError(f"first: expected a multiple of {CHUNK}, got {first}")
    assert survey.spectra is not None and survey.spectra.mock is not None
    if survey.spectra.mock.at_rest:
        made = _of_the_library(survey, rows, seed, first)
    else:
        made = _of_every_subclass(_grid(survey), rows, seed, first, batch_rows)

    def batches() -> Iterator[pa.Table]:
        for start, found in made:
            table = _table(survey, start, found, seed)
            for begin in range(0, table.num_rows, batch_rows):
                yield table.slice(begin, batch_rows).combine_chunks()

    return batches()


def _of_every_subclass(
    grid: LogGrid, rows: int, seed: int, first: int, batch_rows: int
) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
    """Observed spectra, and the number of the first row of each lot."""
    step = max(batch_rows // CHUNK, 1) * CHUNK
    start = first
    while start < rows:
        block, inside = divmod(start, EVERY_ROWS)
        stop = min(inside + step, EVERY_ROWS, inside + rows - start)
        yield start, every_subclass_columns(grid, (seed, block), slice(inside, stop))
        start += stop - inside


def _of_the_library(
    survey: Survey, rows: int, seed: int, first: int
) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
    """Spectra at rest, and the number of the first row of each lot."""
    assert survey.spectra is not None and survey.spectra.mock is not None
    dusty = survey.spectra.mock.of == "dusty_sed_library"
    wavelengths = np.array(survey.wavelengths)
    if wavelengths[0] < RANGE[0] or wavelengths[-1] > RANGE[1]:
        raise SpecError(
            f"survey {survey.name}: axes",
            f"the library has wavelengths from {RANGE[0]:g} to {RANGE[1]:g} Angstrom, got "
            f"{wavelengths[0]:g} to {wavelengths[-1]:g}",
        )

    def lots() -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
        for start in range(first, rows, CHUNK):
            found = library_columns(wavelengths, (seed, 4, start // CHUNK), CHUNK, dusty=dusty)
            yield start, {name: values[: rows - start] for name, values in found.items()}

    return lots()


def _grid(survey: Survey) -> LogGrid:
    grid = log_grid_of(np.array(survey.wavelengths))
    if grid is None:
        raise SpecError(
            f"survey {survey.name}: axes",
            "spectra can be simulated on wavelengths that are even in the logarithm alone",
            f"scale: log10 with step: {SDSS_STEP:g}",
        )
    return grid


def _table(survey: Survey, start: int, found: dict[str, NDArray[Any]], seed: int) -> pa.Table:
    """The rows from `start` on, in the columns of the survey."""
    spectra = survey.spectra
    assert spectra is not None and spectra.mock is not None
    count = len(found["flux"])
    values: dict[str, NDArray[Any]] = {spectra.flux: found["flux"], spectra.ivar: found["ivar"]}
    if spectra.mask and "mask" in found:
        values[spectra.mask] = found["mask"]
    values |= {name: found[what] for name, what in spectra.mock.columns.items() if what in found}
    values |= {name: np.full(count, number) for name, number in spectra.mock.constants.items()}
    values |= _positions(survey, start, count, seed)
    number = np.arange(start, start + count)
    parts = survey.id.parts or (survey.id.column,)
    values[parts[-1]] = number + 1 if len(parts) == 1 else number % _IN_GROUP + 1
    values |= dict.fromkeys(parts[:-1], number // _IN_GROUP + 1)
    arrays = {
        column.name: _column(column, values.get(column.name), count)
        for column in survey.stored_columns
    }
    table = pa.table(arrays)
    place = table.schema.get_field_index(survey.id.column)
    if survey.id.parts and place >= 0:
        made = made_id(survey, [table[name] for name in survey.id.parts])
        table = table.set_column(place, survey.id.column, made)
    return table


def _positions(survey: Survey, start: int, count: int, seed: int) -> dict[str, NDArray[Any]]:
    """Anywhere on the sky; each row has the same place in whatever batch it comes."""
    if survey.sky is None:
        return {}
    chunks = range(start // CHUNK, (start + count - 1) // CHUNK + 1)
    found = [np.random.default_rng((seed, 3, one)).uniform(size=(2, CHUNK)) for one in chunks]
    along, up = np.concatenate(found, axis=1)[:, :count]
    return {survey.sky.ra: 360.0 * along, survey.sky.dec: np.degrees(np.arcsin(2.0 * up - 1.0))}


def _column(column: Column, values: NDArray[Any] | None, count: int) -> pa.Array:
    if column.kind == "string":
        return pa.array([None] * count if values is None else values.tolist(), pa.string())
    kind = arrow_type(column.kind, column.shape, column.axes)
    if values is None:
        return pa.nulls(count, kind)
    return from_numpy(values, kind)
