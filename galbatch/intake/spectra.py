"""The spectra of a file, each with its own wavelengths, brought onto the survey's axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from galbatch.columns import arrow_type, from_numpy, is_tensor
from galbatch.errors import SpecError
from galbatch.spec import units
from galbatch.spec.spectra import Medium, Scale, Spectra
from galbatch.spec.survey import Survey
from galbatch.spectra.axis import ToAxis, to_axis
from galbatch.spectra.medium import vacuum_wavelengths
from galbatch.values import EvenGrid

Problem = tuple[NDArray[np.int64], str]
"""Rows that cannot be taken, and why."""
_LOW, _HIGH = 100.0, 1e7
"""Angstrom: the wavelengths that anything here is for."""
_WAVELENGTHS_OF: dict[Scale, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "linear": lambda numbers: numbers,
    "log10": lambda numbers: np.power(10.0, numbers),
    "ln": np.exp,
}
_WIDE = (
    "column '{0}': it has flags that the survey's type for it has no bit for: write dtype: {1} for "
    "the column in the survey"
)
_WHOLE = {"float32": 2.0**24, "float64": 2.0**53}
"""Integers up to these are floats without rounding."""
_COARSEST = 0.05
_FEWEST = 2
"""Pixels of a spectrum that must fall on the axis."""


class NamedColumn(Protocol):
    """What the header of a file says of a column."""

    @property
    def name(self) -> str:
        """As the file spells it."""

    @property
    def unit(self) -> str:
        """Empty where it says none."""


class SharedAxis(NamedColumn, Protocol):
    """Numbers that belong to all rows of a file."""

    @property
    def values(self) -> tuple[float, ...]:
        """NaN where one is missing."""


class SpectralHeader(Protocol):
    """What the header of a file says of all its spectra."""

    @property
    def medium(self) -> Literal["", "vacuum", "air"]:
        """What the wavelengths are in; empty where it does not say so."""

    @property
    def grid(self) -> EvenGrid | None:
        """The wavelengths of all of them; None where it does not say them."""

    @property
    def axes(self) -> Sequence[SharedAxis]:
        """What lies beside the columns and may be their wavelengths."""


@dataclass(frozen=True)
class AnyGrid:
    """Wavelengths of all spectra of a file, in its medium and in Angstrom."""

    wavelengths: tuple[float, ...]

    @property
    def points(self) -> int:
        """How many there are."""
        return len(self.wavelengths)


@dataclass(frozen=True)
class SpectralPlan:
    """What the wavelengths of a file are.

    Parameters
    ----------
    spelling : str
        The file's name for the column with them; empty where its spectra are on the axis.
    unit : str
        Of the wavelengths.
    medium : str
        ``vacuum`` or ``air``.
    grid : EvenGrid, AnyGrid or None
        Of all spectra of the file.
    """

    spelling: str = ""
    unit: str = "Angstrom"
    medium: Medium = "vacuum"
    grid: EvenGrid | AnyGrid | None = None

    def takes(self, survey: Survey, spelling: str, name: str) -> bool:
        """Whether a column of the file, by its spelling and its name in the store, is meant."""
        if self.spelling and spelling == self.spelling:
            return True
        return survey.spectra is not None and name in survey.spectra.columns


def axis_of_all(survey: Survey, header: SpectralHeader) -> SharedAxis | None:
    """What lies beside the columns of a file and holds the wavelengths of all of its rows."""
    if survey.spectra is None or header.grid is not None:
        return None
    wanted = survey.spectra.wavelength.lower()
    return next((one for one in header.axes if one.name.strip().lower() == wanted), None)


def plan_spectra(
    survey: Survey, columns: Sequence[NamedColumn], header: SpectralHeader, file: str
) -> SpectralPlan | None:
    """What a file's wavelengths are, by its header.

    Parameters
    ----------
    survey : Survey
    columns : sequence
        Those of the file: each has a `name` and a `unit`.
    header : object
        What the file says of all its spectra.
    file : str
        For messages.

    Returns
    -------
    SpectralPlan or None
        None where the survey has no spectra, or those of the file are on its axis.

    Raises
    ------
    SpecError
        If the unit of the wavelengths is none, or those of all rows are no wavelengths.
    """
    settings = survey.spectra
    if settings is None:
        return None
    wanted = settings.wavelength.lower()
    axis = axis_of_all(survey, header)
    grid = axis or next((one for one in columns if one.name.strip().lower() == wanted), None)
    medium = header.medium or settings.medium
    if header.grid is not None:
        return SpectralPlan(medium=medium, grid=header.grid)
    if grid is None:
        return None if medium == "vacuum" else SpectralPlan(medium=medium)
    unit = grid.unit or settings.unit
    if settings.scale == "linear" and units.factor(unit, "Angstrom") is None:
        raise SpecError(
            f"{file}: column '{grid.name}'",
            f"expected a unit of wavelengths, got '{unit}'",
            "say what it is with 'unit' under 'spectra'",
        )
    unit = unit if settings.scale == "linear" else settings.unit
    plan = SpectralPlan(grid.name, unit, medium)
    if axis is None:
        return plan
    try:
        found = _in_angstrom(np.array(axis.values), settings, plan)
    except _NoGrid as reason:
        raise SpecError(f"{file}: column '{axis.name}'", str(reason)) from None
    return replace(plan, spelling="", grid=AnyGrid(tuple(found.tolist())))


def assumed(survey: Survey, header: SpectralHeader) -> tuple[str, ...]:
    """What is taken for granted of a file's spectra, since neither it nor the survey says so."""
    settings = survey.spectra
    if settings is None or header.medium or "medium" in settings.model_fields_set:
        return ()
    return ("wavelengths are taken for those in vacuum: 'medium' under 'spectra' does not say it",)


