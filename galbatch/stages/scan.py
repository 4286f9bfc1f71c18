"""Read every source once, check every row, and leave shards sorted on the sky."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from galbatch.errors import DataError, SpecError
from galbatch.intake.ids import id_type, made_id, refused_parts
from galbatch.intake.positions import (
    HIGHEST_RA,
    LOWEST_RA,
    degrees,
    is_sexagesimal,
    wrapped,
)
from galbatch.intake.types import is_text, wanted_type
from galbatch.intake.units import UnitPlan, converted, plan_units
from galbatch.readers.base import Batch, Batches, Header, Reader, open_reader
from galbatch.readers.remote import at_hand
from galbatch.spec.job import FilesSource, MockSource
from galbatch.spec.resolve import Resolution, resolve_columns
from galbatch.spec.survey import Survey
from galbatch.stages.base import PROCESS, Pending, Report, Site, Task, Where, row_bytes
from galbatch.stages.catalogue import (
    MOCK_TILE_ROWS,
    REJECTED,
    REPEATED,
    Origin,
    standing,
)
from galbatch.store.quarantine import (
    GOT,
    Rejects,
    as_table,
    rejected_table,
    release_others,
)
from galbatch.store.shards import Shard, write_shard
from galbatch.store.tables import FILE, HEALPIX, OWN, ROW
from galbatch.training.labels import labels
from galbatch.values import STAR, TARGETS, Receipt

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
    """

    resolution: Resolution
    units: UnitPlan
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scan:
    """A task per source file; a mistake of the user's stops the run here."""

    name: str = "scan"
    word: str = "rows"
    where: Where = "workers"

    def summary(self, site: Site) -> str:
        """One line for `galbatch plan`."""
        source = site.job.source
        if isinstance(source, MockSource):
            return f"simulate {source.rows:,} objects, {source.batch_rows:,} at a time"
        found = standing(site).origins
        size = sum(origin.size or 0 for origin in found) / 2**20
        return (
            f"read {len(found)} file{'s' * (len(found) > 1)} ({size:,.1f} MiB), "
            f"at most {source.batch_rows:,} rows at a time; check rows"
        )

    def memory(self, site: Site) -> int:
        """A batch: as text, as columns, sorted, and on its way to the disk."""
        return PROCESS + 10 * site.job.source.batch_rows * row_bytes(site)

    def pending(self, site: Site) -> Pending:
        """Sources that are new, changed or wanted again, and whose shards are not there."""
        state, book = standing(site), site.book
        left = []
        for origin in (*state.fresh, *state.again):
            receipt = book.valid(origin.need)
            # An earlier run left them: what this run writes, it reads back.
            problem = book.damage(receipt, deep=True) if receipt else ""
            news_to = state.version if origin in state.fresh else None
            if receipt is None or problem or receipt.facts["news_to"] != news_to:
                why = problem or state.why(origin)
                left.append(Task(origin.unit, _rows(site, origin), (origin, news_to), why))
        return Pending(
            tuple(left),
            done=len(state.origins) + len(state.gone) - len(left),
            dispensable=state.base is not None,
            shared={*state.sources, *(origin.unit for origin in state.origins)},
        )

    def begin(self, site: Site, pending: Pending) -> Scan:
        """Nothing to prepare."""
        return self

    def run(self, site: Site, task: Task, report: Report) -> tuple[Receipt, ...]:
        """Read one source to its end."""
        began = time.perf_counter()
        origin: Origin
        news_to: str | None
        origin, news_to = task.payload
        batch_rows = task.batch_rows or site.job.source.batch_rows
        survey = site.survey
        shards: list[Shard] = []
        labelled = dict.fromkeys(TARGETS, 0)
        stars = rows = 0
        with (
            at_hand(origin.unit) as path,
            Rejects(site.layout, f"{REJECTED}.{origin.unit}") as rejects,
        ):
            intake, batches = _batches(site, origin, path, batch_rows, first=news_to == "")
            for batch in batches:
                table = sound_rows(survey, batch, intake.units, origin.unit, rejects)
                for target, values in labels(survey, table).items():
                    known = np.isfinite(values)
                    labelled[target] += int(known.sum())
                    if target == "star":
                        stars += int((values[known] == STAR).sum())
                numbers = np.full(table.num_rows, origin.number, np.int32)
                table = table.append_column(FILE, pa.array(numbers))
                name = f"{origin.number:06d}-{len(shards):06d}"
                if table.num_rows:
                    shards.append(write_shard(site.layout, name, table, file=origin.number))
                rows += table.num_rows
                report(rows, task.size, "")
            _obey_the_law(origin.unit, batches.records, rows + rejects.rows)
            kept = rejects.commit()
        facts: dict[str, Any] = {
            "number": origin.number,
            "news_to": news_to,
            "shards": [shard.to_json() for shard in shards],
            "records": batches.records,
            "rejected": rejects.rows,
            "labelled": labelled,
            "stars": stars,
            "aliases": list(intake.resolution.aliases),
            "absent": list(intake.resolution.absent),
            "notes": [*intake.notes, *intake.units.notes],
        }
        outputs = {
            site.layout.relative(site.layout.shard(shard.name)): shard.digest for shard in shards
        }
        receipt = origin.need.receipt(
            digest=sha256("".join(shard.digest for shard in shards).encode()).hexdigest(),
            rows=rows,
            outputs=outputs | kept,
            seconds=time.perf_counter() - began,
            facts=facts,
        )
        site.book.put(receipt)
        return (receipt,)

    def finish(self, site: Site, pending: Pending) -> None:
        """Forget what was rejected of files that are gone, and of which the store holds nothing."""
        for kind in (REJECTED, REPEATED):
            release_others(site.layout, kind, pending.shared)


