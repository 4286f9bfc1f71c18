"""What the header and the first rows of a source say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from galbatch.columns import is_number, no_rows
from galbatch.errors import DataError, SpecError, counted
from galbatch.readers.base import Batch, Header, Reader
from galbatch.readers.conform import conform
from galbatch.readers.open import open_reader
from galbatch.readers.remote import at_hand
from galbatch.readers.scalars import Mismatch
from galbatch.sample.labels import labels
from galbatch.spec.job import FilesSource
from galbatch.spec.survey import Survey
from galbatch.stages.intake import (
    Intake,
    catalogue_rows,
    column_types,
    plan_intake,
    stored_type,
)
from galbatch.values import Target

FIRST_ROWS = 1_000
"""Rows that are looked at of a file."""
_SAMPLED = 2
"""Files of each kind of header whose first rows are looked at."""
_UNIT = "unit"


@dataclass(frozen=True)
class FirstRows:
    """What the first rows of a file hold.

    Parameters
    ----------
    rows : int
        That are sound.
    refused : int
        That are not.
    example : str
        Which one is not, and why.
    labelled : mapping of Target to int
        Rows with a label.
    limits : mapping of str to (int, int)
        Smallest and largest integer of each column of integers.
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
    fields : mapping of str to Field
        What its columns are when they are read, by their name in the store, with the units that
        it alone states.
    spellings : mapping of str to str
        How it spells them.
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
    fields: Mapping[str, pa.Field] = field(default_factory=dict)
    spellings: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    problem: str = ""
    first: FirstRows | None = None

    def __str__(self) -> str:
        if self.problem:
            return f"{self.file}: a run would set it aside: {self.problem}"
        taken = f", {'; '.join(self.aliases)}" if self.aliases else ""
        notes = "".join(f"; {note}" for note in self.notes)
        return f"{self.file}: {counted(self.columns, 'column')}{taken}{notes}"


@dataclass(frozen=True)
class _Kind:
    """Files with the same header."""

    facts: FileFacts
    intake: Intake
    types: Mapping[str, pa.DataType]


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
    kinds: dict[Header, _Kind] = {}
    looked: dict[Header, int] = defaultdict(int)
    for file in files:
        try:
            with at_hand(file) as copy:
                reader = open_reader(source.format, copy)
                header = reader.header(copy)
                # Headers of text say nothing of what ids and positions are: their rows do.
                if header not in kinds or _is_text(header):
                    intake = _intake(survey, header, file, first_run=first_run)
                    kinds[header] = _kind(survey, reader, copy, header, intake)
                kind = kinds[header]
                facts = replace(kind.facts, file=file)
                if looked[header] < _SAMPLED:
                    looked[header] += 1
                    first = _first_rows(survey, reader, copy, kind)
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


def _intake(survey: Survey, header: Header, file: str, *, first_run: bool) -> Intake:
    try:
        return plan_intake(survey, header, file)
    except SpecError as error:
        if first_run:
            raise _Unsound(error) from error
        raise


def _is_text(header: Header) -> bool:
    """Text formats say of no column what it is; others not of those that cannot be read."""
    return all(column.type is None for column in header.columns)


def _kind(survey: Survey, reader: Reader, path: str, header: Header, intake: Intake) -> _Kind:
    """What a header says, matched with the survey."""
    types, intake = column_types(survey, reader, path, header, intake)
    names, own = intake.resolution.names, intake.units.own
    columns = [column for column in header.columns if column.name in types]
    text, fields = _is_text(header), {}
    for column in columns:
        wanted, name = types[column.name], names[column.name]
        if text:
            kind = pa.string() if pa.types.is_null(wanted) else intake.ids.get(name, wanted)
        elif column.type is not None:
            try:
                kind = conform(no_rows(column.type), wanted).values.type
            except Mismatch as mismatch:
                raise SpecError(path, f"column '{column.name}': {mismatch}") from None
        else:
            continue
        kind = stored_type(survey, intake, name, kind)
        if kind is None:
            continue
        unit = {_UNIT: own[name]} if name in own else None
        fields[name] = pa.field(name, kind, metadata=unit)
    facts = FileFacts(
        path,
        len(columns),
        intake.resolution.aliases,
        intake.resolution.absent,
        fields,
        {name: spelling for spelling, name in names.items()},
        (*intake.notes, *intake.units.notes),
    )
    return _Kind(facts, intake, types)


def _first_rows(survey: Survey, reader: Reader, path: str, kind: _Kind) -> FirstRows | None:
    """What the first rows hold, in the columns that the survey knows and in integers."""
    names, fields = kind.intake.resolution.names, kind.facts.fields
    wanted = {
        spelling: kind.types[spelling]
        for spelling, name in names.items()
        if (name in fields and (name in survey.column or pa.types.is_integer(fields[name].type)))
        or (kind.intake.spectra is not None and spelling == kind.intake.spectra.spelling)
    }
    batch = next(reader.batches(path, wanted, FIRST_ROWS), None)
    if batch is None:
        return None
    table = batch.table.rename_columns([names[name] for name in batch.table.column_names])
    first = Batch(batch.rows[:FIRST_ROWS], table.slice(0, FIRST_ROWS), batch.rejected)
    sound, refused = catalogue_rows(survey, first, kind.intake, path)
    example = refused.slice(0, 1).to_pylist()
    return FirstRows(
        rows=sound.num_rows,
        refused=refused.num_rows,
        example=f"row {example[0]['row']}: {example[0]['reason']}" if example else "",
        labelled={
            target: int(np.isfinite(values).sum())
            for target, values in labels(survey, sound).items()
        },
        limits={
            name: (ends["min"].as_py() or 0, ends["max"].as_py() or 0)
            for name in sound.column_names
            if pa.types.is_integer(sound[name].type)
            for ends in [pc.min_max(sound[name])]
        },
    )


def is_of_numbers(kind: pa.DataType) -> bool:
    """Whether a condition can be asked of a column."""
    return is_number(kind) or pa.types.is_boolean(kind)
