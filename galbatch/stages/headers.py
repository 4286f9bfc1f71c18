"""What the headers and the first rows of sources say: each by itself, and together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from galbatch.errors import DataError, SpecError, counted
from galbatch.intake.units import UnitPlan
from galbatch.readers.base import Batch, Header, Reader, open_reader
from galbatch.readers.conform import Mismatch, conform
from galbatch.readers.remote import at_hand
from galbatch.spec.job import FilesSource
from galbatch.spec.survey import Survey
from galbatch.stages.intake import catalogue_rows, column_types, plan_intake
from galbatch.training.labels import labels
from galbatch.values import Target

FIRST_ROWS = 1_000
"""Rows that are looked at of a file."""
_SAMPLED = 2
"""Files of each kind of header whose first rows are looked at."""


@dataclass(frozen=True)
class FirstRows:
    """What the first rows of a file hold.

    Parameters
    ----------
    rows : int
        That can be used.
    refused : int
        That cannot.
    example : str
        Why one of those cannot.
    labelled : mapping of Target to int
        Rows with a label.
    limits : mapping of str to (int, int)
        The smallest and the largest number of each column of integers.
    """

    rows: int
    refused: int
    example: str
    labelled: Mapping[Target, int]
    limits: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class FileFacts:
    """What the header of a source file says, and its first rows where they were looked at.

    Parameters
    ----------
    file : str
    columns : int
        How many it has.
    aliases : tuple of str
        ``RAdeg -> RA``: spellings that differ from the survey's.
    absent : tuple of str
        Columns of the survey that it lacks.
    types : mapping of str to DataType
        What its columns are in the store, by their name there.
    spellings : mapping of str to str
        How it spells them.
    units : UnitPlan
        How its values come into the survey's units.
    notes : tuple of str
        What a user should know of it, a line each.
    problem : str
        Why a run would set it aside; empty for a file that can be used.
    first : FirstRows or None
    """

    file: str
    columns: int = 0
    aliases: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    spellings: Mapping[str, str] = field(default_factory=dict)
    units: UnitPlan = field(default_factory=UnitPlan)
    notes: tuple[str, ...] = ()
    problem: str = ""
    first: FirstRows | None = None

    def __str__(self) -> str:
        if self.problem:
            return f"{self.file}: a run would set it aside: {self.problem}"
        taken = f", {'; '.join(self.aliases)}" if self.aliases else ""
        notes = "".join(f"; {note}" for note in self.notes)
        return f"{self.file}: {counted(self.columns, 'column')}{taken}{notes}"


def read_headers(
    source: FilesSource, survey: Survey, files: Iterable[str], *, first_run: bool
) -> Iterator[FileFacts]:
    """Read the header of each file, and the first rows of a few of each kind.

    Parameters
    ----------
    source : FilesSource
    survey : Survey
    files : iterable of str
    first_run : bool
        Whether there is no catalogue yet: then the survey may be wrong, where a file does not
        match it, and it is not the file that is set aside.

    Yields
    ------
    FileFacts

    Raises
    ------
    SpecError
        Naming the file and the column.
    """
    kinds: dict[Header, FileFacts] = {}
    looked: dict[Header, int] = defaultdict(int)
    for file in files:
        try:
            with at_hand(file) as copy:
                reader = open_reader(source.format, copy)
                header = reader.header(copy)
                if header not in kinds:
                    kinds[header] = _looked_at(
                        survey, reader, copy, header, file, first_run=first_run
                    )
                facts = replace(kinds[header], file=file)
                if looked[header] < _SAMPLED and not facts.problem:
                    looked[header] += 1
                    first = _first_rows(survey, reader, copy, facts)
                    facts = replace(facts, first=first)
        except _Unsound as error:
            raise error.why from error
        except (SpecError, DataError) as error:
            where = f"{error.where}: ".removeprefix(f"{file}: ")
            hint = f" ({error.hint})" if error.hint else ""
            facts = FileFacts(file, problem=f"{where}{error.problem}{hint}")
        yield facts


class _Unsound(Exception):
    """What is wrong with the survey or the job, and not with a file."""

    def __init__(self, why: SpecError) -> None:
        super().__init__(str(why))
        self.why = why


def _looked_at(
    survey: Survey, reader: Reader, path: str, header: Header, file: str, *, first_run: bool
) -> FileFacts:
    """What a header says, matched with the survey."""
    try:
        intake = plan_intake(survey, header, file)
    except SpecError as error:
        if first_run:
            raise _Unsound(error) from error
        raise
    names = intake.resolution.names
    wanted = column_types(survey, reader, path, header, intake.resolution)
    # Text formats say of no column what it is; others not of those that cannot be read.
    is_text = all(column.type is None for column in header.columns)
    types = {}
    for column in header.columns:
        if column.name not in names or (column.type is None and not is_text):
            continue
        kind = wanted[column.name]
        if column.type is None:
            kind = pa.string() if pa.types.is_null(kind) else kind
        else:
            try:
                kind = conform(pa.array([], column.type), kind).values.type
            except Mismatch as mismatch:
                raise SpecError(file, f"column '{column.name}': {mismatch}") from None
        types[names[column.name]] = kind
    return FileFacts(
        file,
        len(names),
        intake.resolution.aliases,
        intake.resolution.absent,
        types,
        {name: spelling for spelling, name in names.items()},
        intake.units,
        (*intake.notes, *intake.units.notes),
    )


def _first_rows(survey: Survey, reader: Reader, path: str, facts: FileFacts) -> FirstRows | None:
    """What the first rows hold in the columns that the survey knows, and in long integers."""
    wanted = {
        facts.spellings[name]: kind
        for name, kind in facts.types.items()
        if name in survey.column or _is_long(kind)
    }
    batch = next(reader.batches(path, wanted, FIRST_ROWS), None)
    if batch is None:
        return None
    stored = {spelling: name for name, spelling in facts.spellings.items()}
    names = [stored[name] for name in batch.table.column_names]
    first = Batch(
        batch.rows[:FIRST_ROWS],
        batch.table.rename_columns(names).slice(0, FIRST_ROWS),
        batch.rejected[:FIRST_ROWS],
    )
    table, refused = catalogue_rows(survey, first, facts.units, facts.file)
    example = refused.slice(0, 1).to_pylist()
    return FirstRows(
        rows=table.num_rows,
        refused=refused.num_rows,
        example=f"row {example[0]['row']}: {example[0]['reason']}" if example else "",
        labelled={
            target: int(np.isfinite(values).sum())
            for target, values in labels(survey, table).items()
        },
        limits={
            name: ends
            for name in table.column_names
            if _is_long(table[name].type) and (ends := _limits(table[name])) is not None
        },
    )


def _is_long(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) and kind.bit_width == 64)


def _limits(column: pa.ChunkedArray) -> tuple[int, int] | None:
    ends = pc.min_max(column)
    return (ends["min"].as_py(), ends["max"].as_py()) if ends["min"].is_valid else None