def on_axis(
    survey: Survey, plan: SpectralPlan, table: pa.Table, wavelengths: str
) -> tuple[pa.Table, list[Problem]]:
    """The rows of a table with their spectra on the survey's axis.

    Parameters
    ----------
    survey : Survey
        With spectra.
    plan : SpectralPlan
    table : pa.Table
        With the columns of the spectra as lists of any length, and that of the wavelengths.
    wavelengths : str
        The name of the latter; empty where there is none.

    Returns
    -------
    pa.Table
        With the columns of the spectra as arrays, and without the wavelengths.
    list of (ndarray, str)
        The rows (their places in the table) whose spectra cannot be taken, and the reason. Their
        arrays hold no value.
    """
    settings = survey.spectra
    assert settings is not None
    axis = np.array(survey.wavelengths)
    lists = {name: _lists(table[name]) for name in settings.columns}
    grids = _lists(table[wavelengths]) if wavelengths else None
    points = len(axis) if plan.grid is None else plan.grid.points
    rounded = {
        name: reason
        for name, one in lists.items()
        if (reason := _rounded(one, survey.column[name].kind))
    }
    problems = list(_unequal(settings, lists, grids, points, rounded))
    left_out = {int(row) for rows, _ in problems for row in rows}
    found = {
        name: np.zeros((table.num_rows, len(axis)), survey.column[name].kind) for name in lists
    }
    for rows, numbers in _groups(table.num_rows, grids, left_out):
        try:
            step = _step(numbers, settings, plan, tuple(survey.wavelengths))
        except _NoGrid as reason:
            problems.append((rows, str(reason)))
            continue
        values = {name: _taken(lists[name], rows, step) for name in lists}
        flux, ivar = step.spectra(values[settings.flux], values[settings.ivar])
        found[settings.flux][rows], found[settings.ivar][rows] = flux, ivar
        if settings.mask:
            flags = step.flags(values[settings.mask])
            found[settings.mask][rows] = flags
            lost = (found[settings.mask][rows] != flags).any(axis=1)
            problems.append((rows[lost], _WIDE.format(settings.mask, lists[settings.mask].dtype)))
    for name, array in found.items():
        column = survey.column[name]
        kind = arrow_type(column.kind, column.shape, column.axes)
        table = table.set_column(table.schema.get_field_index(name), name, from_numpy(array, kind))
    return table.drop_columns([wavelengths] if wavelengths else []), problems


