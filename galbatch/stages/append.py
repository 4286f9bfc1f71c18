"""Hand every model's predictions to every database, each partition exactly once."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from galbatch.errors import SpecError, TransientError
from galbatch.sinks.base import Origin, Piece
from galbatch.sinks.open import sink_of
from galbatch.spec.job import SinkSettings
from galbatch.stages import code
from galbatch.stages.base import OnProgress, Pending, Task, Where
from galbatch.stages.catalogue import Catalogue
from galbatch.stages.deliveries import held_as, origin_of, unit_of
from galbatch.stages.memory import PROCESS
from galbatch.stages.predictions import predicted
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store import fence
from galbatch.store.commit import digest_file
from galbatch.store.locations import local_copy
from galbatch.store.model_facts import AppendFacts, PublishedFacts
from galbatch.store.receipts import Need
from galbatch.values import Receipt


@dataclass(frozen=True)
class Delivery:
    """One model's predictions for one database.

    Parameters
    ----------
    sink : SinkSettings
    model : str
        Its version.
    origin : Origin
        Whose predictions the table is to hold.
    pieces : tuple of (Piece, int)
        The partitions that it is to have, each with its rows.
    need : Need
    """

    sink: SinkSettings
    model: str
    origin: Origin
    pieces: tuple[tuple[Piece, int], ...]
    need: Need


@dataclass(frozen=True)
class Append:
    """A task per database and model, on the driver: an embedded database has one writer."""

    name: str = "append"
    progress_unit: str = "rows"
    where: Where = "driver"

    def summary(self, site: Site) -> str:
        """One line for `galbatch plan`."""
        places = ", ".join(sink_of(sink).describe() for sink in site.job.sinks)
        return f"{places}; key: {site.survey.id.column}"

    def memory(self, site: Site) -> int:
        """A partition; what a database takes for itself comes on top of it."""
        return PROCESS + site.job.partition.rows * 1024

    def pending(self, snapshot: Snapshot) -> Pending[Delivery, None]:
        """Deliveries that are not made, or whose database is gone."""
        site, receipts = snapshot.site, snapshot.receipts
        catalogue = snapshot.catalogue
        if catalogue is None:
            return Pending((), waiting="ingest")
        left, done = [], 0
        for model in site.job.models:
            version = snapshot.versions.current(model)
            published = receipts.get("predict", version)
            if published is None:
                return Pending((), waiting="predict")
            for sink in site.job.sinks:
                delivery = _delivery(snapshot, catalogue, sink, model.name, version, published)
                need = delivery.need
                receipt = receipts.get("append", need.unit)
                why = receipts.why(receipt, need)
                if receipts.holds(receipt, need):
                    why = _lacks(delivery)
                    if not why:
                        done += 1
                        continue
                left.append(Task(need.unit, published.rows, delivery, why if receipt else ""))
        return Pending(tuple(left), done=done)

    def begin(self, snapshot: Snapshot, pending: Pending[Delivery, None]) -> Append:
        """Nothing to prepare."""
        return self

    def run(self, site: Site, task: Task[Delivery], report: OnProgress) -> tuple[Receipt, ...]:
        """Append what the database does not have; it remembers what it has."""
        began = time.perf_counter()
        delivery = task.payload
        rows = written = 0
        with sink_of(delivery.sink).open(delivery.origin) as table:
            for piece, held in delivery.pieces:
                with local_copy(piece.path) as path:
                    _check(piece, path)
                    fence.check()
                    written += table.append(replace(piece, path=path))
                rows += held
                report(rows, task.size, "")
            fence.check()
            table.keep([piece.unit for piece, _ in delivery.pieces])
            where = table.where
        receipt = delivery.need.receipt(
            digest=delivery.need.key,
            rows=written,
            outputs={},
            seconds=time.perf_counter() - began,
            facts=AppendFacts(
                where=where,
                kind=delivery.sink.kind,
                table=delivery.sink.table or delivery.model,
                model=delivery.model,
                rows=rows,
            ).to_json(),
        )
        site.book.put(receipt)
        return (receipt,)

    def finish(self, snapshot: Snapshot, pending: Pending[Delivery, None]) -> None:
        """Nothing more."""


def _delivery(
    snapshot: Snapshot,
    catalogue: Catalogue,
    sink: SinkSettings,
    name: str,
    version: str,
    published: Receipt,
) -> Delivery:
    """What a database is to have of a version of a model."""
    holder = held_as(sink, name, version)
    depends = {
        "code": code.APPEND,
        "sink": sink.model_dump(mode="json"),
        "model": version,
        "predictions": published.digest,
    }
    unit = unit_of(sink, holder)
    fingerprint = PublishedFacts.from_json(published.facts).fingerprint
    layout = snapshot.site.layout
    written = predicted(snapshot, catalogue, version)
    pieces = tuple(
        (
            Piece(
                unit=partition.name,
                key=written[partition.name].digest,
                fingerprint=fingerprint,
                path=layout.partition(partition, version),
            ),
            written[partition.name].rows,
        )
        for partition in catalogue.partitions
        if partition.name in written
    )
    origin = origin_of(snapshot.site, sink, name, version)
    return Delivery(sink, version, origin, pieces, Need("append", unit, depends))


def _lacks(delivery: Delivery) -> str:
    """Why a delivery that was made must be made again."""
    sink = sink_of(delivery.sink)
    if not sink.exists():
        return f"{sink.describe()} is gone"
    try:
        with sink.open(delivery.origin) as table:
            return table.lacks({piece.unit: piece.key for piece, _ in delivery.pieces})
    except TransientError:
        return ""  # somebody reads it
    except SpecError as error:
        return error.problem


def _check(piece: Piece, path: Path) -> None:
    """Refuse what is not what was predicted: databases compare no checksums of Parquet's pages."""
    if digest_file(path) != piece.key:
        raise SpecError(
            str(piece.path),
            "is not what was predicted (another SHA-256)",
            "run `galbatch verify`, and then the job again",
        )
