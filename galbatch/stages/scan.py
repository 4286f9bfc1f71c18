"""Read every source once, check every row, and leave shards sorted on the sky."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from hashlib import sha256

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.errors import DataError, NoFileError, SpecError, counted
from galbatch.intake.units import UnitPlan
from galbatch.readers.base import Batch, Batches
from galbatch.readers.open import open_reader
from galbatch.readers.remote import at_hand
from galbatch.sample.labels import labels
from galbatch.spec.job import FilesSource, MockSource
from galbatch.spec.resolve import Resolution
from galbatch.stages.base import OnProgress, Pending, Task, Where, changed
from galbatch.stages.catalogue import sources_now
from galbatch.stages.intake import Intake, catalogue_rows, column_types, plan_intake, with_pixels
from galbatch.stages.memory import batch_rows, scan_memory
from galbatch.stages.site import Site
from galbatch.stages.sources import MOCK_TILE_ROWS, SourceFile
from galbatch.stages.state import Snapshot
from galbatch.store.facts import ScanFacts
from galbatch.store.quarantine import Rejects, release_others
from galbatch.store.shards import Shard, write_shard
from galbatch.store.tables import FILE
from galbatch.store.units import REJECTED, REPEATED, rejected_unit
from galbatch.targets import RECORDS
from galbatch.values import STAR, TARGETS, Receipt, Target


@dataclass(frozen=True)
class FileToScan:
    """What is to be read.

    Parameters
    ----------
    file : SourceFile
    merged_into : str or None
        As in `ScanFacts`.
    """

    file: SourceFile
    merged_into: str | None


@dataclass(frozen=True)
class Scan:
    """A task per source file; a mistake of the user's stops the run here."""

    name: str = "scan"
    progress_unit: str = "rows"
    where: Where = "workers"
    deep: bool = field(default=True, compare=False)
    """Whether shards that are there already are read back: an earlier run left them."""

    def summary(self, site: Site) -> str:
        """One line for `galbatch plan`."""
        source = site.job.source
        if isinstance(source, MockSource):
            return f"simulate {counted(source.rows, 'object')}, {source.batch_rows:,} at a time"
        how = f"at most {batch_rows(site):,} rows at a time; check rows"
        try:
            files = sources_now(site)
        except NoFileError as error:
            return f"read files that are not there yet, {how}; {error}"
        size = sum(file.size or 0 for file in files) / 2**20
        return f"read {counted(len(files), 'file')} ({size:,.1f} MiB), {how}"

    def memory(self, site: Site) -> int:
        """A batch."""
        return scan_memory(site)

    def pending(self, snapshot: Snapshot) -> Pending[FileToScan, frozenset[str]]:
        """Sources that are new, changed or wanted again, and whose shards are not there."""
        site, state, receipts = snapshot.site, snapshot.catalogue_state, snapshot.receipts
        wanted = [FileToScan(file, state.version) for file in state.changed]
        wanted += [FileToScan(file, None) for file in state.reread]
        left = []
        for work in wanted:
            receipt = receipts.valid(work.file.need)
            problem = receipts.damage(receipt, deep=self.deep) if receipt else ""
            if receipt is None or problem or _merged_into(receipt) != work.merged_into:
                why = problem or state.why(work.file)
                left.append(Task(work.file.unit, _rows(site, work.file), work, why))
        return Pending(
            tuple(left),
            done=len(state.files) + len(state.gone) - len(left),
            dispensable=state.base is not None,
            shared=frozenset({*state.sources, *(file.unit for file in state.files)}),
            again=replace(self, deep=False) if isinstance(site.job.source, FilesSource) else None,
        )

    def begin(self, snapshot: Snapshot, pending: Pending[FileToScan, frozenset[str]]) -> Scan:
        """Nothing to prepare."""
        return self

    def run(self, site: Site, task: Task[FileToScan], report: OnProgress) -> tuple[Receipt, ...]:
        """Read one source to its end."""
        began = time.perf_counter()
        listed, merged_into = task.payload.file, task.payload.merged_into
        at_a_time = min(task.batch_rows or batch_rows(site), batch_rows(site))
        survey = site.survey
        shards: list[Shard] = []
        counts, rows = _LabelCounts(), 0
        with (
            _reading(listed) as file,
            at_hand(file.unit) as path,
            Rejects(site.layout, rejected_unit(REJECTED, file.unit)) as rejects,
        ):
            intake, batches = _batches(site, file, path, at_a_time, first=merged_into == "")
            for batch in batches:
                table, refused = catalogue_rows(survey, batch, intake, file.unit)
                rejects.add(refused)
                counts.add(labels(survey, table))
                if table.num_rows:
                    shards.append(_write(site, file, len(shards), table))
                rows += table.num_rows
                report(rows, task.size, "")
            records = batches.records
            _obey_the_law(file.unit, records, rows + rejects.rows)
            if not file.is_as_it_was():
                raise changed(file.unit)
            kept = rejects.commit()
        facts = ScanFacts(
            number=file.number,
            merged_into=merged_into,
            shards=tuple(shards),
            records=records,
            rejected=rejects.rows,
            labelled=counts.labelled,
            stars=counts.stars,
            aliases=tuple(intake.resolution.aliases),
            absent=tuple(intake.resolution.absent),
            notes=(*intake.notes, *intake.units.notes),
        )
        outputs = {
            site.layout.relative(site.layout.shard(shard.name)): shard.digest for shard in shards
        }
        receipt = file.need.receipt(
            digest=sha256("".join(shard.digest for shard in shards).encode()).hexdigest(),
            rows=rows,
            outputs=outputs | kept,
            seconds=time.perf_counter() - began,
            facts=facts.to_json(),
        )
        site.book.put(receipt)
        return (receipt,)

    def finish(self, snapshot: Snapshot, pending: Pending[FileToScan, frozenset[str]]) -> None:
        """Forget what was rejected of files that are gone, and of which the store holds nothing."""
        for kind in (REJECTED, REPEATED):
            release_others(snapshot.site.layout, kind, pending.shared or ())