def _rows(site: Site, origin: Origin) -> int | None:
    return origin.size if isinstance(site.job.source, MockSource) else None


def _obey_the_law(file: str, records: int, read: int) -> None:
    """Every record of a file is a row or among the rejected: counted twice, by different rules."""
    if read != records:
        raise DataError(
            file,
            f"{records:,} records stand in it, but {read:,} rows came of them",
            "none of them is taken; please report this file",
        )


def _batches(
    site: Site, origin: Origin, path: str, batch_rows: int, *, first: bool
) -> tuple[Intake, Batches]:
    source, survey = site.job.source, site.survey
    if isinstance(source, FilesSource):
        with _set_aside():
            reader = open_reader(source.format, path)
            header = reader.header(path)
        # In the first run the survey may be wrong, and nothing is lost yet.
        with nullcontext() if first else _set_aside():
            intake = plan_intake(survey, header, origin.unit)
        with _set_aside():
            types = intake_types(survey, reader, path, header, intake.resolution)
        batches = reader.batches(path, types, batch_rows)
        renamed = _renamed(batches, intake.resolution)
        return intake, Batches(renamed, lambda: batches.records)
    from galbatch.mock.observe import mock_batches

    def simulated() -> Iterator[Batch]:
        first = origin.number * MOCK_TILE_ROWS
        rows = first + (origin.size or 0)
        row = 1
        for table in mock_batches(survey, rows, source.seed, batch_rows, first):
            yield Batch(np.arange(row, row + table.num_rows, dtype=np.int64), table, ())
            row += table.num_rows

    names = {column.name: column.name for column in survey.columns}
    nothing = UnitPlan({}, {}, {}, ())
    size = origin.size or 0
    return Intake(Resolution(names, (), ()), nothing), Batches(simulated(), lambda: size)


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
    columns = [column for column in header.columns if column.name not in OWN]
    resolution = resolve_columns(survey, [column.name for column in columns], file)
    stated = {resolution.names[column.name]: column.unit for column in columns}
    return Intake(resolution, plan_units(survey, stated, file), header.notes)


def intake_types(
    survey: Survey, reader: Reader, path: str, header: Header, resolution: Resolution
) -> dict[str, pa.DataType]:
    """What each column of a file is asked for as.

    Parameters
    ----------
    survey : Survey
    reader : Reader
    path : str
        Of a text format, the first values of ids and positions are looked at.
    header : Header
    resolution : Resolution

    Returns
    -------
    dict of str to pyarrow.DataType
        By the file's spelling.
    """
    arrived = {column.name: column.type for column in header.columns}
    spelled = {name: spelling for spelling, name in resolution.names.items()}
    ids = [name for name in (survey.id.column, *survey.id.parts) if name in spelled]
    sky = [survey.sky.ra, survey.sky.dec] if survey.sky else []
    unsure = [name for name in ids if survey.column[name].dtype is None] + sky
    sample = _sample(reader, path, [spelled[one] for one in unsure if not arrived[spelled[one]]])
    types: dict[str, pa.DataType] = {}
    for spelling, name in resolution.names.items():
        column, own = survey.column.get(name), arrived[spelling]
        if column is None:
            types[spelling] = pa.null()  # as it comes
        elif name in ids:
            types[spelling] = id_type(column, own, sample.get(spelling))
        elif name in sky and _is_text(own, sample.get(spelling)):
            types[spelling] = pa.string()
        else:
            types[spelling] = wanted_type(column, own)
    return types


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


@contextmanager
def _set_aside() -> Iterator[None]:
    """A file that cannot be used does not hold up the others.

    It is the job that is wrong where none can be used: the run says so then.
    """
    try:
        yield
    except SpecError as error:
        raise DataError(*error.args) from error


def _renamed(batches: Iterable[Batch], resolution: Resolution) -> Iterator[Batch]:
    with _set_aside():
        for batch in batches:
            names = [resolution.names[name] for name in batch.table.column_names]
            yield Batch(batch.rows, batch.table.rename_columns(names), batch.rejected)


class Takes(Protocol):
    """Where rows go that are not sound."""

    def add(self, table: pa.Table) -> None:
        """Some more of them, as `store.quarantine` keeps them."""
        ...


