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

from galbatch.errors import DataError, SpecError, counted
from galbatch.intake.units import UnitPlan
from galbatch.readers.base import Batch, Batches
from galbatch.readers.open import open_reader
from galbatch.readers.remote import at_hand
from galbatch.sample.labels import labels
from galbatch.spec.job import FilesSource, MockSource
from galbatch.spec.resolve import Resolution
from galbatch.stages.base import PROCESS, Pending, Report, Site, Task, Where, changed, row_bytes
from galbatch.stages.catalogue import (
    MOCK_TILE_ROWS,
    REJECTED,
    REPEATED,
    Origin,
    standing,
)
from galbatch.stages.intake import Intake, catalogue_rows, column_types, plan_intake, with_pixels
from galbatch.store.quarantine import (
    Rejects,
    release_others,
)
from galbatch.store.shards import Shard, write_shard
from galbatch.store.tables import FILE
from galbatch.values import STAR, TARGETS, Receipt


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
            intake, batches = _batches(site, origin, path, batch_rows, first=news_to == "")
            for batch in batches:
                table, refused = catalogue_rows(survey, batch, intake, origin.unit)
                rejects.add(refused)
                for target, values in labels(survey, table).items():
                    known = np.isfinite(values)
                    labelled[target] += int(known.sum())
                    if target == "star":
                        stars += int((values[known] == STAR).sum())
                numbers = np.full(table.num_rows, origin.number, np.int32)
                table = with_pixels(survey, table).append_column(FILE, pa.array(numbers))
                name = f"{origin.number:06d}-{len(shards):06d}"
                if table.num_rows:
                    shards.append(write_shard(site.layout, name, table, file=origin.number))
                rows += table.num_rows
                report(rows, task.size, "")
            records = batches.records
            _obey_the_law(origin.unit, records, rows + rejects.rows)
            if not origin.is_as_it_was():
                raise changed(origin.unit)
            kept = rejects.commit()
        facts: dict[str, Any] = {
            "number": origin.number,
            "news_to": news_to,
            "shards": [shard.to_json() for shard in shards],
            "records": records,
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
            types, intake = column_types(survey, reader, path, header, intake)
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
    nothing = UnitPlan()
    size = origin.size or 0
    return Intake(Resolution(names, (), ()), nothing), Batches(simulated(), lambda: size)


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


def _renamed(batches: Iterable[Batch], resolution: Resolution) -> Iterator[Batch]:
    with _set_aside():
        for batch in batches:
            names = [resolution.names[name] for name in batch.table.column_names]
            yield Batch(batch.rows, batch.table.rename_columns(names), batch.rejected)


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
