"""The partitions of the catalogue, written: a Parquet file, and the arrays beside it.

A partition with arrays is written to another place than the one it has, since rows that stay are
read from there meanwhile. Its Parquet file, which is renamed into its place last, says where its
arrays are. What it is made from is noted for the time of the run: a task that was killed between
that file and its receipt is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from galbatch.errors import SpecError
from galbatch.stages.catalogue_plan import CataloguePlan
from galbatch.stages.partition_rows import (
    PartitionPlan,
    RowSources,
    array_sources,
    partition_rows,
    position,
)
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.arrays import (
    ArrayPlaces,
    GroupSpec,
    Span,
    StoredGroup,
    allocate,
    group_spec,
    id_kind,
    metadata_outputs,
    outputs_digest,
    shard_outputs,
    stored_group,
)
from galbatch.store.commit import commit_bytes, digest_file
from galbatch.store.facts import StoredPartition
from galbatch.store.gather import gather_arrays
from galbatch.store.layout import Layout
from galbatch.store.locations import remove_tree
from galbatch.store.rows import ArraysBeside, partition_metadata
from galbatch.store.shards import POSITION, SOURCE
from galbatch.store.tables import annotate, commit_parquet, read_partition
from galbatch.store.units import CATALOGUE_UNIT
from galbatch.values import Partition, PredictedColumn


@dataclass(frozen=True)
class WrittenPartition:
    """A partition that is in its place.

    Parameters
    ----------
    table : pyarrow.Table
        Its rows, without their arrays.
    outputs : mapping of str to str
        SHA-256 of each of its files, the Parquet file first.
    """

    table: pa.Table
    outputs: Mapping[str, str]


def write_partition(
    site: Site, rows: RowSources, plan: PartitionPlan, arrays: ArrayPlaces | None
) -> WrittenPartition:
    """Gather one partition from all shards, and from the store, and write it."""
    layout, partition = site.layout, plan.partition
    path, survey = layout.partition(partition), site.survey
    metadata = {"survey": survey.name}
    if arrays is None:
        table = partition_rows(layout, rows, plan, survey.id.column)
        digest = commit_parquet(path, annotate(table, survey.stored_columns), metadata)
        return WrittenPartition(table, {layout.relative(path): digest})
    span = arrays.spans[partition.name]
    there = _there_already(layout, plan, arrays.spec, span)
    if there is not None:
        return there
    table = partition_rows(layout, rows, plan, survey.id.column)
    span = replace(span, rows=table.num_rows)
    sources = array_sources(layout, rows, plan, arrays.spec)
    written = gather_arrays(layout, arrays.spec, span, table, survey.id.column, sources)
    table = table.drop_columns([SOURCE, POSITION])
    beside = ArraysBeside.of(span, written)
    _note(layout, plan, beside)
    metadata |= beside.to_metadata()
    digest = commit_parquet(path, annotate(table, survey.stored_columns), metadata)
    return WrittenPartition(table, {layout.relative(path): digest, **written.outputs})


def allocate_arrays(snapshot: Snapshot, plan: CataloguePlan) -> ArrayPlaces | None:
    """Room for the arrays of the partitions that are to be written.

    Raises
    ------
    SpecError
        If the arrays in the store cannot be read on beside those that come.
    """
    site, receipts = snapshot.site, snapshot.receipts
    spec = _spec(site, plan)
    if spec is None:
        return None
    layout = site.layout
    there = stored_group(layout, None)
    if there is not None and there.digest != spec.digest and any(p.stored for p in plan.partitions):
        raise SpecError(
            str(layout.arrays()),
            "the store keeps its arrays in another way than the files that come ask for "
            f"(ids of {spec.ids}, shards of {spec.shard_rows} rows)",
            "choose another 'store'",
        )
    written = receipts.all("ingest")
    done = {one.partition.name for one in plan.kept}
    done |= {
        one.partition.name
        for one in plan.partitions
        if receipts.holds(written.get(one.partition.name), one.need)
    }
    # Who is not read from meanwhile (a partition that is lost, say) may stay where it is.
    read = {stored.name for one in plan.partitions for stored in one.stored}
    moved = {
        one.partition.name
        for one in plan.partitions
        if one.partition.name in read - done and _is_in_the_way(layout, one, there)
    }
    # Where the group has lost its metadata, receipts say where everything lies that may be read.
    known = done if there is not None else written.keys() - {CATALOGUE_UNIT}
    spans = allocate(
        layout,
        None,
        spec,
        {partition.name: partition.rows for partition in _in_order(plan)},
        {name: written[name].outputs for name in known if name in written},
        moved=moved,
        keep_others=True,
    )
    return ArrayPlaces(spec, spans)


def publish_arrays(
    snapshot: Snapshot, plan: CataloguePlan, partitions: Sequence[StoredPartition]
) -> tuple[GroupSpec | None, dict[str, str]]:
    """Make the arrays those of the partitions that are written, and of no other.

    Returns
    -------
    GroupSpec or None
        None for a survey without arrays.
    dict of str to str
        What the group has besides its shards: SHA-256 of each file by its path.
    """
    layout, spec = snapshot.site.layout, _spec(snapshot.site, plan)
    if spec is None:
        if layout.arrays().exists():
            remove_tree(layout.arrays())
        return None, {}
    receipts = snapshot.receipts.all("ingest")
    names = {one.partition.name: one.partition.rows for one in partitions}
    allocate(layout, None, spec, names, {name: receipts[name].outputs for name in names})
    return spec, metadata_outputs(layout, None, spec)


def _spec(site: Site, plan: CataloguePlan) -> GroupSpec | None:
    """How the survey's arrays are kept."""
    survey, schema = site.survey, plan.rows.schema
    columns = [
        PredictedColumn(
            column.name,
            column.kind,
            column.unit or _unit(schema, column.name),
            column.ucd,
            column.description,
            column.shape,
            column.axes,
        )
        for column in survey.arrays
    ]
    ids = id_kind(str(schema.field(survey.id.column).type))
    return group_spec(columns, ids, [axis.coordinate for axis in survey.axes])


