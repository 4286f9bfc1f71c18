"""Predict every row: one read of a partition, every model, one extension file for each."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import IntFlag
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.arrays import device_kind, worker_namespace
from galbatch.errors import SpecError, counted
from galbatch.models.base import Model
from galbatch.models.families import family_of
from galbatch.models.flags import Quality
from galbatch.quality.metrics import count
from galbatch.spec.survey import Survey
from galbatch.spectra.flags import SpecFlag
from galbatch.stages import code
from galbatch.stages.base import OnProgress, Pending, Task, Where
from galbatch.stages.catalogue import Catalogue
from galbatch.stages.memory import PROCESS, arrays_memory, ingest_memory, row_bytes
from galbatch.stages.predictions import (
    Predictor,
    loaded_model,
    own_columns,
    predicted,
    predictors,
    standing,
)
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.arrays import ArrayPlaces, allocate, metadata_outputs, metadata_problem
from galbatch.store.facts import Counts
from galbatch.store.locations import remove_tree
from galbatch.store.model_facts import PredictFacts, PublishedFacts
from galbatch.store.publish import finish_extension, retract
from galbatch.store.receipts import Need
from galbatch.store.rows import RowsWriter, read_rows
from galbatch.store.tables import ROW_GROUP_ROWS, annotate
from galbatch.store.units import prediction_unit, predictions_of, version_of
from galbatch.values import Partition, Receipt

_log = logging.getLogger(__name__)
_FLAGS: dict[str, tuple[type[IntFlag], IntFlag]] = {
    "quality": (Quality, Quality.NO_PHOTOMETRY),
    "spec_flags": (SpecFlag, SpecFlag.NODATA),
}
"""Columns of bits, what these mean, and the one that says that nothing was predicted."""
_REDSHIFTS = ("z_mode", "z_spec_model")
_SHOWN = (*_FLAGS, *_REDSHIFTS, "ood")
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
    devices : mapping of str to str
        The kind of device that has computed other partitions, by version, where no other kind may
        go on.
    """

    partition: Partition
    needs: Mapping[str, Need]
    asked: Mapping[str, Mapping[str, Any]]
    columns: frozenset[str]
    devices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Predict:
    """A task per partition."""

    name: str = "predict"
    progress_unit: str = "rows"
    where: Where = "workers"
    arrays: Mapping[str, ArrayPlaces] = field(default_factory=dict, compare=False)
    """Where the arrays of every version go; known when the work begins."""

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
        batches = sum(
            family_of(model.kind).batch_bytes(model, site.survey) for model in site.job.models
        )
        own = PROCESS + rows * (2 * row_bytes(site) + predicting) + batches + arrays_memory(site)
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
        return replace(self, arrays=_allocated(snapshot, catalogue, units))

    def run(self, site: Site, task: Task[Work], report: OnProgress) -> tuple[Receipt, ...]:
        """Read one partition and write the predictions of every model for it."""
        began = time.perf_counter()
        work, device = task.payload, device_kind(worker_namespace())
        _refuse_another_kind(work, device)
        survey, layout = site.survey, site.layout
        models = {
            version: loaded_model(layout.model(version), need.depends["model"], work.asked[version])
            for version, need in work.needs.items()
        }
        inputs = [name for model in models.values() for name in model.card.inputs]
        own = own_columns(survey)
        columns = [name for name in dict.fromkeys([*own, *inputs]) if name in work.columns]
        shown: dict[str, list[pa.Table]] = {version: [] for version in models}
        rows = 0
        with ExitStack() as opened:
            writers = {
                version: opened.enter_context(self._writer(site, work.partition, version, model))
                for version, model in models.items()
            }
            for group in read_rows(layout, work.partition, columns):
                for version, model in models.items():
                    size = task.batch_rows or self._rows_at_once(version)
                    for predicted in _predicted(survey, model, group, size):
                        writers[version].write(predicted)
                        names = [name for name in _SHOWN if name in predicted.column_names]
                        shown[version].append(predicted.select(names))
                rows += group.num_rows
                report(rows, work.partition.rows, "")
            written = {version: writer.commit() for version, writer in writers.items()}
        receipts = []
        for version, need in work.needs.items():
            outputs = written[version].outputs
            missing = written[version].missing if version in self.arrays else None
            facts = _facts(pa.concat_tables(shown[version]), rows)
            facts = replace(facts, device=device, missing=missing)
            receipt = need.receipt(
                digest=next(iter(outputs.values())),
                rows=rows,
                outputs=outputs,
                seconds=(time.perf_counter() - began) / len(models),
                facts=facts.to_json(),
            )
            site.book.put(receipt)
            receipts.append(receipt)
        return tuple(receipts)

    def _writer(self, site: Site, partition: Partition, version: str, model: Model) -> RowsWriter:
        """Where the predictions of a version for a partition go."""
        arrays = self.arrays.get(version)
        return RowsWriter(
            site.layout,
            partition,
            version,
            {
                "survey": site.survey.name,
                "model": version,
                "fingerprint": model.card.fingerprint,
            },
            site.survey.id.column,
            (arrays.spec, arrays.spans[partition.name]) if arrays else None,
        )

    def _rows_at_once(self, version: str) -> int:
        """Rows that are predicted together: those of a shard, where arrays are predicted."""
        arrays = self.arrays.get(version)
        return arrays.spec.shard_rows if arrays else ROW_GROUP_ROWS

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
    columns = frozenset(catalogue.facts.columns)
    done = {one.version: standing(snapshot, catalogue, one) for one in current}
    devices = {} if snapshot.site.job.mixed_devices else _devices(done)
    tasks = []
    for partition in catalogue.partitions:
        needs = {}
        reasons: dict[str, None] = {}
        for predictor in current:
            if partition.name not in done[predictor.version]:
                need = predictor.need(catalogue, partition)
                needs[predictor.version] = need
                why = _why(snapshot, need, devices.get(predictor.version))
                reasons |= dict.fromkeys([why] if why else [])
        if needs:
            asked = {one.version: one.asked for one in current if one.version in needs}
            wanted = {version: devices[version] for version in needs if version in devices}
            work = Work(partition, needs, asked, columns, wanted)
            tasks.append(Task(partition.name, partition.rows, work, "; ".join(reasons)))
    return tuple(tasks)