def _rounded(lists: _Lists, kind: str) -> str:
    """Why the numbers of a column cannot be those of the store as they are; or nothing."""
    held, wanted = lists.dtype, np.dtype(kind)
    if wanted.kind in "iu":
        if held.kind in "iu":
            return ""
        return f"expected integers, the file holds {held}"
    if held.kind in "iu":
        # Without nulls in them, which are no numbers.
        known = lists.values[np.isfinite(lists.values)]
        exact = not len(known) or np.abs(known.astype(np.float64)).max() <= _WHOLE[kind]
    else:
        exact = held.kind == "f" and held.itemsize <= wanted.itemsize
    if exact:
        return ""
    return (
        f"expected {kind}, the file holds {held}, which that would round: write dtype: "
        f"{'float64' if held.kind in 'iu' else held} for the column in the survey"
    )


class _NoGrid(Exception):
    """Why wavelengths are no grid."""


@dataclass(frozen=True)
class _Lists:
    """A list in each row."""

    values: NDArray[np.generic]
    dtype: np.dtype[Any]
    """Of the file's numbers; the values are floats where some of its integers are null."""
    first: NDArray[np.int64]
    lengths: NDArray[np.int64]
    """-1 where there is no list."""

    def row(self, row: int) -> NDArray[np.generic]:
        """The values of a row."""
        return self.values[self.first[row] : self.first[row] + self.lengths[row]]

    def rows(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        """The values of rows that have equally many, shape (n, m)."""
        width = int(self.lengths[rows[0]]) if len(rows) else 0
        found: NDArray[np.generic] = self.values[self.first[rows, None] + np.arange(width)]
        return found


def _lists(column: pa.ChunkedArray) -> _Lists:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if is_tensor(array.type):
        array = array.storage
    lengths = np.asarray(pc.fill_null(pc.list_value_length(array), -1)).astype(np.int64)
    flat = array.flatten()
    if pa.types.is_floating(flat.type):
        flat = pc.fill_null(flat, np.nan)
    first = np.concatenate([[0], np.cumsum(np.maximum(lengths, 0))[:-1]])
    return _Lists(np.asarray(flat), np.dtype(flat.type.to_pandas_dtype()), first, lengths)


def _unequal(
    settings: Spectra,
    lists: Mapping[str, _Lists],
    grids: _Lists | None,
    points: int,
    rounded: Mapping[str, str],
) -> Iterator[Problem]:
    """Rows without a spectrum, with columns of several lengths, or that would be rounded."""
    lengths = lists[settings.flux].lengths
    wanted = np.full(len(lengths), points) if grids is None else grids.lengths
    absent = np.logical_or.reduce([one.lengths < 0 for one in lists.values()])
    if grids is not None:
        absent |= grids.lengths < 0
    yield np.flatnonzero(absent), "expected a spectrum, there is none"
    for name, wide in rounded.items():
        yield np.flatnonzero(~absent), f"column '{name}': {wide}"
        absent |= True
    expected = "expected" if grids is None else "there are wavelengths"
    for name, one in lists.items():
        bad = ~absent & (one.lengths != wanted)
        for row in np.flatnonzero(bad):
            reason = f"column '{name}': {one.lengths[row]} pixels, {expected} {wanted[row]}"
            yield np.array([row]), reason
        absent |= bad


def _groups(
    rows: int, grids: _Lists | None, left_out: set[int]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64] | None]]:
    """Rows with the same wavelengths, and these; None for those of the axis."""
    if grids is None:
        kept = np.array([row for row in range(rows) if row not in left_out], dtype=np.int64)
        if len(kept):
            yield kept, None
        return
    kept = np.setdiff1d(np.arange(rows), list(left_out))
    if not len(kept):
        return
    # Those of a file are mostly the same: what is left is looked at one by one.
    first = grids.row(kept[0])
    alike = kept[grids.lengths[kept] == len(first)]
    alike = alike[(grids.rows(alike) == first).all(axis=1)]
    of: dict[bytes, list[int]] = {}
    for row in np.setdiff1d(kept, alike).tolist():
        of.setdefault(grids.row(row).tobytes(), []).append(row)
    # A grid with a missing number equals none, itself included.
    groups = [alike] if len(alike) else []
    for same in (*groups, *of.values()):
        found = np.asarray(same, dtype=np.int64)
        yield found, np.asarray(grids.row(int(found[0])), dtype=np.float64)


