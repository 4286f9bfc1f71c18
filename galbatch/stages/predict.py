"""Predict every row: one read of a partition, every model, one extension file for each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.models.base import Model
from galbatch.models.families import family_of, load_model
from galbatch.models.flags import Quality
from galbatch.quality.metrics import count
from galbatch.stages import code
from galbatch.stages.base import Pending, Report, Task, Where
from galbatch.stages.catalogue import Catalogue
from galbatch.stages.memory import PROCESS, ingest_memory, row_bytes
from galbatch.stages.predictions import Predictor, own_columns, predicted, predictors
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.arrays import (
    ArrayWriter,
    GroupSpec,
    Span,
    allocate,
    metadata_outputs,
    metadata_problem,
)
from galbatch.store.facts import Counts, PredictFacts, PublishedFacts
from galbatch.store.places import lasting_copy, remove_tree
from galbatch.store.publish import finish_extension, retract
from galbatch.store.receipts import Need
from galbatch.store.rows import read_rows
from galbatch.store.tables import ROW_GROUP_ROWS, PartitionWriter, annotate
from galbatch.store.units import prediction_unit, predictions_of, version_of
from galbatch.values import Partition, Receipt

_SHOWN = ("quality", "z_mode", "ood")
"""Columns that the report shows of all rows."""
_REDSHIFT_EDGES = np.linspace(0.0, 6.0, 121)
_OOD_EDGES = np.linspace(0.0, 3.0, 61)


@dataclass(frozen=True)
class Work:
    """What is to be predicted for one partition.

    Parameters
    ----------
    partition : Partition
    needs : mapping of str to Need
        What is not there yet, by version of a model.
    asked : mapping of str to mapping
        What is asked of the predictions, by version of a model; JSON values.
    columns : frozenset of str
        Columns that the catalogue has.
    """

    partition: Partition
    needs: Mapping[str, Need]
    asked: Mapping[str, Mapping[str, Any]]
    columns: frozenset[str]


@dataclass(frozen=True)
class Predict:
    """A task per partition."""

    name: str = "predict"
    word: str = "rows"
    where: Where = "workers"
    spans: Mapping[str, Mapping[str, Span]] = field(default_factory=dict, compare=False)
    """Where the arrays of every version and partition are; known when the work begins."""
    density: GroupSpec | None = field(default=None, compare=False)
    """What p(z) on the job's grid is, where it is written."""

    def summary(self, site: Site) -> str:
        """One line for `galbatch plan`."""
        names = ", ".join(model.name for model in site.job.models)
        return f"{names}: from one read of each partition, written beside the catalogue"

    def memory(self, site: Site) -> int:
        """A row group and what is predicted for it, of every model; what was taken before stays."""
        rows = min(ROW_GROUP_ROWS, site.job.partition.rows)
        predicting = sum(
            family_of(model.kind).predicting_bytes(model, site.survey) for model in site.job.models
        )
        own = PROCESS + rows * (2 * row_bytes(site) + predicting)
        return max(own, ingest_memory(site))

    def pending(self, snapshot: Snapshot) -> Pending[Work, None]:
        """Partitions that lack the predictions of a model as it is now."""
        catalogue = snapshot.catalogue
        if catalogue is None:
            return Pending((), waiting="ingest")
        current = predictors(snapshot, catalogue)
        if len(current) < len(snapshot.site.job.models):
            return Pending((), waiting="train")
        tasks = _tasks(snapshot, catalogue, current)
        return Pending(
            tasks,
            done=len(catalogue.partitions) - len(tasks),
            notes=_notes(snapshot, catalogue, current, tasks),
        )

    def begin(self, snapshot: Snapshot, pending: Pending[Work, None]) -> Predict:
        """No reader shall see predictions of two models, or of two catalogues, as one."""
        site, receipts = snapshot.site, snapshot.receipts.all("predict")
        for version in {version for task in pending.tasks for version in task.payload.needs}:
            retract(site.layout, site.survey, version)
            site.book.forget("predict", version)
        units = _units(pending.tasks)
        for unit in units & receipts.keys():
            for output in receipts[unit].outputs:
                site.layout.output(output).unlink(missing_ok=True)
            site.book.forget("predict", unit)
        catalogue = snapshot.catalogue
        if catalogue is None:
            return self
        current = predictors(snapshot, catalogue)
        density = next((one.density for one in current if one.density), None)
        if density is None:
            return self
        return replace(self, spans=_allocated(snapshot, catalogue, current, units), density=density)

    def run(self, site: Site, task: Task[Work], report: Report) -> tuple[Receipt, ...]:
        """Read one partition and write the predictions of every model for it."""
        began = time.perf_counter()
        work = task.payload
        survey, layout = site.survey, site.layout
        models = {
            version: _loaded(layout.model(version), need.depends["model"], work.asked[version])
            for version, need in work.needs.items()
        }
        inputs = [name for model in models.values() for name in model.card.inputs]
        own = own_columns(survey)
        columns = [name for name in dict.fromkeys([*own, *inputs]) if name in work.columns]
        shown: dict[str, list[pa.Table]] = {version: [] for version in models}
        rows = 0
        with ExitStack() as opened:
            writers = {
                version: opened.enter_context(
                    PartitionWriter(
                        layout.partition(work.partition, version),
                        {
                            "survey": survey.name,
                            "model": version,
                            "fingerprint": model.card.fingerprint,
                        },
                    )
                )
                for version, model in models.items()
            }
            arrays = {
                version: opened.enter_context(
                    ArrayWriter(layout, version, self.density, spans[work.partition.name])
                )
                for version, spans in self.spans.items()
                if version in models and self.density is not None
            }
            for group in read_rows(layout, work.partition, columns):
                for version, model in models.items():
                    array = arrays.get(version)
                    predicted = _predicted(site, model, group, array, task.batch_rows)
                    writers[version].write(
                        annotate(predicted, (*survey.stored_columns, *model.columns))
                    )
                    names = [name for name in _SHOWN if name in predicted.column_names]
                    shown[version].append(predicted.select(names))
                rows += group.num_rows
                report(rows, work.partition.rows, "")
            outputs = {
                version: {
                    layout.relative(layout.partition(work.partition, version)): writer.commit()
                }
                for version, writer in writers.items()
            }
            for version, array in arrays.items():
                outputs[version] |= array.commit().outputs
        receipts = []
        for version, need in work.needs.items():
            receipt = need.receipt(
                digest=next(iter(outputs[version].values())),
                rows=rows,
                outputs=outputs[version],
                seconds=(time.perf_counter() - began) / len(models),
                facts=_facts(pa.concat_tables(shown[version])).to_json(),
            )
            site.book.put(receipt)
            receipts.append(receipt)
        return tuple(receipts)

    def finish(self, snapshot: Snapshot, pending: Pending[Work, None]) -> None:
        """Publish each model's predictions as an extension of the catalogue."""
        catalogue = snapshot.catalogue
        if catalogue is None:
            return
        for predictor in predictors(snapshot, catalogue):
            _publish(snapshot, catalogue, predictor)