def _devices(done: Mapping[str, Mapping[str, Receipt]]) -> dict[str, str]:
    """The kind of device that made the predictions of each version, where there are any."""
    first = {version: next(iter(receipts.values()), None) for version, receipts in done.items()}
    return {version: PredictFacts.device_in(one.facts) for version, one in first.items() if one}


def _why(snapshot: Snapshot, need: Need, device: str | None) -> str:
    """Why a unit must be done again, although `device` has made others."""
    receipts = snapshot.receipts
    receipt = receipts.all("predict").get(need.unit)
    if receipt is None or not receipts.holds(receipt, need):
        return receipts.why(receipt, need)
    return f"computed on {PredictFacts.device_in(receipt.facts)}, others on {device}"


def _refuse_another_kind(work: Work, device: str) -> None:
    """Stop where this process would mix two kinds of device in one version."""
    for version, wanted in work.devices.items():
        if wanted != device:
            raise SpecError(
                f"predict {work.partition.name}",
                f"this worker computes on {device}, the other predictions of '{version}' are of "
                f"{wanted}",
                "predict where there is such a device, or write 'mixed_devices: true' into the job",
            )


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
    done = standing(snapshot, catalogue, predictor)
    written = {one: done[one.name] for one in catalogue.partitions if one.name in done}
    _tell_of_other_devices(snapshot, catalogue, version, done)
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
    model = loaded_model(layout.model(version), predictor.fingerprint, predictor.asked)
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
    if predictor.arrays is None:
        remove_tree(layout.arrays(version))
    else:
        outputs |= metadata_outputs(layout, version, predictor.arrays)
    # Of an earlier plan, or of what was lost meanwhile: no file of theirs is published.
    current = {partition.name for partition in written}
    for name in predictions_of(known, version).keys() - current:
        book.forget("predict", prediction_unit(version, name))
    facts = PublishedFacts(
        fingerprint=predictor.fingerprint,
        partitions=len(written),
        arrays=predictor.arrays.to_json() if predictor.arrays else None,
    )
    receipt = need.receipt(
        digest=digest,
        rows=sum(receipt.rows for receipt in written.values()),
        outputs=outputs,
        seconds=time.perf_counter() - began,
        facts=facts.to_json(),
    )
    book.put(receipt)


