"""Cut the sky, and write every partition of the survey's own catalogue."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa

from galbatch.errors import SpecError
from galbatch.flux.magnitudes import reference_magnitude
from galbatch.quality.metrics import count
from galbatch.spec.job import FilesSource
from galbatch.stages.base import Pending, Report, Site, Task, Where
from galbatch.stages.catalogue import (
    CATALOGUE_UNIT,
    INGEST_VERSION,
    catalogue_key,
    finished_catalogue,
    origins,
)
from galbatch.stages.scan import scan_facts
from galbatch.store.duplicates import find_duplicates
from galbatch.store.partitions import Histogram, plan_partitions, plan_row_ranges
from galbatch.store.publish import SKYMAP_ORDER, finish_catalogue, retract
from galbatch.store.quarantine import quarantine, quarantined
from galbatch.store.receipts import receipt_key
from galbatch.store.shards import (
    FILE,
    ROW,
    Shard,
    catalogue_schema,
    count_pixels,
    kept_rows,
    read_shards,
)
from galbatch.store.tables import annotate, commit_parquet
from galbatch.values import Partition, Receipt, RejectedRow

_DUPLICATES = "ingest.duplicates"
_MAGNITUDE_EDGES = np.linspace(8.0, 32.0, 97)


@dataclass(frozen=True)
class Cut:
    """The catalogue as it is to be: what all shards together say.

    Parameters
    ----------
    key : str
        What the catalogue depends on.
    receipts : mapping of str to Receipt
        The scans it is made of.
    partitions : mapping of Partition to str
        What the receipt of each must have for a key.
    shards : tuple of Shard
    schema : pyarrow.Schema
    without : pyarrow.Table
        Rows that repeat an id.
    histogram : Histogram or None
    """

    key: str
    receipts: Mapping[str, Receipt]
    partitions: Mapping[Partition, str]
    shards: tuple[Shard, ...]
    schema: pa.Schema
    without: pa.Table
    histogram: Histogram | None


@dataclass(frozen=True)
class Ingest:
    """A task per partition."""

    name: str = "ingest"
    word: str = "rows"
    where: Where = "workers"
    cut: Cut | None = field(default=None, compare=False)
    """Known once all sources are scanned."""

    def summary(self, site: Site) -> str:
        """One line for `galbatch plan`."""
        rows = site.job.partition.rows
        width = sum(
            (8 if column.dtype.endswith("64") else 4) * (column.length or 1)
            for column in site.survey.columns
        )
        kind = (
            f"HEALPix partitions up to order {site.job.partition.max_order}"
            if site.survey.sky
            else "row ranges"
        )
        memory = 3 * rows * width / 2**20
        return f"{kind} of at most {rows:,} rows; about {memory:,.0f} MiB in a worker"

    def pending(self, site: Site) -> Pending:
        """Partitions that are not written, once all sources are scanned."""
        whole = finished_catalogue(site)
        if whole is not None:
            return Pending((), done=len(whole.partitions))
        receipts = _scans(site)
        if not receipts:
            return Pending((), waiting="scan")
        cut = _cut(site, receipts)
        book = site.book
        left = tuple(
            Task(partition.name, partition.rows, partition)
            for partition, key in cut.partitions.items()
            if book.valid("ingest", partition.name, key) is None
        )
        return Pending(left, done=len(cut.partitions) - len(left), shared=cut)

    def begin(self, site: Site, pending: Pending) -> Ingest:
        """No reader shall see a mixture of an old catalogue and a new one."""
        if pending.tasks:
            site.book.forget("ingest", CATALOGUE_UNIT)
            retract(site.layout, site.survey)
        return replace(self, cut=pending.shared)

    def run(self, site: Site, task: Task, report: Report) -> tuple[Receipt, ...]:
        """Gather one partition from all shards and write it."""
        began = time.perf_counter()
        cut, partition = self._known(), task.payload
        table = read_shards(
            site.layout,
            cut.shards,
            partition,
            schema=cut.schema,
            id_column=site.survey.id.column,
            range_rows=site.job.partition.rows,
            without=cut.without,
        )
        path = site.layout.partition(partition)
        digest = commit_parquet(
            path, annotate(table, site.survey.columns), {"survey": site.survey.name}
        )
        magnitudes = reference_magnitude(site.survey, table)
        report(table.num_rows, partition.rows, "")
        receipt = Receipt(
            stage="ingest",
            unit=task.unit,
            key=cut.partitions[partition],
            digest=digest,
            rows=table.num_rows,
            outputs=(site.layout.relative(path),),
            seconds=time.perf_counter() - began,
            facts={"magnitudes": count(magnitudes, _MAGNITUDE_EDGES).to_json()},
        )
        site.book.put(receipt)
        return (receipt,)

    def finish(self, site: Site) -> None:
        """Publish the catalogue; the shards are not needed any more."""
        if finished_catalogue(site) is not None:
            return
        cut, book = self._known(), site.book
        written = {
            partition: receipt.digest
            for partition, key in cut.partitions.items()
            if (receipt := book.valid("ingest", partition.name, key))
        }
        if not written:
            raise SpecError(
                str(site.layout.root), "no partition could be written", "see the errors above"
            )
        digest = sha256("".join(sorted(written.values())).encode()).hexdigest()
        began = time.perf_counter()
        outputs = finish_catalogue(
            site.layout,
            site.survey,
            tuple(written),
            fingerprint=digest,
            histogram=cut.histogram,
        )
        quarantine(site.layout, _DUPLICATES, _as_rejected(site, cut))
        facts = scan_facts(cut.receipts) | {
            "scans": {unit: receipt.key for unit, receipt in cut.receipts.items()},
            "partitions": [asdict(partition) for partition in written],
            "duplicates": cut.without.num_rows,
            "histogram": _histogram_words(cut.histogram),
            "columns": cut.schema.names,
        }
        stale = set(book.all("ingest")) - {partition.name for partition in written}
        for unit in stale:
            book.forget("ingest", unit)
        book.put(
            Receipt(
                stage="ingest",
                unit=CATALOGUE_UNIT,
                key=cut.key,
                digest=digest,
                rows=sum(partition.rows for partition in written),
                outputs=outputs,
                seconds=time.perf_counter() - began,
                facts=facts,
            )
        )
        for receipt in cut.receipts.values():
            for output in receipt.outputs:
                (site.layout.root / output).unlink(missing_ok=True)

    def _known(self) -> Cut:
        if self.cut is None:
            raise ValueError("begin() gives the stage what its tasks need")
        return self.cut


def _histogram_words(histogram: Histogram | None) -> dict[str, Any] | None:
    if histogram is None:
        return None
    coarse = histogram.coarser(min(histogram.order, SKYMAP_ORDER))
    return {
        "order": coarse.order,
        "pixels": coarse.pixels.tolist(),
        "counts": coarse.counts.tolist(),
    }


def _scans(site: Site) -> dict[str, Receipt]:
    book = site.book
    found = {origin.unit: book.valid("scan", origin.unit, origin.key) for origin in origins(site)}
    return {unit: receipt for unit, receipt in found.items() if receipt is not None}


def _cut(site: Site, receipts: Mapping[str, Receipt]) -> Cut:
    """Partitions of all rows that are good and whose id was not there before."""
    ordered = sorted(receipts.values(), key=lambda receipt: receipt.facts["number"])
    shards = tuple(
        Shard.from_json(record) for receipt in ordered for record in receipt.facts["shards"]
    )
    facts = scan_facts(receipts)
    _judge(site, facts, shards)
    survey, words = site.survey, site.job.partition
    limit = _tolerated(site, facts["read"]) - facts["rejected"]
    without = find_duplicates(site.layout, shards, survey.id.column, at_most=max(limit, 0))
    histogram = None
    if survey.sky is not None:
        histogram = count_pixels(site.layout, shards, words.max_order, without)
        partitions = plan_partitions(histogram, words.rows)
    else:
        partitions = plan_row_ranges(kept_rows(shards, without), words.rows)
    schema = catalogue_schema(site.layout, _one_of_each_source(shards))
    key = catalogue_key(site, {receipt.unit: receipt.key for receipt in ordered})
    keys = {
        partition: receipt_key("ingest", INGEST_VERSION, {"catalogue": key}, (), partition.name)
        for partition in partitions
    }
    return Cut(key, receipts, keys, shards, schema, without, histogram)


def _one_of_each_source(shards: Sequence[Shard]) -> tuple[Shard, ...]:
    return tuple({shard.name.partition("-")[0]: shard for shard in shards}.values())


def _tolerated(site: Site, read: int) -> int:
    source = site.job.source
    return int(source.bad_rows * read) if isinstance(source, FilesSource) else 0


def _judge(site: Site, facts: Mapping[str, Any], shards: Sequence[Shard]) -> None:
    """Refuse what cannot become a catalogue, before anything of it is written."""
    if facts["rejected"] > _tolerated(site, facts["read"]):
        bad = quarantined(site.layout).slice(0, 1).to_pylist()
        example = f"{bad[0]['file']}: row {bad[0]['row']}: {bad[0]['reason']}" if bad else ""
        raise SpecError(
            example or "source",
            f"{facts['rejected']:,} of {facts['read']:,} rows are bad",
            "mend the file, or allow more with source.bad_rows",
        )
    if not shards:
        raise SpecError("source", "the files hold no rows", "is it the right file?")
    if not any(facts["labelled"].values()):
        raise SpecError(
            "models",
            f"none of {facts['read']:,} rows has a label: there is nothing to train on",
            "give a file with labels, or correct 'labels' in the survey",
        )
    for model in site.job.models:
        for target in model.targets or ():
            label = site.survey.labels.of(target)
            if label is not None and not facts["labelled"][target]:
                raise SpecError(
                    f"models.{model.name}.targets",
                    f"'{target}' has no label: column '{label.column}' holds no usable value "
                    f"in {facts['read']:,} rows",
                    f"take '{target}' out of the targets, or give a file with labels",
                )


def _as_rejected(site: Site, cut: Cut) -> tuple[RejectedRow, ...]:
    files = {receipt.facts["number"]: unit for unit, receipt in cut.receipts.items()}
    column = site.survey.id.column
    return tuple(
        RejectedRow(
            files[row[FILE]],
            row[ROW],
            f"column '{column}': the id is that of an earlier row, got {row['id']} "
            f"(row {row['first_row']} of {files[row['first_file']]})",
        )
        for row in cut.without.to_pylist()
    )