def _tasks(
    snapshot: Snapshot, catalogue: Catalogue, current: Sequence[Predictor]
) -> tuple[Task[Work], ...]:
    """A task for each partition that any version has not predicted."""
    receipts = snapshot.receipts
    known, columns = receipts.all("predict"), frozenset(catalogue.facts.columns)
    tasks = []
    for partition in catalogue.partitions:
        needs = {}
        reasons: dict[str, None] = {}
        for predictor in current:
            need = predictor.need(catalogue, partition)
            receipt = known.get(need.unit)
            if not receipts.holds(receipt, need):
                needs[predictor.version] = need
                why = receipts.why(receipt, need)
                reasons |= dict.fromkeys([why] if why else [])
        if needs:
            asked = {one.version: one.asked for one in current if one.version in needs}
            work = Work(partition, needs, asked, columns)
            tasks.append(Task(partition.name, partition.rows, work, "; ".join(reasons)))
    return tuple(tasks)


def _units(tasks: Iterable[Task[Work]]) -> set[str]:
    """The units that are to be written."""
    return {need.unit for task in tasks for need in task.payload.needs.values()}


def _notes(
    snapshot: Snapshot,
    catalogue: Catalogue,
    current: Sequence[Predictor],
    tasks: Sequence[Task[Work]],
) -> tuple[str, ...]:
    """Which arrays have lost what describes them."""
    notes = []
    for predictor in current:
        problem = _metadata_problem(snapshot, catalogue, predictor, _units(tasks))
        if problem:
            notes.append(f"{problem}: made again, around the shards that are there")
    return tuple(sorted(notes))


def _publish(snapshot: Snapshot, catalogue: Catalogue, predictor: Predictor) -> None:
    """Make a version's predictions an extension of the catalogue, and record it."""
    site, receipts, version = snapshot.site, snapshot.receipts, predictor.version
    known, layout, book = receipts.all("predict"), site.layout, site.book
    written = {}
    for partition in catalogue.partitions:
        need = predictor.need(catalogue, partition)
        if receipts.holds(known.get(need.unit), need):
            written[partition] = known[need.unit]
    digest = sha256("".join(one.digest for one in written.values()).encode()).hexdigest()
    depends = {
        "code": code.PREDICT,
        "model": predictor.fingerprint,
        "catalogue": catalogue.digest,
        "predictions": digest,
        **predictor.asked,
    }
    need = Need("predict", version, depends)
    if not written or receipts.valid(need):
        return
    began = time.perf_counter()
    model = _loaded(layout.model(version), predictor.fingerprint, predictor.asked)
    outputs = finish_extension(
        layout,
        site.survey,
        version,
        tuple(written),
        [column.name for column in model.columns],
        fingerprint=predictor.fingerprint,
        catalogue=catalogue.digest,
        histogram=catalogue.facts.histogram,
    )
    if predictor.density is None:
        remove_tree(layout.arrays(version))
    else:
        outputs |= metadata_outputs(layout, version, predictor.density)
    # Of an earlier plan, or of what was lost meanwhile: no file of theirs is published.
    current = {partition.name for partition in written}
    for name in predictions_of(known, version).keys() - current:
        book.forget("predict", prediction_unit(version, name))
    facts = PublishedFacts(
        fingerprint=predictor.fingerprint,
        partitions=len(written),
        arrays=predictor.density.to_json() if predictor.density else None,
    )
    receipt = need.receipt(
        digest=digest,
        rows=sum(receipt.rows for receipt in written.values()),
        outputs=outputs,
        seconds=time.perf_counter() - began,
        facts=facts.to_json(),
    )
    book.put(receipt)