def _tell_of_other_devices(
    snapshot: Snapshot, catalogue: Catalogue, version: str, done: Mapping[str, Receipt]
) -> None:
    """Say why partitions are left that workers with another device have predicted meanwhile."""
    device = _devices({version: done}).get(version)
    known = snapshot.receipts.all("predict")
    units = [prediction_unit(version, p.name) for p in catalogue.partitions if p.name not in done]
    found = [PredictFacts.device_in(known[unit].facts) for unit in units if unit in known]
    for other, many in sorted(Counter(found).items()):
        if other != device:
            _log.warning(
                "%s of '%s' computed on %s, most on %s: to be made again by the next run, or to be "
                "allowed with 'mixed_devices: true'",
                counted(many, "partition"), version, other, device,
            )  # fmt: skip


def _predicted(survey: Survey, model: Model, table: pa.Table, size: int) -> Iterator[pa.Table]:
    """What rows of predictions carry of the catalogue, and the predicted columns."""
    own = own_columns(survey)
    for first in range(0, max(table.num_rows, 1), size):
        rows = table.slice(first, size)
        predicted = model.predict(rows)
        for column in own:
            predicted = predicted.append_column(rows.schema.field(column), rows[column])
        names = [*own, *(column.name for column in model.columns)]
        yield annotate(predicted.select(names), (*survey.stored_columns, *model.columns))


def _allocated(
    snapshot: Snapshot, catalogue: Catalogue, undone: Set[str]
) -> dict[str, ArrayPlaces]:
    """Room for the arrays of the versions that have something to write, or lost their metadata.

    `undone` are the units that are to be written.
    """
    site = snapshot.site
    rows = {partition.name: partition.rows for partition in catalogue.partitions}
    versions_undone = {version_of(unit) for unit in undone}
    found = {}
    for predictor in sorted(predictors(snapshot, catalogue), key=lambda one: one.version):
        version, spec = predictor.version, predictor.arrays
        if spec is None:
            continue
        lost = bool(_metadata_problem(snapshot, catalogue, predictor, undone))
        if lost:
            site.book.forget("predict", version)
        if lost or version in versions_undone:
            written = _written(snapshot, catalogue, version, undone)
            spans = allocate(site.layout, version, spec, rows, written)
            found[version] = ArrayPlaces(spec, spans)
    return found


def _metadata_problem(
    snapshot: Snapshot, catalogue: Catalogue, predictor: Predictor, undone: Set[str]
) -> str:
    """What is wrong with the arrays of a version that has predicted something; or nothing."""
    if predictor.arrays is None:
        return ""
    written = _written(snapshot, catalogue, predictor.version, undone)
    if not written:
        return ""
    layout = snapshot.site.layout
    return metadata_problem(layout, predictor.version, predictor.arrays, written)


def _written(
    snapshot: Snapshot, catalogue: Catalogue, version: str, undone: Set[str]
) -> dict[str, tuple[str, ...]]:
    """Outputs of the partitions that are done, by partition."""
    receipts = predicted(snapshot, catalogue, version)
    return {name: one.outputs for name, one in receipts.items() if one.unit not in undone}


def _facts(table: pa.Table, rows: int) -> PredictFacts:
    """What the report shows of all rows, so that it need not read them again."""
    counts: dict[str, int] = {}
    predicted = rows
    for column, (flags, nothing) in _FLAGS.items():
        if column in table.column_names:
            bits = table[column].to_numpy()
            counts["ok"] = int((bits == 0).sum())
            counts |= {str(flag.name): int(((bits & flag) != 0).sum()) for flag in flags}
            predicted = int(((bits & nothing) == 0).sum())
    redshift = next((name for name in _REDSHIFTS if name in table.column_names), "")
    return PredictFacts(
        predicted=predicted,
        quality=counts,
        redshifts=_counted(table, redshift, _REDSHIFT_EDGES),
        ood=_counted(table, "ood", _OOD_EDGES),
    )


def _counted(table: pa.Table, column: str, edges: NDArray[np.float64]) -> Counts | None:
    if column not in table.column_names:
        return None
    histogram = count(table[column].to_numpy(), edges)
    return Counts(histogram.edges, histogram.counts)
