"""Predict every row: one read of a partition, every model, one extension file for each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.models.base import Model
from galbatch.models.flags import Quality
from galbatch.models.zoo import load_model
from galbatch.quality.metrics import count
from galbatch.spec.survey import Survey
from galbatch.stages.base import Pending, Report, Site, Task, Where
from galbatch.stages.catalogue import Catalogue, finished_catalogue
from galbatch.stages.train import train_key
from galbatch.store.partitions import Histogram
from galbatch.store.publish import finish_extension, retract
from galbatch.store.receipts import receipt_key
from galbatch.store.tables import HEALPIX, annotate, commit_parquet, read_partition
from galbatch.values import Partition, Receipt

PREDICT_VERSION = 1
_REDSHIFT_EDGES = np.linspace(0.0, 6.0, 121)
_OOD_EDGES = np.linspace(0.0, 3.0, 61)


@dataclass(frozen=True)
class Work:
    """What is to be predicted for one partition.

    Parameters
    ----------
    partition : Partition
    keys : mapping of str to str
        What the receipts' keys must be, by model.
    fingerprints : mapping of str to str
        Of the models.
    columns : frozenset of str
        Columns that the catalogue has.
    """

    partition: Partition
    keys: Mapping[str, str]
    fingerprints: Mapping[str, str]
    columns: frozenset[str]


@dataclass(frozen=True)
class Predict:
    """A task per partition."""

    name: str = "predict"
    word: str = "rows"
    where: Where = "workers"

    def summary(self, site: Site) -> str:
        """One line for `galbatch plan`."""
        names = ", ".join(model.name for model in site.job.models)
        return f"{names}: from one read of each partition, written beside the catalogue"

    def pending(self, site: Site) -> Pending:
        """Partitions that lack the predictions of a model as it is now."""
        catalogue = finished_catalogue(site)
        if catalogue is None:
            return Pending((), waiting="ingest")
        fingerprints = trained(site, catalogue)
        if len(fingerprints) < len(site.job.models):
            return Pending((), waiting="train")
        return _pending(site, catalogue, fingerprints)

    def begin(self, site: Site, pending: Pending) -> Predict:
        """No reader shall see predictions of two models, or of two catalogues, as one."""
        stale = {model for task in pending.tasks for model in task.payload.keys}
        receipts = site.book.all("predict")
        wanted = {
            prediction_unit(model, task.payload.partition): key
            for task in pending.tasks
            for model, key in task.payload.keys.items()
        }
        for model in stale:
            retract(site.layout, site.survey, model)
            site.book.forget("predict", model)
        for unit in receipts.keys() & wanted.keys():
            for output in receipts[unit].outputs:
                (site.layout.root / output).unlink(missing_ok=True)
            site.book.forget("predict", unit)
        return self

    def run(self, site: Site, task: Task, report: Report) -> tuple[Receipt, ...]:
        """Read one partition and write the predictions of every model for it."""
        work: Work = task.payload
        models = {
            name: _loaded(site.layout.model(name), work.fingerprints[name]) for name in work.keys
        }
        inputs = [name for model in models.values() for name in model.card.inputs]
        own = own_columns(site.survey)
        columns = [name for name in dict.fromkeys([*own, *inputs]) if name in work.columns]
        table = read_partition(site.layout, work.partition, columns)
        receipts = []
        for done, (name, model) in enumerate(models.items(), start=1):
            began = time.perf_counter()
            predicted = model.predict(table)
            for column in own:
                meaning = table.schema.field(column)
                predicted = predicted.append_column(meaning, table[column])
            predicted = predicted.select([*own, *(column.name for column in model.columns)])
            path = site.layout.partition(work.partition, name)
            digest = commit_parquet(
                path,
                annotate(predicted, (*site.survey.columns, *model.columns)),
                {"survey": site.survey.name, "model": name, "fingerprint": model.card.fingerprint},
            )
            receipt = Receipt(
                stage="predict",
                unit=prediction_unit(name, work.partition),
                key=work.keys[name],
                digest=digest,
                rows=table.num_rows,
                outputs=(site.layout.relative(path),),
                seconds=time.perf_counter() - began,
                facts=_summary(predicted),
            )
            site.book.put(receipt)
            receipts.append(receipt)
            report(table.num_rows * done // len(models), table.num_rows, "")
        return tuple(receipts)

    def finish(self, site: Site) -> None:
        """Publish each model's predictions as an extension of the catalogue."""
        catalogue = finished_catalogue(site)
        if catalogue is None:
            return
        fingerprints = trained(site, catalogue)
        words = catalogue.facts["histogram"]
        histogram = words and Histogram(
            words["order"], np.array(words["pixels"]), np.array(words["counts"])
        )
        book = site.book
        receipts = book.all("predict")
        for model, fingerprint in fingerprints.items():
            written = {}
            for partition in catalogue.partitions:
                unit = prediction_unit(model, partition)
                key = _key(catalogue, fingerprint, unit)
                if unit in receipts and book.holds(receipts[unit], key):
                    written[partition] = receipts[unit]
            key = extension_key(fingerprint, {p.name: r.digest for p, r in written.items()})
            if not written or book.valid("predict", model, key):
                continue
            began = time.perf_counter()
            loaded = load_model(site.layout.model(model))
            outputs = finish_extension(
                site.layout,
                site.survey,
                model,
                tuple(written),
                [column.name for column in loaded.columns],
                fingerprint=fingerprint,
                catalogue=catalogue.digest,
                histogram=histogram,
            )
            digest = sha256("".join(r.digest for r in written.values()).encode()).hexdigest()
            book.put(
                Receipt(
                    stage="predict",
                    unit=model,
                    key=key,
                    digest=digest,
                    rows=sum(receipt.rows for receipt in written.values()),
                    outputs=outputs,
                    seconds=time.perf_counter() - began,
                    facts={"fingerprint": fingerprint, "partitions": len(written)},
                )
            )