def _predicted(
    site: Site, model: Model, table: pa.Table, array: ArrayWriter | None, batch_rows: int | None
) -> pa.Table:
    """What a row of predictions carries of the catalogue, and the predicted columns."""
    own = own_columns(site.survey)
    size = batch_rows or max(table.num_rows, 1)
    parts = []
    for first in range(0, max(table.num_rows, 1), size):
        rows = table.slice(first, size)
        predicted = model.predict(rows)
        for column in own:
            predicted = predicted.append_column(rows.schema.field(column), rows[column])
        parts.append(predicted.select([*own, *(column.name for column in model.columns)]))
    return pa.concat_tables(parts)


def _allocated(
    snapshot: Snapshot, catalogue: Catalogue, current: Sequence[Predictor], undone: Set[str]
) -> dict[str, dict[str, Span]]:
    """Room in the arrays of the versions that have something to write, or lost their metadata.

    `undone` are the units that are to be written.
    """
    site = snapshot.site
    rows = {partition.name: partition.rows for partition in catalogue.partitions}
    versions_undone = {version_of(unit) for unit in undone}
    spans = {}
    for predictor in sorted(current, key=lambda one: one.version):
        version, spec = predictor.version, predictor.density
        if spec is None:
            continue
        lost = bool(_metadata_problem(snapshot, catalogue, predictor, undone))
        if lost:
            site.book.forget("predict", version)
        if lost or version in versions_undone:
            written = _written(snapshot, catalogue, version, undone)
            spans[version] = allocate(site.layout, version, spec, rows, written)
    return spans


def _metadata_problem(
    snapshot: Snapshot, catalogue: Catalogue, predictor: Predictor, undone: Set[str]
) -> str:
    """What is wrong with the arrays of a version that has predicted something; or nothing."""
    if predictor.density is None:
        return ""
    written = _written(snapshot, catalogue, predictor.version, undone)
    if not written:
        return ""
    layout = snapshot.site.layout
    return metadata_problem(layout, predictor.version, predictor.density, written)


def _written(
    snapshot: Snapshot, catalogue: Catalogue, version: str, undone: Set[str]
) -> dict[str, tuple[str, ...]]:
    """Outputs of the partitions that are done, by partition."""
    receipts = predicted(catalogue, version, snapshot.receipts.all("predict"))
    return {name: one.outputs for name, one in receipts.items() if one.unit not in undone}


def _facts(table: pa.Table) -> PredictFacts:
    """What the report shows of all rows, so that it need not read them again."""
    counts: dict[str, int] = {}
    predicted = table.num_rows
    if "quality" in table.column_names:
        quality = table["quality"].to_numpy()
        counts["ok"] = int((quality == 0).sum())
        counts |= {str(flag.name): int(((quality & flag) != 0).sum()) for flag in Quality}
        predicted = int(((quality & Quality.NO_PHOTOMETRY) == 0).sum())
    return PredictFacts(
        predicted=predicted,
        quality=counts,
        redshifts=_counted(table, "z_mode", _REDSHIFT_EDGES),
        ood=_counted(table, "ood", _OOD_EDGES),
    )


def _counted(table: pa.Table, column: str, edges: NDArray[np.float64]) -> Counts | None:
    if column not in table.column_names:
        return None
    histogram = count(table[column].to_numpy(), edges)
    return Counts(histogram.edges, histogram.counts)


def _loaded(folder: Path, fingerprint: str, asked: Mapping[str, Any]) -> Model:
    """A model, loaded once per worker; another fingerprint is another model."""
    return _kept(folder, fingerprint, json.dumps(asked, sort_keys=True))


@lru_cache(maxsize=8)
def _kept(folder: Path, fingerprint: str, asked: str) -> Model:
    model = load_model(lasting_copy(folder), **json.loads(asked))
    if model.card.fingerprint != fingerprint:
        raise ValueError(f"{folder}: expected model {fingerprint}, found {model.card.fingerprint}")
    return model
