"""From what a file holds to rows of the catalogue: what `scan` does and `validate` tries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from galbatch.columns import is_list, is_number, is_tensor, is_text, shape_of, to_numpy
from galbatch.errors import SpecError
from galbatch.intake.ids import (
    as_wanted,
    beyond,
    id_type,
    integers,
    made_id,
    no_ids,
    refused_parts,
)
from galbatch.intake.positions import (
    HIGHEST_RA,
    LOWEST_RA,
    degrees,
    is_sexagesimal,
    wrapped,
)
from galbatch.intake.spectra import (
    SharedAxis,
    SpectralPlan,
    assumed,
    axis_of_all,
    on_axis,
    plan_spectra,
)
from galbatch.intake.types import arrow_type, wanted_type
from galbatch.intake.units import UnitPlan, converted, plan_units
from galbatch.readers.base import Batch, FileColumn, Header, Reader
from galbatch.spec.resolve import Resolution, resolve_columns
from galbatch.spec.survey import Survey
from galbatch.store.arrays import ArraySpec
from galbatch.store.quarantine import GOT, as_table, rejected_table
from galbatch.store.tables import HEALPIX, OWN, ROW
from galbatch.values import is_array

_SAMPLE = 1_000
"""Rows of a text format that are looked at to tell what its ids and positions are."""


@dataclass(frozen=True)
class Intake:
    """How the columns of a file become the survey's.

    Parameters
    ----------
    resolution : Resolution
    units : UnitPlan
    notes : tuple of str
        What a user should know of the file, a line each.
    ids : mapping of str to pyarrow.DataType
        Integers that ids of a text format become, by the store's name; known once the first of
        them were looked at.
    spectra : SpectralPlan or None
        None where the spectra of the file, if it has any, are on the survey's axis.
    """

    resolution: Resolution
    units: UnitPlan
    notes: tuple[str, ...] = ()
    ids: Mapping[str, pa.DataType] = field(default_factory=dict)
    spectra: SpectralPlan | None = None


def plan_intake(survey: Survey, header: Header, file: str) -> Intake:
    """Match a file's columns and units with the survey's, by its header alone.

    Parameters
    ----------
    survey : Survey
    header : Header
    file : str
        For messages.

    Raises
    ------
    SpecError
        Naming the file and the column.
    """
    axis = axis_of_all(survey, header)
    unread = {*OWN, *([axis.name] if axis else [])}
    columns = [column for column in header.columns if column.name not in unread]
    resolution = resolve_columns(survey, [column.name for column in columns], file)
    _refuse_what_lies_apart(survey, header, resolution, file)
    stated = {resolution.names[column.name]: column.unit for column in columns}
    own = [f"'{column.name}'" for column in header.columns if column.name in OWN]
    left_out = f"the store has its own {', '.join(own)}: left out"
    notes = (
        *header.notes, *_beside(header, axis), *([left_out] if own else []),
        *assumed(survey, header),
    )  # fmt: skip
    spectra = plan_spectra(survey, columns, header, file)
    if spectra is not None:
        _see_spectra(survey, spectra, columns, resolution, axis.name if axis else "", file)
    return Intake(resolution, plan_units(survey, stated, file), notes, spectra=spectra)


def _beside(header: Header, axis: SharedAxis | None) -> list[str]:
    """What is to be said of numbers that lie beside the columns."""
    others = [f"{one.name} {len(one.values):,}" for one in header.axes if one is not axis]
    notes = [f"left out, as the other columns have more or fewer rows: {', '.join(others)}"]
    taken = [] if axis is None else [f"'{axis.name}' has the wavelengths of all rows"]
    return [*taken, *(notes if others else [])]


def _see_spectra(
    survey: Survey,
    plan: SpectralPlan,
    columns: Sequence[FileColumn],
    resolution: Resolution,
    axis: str,
    file: str,
) -> None:
    """Refuse spectra that are no lists, or have not as many pixels as all rows have wavelengths.

    Raises
    ------
    SpecError
        Naming the column.
    """
    for column in columns:
        name, kind = resolution.names[column.name], column.type
        if not plan.takes(survey, column.name, name):
            continue
        if not _is_numbers(kind):
            got = f"got {kind or 'text'}" if not column.problem else column.problem
            hint = "wavelengths of all rows are an array of shape (1, m), with m pixels"
            raise SpecError(
                f"{file}: column '{column.name}'",
                f"expected a list of numbers in each row, {got}",
                hint if column.name == plan.spelling else "",
            )
        shape, pixels = shape_of(kind), math.prod(shape_of(kind))
        if plan.grid and shape and pixels != plan.grid.points:
            whose = f"wavelengths of all rows ('{axis}')" if axis else "wavelengths of the file"
            raise SpecError(
                f"{file}: column '{column.name}'",
                f"expected as many pixels as the {whose}, {plan.grid.points:,}, got {pixels:,}",
            )


def _is_numbers(kind: pa.DataType | None) -> bool:
    """Whether a column holds a list of numbers in each row."""
    if kind is None or is_tensor(kind):
        return kind is not None
    return is_list(kind) and is_number(kind.value_type)


def stored_type(survey: Survey, intake: Intake, name: str, kind: pa.DataType) -> pa.DataType | None:
    """What a column that was read as `kind` is in the store; None where it is not kept.

    Parameters
    ----------
    survey : Survey
    intake : Intake
    name : str
        In the store.
    kind : pyarrow.DataType
    """
    if survey.sky is not None and name in (survey.sky.ra, survey.sky.dec):
        return pa.float64()  # in degrees, whatever it was
    if intake.spectra is not None and survey.spectra is not None:
        if name == intake.resolution.names.get(intake.spectra.spelling, ""):
            return None
        if name in survey.spectra.columns:
            return arrow_type(survey.column[name])
    return kind


def _refuse_what_lies_apart(
    survey: Survey, header: Header, resolution: Resolution, file: str
) -> None:
    """Refuse a file that has a column of the survey, but not in step with the others."""
    apart = {name.lower(): (name, why) for name, why in header.apart}
    if survey.spectra is not None and survey.spectra.wavelength.lower() in apart:
        found, why = apart[survey.spectra.wavelength.lower()]
        raise SpecError(
            f"{file}: '{found}'",
            f"the wavelengths cannot be read: {why}",
            "those of all rows are read from HDF5, Zarr and .npz",
        )
    for name in resolution.absent:
        for spelling in (name, *survey.column[name].aliases):
            if spelling.lower() in apart:
                found, why = apart[spelling.lower()]
                raise SpecError(file, f"column '{name}' cannot be read from '{found}': {why}")


def column_types(
    survey: Survey, reader: Reader, path: str, header: Header, intake: Intake
) -> tuple[dict[str, pa.DataType], Intake]:
    """What each column of the file is read as, by the file's spelling.

    Of text formats, the first rows are looked at to tell what ids and positions are. Their ids
    are read as text, since a number would not tell 007 from 7, and `catalogue_rows` makes the
    integers of them that the first ones are: the intake that is returned says which.
    """
    resolution = intake.resolution
    arrived = {column.name: column.type for column in header.columns}
    beside = {column.name for column in header.columns if column.beside}
    spelled = {name: spelling for spelling, name in resolution.names.items()}
    ids = [name for name in (survey.id.column, *survey.id.parts) if name in spelled]
    sky = [survey.sky.ra, survey.sky.dec] if survey.sky else []
    unsure = [name for name in ids if survey.column[name].dtype is None] + sky
    sample = _sample(reader, path, [spelled[one] for one in unsure if not arrived[spelled[one]]])
    types: dict[str, pa.DataType] = {}
    integers_of: dict[str, pa.DataType] = {}
    unlisted: list[str] = []
    for spelling, name in resolution.names.items():
        column, own = survey.column.get(name), arrived[spelling]
        shape = () if own is None else shape_of(own)
        if intake.spectra is not None and intake.spectra.takes(survey, spelling, name):
            types[spelling] = pa.null()  # as long as it is in each row
        elif column is None and (spelling in beside or is_array(shape)):
            unlisted.append(f"'{spelling}' {list(shape)}")
        elif column is None:
            types[spelling] = pa.null()  # as it comes
        elif name in ids:
            types[spelling] = id_type(column, own, sample.get(spelling))
            if column.dtype is None and own is None and types[spelling] != pa.string():
                integers_of[name] = types[spelling]
                types[spelling] = pa.string()
        elif name in sky and _is_text(own, sample.get(spelling)):
            types[spelling] = pa.string()
        else:
            types[spelling] = wanted_type(column, own)
    notes = intake.notes
    if unlisted:
        # Only the survey can say where an array goes: what its axes are, and of what type it is.
        said = "arrays that the survey does not list (with their shape) are left out"
        notes = (*notes, f"{said}: {', '.join(unlisted)}")
    return types, replace(intake, ids=integers_of, notes=notes)


def _sample(reader: Reader, path: str, spellings: Sequence[str]) -> dict[str, pa.ChunkedArray]:
    """The first values of columns of a text format, as they stand there."""
    if not spellings:
        return {}
    first = next(reader.batches(path, dict.fromkeys(spellings, pa.null()), _SAMPLE), None)
    return {} if first is None else {name: first.table[name] for name in spellings}


def _is_text(arrived: pa.DataType | None, sample: pa.ChunkedArray | None) -> bool:
    """Whether a position is to be read as text."""
    if arrived is not None:
        return is_text(arrived)
    return sample is not None and is_sexagesimal(sample)


def catalogue_rows(
    survey: Survey, batch: Batch, intake: Intake, file: str
) -> tuple[pa.Table, pa.Table]:
    """The rows of a batch that have an id and a place on the sky, in the survey's units.

    Parameters
    ----------
    survey : Survey
    batch : Batch
        With the store's column names.
    intake : Intake
        From `column_types`.
    file : str
        For the quarantine.

    Returns
    -------
    tuple of pyarrow.Table
        Rows with `_row`, without their pixels; and those that were rejected, by the reader too.
    """
    sieve = _Sieve(batch, file)
    table = _with_ids(survey, batch.table, intake, sieve)
    table = _with_positions(survey, table, intake.units, sieve)
    table = _with_spectra(survey, table, intake, sieve)
    _see_arrays(survey, table, sieve)
    table = _with_units(converted(survey, table, intake.units), intake.units.own)
    table = table.append_column(ROW, pa.array(batch.rows))
    if not sieve.good.all():
        table = table.filter(pa.array(sieve.good))
    return table, pa.concat_tables(sieve.refused)


class _Sieve:
    """Which rows of a batch are good so far, and why the others are not."""

    def __init__(self, batch: Batch, file: str) -> None:
        self._rows, self._file = batch.rows, file
        self.good = np.ones(batch.table.num_rows, bool)
        self.refused = [as_table([replace(row, file=file) for row in batch.rejected])]

    def refuse(
        self, bad: NDArray[np.bool_], reason: str, values: pa.ChunkedArray | None = None
    ) -> None:
        """Take rows out, for a reason that ends with what arrived, if values are given."""
        places = np.flatnonzero(bad & self.good)
        self.good &= ~bad
        if not len(places):
            return
        reasons = pa.repeat(reason, len(places))
        if values is not None:
            arrived = pc.fill_null(values.take(pa.array(places)).cast(pa.string()), "nothing")
            reasons = pc.binary_join_element_wise(reasons, arrived.combine_chunks(), GOT)
        rows = pa.array(self._rows[places])
        self.refused.append(rejected_table(self._file, rows, reasons))


def _with_ids(survey: Survey, table: pa.Table, intake: Intake, sieve: _Sieve) -> pa.Table:
    """With the id in one column, of the type that the survey says or the first rows have."""
    for name, kind in intake.ids.items():
        whole, bad = integers(table[name], kind)
        expected = (
            f"column '{name}': expected a whole number ({kind}) as in the first rows, written out, "
            "without zeros in front (if ids are text, say dtype: string in the survey)"
        )
        sieve.refuse(bad, expected, table[name])
        table = table.set_column(table.schema.get_field_index(name), name, whole)
    for name in (survey.id.column, *survey.id.parts):
        place = table.schema.get_field_index(name)
        if place >= 0:
            column, values = survey.column[name], table.column(place)
            sieve.refuse(
                beyond(column, values), f"column '{name}': expected {column.dtype}", values
            )
            table = table.set_column(place, name, as_wanted(column, values))
    for name in survey.id.parts or (survey.id.column,):
        sieve.refuse(_is_missing(table[name]), f"column '{name}': the id is missing")
    for name in survey.id.parts:
        expected, bad = refused_parts(survey, name, table[name])
        sieve.refuse(bad, f"column '{name}': expected {expected}", table[name])
    if survey.id.parts and survey.id.column not in table.column_names:
        made = made_id(survey, [table[name] for name in survey.id.parts])
        table = table.append_column(survey.id.column, made)
    return table


def _with_positions(survey: Survey, table: pa.Table, units: UnitPlan, sieve: _Sieve) -> pa.Table:
    """With the position in degrees, where the survey has a sky."""
    if survey.sky is None:
        return table
    angles = {}
    for name, low, high in (
        (survey.sky.ra, LOWEST_RA, HIGHEST_RA),
        (survey.sky.dec, -90.0, 90.0),
    ):
        unit = units.positions.get(name, "")
        is_ra = name == survey.sky.ra
        values = degrees(table[name], unit, hours=is_ra and name not in units.in_degrees)
        known = f" (in {unit})" if unit not in ("", "deg") else ""
        expected = f"column '{name}'{known}: expected an angle from {low:g} to {high:g} degrees"
        sieve.refuse(~((values >= low) & (values <= high)), expected, table[name])
        angles[name] = wrapped(values) if is_ra else values
    for name, values in angles.items():
        table = _in_degrees(table, name, values, sieve.good)
    return table


def _with_spectra(survey: Survey, table: pa.Table, intake: Intake, sieve: _Sieve) -> pa.Table:
    """With the spectra on the survey's axis."""
    if intake.spectra is None:
        return table
    names = intake.resolution.names
    table, problems = on_axis(survey, intake.spectra, table, names.get(intake.spectra.spelling, ""))
    for places, reason in problems:
        bad = np.zeros(table.num_rows, bool)
        bad[places] = True
        sieve.refuse(bad, reason)
    return table