def _unit(schema: pa.Schema, name: str) -> str:
    """The unit that files alone state."""
    place = schema.get_field_index(name)
    metadata = schema.field(place).metadata if place >= 0 else None
    return str((metadata or {}).get(b"unit", b"").decode())


def _in_order(plan: CataloguePlan) -> list[Partition]:
    """All partitions that there shall be, along the sky."""
    kept = [one.partition for one in plan.kept]
    return sorted([*kept, *(one.partition for one in plan.partitions)], key=position)


def _is_in_the_way(layout: Layout, plan: PartitionPlan, there: StoredGroup | None) -> bool:
    """Whether the rows of a partition that are there lie where it would be written."""
    beside = _beside(layout, plan.partition)
    if beside is None or _is_noted(layout, plan, beside):
        return False
    span = there.spans.get(plan.partition.name) if there is not None else None
    return there is None or (span is not None and span.first == beside.first)


def _there_already(
    layout: Layout, plan: PartitionPlan, spec: GroupSpec, span: Span
) -> WrittenPartition | None:
    """The partition, if it is in its place: just its receipt was not written."""
    beside = _beside(layout, plan.partition)
    if beside is None or not _is_noted(layout, plan, beside):
        return None
    outputs = shard_outputs(layout, None, spec, replace(span, rows=plan.partition.rows))
    if (beside.first, beside.digest) != (span.first, outputs_digest(outputs)):
        return None
    path = layout.partition(plan.partition)
    table = read_partition(layout, plan.partition)
    return WrittenPartition(table, {layout.relative(path): digest_file(path), **outputs})


def _beside(layout: Layout, partition: Partition) -> ArraysBeside | None:
    return ArraysBeside.from_metadata(partition_metadata(layout, partition))


def _note(layout: Layout, plan: PartitionPlan, beside: ArraysBeside) -> None:
    """Note what a file that names these arrays is made from."""
    note = {"key": plan.need.key, "first": beside.first, "digest": beside.digest}
    commit_bytes(layout.note(plan.partition), json.dumps(note).encode())


def _is_noted(layout: Layout, plan: PartitionPlan, beside: ArraysBeside) -> bool:
    """Whether a file that names these arrays is made from what the plan says."""
    try:
        note = json.loads(layout.note(plan.partition).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(note == {"key": plan.need.key, "first": beside.first, "digest": beside.digest})
