"""Read every source once, check every row, and leave shards sorted on the sky."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from galbatch.errors import DataError, SpecError, counted
from galbatch.readers.base import Batch, open_reader
from galbatch.readers.remote import at_hand
from galbatch.spec.job import FilesSource, MockSource
from galbatch.spec.resolve import Resolution, resolve_columns
from galbatch.spec.survey import Column, Survey
from galbatch.stages.base import (
    PROCESS,
    Pending,
    Report,
    Site,
    Task,
    Where,
    changed,
    row_bytes,
)
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

_HALF = 2**32
_TYPES = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "int16": pa.int16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
}


@dataclass(frozen=True)
class Scan:
    """A task per source file; a mistake of the user's stops the run here."""

    name: str = "scan"
    word: str = "rows"
    where: Where = "workers"
    deep: bool = field(default=True, compare=False)
    """Whether shards that are there already are read back: an earlier run left them."""

    def summary(self, site: Site) -> str:
        """One line for `galbatch plan`."""
        source = site.job.source
        if isinstance(source, MockSource):
            return f"simulate {counted(source.rows, 'object')}, {source.batch_rows:,} at a time"
        found = standing(site).origins
        size = sum(origin.size or 0 for origin in found) / 2**20
        return (
            f"read {counted(len(found), 'file')} ({size:,.1f} MiB), "
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
            problem = book.damage(receipt, deep=self.deep) if receipt else ""
            news_to = state.version if origin in state.fresh else None
            if receipt is None or problem or receipt.facts["news_to"] != news_to:
                why = problem or state.why(origin)
                left.append(Task(origin.unit, _rows(site, origin), (origin, news_to), why))
        return Pending(
            tuple(left),
            done=len(state.origins) + len(state.gone) - len(left),
            dispensable=state.base is not None,
            shared={*state.sources, *(origin.unit for origin in state.origins)},
            again=replace(self, deep=False) if isinstance(site.job.source, FilesSource) else None,
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
            _reading(origin) as origin,
            at_hand(origin.unit) as path,
            Rejects(site.layout, f"{REJECTED}.{origin.unit}") as rejects,
        ):
            resolution, batches = _batches(site, origin, path, batch_rows, first=news_to == "")
            for batch in batches:
                table = _checked(survey, batch, origin.unit, rejects)
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
            if not origin.is_as_it_was():
                raise changed(origin.unit)
            kept = rejects.commit()
        facts: dict[str, Any] = {
            "number": origin.number,
            "news_to": news_to,
            "shards": [shard.to_json() for shard in shards],
            "rejected": rejects.rows,
            "labelled": labelled,
            "stars": stars,
            "aliases": list(resolution.aliases),
            "absent": list(resolution.absent),
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


def _batches(
    site: Site, origin: Origin, path: str, batch_rows: int, *, first: bool
) -> tuple[Resolution, Iterator[Batch]]:
    source, survey = site.job.source, site.survey
    if isinstance(source, FilesSource):
        with _set_aside():
            reader = open_reader(source.format, path)
            columns = reader.columns(path)
        found = [name for name in columns if name not in OWN]
        # In the first run the survey may be wrong, and nothing is lost yet.
        with nullcontext() if first else _set_aside():
            resolution = resolve_columns(survey, found, origin.unit)
        types = {
            # pa.null(): as it comes.
            spelling: arrow_type(survey.column[name]) if name in survey.column else pa.null()
            for spelling, name in resolution.names.items()
        }
        return resolution, _renamed(reader.batches(path, types, batch_rows), resolution)
    from galbatch.mock.observe import mock_batches

    def simulated() -> Iterator[Batch]:
        first = origin.number * MOCK_TILE_ROWS
        rows = first + (origin.size or 0)
        row = 1
        for table in mock_batches(survey, rows, source.seed, batch_rows, first):
            yield Batch(np.arange(row, row + table.num_rows, dtype=np.int64), table, ())
            row += table.num_rows

    names = {column.name: column.name for column in survey.columns}
    return Resolution(names, (), ()), simulated()


@contextmanager
def _reading(origin: Origin) -> Iterator[Origin]:
    """The source as it is when its reading begins, not as it was when the work was planned.

    What is wrong with a file that changes meanwhile, a later try may not find.
    """
    found = origin.as_it_is()
    try:
        yield found
    except (DataError, SpecError) as error:
        if found.is_as_it_was():
            raise
        raise changed(origin.unit) from error


@contextmanager
def _set_aside() -> Iterator[None]:
    """A file that cannot be used does not hold up the others.

    It is the job that is wrong where none can be used: the run says so then.
    """
    try:
        yield
    except SpecError as error:
        raise DataError(*error.args) from error


def arrow_type(column: Column) -> pa.DataType:
    """The Arrow type of a survey's column."""
    kind = _TYPES[column.dtype]
    return pa.list_(kind, column.length) if column.length else kind


def _renamed(batches: Iterator[Batch], resolution: Resolution) -> Iterator[Batch]:
    with _set_aside():
        for batch in batches:
            names = [resolution.names[name] for name in batch.table.column_names]
            yield Batch(batch.rows, batch.table.rename_columns(names), batch.rejected)


def _checked(survey: Survey, batch: Batch, file: str, rejects: Rejects) -> pa.Table:
    """The rows that have an id and a place on the sky, with `_healpix_29` and `_row`."""
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
        refuse(_is_null(table[name]), f"column '{name}': the id is missing", None)
    if survey.id.parts:
        for name in survey.id.parts:
            part = _numbers(table[name])
            expected = f"column '{name}': expected a part of the id from 0 to {_HALF - 1}"
            refuse((part < 0) | (part >= _HALF), expected, table[name])
        table = _with_id(survey, table)
    position: dict[str, NDArray[np.float64]] = {}
    if survey.sky is not None:
        for name, low, high in ((survey.sky.ra, 0, 360), (survey.sky.dec, -90, 90)):
            values = _numbers(table[name])
            position[name] = values
            outside = ~((values >= low) & (values <= high))
            expected = f"column '{name}': expected degrees from {low} to {high}"
            refuse(outside, expected, table[name])
    rejects.add(pa.concat_tables(refused))
    table = table.append_column(ROW, pa.array(batch.rows))
    if not good.all():
        table = table.filter(pa.array(good))
    if survey.sky is not None:
        healpix = _healpix(position[survey.sky.ra][good], position[survey.sky.dec][good])
        table = table.append_column(HEALPIX, pa.array(healpix))
    return table


def _with_id(survey: Survey, table: pa.Table) -> pa.Table:
    """With the id in one column; that of a row whose parts cannot be one means nothing."""
    if survey.id.column in table.column_names:
        return table
    high, low = (
        np.where((part >= 0) & (part < _HALF), part, 0).astype(np.int64)
        for part in (_numbers(table[name]) for name in survey.id.parts)
    )
    return table.append_column(survey.id.column, pa.array(high * _HALF + low))


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    values: NDArray[np.float64] = pc.cast(column, pa.float64()).to_numpy()
    return values


def _is_null(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    missing: NDArray[np.bool_] = pc.is_null(column, nan_is_null=True).to_numpy()
    return missing


def _healpix(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.int64]:
    from hats.pixel_math.spatial_index import compute_spatial_index

    healpix: NDArray[np.int64] = np.asarray(compute_spatial_index(ra, dec), dtype=np.int64)
    return healpix


def source_facts(receipt: Receipt) -> dict[str, Any]:
    """What the catalogue remembers of a source: its scan is forgotten when all is ingested."""
    kept = ("number", "rejected", "labelled", "stars", "aliases", "absent")
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
        ``read``, ``rejected``, ``labelled`` (by target), ``stars``, ``aliases``, ``absent``.
    """
    facts = list(sources)
    rejected = sum(fact["rejected"] for fact in facts)
    absent = [set(fact["absent"]) for fact in facts]
    return {
        "read": sum(fact["rows"] for fact in facts) + rejected,
        "rejected": rejected,
        "labelled": {t: sum(fact["labelled"].get(t, 0) for fact in facts) for t in TARGETS},
        "stars": sum(fact["stars"] for fact in facts),
        "aliases": sorted({alias for fact in facts for alias in fact["aliases"]}),
        "absent": sorted(set.intersection(*absent)) if absent else [],
    }
