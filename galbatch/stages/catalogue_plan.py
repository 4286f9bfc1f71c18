"""The catalogue as it is to be: its partitions, and what each of them is made of.

What is in the store stays: changed files are merged into the partitions that their rows fall into,
and only those are written again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from galbatch.intake.types import arrow_type
from galbatch.stages import code
from galbatch.stages.catalogue import CatalogueState
from galbatch.stages.judge import judge_labels, judge_rows, tolerated_duplicates
from galbatch.stages.partition_rows import (
    PartitionPlan,
    RowSources,
    pixel_range,
    position,
    rows_that_stay,
)
from galbatch.stages.site import Site
from galbatch.store.duplicates import find_duplicates
from galbatch.store.facts import RowRanges, ScanFacts, SourceFacts, StoredPartition, Totals
from galbatch.store.layout import Layout
from galbatch.store.partitions import PixelCounts, extend_partitions, plan_row_ranges
from galbatch.store.quarantine import GOT, rejected_positions
from galbatch.store.receipts import Need, json_digest
from galbatch.store.shard_rows import (
    count_pixels,
    files_between,
    find_rows,
    read_pixels,
    row_numbers,
)
from galbatch.store.shard_schema import catalogue_schema
from galbatch.store.shards import Shard
from galbatch.store.tables import FILE, HEALPIX, ROW, read_partition, read_schema
from galbatch.store.units import REPEATED, rejected_unit
from galbatch.values import Partition, Receipt

_EVERY_ROW = (0, 2**62)


@dataclass(frozen=True)
class CataloguePlan:
    """The catalogue as it is to be.

    Parameters
    ----------
    rows : RowSources
        Where the rows of its partitions are.
    sources : mapping of str to SourceFacts
        What is known of every source.
    partitions : tuple of PartitionPlan
        Those that must be written.
    kept : tuple of StoredPartition
        Those that stay as they are.
    repeated : mapping of str to pyarrow.Table
        Rows of each changed source that repeat an id, from `find_duplicates`.
    """

    rows: RowSources
    sources: Mapping[str, SourceFacts]
    partitions: tuple[PartitionPlan, ...]
    kept: tuple[StoredPartition, ...]
    repeated: Mapping[str, pa.Table]


@dataclass(frozen=True)
class _Scan:
    """A file that was scanned for this catalogue."""

    receipt: Receipt
    facts: ScanFacts

    @property
    def unit(self) -> str:
        return self.receipt.unit


def plan_catalogue(
    site: Site, state: CatalogueState, scans: Mapping[str, Receipt]
) -> CataloguePlan:
    """What must be written so that the catalogue holds all that its sources hold.

    The same however many of the partitions are written already: rows in the store that come from
    a changed source do not count, nor do those that are lost.

    Parameters
    ----------
    site : Site
    state : CatalogueState
    scans : mapping of str to Receipt
        By the file: of those that could be read.

    Raises
    ------
    SpecError
        If the files cannot become a catalogue.
    """
    changed = _in_order(scans[file.unit] for file in state.changed if file.unit in scans)
    reread = _in_order(scans[file.unit] for file in state.reread if file.unit in scans)
    rows = _row_sources(site, state, changed, reread)
    sources, repeated = _sources(state, changed, rows.changed_without)
    judge_labels(site, Totals.of(sources.values()))
    planner = _Planner(site, state, rows, sources)
    planned = planner.with_sky() if site.survey.sky is not None else planner.without_sky()
    stored = {one.partition: one for one in state.stored}
    return CataloguePlan(
        rows,
        sources,
        tuple(plan for plan in planned if isinstance(plan, PartitionPlan)),
        tuple(stored[plan] for plan in planned if isinstance(plan, Partition)),
        repeated,
    )


def _row_sources(
    site: Site, state: CatalogueState, changed: Sequence[_Scan], reread: Sequence[_Scan]
) -> RowSources:
    """Where the rows are, and which of them repeat an id."""
    survey, layout = site.survey, site.layout
    changed_shards, reread_shards = _shards(changed), _shards(reread)
    replaced = tuple(scan.facts.number for scan in changed)
    receipts = [scan.receipt for scan in changed]
    if changed:
        stays = any(not set(replaced).issuperset(one.files) for one in state.stored)
        judge_rows(site, state, receipts, holds_rows=bool(changed_shards) or stays)
    schema = catalogue_schema(
        layout,
        changed_shards if state.on_disk or changed_shards else reread_shards,
        survey.id.column,
        {scan.facts.number: scan.unit for scan in (*changed, *reread)},
        _stored_schema(site, state),
        lambda column: _stored_column(layout, state.on_disk, column),
    )
    without = find_duplicates(
        layout,
        changed_shards,
        survey.id.column,
        schema.field(survey.id.column).type,
        at_most=tolerated_duplicates(site, state, receipts),
        stored_partitions=[one.partition for one in state.on_disk],
        reread=reread_shards,
    )
    reread_without = find_rows(layout, reread_shards, _repeated_rows(layout, reread))
    return RowSources(changed_shards, without, reread_shards, reread_without, schema, replaced)


class _Planner:
    """Which partitions there shall be: a plan for each, or itself where it stays as it is."""

    def __init__(
        self,
        site: Site,
        state: CatalogueState,
        rows: RowSources,
        sources: Mapping[str, SourceFacts],
    ) -> None:
        self._site, self._state, self._rows = site, state, rows
        self._sources = {source.number: (unit, source) for unit, source in sources.items()}
        columns = (tuple(rows.schema.names), type_names(rows.schema))
        facts = state.facts
        # A column that grew wider, or that is new, is so in every partition.
        self._same_columns = facts is not None and columns == (facts.columns, facts.types)
        self._columns = json_digest(columns)

    def with_sky(self) -> list[PartitionPlan | Partition]:
        """Pixels, none with more rows than the job allows."""
        state, rows, layout = self._state, self._rows, self._site.layout
        settings = self._site.job.partition
        order = settings.max_order
        changed = count_pixels(layout, rows.changed, order, rows.changed_without)
        kept = [replace(one.partition, rows=self._rows_that_stay(one)) for one in state.stored]
        partitions = extend_partitions(
            tuple(kept),
            PixelCounts.total(changed.values(), order),
            settings.rows,
            lambda partition: self._histogram(partition, order),
        )
        coming = _files_that_come(partitions, changed, order)
        stored = sorted(state.stored, key=lambda one: position(one.partition))
        starts = [pixel_range(one.partition)[0] for one in stored]
        planned: list[PartitionPlan | Partition] = []
        for number, partition in enumerate(partitions):
            first, stop = pixel_range(partition)
            begin = max(int(np.searchsorted(starts, first, side="right")) - 1, 0)
            end = int(np.searchsorted(starts, stop, side="left"))
            touching = [one for one in stored[begin:end] if pixel_range(one.partition)[1] > first]
            planned.append(self._plan(partition, touching, coming.get(number, {})))
        return planned

    def without_sky(self) -> list[PartitionPlan | Partition]:
        """Row ranges: those that there are, and new ones behind them."""
        state, rows, layout = self._state, self._rows, self._site.layout
        planned: list[PartitionPlan | Partition] = []
        for one in state.stored:
            stay = self._rows_that_stay(one)
            if stay:
                planned.append(self._plan(replace(one.partition, rows=stay), [one], {}))
        next_one = max((one.partition.index + 1 for one in state.stored), default=0)
        size = self._site.job.partition.rows
        gone = row_numbers(rows.changed, rows.changed_without)
        for new in plan_row_ranges(sum(shard.rows for shard in rows.changed), size, gone):
            row_range = (new.index * size, (new.index + 1) * size)
            coming = files_between(layout, rows.changed, row_range)
            partition = replace(new, index=next_one + new.index)
            planned.append(self._plan(partition, [], coming, row_range))
        return planned

    def _plan(
        self,
        partition: Partition,
        touching: Sequence[StoredPartition],
        coming: RowRanges,
        row_range: tuple[int, int] = (0, 0),
    ) -> PartitionPlan | Partition:
        """What a partition is made of: rows of those in the store that it touches, and others."""
        state = self._state
        replaced = set(self._rows.replaced)
        stored = {number: rows for one in touching for number, rows in one.files.items()}
        as_it_was = (
            not coming
            and self._same_columns
            and [one.partition for one in touching] == [partition]
            and replaced.isdisjoint(stored)
            and partition not in state.lost
            and partition not in state.without_receipt
        )
        if as_it_was:
            return partition
        files = {number: rows for number, rows in stored.items() if number not in replaced}
        files |= coming
        contents = {}
        for number in sorted(files):
            unit, source = self._sources[number]
            contents[unit] = source.content
        depends = {
            "code": code.INGEST,
            "partition": self._site.job.partition.model_dump(mode="json"),
            "columns": self._columns,
            "places": list(row_range),
            "files": contents,
        }
        return PartitionPlan(
            partition,
            Need("ingest", partition.name, depends),
            tuple(one.partition for one in touching if one.partition not in state.lost),
            tuple(one for one in touching if one.partition in state.lost),
            row_range,
            files,
        )

    def _rows_that_stay(self, one: StoredPartition) -> int:
        """Rows of a partition that stay in it."""
        replaced = self._rows.replaced
        if one.partition in self._state.lost or set(one.files).isdisjoint(replaced):
            return one.partition.rows
        rows = rows_that_stay(self._site.layout, one.partition, [FILE], replaced)
        return int(rows.num_rows)

    def _histogram(self, partition: Partition, order: int) -> PixelCounts:
        """Where on the sky the rows are that stay in a partition."""
        sources, layout = self._rows, self._site.layout
        if partition in self._state.lost:
            pixels, schema = pixel_range(partition), pa.schema([(HEALPIX, pa.int64())])
            rows = read_pixels(layout, sources.reread, pixels, schema, sources.reread_without)
        else:
            rows = rows_that_stay(layout, partition, [HEALPIX, FILE], sources.replaced)
        return PixelCounts.of(rows[HEALPIX].to_numpy(), order)


def _files_that_come(
    partitions: Sequence[Partition], changed: Mapping[int, PixelCounts], order: int
) -> dict[int, dict[int, tuple[int, int]]]:
    """Changed files that have rows in a partition, by its place in the sequence."""
    lows = np.array([partition.index << 2 * (order - partition.order) for partition in partitions])
    coming: dict[int, dict[int, tuple[int, int]]] = {}
    for number, histogram in changed.items():
        places = np.unique(np.searchsorted(lows, histogram.pixels, side="right") - 1)
        for place in places.tolist():
            coming.setdefault(place, {})[number] = _EVERY_ROW
    return coming


def _sources(
    state: CatalogueState, changed: Sequence[_Scan], without: pa.Table
) -> tuple[dict[str, SourceFacts], dict[str, pa.Table]]:
    """What is known of every source, and the rows of those that changed which repeat an id."""
    sources = dict(state.sources)
    for scan in changed:
        sources[scan.unit] = SourceFacts.of(scan.receipt)
    names = {source.number: unit for unit, source in sources.items()}
    files = without[FILE].to_numpy()
    repeated = {}
    for scan in changed:
        number = scan.facts.number
        begin, end = np.searchsorted(files, [number, number + 1]).tolist()
        rows = repeated[scan.unit] = without.slice(begin, end - begin)
        content = sha256(rows[ROW].to_numpy().tobytes()).hexdigest()
        first = {names[file] for file in rows["first_file"].unique().to_pylist()}
        sources[scan.unit] = replace(
            sources[scan.unit],
            duplicates=rows.num_rows,
            # Should one of these change, this source is read again: its rows may come back.
            repeats=tuple(sorted(first - {scan.unit})),
            content=json_digest([scan.receipt.key, content]),
        )
    return sources, repeated


def reasons_of_repeated(column: str, rows: pa.Table, names: Mapping[int, str]) -> pa.Array:
    """Why each of the rows of `find_duplicates` is left out.

    Parameters
    ----------
    column : str
        Of the ids.
    rows : pyarrow.Table
    names : mapping of int to str
        Of the files, by their number.
    """
    numbers = sorted(names)
    place = pc.index_in(rows["first_file"], pa.array(numbers, rows["first_file"].type))
    first = pa.array([names[number] for number in numbers]).take(place.combine_chunks())
    text = [rows[name].cast(pa.string()).combine_chunks() for name in ("id", "first_row")]
    reason = f"column '{column}': the id is that of another row{GOT}"
    return pc.binary_join_element_wise(reason, text[0], " (row ", text[1], " of ", first, ")", "")


def type_names(schema: pa.Schema) -> tuple[str, ...]:
    """Arrow's names of the types of columns."""
    return tuple(str(field.type) for field in schema)


