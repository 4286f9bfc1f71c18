"""The units of a file compared with those of the survey, and values converted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.columns import from_numpy, is_tensor, to_numpy
from galbatch.errors import SpecError
from galbatch.spec import units
from galbatch.spec.columns import Column
from galbatch.spec.survey import Survey, not_ab


@dataclass(frozen=True)
class UnitPlan:
    """How the values of a file come into the survey's units.

    Parameters
    ----------
    factors : mapping of str to float
        What columns of the store are multiplied by; those in the right unit are left
        out.
    positions : mapping of str to str
        Unit of the columns with the position, as far as it is known.
    in_degrees : frozenset of str
        Those that the file itself states in degrees: sexagesimal text in them is no right
        ascension in hours.
    own : mapping of str to str
        Units that the file states and the survey does not.
    notes : tuple of str
        What was converted or could not be compared, a line each.
    """

    factors: Mapping[str, float] = field(default_factory=dict)
    positions: Mapping[str, str] = field(default_factory=dict)
    in_degrees: frozenset[str] = frozenset()
    own: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def plan_units(survey: Survey, stated: Mapping[str, str], file: str) -> UnitPlan:
    """Compare what a file says of its units with what the survey says.

    Parameters
    ----------
    survey : Survey
    stated : mapping of str to str
        The unit that the file states for a column, by the column's name in the store; empty
        where it states none.
    file : str
        For messages.

    Returns
    -------
    UnitPlan

    Raises
    ------
    SpecError
        If they are units of different things, naming both.
    """
    factors: dict[str, float] = {}
    own: dict[str, str] = {}
    notes: list[str] = []
    sky = (survey.sky.ra, survey.sky.dec) if survey.sky else ()
    photometry = set(survey.in_photometry_unit)
    positions = {
        name: stated.get(name, "") or survey.column[name].unit for name in sky if name in stated
    }
    for name, arrived in stated.items():
        column, note = survey.column.get(name), ""
        if not arrived:
            continue
        where = f"{file}: column '{name}'"
        if column is None:
            own[name] = arrived
        elif name in positions:
            if units.is_sexagesimal(arrived):
                positions[name] = ""
            else:
                note = _angle_note(column, where, arrived)
        elif name in photometry:
            factor = _photometric(survey, where, arrived)
            note = _scale_note(column, where, arrived, survey.photometry.unit, factor)
            factors[name] = factor
        elif column.unit:
            factors[name], note = _factor(column, where, arrived)
        else:
            own[name] = arrived
        notes += [note] if note else []
    notes += _spectral(survey, stated, factors, file)
    factors = {name: factor for name, factor in factors.items() if factor != 1.0}
    in_degrees = {
        name
        for name in positions
        if units.factor(stated[name], "deg") is not None
        or (units.is_sexagesimal(stated[name]) and "d" in stated[name].lower())
    }
    return UnitPlan(factors, positions, frozenset(in_degrees), own, tuple(notes))


def _spectral(
    survey: Survey, stated: Mapping[str, str], factors: dict[str, float], file: str
) -> list[str]:
    """Notes on the units of spectra; sets the factor of the inverse variances.

    Raises
    ------
    SpecError
        If the flux is per frequency, or the inverse variances are of another unit.
    """
    spectra = survey.spectra
    if spectra is None or spectra.flux not in stated:
        return []
    flux, ivar = (survey.column[name] for name in (spectra.flux, spectra.ivar))
    where = f"{file}: column '{flux.name}'"
    arrived = stated[flux.name] or flux.unit
    if not arrived:
        return [f"column '{flux.name}' has no unit: taken for flux per wavelength"]
    if units.is_per_frequency(arrived):
        raise _contradiction(where, arrived, "flux per wavelength (erg/s/cm2/Angstrom, say)")
    scale = factors.get(flux.name, 1.0)
    said = stated.get(ivar.name, "")
    if not said:
        factors[ivar.name] = scale**-2
        note = f"column '{ivar.name}' has no unit: taken for that of '{flux.name}' to the power -2"
        return [note] if scale != 1.0 else []
    own = units.variance_factor(said, arrived)
    if own is None and None not in (units.unit(said), units.unit(arrived)):
        where = f"{file}: column '{ivar.name}'"
        raise _contradiction(where, said, f"'({arrived})-2', as '{flux.name}' is in '{arrived}'")
    factors[ivar.name] = (1.0 if own is None else own) * scale**-2
    return []


def _angle_note(column: Column, where: str, arrived: str) -> str:
    """A note if the positions are converted; an error if their unit is none of angle."""
    factor = units.factor(arrived, "deg")
    if factor is None and not units.is_hours(arrived):
        wanted = f"a unit of angle, as the survey's '{column.unit or 'deg'}'"
        raise _contradiction(where, arrived, wanted)
    return "" if factor == 1.0 else f"column '{column.name}' is in {arrived}: converted to deg"


def _factor(column: Column, where: str, arrived: str) -> tuple[float, str]:
    """The factor from a file's unit to that of the survey's column, and a note, if there is one."""
    wanted = column.unit
    factor = units.factor(arrived, wanted)
    if factor is not None:
        return factor, _scale_note(column, where, arrived, wanted, factor)
    if units.unit(arrived) is not None and units.unit(wanted) is not None:
        raise _contradiction(where, arrived, f"'{wanted}', as the survey says")
    if arrived == wanted:
        return 1.0, ""
    return 1.0, (
        f"column '{column.name}': unit '{arrived}' cannot be compared with '{wanted}': "
        "taken for the same"
    )


def _scale_note(column: Column, where: str, arrived: str, wanted: str, factor: float) -> str:
    """A note if the values are converted; an error if they are arrays of integers."""
    if factor == 1.0:
        return ""
    if column.is_array and not column.kind.startswith("float"):
        what = f"{column.kind} numbers in '{wanted}', which it cannot be converted to"
        raise _contradiction(where, arrived, what)
    return f"column '{column.name}' is in {arrived}: converted to {wanted}"


def _photometric(survey: Survey, where: str, arrived: str) -> float:
    wanted = survey.photometry.unit
    factor = units.factor(arrived, wanted)
    if factor is not None:
        return factor
    if survey.photometry.quantity == "magnitude":
        raise SpecError(where, f"unit '{arrived}' {not_ab(arrived)}")
    raise _contradiction(where, arrived, f"'{wanted}', as photometry.unit says")


def _contradiction(where: str, arrived: str, expected: str) -> SpecError:
    return SpecError(
        where,
        f"its unit is '{arrived}', expected {expected}",
        "correct the unit in the survey, or convert the column",
    )


def converted(survey: Survey, table: pa.Table, plan: UnitPlan) -> pa.Table:
    """A table with values in the survey's units; sentinels stay the numbers they are.

    Parameters
    ----------
    survey : Survey
    table : pyarrow.Table
        With the store's column names.
    plan : UnitPlan

    Returns
    -------
    pyarrow.Table
        The same where nothing differs; converted columns are float64, arrays of floats keep their
        type.
    """
    sentinels = [(one.value, one.tolerance) for one in survey.photometry.sentinels]
    photometry = set(survey.in_photometry_unit)
    for name, factor in plan.factors.items():
        place = table.schema.get_field_index(name)
        if place < 0:
            continue
        kept = sentinels if name in photometry else ()
        table = table.set_column(place, name, _scaled(table.column(place), factor, kept))
    return table


def _scaled(
    column: pa.ChunkedArray, factor: float, kept: Iterable[tuple[float, float]]
) -> pa.Array:
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], whole.type)
    if is_tensor(whole.type):
        values = to_numpy(whole)
        found = np.empty_like(values)  # of the type that the store's array has
        np.multiply(values, factor, out=found, dtype=np.float64, casting="same_kind")
        null = np.asarray(whole.is_null()) if whole.null_count else None
        return from_numpy(found, whole.type, null)
    if pa.types.is_fixed_size_list(whole.type):
        size = whole.type.list_size
        flat = whole.values.slice(whole.offset * size, len(whole) * size)
        mask = whole.is_null() if whole.null_count else None
        return pa.FixedSizeListArray.from_arrays(_product(flat, factor, kept), size, mask=mask)
    return _product(whole, factor, kept)


def _product(array: pa.Array, factor: float, kept: Iterable[tuple[float, float]]) -> pa.Array:
    values: NDArray[np.float64] = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    found = values * factor
    for sentinel, tolerance in kept:
        found = np.where(np.abs(values - sentinel) <= tolerance, values, found)
    return pa.array(found, mask=array.is_null().to_numpy(zero_copy_only=False))
