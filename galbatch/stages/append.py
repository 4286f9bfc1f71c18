"""Hand every model's predictions to every database, each partition exactly once."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from galbatch.errors import SpecError, TransientError
from galbatch.models.photometric import optional_columns
from galbatch.sinks.base import Origin, Piece
from galbatch.sinks.open import sink_of
from galbatch.spec.job import Sink as SinkSpec
from galbatch.stages.base import PROCESS, Pending, Report, Site, Task, Where
from galbatch.stages.catalogue import Catalogue, finished_catalogue
from galbatch.stages.predict import prediction_unit
from galbatch.stages.train import current_version
from galbatch.store import fence
from galbatch.store.commit import digest_file
from galbatch.store.places import local_copy
from galbatch.store.receipts import Need
from galbatch.values import Receipt

APPEND_VERSION = 2


@dataclass(frozen=True)
class Delivery:
    """One model's predictions for one database.

    Parameters
    ----------
    sink : Sink
    model : str
        Its version.
    origin : Origin
        Whose predictions the table is to hold.
    fingerprint : str
        Of the model.
    need : Need
    """

    sink: SinkSpec
    model: str
    origin: Origin
    fingerprint: str
    need: Need


@dataclass(frozen=True)
class Append:
    """A task per database and model, on the driver: an embedded database has one writer."""

    name: str = "append"
    word: str = "rows"
    where: Where = "driver"

    def summary(self, site: Site) -> str:
        """One line for `galbatch plan`."""
        places = ", ".join(sink_of(sink).describe() for sink in site.job.sinks)
        return f"{places}; key: {site.survey.id.column}"

    def memory(self, site: Site) -> int:
        """A partition; what a database takes for itself comes on top of it."""
        return PROCESS + site.job.partition.rows * 1024

    def pending(self, site: Site) -> Pending:
        """Deliveries that are not made, or whose database is gone."""
        catalogue = finished_catalogue(site)
        if catalogue is None:
            return Pending((), waiting="ingest")
        book = site.book
        left, done = [], 0
        for model in site.job.models:
            version = current_version(site, model)
            extension = book.get("predict", version)
            if extension is None:
                return Pending((), waiting="predict")
            for sink in site.job.sinks:
                unit = delivery_unit(sink, _held_as(sink, model.name, version))
                words = {
                    "code": APPEND_VERSION,
                    "sink": sink.model_dump(mode="json"),
                    "model": version,
                    "predictions": extension.digest,
                }
                need = Need("append", unit, words)
                receipt = book.get("append", unit)
                origin = origin_of(site, sink, model.name, version)
                delivery = Delivery(sink, version, origin, extension.facts["fingerprint"], need)
                why = book.why(receipt, need)
                if book.holds(receipt, need):
                    why = _lacks(delivery, _pieces(site, catalogue, delivery))
                    if not why:
                        done += 1
                        continue
                left.append(Task(unit, extension.rows, delivery, why if receipt else ""))
        return Pending(tuple(left), done=done)

    def begin(self, site: Site, pending: Pending) -> Append:
        """Nothing to prepare."""
        return self

    def run(self, site: Site, task: Task, report: Report) -> tuple[Receipt, ...]:
        """Append what the database does not have; it remembers what it has."""
        began = time.perf_counter()
        delivery: Delivery = task.payload
        catalogue = finished_catalogue(site)
        assert catalogue is not None
        pieces = _pieces(site, catalogue, delivery)
        rows = written = 0
        with sink_of(delivery.sink).open(delivery.origin) as table:
            for piece, held in pieces:
                with local_copy(piece.path) as path:
                    _check(piece, path)
                    fence.check()
                    written += table.append(replace(piece, path=path))
                rows += held
                report(rows, task.size, "")
            fence.check()
            table.keep([piece.unit for piece, _ in pieces])
            where = table.where
        receipt = delivery.need.receipt(
            digest=delivery.need.key,
            rows=written,
            outputs={},
            seconds=time.perf_counter() - began,
            facts={
                "where": where,
                "kind": delivery.sink.kind,
                "table": delivery.sink.table or delivery.model,
                "model": delivery.model,
                "rows": rows,
            },
        )
        site.book.put(receipt)
        return (receipt,)

    def finish(self, site: Site, pending: Pending) -> None:
        """Nothing more."""


def delivery_unit(sink: SinkSpec, model: str) -> str:
    """The unit of a receipt for one model, or a version of it, in one database."""
    return f"{sink_of(sink).identity}.{sink.table or model}.{model}"


def origin_of(site: Site, sink: SinkSpec, name: str, version: str) -> Origin:
    """Whose predictions a database's table is to hold: those of a version of a model."""
    survey = site.survey
    held = _held_as(sink, name, version)
    return Origin(survey.name, held, survey.id.column, optional_columns())


def _held_as(sink: SinkSpec, name: str, version: str) -> str:
    """A table that the user has named holds the model's current version, whichever that is."""
    return name if sink.table else version


def _lacks(delivery: Delivery, pieces: list[tuple[Piece, int]]) -> str:
    """Why a delivery that was made must be made again."""
    sink = sink_of(delivery.sink)
    if not sink.exists():
        return f"{sink.describe()} is gone"
    try:
        with sink.open(delivery.origin) as table:
            return table.lacks({piece.unit: piece.key for piece, _ in pieces})
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


def _pieces(site: Site, catalogue: Catalogue, delivery: Delivery) -> list[tuple[Piece, int]]:
    receipts = site.book.all("predict")
    found = []
    for partition in catalogue.partitions:
        receipt = receipts.get(prediction_unit(delivery.model, partition))
        if receipt is not None:
            path = site.layout.partition(partition, delivery.model)
            piece = Piece(
                unit=partition.name,
                key=receipt.digest,
                fingerprint=delivery.fingerprint,
                path=path,
            )
            found.append((piece, receipt.rows))
    return found