def _see_arrays(survey: Survey, table: pa.Table, sieve: _Sieve) -> None:
    """Refuse rows of integers that would be taken for rows without a value."""
    for column in survey.arrays:
        array = ArraySpec(column.name, column.shape, column.axes, column.kind)
        if array.missing != array.missing or table.schema.get_field_index(column.name) < 0:
            continue  # NaN everywhere is no value, in a file and in the store
        values = table[column.name]
        blank = array.is_missing(to_numpy(values)) & np.asarray(values.is_valid())
        sieve.refuse(
            blank,
            f"column '{column.name}': expected a value, all of the row's are {array.missing}, "
            "which stands for none in the store (a wider dtype in the survey leaves room for it)",
        )


def with_pixels(survey: Survey, table: pa.Table) -> pa.Table:
    """Rows from `catalogue_rows` with `_healpix_29`, where the survey has a sky.

    By itself, as the library takes longer to import than `validate` has work for.
    """
    if survey.sky is None:
        return table
    from hats.pixel_math.spatial_index import compute_spatial_index

    ra, dec = (
        pc.cast(table[name], pa.float64()).to_numpy() for name in (survey.sky.ra, survey.sky.dec)
    )
    healpix = np.asarray(compute_spatial_index(ra, dec), dtype=np.int64)
    return table.append_column(HEALPIX, pa.array(healpix))


def _in_degrees(
    table: pa.Table, name: str, values: NDArray[np.float64], good: NDArray[np.bool_]
) -> pa.Table:
    """With a position as the store has it: float64, in every batch of a file alike."""
    place = table.schema.get_field_index(name)
    column = table.column(place)
    if column.type == pa.float64() and np.array_equal(column.to_numpy()[good], values[good]):
        return table
    return table.set_column(place, name, pa.array(values))


def _with_units(table: pa.Table, own: Mapping[str, str]) -> pa.Table:
    """With the units that the file alone states, for the store to keep."""
    schema = table.schema
    for name, unit in own.items():
        place = schema.get_field_index(name)
        if place >= 0:
            schema = schema.set(place, schema.field(place).with_metadata({"unit": unit}))
    return table.cast(schema) if schema is not table.schema else table


def _is_missing(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    missing: NDArray[np.bool_] = np.array(pc.is_null(column, nan_is_null=True))
    return missing if not is_text(column.type) else no_ids(column).to_numpy()
