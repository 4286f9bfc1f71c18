"""Write every partition of the survey's own catalogue, and publish it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from galbatch.errors import SpecError, TransientError
from galbatch.flux.bands import reference_magnitude
from galbatch.quality.metrics import count
from galbatch.stages.base import OnProgress, Pending, Task, Where
from galbatch.stages.catalogue import CatalogueState, catalogue_need, quarantine_files
from galbatch.stages.catalogue_plan import (
    CataloguePlan,
    plan_catalogue,
    reasons_of_repeated,
    type_names,
)
from galbatch.stages.catalogue_rows import (
    allocate_arrays,
    publish_arrays,
    write_partition,
)
from galbatch.stages.memory import ingest_memory
from galbatch.stages.partition_rows import PartitionPlan, RowSources, position
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.arrays import ArrayPlaces
from galbatch.store.commit import commit_bytes, digest_file
from galbatch.store.facts import (
    CatalogueFacts,
    Counts,
    PartitionFacts,
    SourceFacts,
    StoredPartition,
    Totals,
)
from galbatch.store.locations import remove_tree
from galbatch.store.partitions import PixelCounts
from galbatch.store.publish import SKYMAP_ORDER, finish_catalogue, finish_collection, retract
from galbatch.store.quarantine import quarantine, rejected_table
from galbatch.store.receipts import Receipts
from galbatch.store.tables import FILE, HEALPIX, ROW
from galbatch.store.units import CATALOGUE_UNIT, REPEATED, failed_task, rejected_unit
from galbatch.values import Receipt, RejectedRow

_MAGNITUDE_EDGES = np.linspace(8.0, 32.0, 97)


@dataclass(frozen=True)
class Ingest:
    """A task per partition."""

    name: str = "ingest"
    progress_unit: str = "rows"
    where: Where = "workers"
    rows: RowSources | None = field(default=None, compare=False)
    """Known once all sources are scanned."""
    arrays: ArrayPlaces | None = field(default=None, compare=False)
    """Where the arrays of every partition go, for a survey that has any."""

    def summary(self, site: Site) -> str:
        """One line for `galbatch plan`."""
        rows = site.job.partition.rows
        kind = (
            f"HEALPix partitions up to order {site.job.partition.max_order}"
            if site.survey.sky
            else "row ranges"
        )
        return f"{kind} of at most {rows:,} rows"

    def memory(self, site: Site) -> int:
        """A partition."""
        return ingest_memory(site)

    def pending(self, snapshot: Snapshot) -> Pending[PartitionPlan, CataloguePlan]:
        """Partitions that are not written, once all sources are scanned."""
        state, receipts = snapshot.catalogue_state, snapshot.receipts
        if snapshot.catalogue is not None:
            return Pending((), done=len(snapshot.catalogue.partitions))
        scans = {file.unit: receipts.valid(file.need) for file in state.to_scan}
        scanned = {unit: receipt for unit, receipt in scans.items() if receipt is not None}
        if not scanned and not (state.base and not state.lost):
            return Pending((), waiting="scan")
        catalogue = plan_catalogue(snapshot.site, state, scanned)
        left = []
        for plan in catalogue.partitions:
            receipt = receipts.get("ingest", plan.partition.name)
            if not receipts.holds(receipt, plan.need):
                why = receipts.why(receipt, plan.need)
                left.append(Task(plan.partition.name, plan.partition.rows, plan, why))
        total = len(catalogue.partitions) + len(catalogue.kept)
        return Pending(
            tuple(left),
            done=total - len(left),
            shared=catalogue,
            notes=_notes(receipts, state),
        )

    def begin(self, snapshot: Snapshot, pending: Pending[PartitionPlan, CataloguePlan]) -> Ingest:
        """No reader shall see a mixture of an old catalogue and a new one."""
        plan = pending.shared
        arrays = None
        if pending.tasks:
            retract(snapshot.site.layout, snapshot.site.survey)
            if plan is not None:
                arrays = allocate_arrays(snapshot, plan)
        return replace(self, rows=plan.rows if plan else None, arrays=arrays)

    def run(self, site: Site, task: Task[PartitionPlan], report: OnProgress) -> tuple[Receipt, ...]:
        """Gather one partition from all shards, and from the store, and write it."""
        began = time.perf_counter()
        if self.rows is None:
            raise ValueError("begin() gives the stage what its tasks need")
        plan = task.payload
        written = write_partition(site, self.rows, plan, self.arrays)
        table = written.table
        magnitudes = count(reference_magnitude(site.survey, table), _MAGNITUDE_EDGES)
        report(table.num_rows, plan.partition.rows, "")
        receipt = plan.need.receipt(
            digest=next(iter(written.outputs.values())),
            rows=table.num_rows,
            outputs=written.outputs,
            seconds=time.perf_counter() - began,
            facts=PartitionFacts(
                magnitudes=Counts(magnitudes.edges, magnitudes.counts),
                files=_files_of(table),
                counts=_counts_of(table),
                sky=_sky(table),
            ).to_json(),
        )
        site.book.put(receipt)
        return (receipt,)

    def finish(self, snapshot: Snapshot, pending: Pending[PartitionPlan, CataloguePlan]) -> None:
        """Publish the catalogue; the shards are not needed any more."""
        if pending.waiting:
            return
        if pending.shared is None:
            finish_collection(snapshot.site.layout, snapshot.site.survey)
        else:
            _publish(snapshot, pending.shared)
        _clean(snapshot)


def _publish(snapshot: Snapshot, plan: CataloguePlan) -> None:
    """Make the written partitions the catalogue, and record it.

    Raises
    ------
    SpecError
        If none could be written.
    """
    site, layout, book = snapshot.site, snapshot.site.layout, snapshot.site.book
    began = time.perf_counter()
    receipts = snapshot.receipts.all("ingest")
    partitions = _partitions(plan, snapshot.receipts)
    written = [one for one in partitions if one.digest]
    if not written:
        raise SpecError(str(layout.root), "no partition could be written", "see the errors above")
    facts_of = {
        one.partition.name: PartitionFacts.from_json(receipts[one.partition.name].facts)
        for one in written
    }
    if len(written) == len(partitions):
        _obey_the_law(plan.sources, list(facts_of.values()))
    digest = sha256("".join(one.digest for one in written).encode()).hexdigest()
    sky = [facts.sky for facts in facts_of.values() if facts.sky is not None]
    histogram = PixelCounts.total(sky, SKYMAP_ORDER) if site.survey.sky is not None else None
    outputs = finish_catalogue(
        layout,
        site.survey,
        tuple(one.partition for one in written),
        fingerprint=digest,
        histogram=histogram,
    )
    spec, described = publish_arrays(snapshot, plan, written)
    outputs |= described
    _report_vanished(snapshot, plan)
    outputs |= _write_quarantine(snapshot, plan)
    outputs |= _write_numbers(site, plan)
    for unit in set(receipts) - facts_of.keys() - {CATALOGUE_UNIT}:
        book.forget("ingest", unit)
    facts = CatalogueFacts(
        totals=Totals.of(plan.sources.values()),
        sources=plan.sources,
        partitions=tuple(partitions),
        duplicates=sum(source.duplicates for source in plan.sources.values()),
        histogram=histogram,
        id=site.survey.id.column,
        columns=tuple(plan.rows.schema.names),
        types=type_names(plan.rows.schema),
        arrays=None if spec is None else spec.to_json(),
    )
    book.put(
        catalogue_need(site, plan.sources).receipt(
            digest=digest,
            rows=sum(one.partition.rows for one in written),
            outputs=outputs,
            seconds=time.perf_counter() - began,
            facts=facts.to_json(),
        )
    )


def _partitions(plan: CataloguePlan, receipts: Receipts) -> list[StoredPartition]:
    """All of the catalogue, in order; without a digest those that could not be written."""
    partitions = [*plan.kept]
    written = receipts.all("ingest")
    for one in plan.partitions:
        receipt = written.get(one.partition.name)
        if receipt is not None and receipts.holds(receipt, one.need):
            partitions.append(StoredPartition.of(one.partition, receipt))
        else:
            partitions.append(StoredPartition(one.partition, "", 0, one.files))
    return sorted(partitions, key=lambda one: position(one.partition))


def _obey_the_law(sources: Mapping[str, SourceFacts], partitions: Sequence[PartitionFacts]) -> None:
    """Records of a file = its rows in the catalogue + those in quarantine.

    Raises
    ------
    TransientError
        Naming the file, where that is not so.
    """
    counts: Counter[int] = Counter()
    for facts in partitions:
        counts.update(facts.counts)
    for unit, source in sources.items():
        rows = counts[source.number]
        if rows + source.in_quarantine != source.records:
            raise TransientError(
                unit,
                f"{source.records:,} records stand in it, but {rows:,} are in the catalogue and "
                f"{source.in_quarantine:,} in quarantine",
                "the catalogue is not published; run again, and please report it",
            )


def _notes(receipts: Receipts, state: CatalogueState) -> tuple[str, ...]:
    """Why the catalogue must be published again, though no partition may be left to write."""
    problem = state.base and receipts.damage(state.base)
    return (f"{problem}: made again from the partitions",) if problem else ()


def _write_quarantine(snapshot: Snapshot, plan: CataloguePlan) -> dict[str, str]:
    """Keep what repeats an id. The files of all sources in the quarantine, with their digests.

    The receipt of the catalogue guards them: what is lost of them is made again.
    """
    site, layout = snapshot.site, snapshot.site.layout
    base = snapshot.receipts.get("ingest", CATALOGUE_UNIT)
    guarded = dict(zip(base.outputs, base.digests, strict=True)) if base else {}
    names = {source.number: unit for unit, source in plan.sources.items()}
    for unit, rows in plan.repeated.items():
        reasons = reasons_of_repeated(site.survey.id.column, rows, names)
        rejected = rejected_table(unit, rows[ROW], reasons)
        quarantine(layout, rejected_unit(REPEATED, unit), rejected)
    written: dict[str, str] = {}
    for unit, source in plan.sources.items():
        for name in quarantine_files(layout, unit, source):
            path = layout.output(name)
            if unit in plan.repeated:
                written[name] = digest_file(path)
            elif name in guarded and path.exists():  # they may be lost with the source itself
                written[name] = guarded[name]
    return written


def _write_numbers(site: Site, plan: CataloguePlan) -> dict[str, str]:
    """Say which file each `_file` of the catalogue is; the page, with its digest."""
    names = {source.number: unit for unit, source in plan.sources.items()}
    page = {str(number): names[number] for number in sorted(names)}
    path = site.layout.sources
    digest = commit_bytes(path, (json.dumps(page, indent=1) + "\n").encode())
    return {site.layout.relative(path): digest}


def _report_vanished(snapshot: Snapshot, plan: CataloguePlan) -> None:
    """Rows of a file that went away between scan and ingest are in no partition."""
    for unit in set(snapshot.receipts.all("scan")) - set(plan.sources):
        lost = RejectedRow(
            failed_task("scan", unit),
            0,
            f"{unit}: went away after it was read: none of its rows is in the catalogue "
            "(bring it back, if they should be, and run again)",
            "DataError",
        )
        quarantine(snapshot.site.layout, rejected_unit("scan", unit), (lost,))


def _clean(snapshot: Snapshot) -> None:
    """Shards are in the catalogue now: their receipts would speak of files that are gone."""
    site = snapshot.site
    for unit in snapshot.receipts.all("scan"):
        site.book.forget("scan", unit)
    remove_tree(site.layout.shards)
    remove_tree(site.layout.notes)


def _files_of(table: pa.Table) -> dict[int, tuple[int, int]]:
    """First and last row of each source."""
    ranges = table.select([FILE, ROW]).group_by(FILE).aggregate([(ROW, "min"), (ROW, "max")])
    return {
        row[FILE]: (row[f"{ROW}_min"], row[f"{ROW}_max"])
        for row in ranges.sort_by(FILE).to_pylist()
    }


def _counts_of(table: pa.Table) -> dict[int, int]:
    """Rows of each source."""
    counts = pc.value_counts(table[FILE].combine_chunks())
    return {one["values"]: one["counts"] for one in counts.to_pylist()}


def _sky(table: pa.Table) -> PixelCounts | None:
    """Where on the sky the rows are."""
    if HEALPIX not in table.column_names:
        return None
    return PixelCounts.of(table[HEALPIX].to_numpy(), SKYMAP_ORDER)
