"""Everything that the page says, from what the store holds."""

from __future__ import annotations

import platform
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from galbatch import __version__
from galbatch.errors import SpecError, counted
from galbatch.quality.results import Histogram
from galbatch.report.data import (
    Quarantine,
    Reference,
    ReportData,
    SinkSummary,
    SkyPartition,
    StageSummary,
)
from galbatch.spec.job import MockSource
from galbatch.spec.optional import optional_columns
from galbatch.stages.base import UNITS
from galbatch.stages.catalogue import Catalogue
from galbatch.stages.compare_files import absent_lines
from galbatch.stages.held_out import held_out_rows
from galbatch.stages.model_report import model_report, total_counts
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.facts import CatalogueFacts, PartitionFacts
from galbatch.store.history import latest_records
from galbatch.store.model_facts import AppendFacts
from galbatch.store.quarantine import bare_reasons, failed_stages, rejected_tables
from galbatch.store.units import unit_that_failed
from galbatch.values import Receipt, RejectedRow

_EXAMPLES = 5
_UNUSED = 12
"""Columns that are named of those that the survey lists, files lack and nothing uses."""


def report_data(snapshot: Snapshot) -> ReportData:
    """Everything on the page, from what the store holds.

    Parameters
    ----------
    snapshot : Snapshot

    Returns
    -------
    ReportData
    """
    site, catalogue = snapshot.site, snapshot.catalogue
    if catalogue is None:
        raise SpecError(str(site.layout.root), "there is no catalogue yet", "galbatch run first")
    facts, totals = catalogue.facts, catalogue.facts.totals
    held_out, predictions = held_out_rows(snapshot, catalogue)
    models = tuple(
        model_report(snapshot, catalogue, name, held_out, predictions[name]) for name in predictions
    )
    survey = site.survey
    notices = []
    if isinstance(site.job.source, MockSource):
        notices.append(
            "This catalogue is simulated: its labels are the truth that it was made from, "
            "and no number here says how well a model does on the real sky."
        )
    absent = {unit: source.absent for unit, source in facts.sources.items()}
    notes = [_law_of_rows(facts, catalogue.rows)]
    lines = (*absent_lines(survey, absent), *totals.notes)
    notes += [f"{line[0].upper()}{line[1:]}." for line in lines]
    said = {survey.id.column, *optional_columns(survey)}
    said.update(column.name for column in survey.columns if column.is_array)
    unused = [name for name in totals.absent if name not in said]
    if unused:
        more = f" and {len(unused) - _UNUSED} more" if len(unused) > _UNUSED else ""
        notes.append(f"No file has {', '.join(unused[:_UNUSED])}{more}: nothing here uses them.")
    return ReportData(
        job=site.job.name,
        survey=survey.title,
        version=__version__,
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        where=platform.node(),
        reference_band=survey.reference_band or "",
        rows_read=totals.read,
        rows_rejected=totals.rejected + facts.duplicates,
        rows_ingested=catalogue.rows,
        partitions=len(catalogue.partitions),
        stages=_stages(site),
        sinks=_sinks(snapshot),
        quarantine=_quarantine(site),
        notices=tuple(notices),
        aliases=totals.aliases,
        notes=tuple(notes),
        models=models,
        held_out=held_out,
        references=tuple(
            Reference(item.target, item.statistic, item.value, item.source)
            for item in survey.published
        ),
        magnitudes=_magnitudes(snapshot, catalogue),
        sky=_sky(site, catalogue),
        max_points=site.job.report.max_points,
    )


def _law_of_rows(facts: CatalogueFacts, rows: int) -> str:
    """Where the records of the files are: counted by the files themselves, and by the readers."""
    records, refused = facts.totals.records, facts.totals.rejected + facts.duplicates
    lost = records - rows - refused
    line = (
        f"The files hold {counted(records, 'record')} by their own count; as many were "
        f"read: {rows:,} are in the catalogue, {refused:,} in quarantine"
    )
    return f"{line}, {lost:,} in partitions that could not be written." if lost else f"{line}."


def _stages(site: Site) -> tuple[StageSummary, ...]:
    return tuple(
        StageSummary(
            record.stage, record.units, record.rows, record.seconds, reused=record.already_done
        )
        for record in latest_records(site.layout).values()
        if record.stage != "report"
    )


def _sinks(snapshot: Snapshot) -> tuple[SinkSummary, ...]:
    delivered = (AppendFacts.from_json(receipt.facts) for receipt in appended(snapshot))
    return tuple(SinkSummary(one.where, one.table, one.model, one.rows) for one in delivered)


def appended(snapshot: Snapshot) -> tuple[Receipt, ...]:
    """Receipts of what was appended of the models as the job has them now."""
    versions = snapshot.versions.all_current
    receipts = snapshot.receipts.all("append").values()
    return tuple(
        receipt for receipt in receipts if AppendFacts.from_json(receipt.facts).model in versions
    )


def _quarantine(site: Site) -> tuple[Quarantine, ...]:
    kinds: dict[tuple[str, str], Quarantine] = {}
    for table in rejected_tables(site.layout):
        stage = failed_stages(table).to_pandas()
        what = stage.map(UNITS).fillna("task").where(stage != "", "rows")
        frame = pd.DataFrame({"what": what, "reason": bare_reasons(table).to_pandas()})
        groups: dict[Any, Any] = frame.groupby(["what", "reason"], sort=False).indices
        for (kind, reason), places in groups.items():
            one = kinds.get((kind, reason), Quarantine(kind, reason, 0))
            shown = table.take(places[: _EXAMPLES - len(one.examples)]).to_pylist()
            examples = (*one.examples, *(RejectedRow(**row) for row in shown))
            kinds[kind, reason] = replace(one, count=one.count + len(places), examples=examples)
    return tuple(kinds.values())


def _magnitudes(snapshot: Snapshot, catalogue: Catalogue) -> Histogram | None:
    receipts = snapshot.receipts.all("ingest")
    written = (receipts.get(partition.name) for partition in catalogue.partitions)
    return total_counts(
        PartitionFacts.from_json(receipt.facts).magnitudes for receipt in written if receipt
    )


def _sky(site: Site, catalogue: Catalogue) -> tuple[SkyPartition, ...]:
    pixels = [partition for partition in catalogue.partitions if partition.kind == "healpix"]
    if not pixels:
        return ()
    from cdshealpix.nested import healpix_to_lonlat

    index = np.array([partition.index for partition in pixels], np.uint64)
    order = np.array([partition.order for partition in pixels], np.uint8)
    ra, dec = healpix_to_lonlat(index, order)
    # `predict o3-p45` is what a failed task of that partition is quarantined as.
    failed = {
        unit_that_failed(file)
        for table in rejected_tables(site.layout)
        for file in table.filter(pc.equal(table["row"], 0))["file"].to_pylist()
    }
    return tuple(
        SkyPartition(
            partition.name,
            float(lon.deg),
            float(lat.deg),
            partition.rows,
            partition.name in failed,
        )
        for partition, lon, lat in zip(pixels, ra, dec, strict=True)
    )