@dataclass
class _LabelCounts:
    """How many rows have a label, by target, and how many are stars."""

    labelled: dict[Target, int] = field(default_factory=lambda: dict.fromkeys(TARGETS, 0))
    stars: int = 0

    def add(self, found: Mapping[Target, NDArray[np.float64]]) -> None:
        """Count the labels of more rows."""
        for target, values in found.items():
            known = values[np.isfinite(values)]
            self.labelled[target] += len(known)
            if RECORDS[target].is_class:
                self.stars += int((known == STAR).sum())


def _write(site: Site, file: SourceFile, shard: int, table: pa.Table) -> Shard:
    """Write the rows of a batch as a shard of the file, the one with this number."""
    numbers = pa.array(np.full(table.num_rows, file.number, np.int32))
    table = with_pixels(site.survey, table).append_column(FILE, numbers)
    return write_shard(site.layout, f"{file.number:06d}-{shard:06d}", table, file=file.number)


def _merged_into(receipt: Receipt) -> str | None:
    return ScanFacts.from_json(receipt.facts).merged_into


def _rows(site: Site, file: SourceFile) -> int | None:
    return file.size if isinstance(site.job.source, MockSource) else None


def _obey_the_law(file: str, records: int, read: int) -> None:
    """Every record of a file is a row or among the rejected: counted twice, by different rules."""
    if read != records:
        raise DataError(
            file,
            f"{records:,} records stand in it, but {read:,} rows came of them",
            "none of them is taken; please report this file",
        )


def _batches(
    site: Site, file: SourceFile, path: str, at_a_time: int, *, first: bool
) -> tuple[Intake, Batches]:
    source, survey = site.job.source, site.survey
    if isinstance(source, FilesSource):
        with _set_aside():
            reader = open_reader(source.format, path)
            header = reader.header(path)
        # In the first run the survey may be wrong, and nothing is lost yet.
        with nullcontext() if first else _set_aside():
            intake = plan_intake(survey, header, file.unit)
        with _set_aside():
            types, intake = column_types(survey, reader, path, header, intake)
        batches = reader.batches(path, types, at_a_time)
        renamed = _renamed(batches, intake.resolution)
        return intake, Batches(renamed, lambda: batches.records)
    from galbatch.mock.observe import mock_batches

    def simulated() -> Iterator[Batch]:
        first = file.number * MOCK_TILE_ROWS
        rows = first + (file.size or 0)
        row = 1
        for table in mock_batches(survey, rows, source.seed, at_a_time, first):
            yield Batch(np.arange(row, row + table.num_rows, dtype=np.int64), table, ())
            row += table.num_rows

    names = {column.name: column.name for column in survey.columns}
    nothing = UnitPlan()
    size = file.size or 0
    return Intake(Resolution(names, (), ()), nothing), Batches(simulated(), lambda: size)


@contextmanager
def _reading(listed: SourceFile) -> Iterator[SourceFile]:
    """The source as it is when its reading begins, not as it was when the work was planned.

    What is wrong with a file that changes meanwhile, a later try may not find.
    """
    file = listed.as_it_is()
    try:
        yield file
    except (DataError, SpecError) as error:
        if file.is_as_it_was():
            raise
        raise changed(file.unit) from error


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