def trained(site: Site, catalogue: Catalogue) -> dict[str, str]:
    """Fingerprints of the models that are trained on the catalogue as it is."""
    found = {
        model.name: site.book.valid("train", model.name, train_key(site, model, catalogue))
        for model in site.job.models
    }
    return {name: receipt.facts["fingerprint"] for name, receipt in found.items() if receipt}


def own_columns(survey: Survey) -> tuple[str, ...]:
    """What a row of predictions carries of the catalogue: the id, and where it is on the sky."""
    names = [survey.id.column, *survey.id.parts]
    if survey.sky is not None:
        names = [HEALPIX, *names, survey.sky.ra, survey.sky.dec]
    return tuple(dict.fromkeys(names))


def prediction_unit(model: str, partition: Partition) -> str:
    """The unit of a receipt for one model's predictions of one partition."""
    return f"{model}.{partition.name}"


def extension_key(fingerprint: str, digests: Mapping[str, str]) -> str:
    """What a published extension depends on."""
    return receipt_key("predict", PREDICT_VERSION, dict(digests), (fingerprint,), "extension")


def _key(catalogue: Catalogue, fingerprint: str, unit: str) -> str:
    return receipt_key("predict", PREDICT_VERSION, {}, (catalogue.digest, fingerprint), unit)


def _pending(site: Site, catalogue: Catalogue, fingerprints: Mapping[str, str]) -> Pending:
    book = site.book
    receipts = book.all("predict")
    columns = frozenset(catalogue.facts["columns"])
    left = []
    for partition in catalogue.partitions:
        keys = {}
        for model, fingerprint in fingerprints.items():
            unit = prediction_unit(model, partition)
            key = _key(catalogue, fingerprint, unit)
            if unit not in receipts or not book.holds(receipts[unit], key):
                keys[model] = key
        if keys:
            work = Work(partition, keys, dict(fingerprints), columns)
            left.append(Task(partition.name, partition.rows, work))
    return Pending(tuple(left), done=len(catalogue.partitions) - len(left))


def _summary(predicted: pa.Table) -> dict[str, Any]:
    """What the report shows of all rows, so that it need not read them again."""
    quality = predicted["quality"].to_numpy()
    counts = {"ok": int((quality == 0).sum())}
    counts |= {str(flag.name): int(((quality & flag) != 0).sum()) for flag in Quality}
    return {
        "predicted": int(((quality & Quality.NO_PHOTOMETRY) == 0).sum()),
        "quality": counts,
        "redshifts": _counted(predicted, "z_mode", _REDSHIFT_EDGES),
        "ood": _counted(predicted, "ood", _OOD_EDGES),
    }


def _counted(predicted: pa.Table, column: str, edges: NDArray[np.float64]) -> dict[str, Any] | None:
    if column not in predicted.column_names:
        return None
    return count(predicted[column].to_numpy(), edges).to_json()


@lru_cache(maxsize=8)
def _loaded(folder: Path, fingerprint: str) -> Model:
    """A model, loaded once per worker; another fingerprint is another model."""
    model = load_model(folder)
    if model.card.fingerprint != fingerprint:
        raise ValueError(f"{folder}: expected model {fingerprint}, found {model.card.fingerprint}")
    return model