def sound_rows(
    survey: Survey, batch: Batch, units: UnitPlan, file: str, rejects: Takes
) -> pa.Table:
    """The rows that have an id and a place on the sky.

    Parameters
    ----------
    survey : Survey
    batch : Batch
        With the survey's names.
    units : UnitPlan
    file : str
        For the reasons.
    rejects : Takes
        Gets all others, with why.

    Returns
    -------
    pyarrow.Table
        In the survey's units, with `_healpix_29` and `_row`.
    """
    table = batch.table
    good = np.ones(table.num_rows, bool)
    refused = [as_table([replace(row, file=file) for row in batch.rejected])]

    def refuse(bad: NDArray[np.bool_], reason: str, values: pa.ChunkedArray | None) -> None:
        nonlocal good
        places = np.flatnonzero(bad & good)
        good &= ~bad
        if not len(places):
            return
        reasons = pa.repeat(reason, len(places))
        if values is not None:
            arrived = pc.fill_null(values.take(pa.array(places)).cast(pa.string()), "nothing")
            reasons = pc.binary_join_element_wise(reasons, arrived.combine_chunks(), GOT)
        refused.append(rejected_table(file, pa.array(batch.rows[places]), reasons))

    for name in survey.id.parts or (survey.id.column,):
        refuse(_is_missing(table[name]), f"column '{name}': the id is missing", None)
    for name in survey.id.parts:
        expected, bad = refused_parts(survey, name, table[name])
        refuse(bad, f"column '{name}': expected {expected}", table[name])
    if survey.id.parts and survey.id.column not in table.column_names:
        made = made_id(survey, [table[name] for name in survey.id.parts])
        table = table.append_column(survey.id.column, made)
    healpix: NDArray[np.int64] | None = None
    if survey.sky is not None:
        ra, dec = (
            degrees(table[name], units.positions.get(name, ""), hours=name == survey.sky.ra)
            for name in (survey.sky.ra, survey.sky.dec)
        )
        for name, values, low, high in (
            (survey.sky.ra, ra, LOWEST_RA, HIGHEST_RA),
            (survey.sky.dec, dec, -90.0, 90.0),
        ):
            expected = f"column '{name}': expected an angle from {low:g} to {high:g} degrees"
            refuse(~((values >= low) & (values <= high)), expected, table[name])
        ra = wrapped(ra)
        for name, values in ((survey.sky.ra, ra), (survey.sky.dec, dec)):
            table = _in_degrees(table, name, values, good)
        healpix = _healpix(ra[good], dec[good])
    rejects.add(pa.concat_tables(refused))
    table = _with_units(converted(survey, table, units), units.own)
    table = table.append_column(ROW, pa.array(batch.rows))
    if not good.all():
        table = table.filter(pa.array(good))
    return table if healpix is None else table.append_column(HEALPIX, pa.array(healpix))


def _in_degrees(
    table: pa.Table, name: str, values: NDArray[np.float64], good: NDArray[np.bool_]
) -> pa.Table:
    """With a position as the store has it; what is so already stays as the file has it."""
    place = table.schema.get_field_index(name)
    column = table.column(place)
    if not is_text(column.type):
        raw = pc.cast(column, pa.float64()).to_numpy()
        if np.array_equal(raw[good], values[good]):
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
    if not is_text(column.type):
        return missing
    empty = pc.equal(pc.utf8_trim_whitespace(column), "")
    missing |= pc.fill_null(empty, True).to_numpy()
    return missing


def _healpix(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.int64]:
    from hats.pixel_math.spatial_index import compute_spatial_index

    healpix: NDArray[np.int64] = np.asarray(compute_spatial_index(ra, dec), dtype=np.int64)
    return healpix


def source_facts(receipt: Receipt) -> dict[str, Any]:
    """What the catalogue remembers of a source: its scan is forgotten when all is ingested."""
    kept = ("number", "records", "rejected", "labelled", "stars", "aliases", "absent", "notes")
    return {"key": receipt.key, "rows": receipt.rows} | {name: receipt.facts[name] for name in kept}


def total_facts(sources: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What was found over all sources.

    Parameters
    ----------
    sources : iterable of mapping
        From `source_facts`.

    Returns
    -------
    dict
        ``records`` (by the count of the files themselves), ``read``, ``rejected``, ``labelled`` (by
        target), ``stars``, ``aliases``, ``absent``, ``notes``.
    """
    facts = list(sources)
    rejected = sum(fact["rejected"] for fact in facts)
    absent = [set(fact["absent"]) for fact in facts]
    return {
        "records": sum(fact["records"] for fact in facts),
        "read": sum(fact["rows"] for fact in facts) + rejected,
        "rejected": rejected,
        "labelled": {t: sum(fact["labelled"].get(t, 0) for fact in facts) for t in TARGETS},
        "stars": sum(fact["stars"] for fact in facts),
        "aliases": sorted({alias for fact in facts for alias in fact["aliases"]}),
        "absent": sorted(set.intersection(*absent)) if absent else [],
        "notes": sorted({note for fact in facts for note in fact["notes"]}),
    }