def _taken(lists: _Lists, rows: NDArray[np.int64], step: ToAxis) -> NDArray[np.generic]:
    """The values of rows that have equally many, shape (n, m), from the shortest wavelength."""
    stacked = lists.rows(rows)
    return stacked[:, ::-1] if step.falling else stacked


def _step(
    wavelengths: NDArray[np.float64] | None,
    settings: Spectra,
    plan: SpectralPlan,
    axis: tuple[float, ...],
) -> ToAxis:
    """How spectra of some wavelengths come onto the axis.

    Raises
    ------
    _NoGrid
        If these are no wavelengths.
    """
    if wavelengths is None:
        wavelengths = np.array(axis if plan.grid is None else plan.grid.wavelengths)
    else:
        wavelengths = _in_angstrom(wavelengths, settings, plan)
    if plan.medium == "air":
        wavelengths = vacuum_wavelengths(wavelengths)
    step = _to_axis(wavelengths.tobytes(), axis)
    if step.covered < _FEWEST:
        low, high = sorted((wavelengths[0], wavelengths[-1]))
        raise _NoGrid(
            f"expected wavelengths from {axis[0]:.0f} to {axis[-1]:.0f} Angstrom, got {low:.5g} to "
            f"{high:.5g} (see 'unit' and 'scale' under 'spectra')"
        )
    return step


def _in_angstrom(
    numbers: NDArray[np.float64], settings: Spectra, plan: SpectralPlan
) -> NDArray[np.float64]:
    """Wavelengths in the file's medium, of the numbers in the column with the wavelengths."""
    if len(numbers) < _FEWEST or not np.isfinite(numbers).all():
        raise _NoGrid("expected a wavelength for each pixel, some are missing")
    with np.errstate(over="ignore"):
        found = _WAVELENGTHS_OF[settings.scale](numbers)
    factor = units.factor(plan.unit, "Angstrom")
    found = found * (1.0 if factor is None else factor)
    steps = np.diff(found)
    if not ((steps > 0).all() or (steps < 0).all()):
        place = int(np.argmax(steps * np.sign(found[-1] - found[0]) <= 0))
        raise _NoGrid(
            f"expected wavelengths that rise (or fall) from pixel to pixel, got {found[place]:.7g} "
            f"and {found[place + 1]:.7g} at pixels {place + 1} and {place + 2}"
        )
    if np.median(np.abs(steps) / found[1:]) > _COARSEST:
        raise _NoGrid(
            f"expected steps of at most {_COARSEST:.0%} of the wavelength, got {found[0]:.5g}, "
            f"{found[1]:.5g}: too far apart for a spectrum"
        )
    if not (found.min() >= _LOW and found.max() <= _HIGH):
        raise _NoGrid(
            f"expected wavelengths in {plan.unit}, got {numbers[0]:.5g} to {numbers[-1]:.5g} "
            "(see 'unit' and 'scale' under 'spectra')"
        )
    return np.asarray(found, dtype=np.float64)


@lru_cache(maxsize=256)
def _to_axis(wavelengths: bytes, axis: Sequence[float]) -> ToAxis:
    return to_axis(np.frombuffer(wavelengths), np.array(axis))