def _in_order(receipts: Iterable[Receipt]) -> tuple[_Scan, ...]:
    scans = [_Scan(receipt, ScanFacts.from_json(receipt.facts)) for receipt in receipts]
    return tuple(sorted(scans, key=lambda scan: scan.facts.number))


def _shards(scans: Iterable[_Scan]) -> tuple[Shard, ...]:
    return tuple(shard for scan in scans for shard in scan.facts.shards)


def _repeated_rows(layout: Layout, scans: Iterable[_Scan]) -> dict[int, NDArray[np.int64]]:
    """Rows of sources that were left out because they repeat an id.

    `CatalogueState` has seen to it that the files are what was written.
    """
    return {
        scan.facts.number: rejected_positions(layout, rejected_unit(REPEATED, scan.unit))
        for scan in scans
    }


def _stored_schema(site: Site, state: CatalogueState) -> pa.Schema | None:
    """The columns of the partitions in the store, and their arrays."""
    if not state.on_disk or state.facts is None:
        return None
    file = site.layout.partition(state.on_disk[0].partition)
    schema = read_schema(file).remove_metadata()
    for column in site.survey.arrays:
        if column.name in state.facts.columns:
            schema = schema.append(pa.field(column.name, arrow_type(column)))
    return schema


def _stored_column(
    layout: Layout, stored: Sequence[StoredPartition], column: str
) -> Iterator[pa.ChunkedArray]:
    """A column of the partitions that are in the store, one after the other."""
    for one in stored:
        yield read_partition(layout, one.partition, [column])[column]
