"""Predict every row: one read of a partition, every model, one extension file for each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Set
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
from galbatch.models.flags import Quality
from galbatch.models.photometric import Photometric
from galbatch.models.zoo import load_model
from galbatch.quality.metrics import count
from galbatch.spec.job import PhotometricModel
from galbatch.spec.survey import Survey
from galbatch.stages.base import PROCESS, Pending, Report, Site, Task, Where, row_bytes
from galbatch.stages.catalogue import Catalogue, finished_catalogue
from galbatch.stages.ingest import Ingest
from galbatch.stages.train import current_version, train_need
from galbatch.store.arrays import (
    ArrayWriter,
    GroupSpec,
    Span,
    allocate,
    group_spec,
    metadata_outputs,
    metadata_problem,
)
from galbatch.store.partitions import Histogram
from galbatch.store.places import lasting_copy, remove_tree
from galbatch.store.publish import finish_extension, retract
from galbatch.store.receipts import Need
from galbatch.store.rows import read_rows
from galbatch.store.tables import HEALPIX, ROW_GROUP_ROWS, PartitionWriter, annotate
from galbatch.values import Coordinate, Partition, PredictedColumn, Receipt

PREDICT_VERSION = 4
_SHOWN = ("quality", "z_mode", "ood")
"""Columns that the report shows of all rows."""
_ROW = 8_192
"""Bytes for a row on its way through a network, and for what comes out."""
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
    columns : frozenset of str
        Columns that the catalogue has.
    """

    partition: Partition
    needs: Mapping[str, Need]
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
        own = PROCESS + rows * (2 * row_bytes(site) + _ROW * len(site.job.models))
        return max(own, Ingest().memory(site))

    def pending(self, site: Site) -> Pending:
        """Partitions that lack the predictions of a model as it is now."""
        catalogue = finished_catalogue(site)
        if catalogue is None:
            return Pending((), waiting="ingest")
        fingerprints = trained(site)
        if len(fingerprints) < len(site.job.models):
            return Pending((), waiting="train")
        return _pending(site, catalogue, fingerprints)

    def begin(self, site: Site, pending: Pending) -> Predict:
        """No reader shall see predictions of two models, or of two catalogues, as one."""
        needs = [need for task in pending.tasks for need in task.payload.needs.values()]
        receipts = site.book.all("predict")
        for version in {version for task in pending.tasks for version in task.payload.needs}:
            retract(site.layout, site.survey, version)
            site.book.forget("predict", version)
        for unit in {need.unit for need in needs} & receipts.keys():
            for output in receipts[unit].outputs:
                site.layout.output(output).unlink(missing_ok=True)
            site.book.forget("predict", unit)
        catalogue = finished_catalogue(site)
        density = None if catalogue is None else _density(site, catalogue)
        if catalogue is None or density is None:
            return self
        spans = _allocated(site, catalogue, density, {need.unit for need in needs})
        return replace(self, spans=spans, density=density)

    def run(self, site: Site, task: Task, report: Report) -> tuple[Receipt, ...]:
        """Read one partition and write the predictions of every model for it."""
        began = time.perf_counter()
        work: Work = task.payload
        survey, layout = site.survey, site.layout
        models = {
            version: _loaded(
                layout.model(version), need.depends["model"], need.depends["monte_carlo"]
            )
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
                facts=_summary(pa.concat_tables(shown[version])),
            )
            site.book.put(receipt)
            receipts.append(receipt)
        return tuple(receipts)

    def finish(self, site: Site, pending: Pending) -> None:
        """Publish each model's predictions as an extension of the catalogue."""
        catalogue = finished_catalogue(site)
        if catalogue is None:
            return
        words = catalogue.facts["histogram"]
        histogram = words and Histogram(
            words["order"], np.array(words["pixels"]), np.array(words["counts"])
        )
        book, arrays = site.book, _arrays(site, catalogue)
        draws = _draws(site)
        receipts = book.all("predict")
        for version, fingerprint in trained(site).items():
            written = {}
            array = arrays.get(version)
            form = array.digest if array else None
            for partition in catalogue.partitions:
                need = predict_need(
                    catalogue, partition, version, fingerprint, form, draws[version]
                )
                if book.holds(receipts.get(need.unit), need):
                    written[partition] = receipts[need.unit]
            digest = sha256("".join(one.digest for one in written.values()).encode()).hexdigest()
            depends = {
                "code": PREDICT_VERSION,
                "model": fingerprint,
                "catalogue": catalogue.digest,
                "monte_carlo": draws[version],
                "predictions": digest,
            }
            need = Need("predict", version, depends)
            if not written or book.valid(need):
                continue
            began = time.perf_counter()
            loaded = _loaded(site.layout.model(version), fingerprint, draws[version])
            outputs = finish_extension(
                site.layout,
                site.survey,
                version,
                tuple(written),
                [column.name for column in loaded.columns],
                fingerprint=fingerprint,
                catalogue=catalogue.digest,
                histogram=histogram,
            )
            if array is None:
                remove_tree(site.layout.arrays(version))
            else:
                outputs |= metadata_outputs(site.layout, version, array)
            # Of an earlier plan, or of what was lost meanwhile: no file of theirs is published.
            current = {prediction_unit(version, partition) for partition in written}
            for unit in receipts:
                if unit.startswith(f"{version}.") and unit not in current:
                    book.forget("predict", unit)
            receipt = need.receipt(
                digest=digest,
                rows=sum(receipt.rows for receipt in written.values()),
                outputs=outputs,
                seconds=time.perf_counter() - began,
                facts={
                    "fingerprint": fingerprint,
                    "partitions": len(written),
                    "arrays": array.to_json() if array is not None else None,
                },
            )
            book.put(receipt)


def trained(site: Site) -> dict[str, str]:
    """Fingerprints of the versions of models that the job's words call for."""
    found = {}
    for model in site.job.models:
        version = current_version(site, model)
        receipt = site.book.valid(train_need(site, model, version))
        if receipt is not None:
            found[version] = str(receipt.facts["fingerprint"])
    return found


def predict_need(
    catalogue: Catalogue,
    partition: Partition,
    version: str,
    fingerprint: str,
    arrays: str | None = None,
    monte_carlo: int = 0,
) -> Need:
    """What the predictions of one version for one partition depend on.

    `arrays` is the digest of the arrays that are written with them, `monte_carlo` how often the
    fluxes are drawn anew.
    """
    depends = {
        "code": PREDICT_VERSION,
        "rows": catalogue.digests[partition],
        "model": fingerprint,
        "arrays": arrays,
        "monte_carlo": monte_carlo,
    }
    return Need("predict", prediction_unit(version, partition), depends)


def own_columns(survey: Survey) -> tuple[str, ...]:
    """What a row of predictions carries of the catalogue: the id, and where it is on the sky."""
    names = [survey.id.column, *survey.id.parts]
    if survey.sky is not None:
        names = [HEALPIX, *names, survey.sky.ra, survey.sky.dec]
    return tuple(dict.fromkeys(names))


def prediction_unit(model: str, partition: Partition) -> str:
    """The unit of a receipt for one model's predictions of one partition."""
    return f"{model}.{partition.name}"


def _pending(site: Site, catalogue: Catalogue, fingerprints: Mapping[str, str]) -> Pending:
    book = site.book
    receipts = book.all("predict")
    columns, arrays = frozenset(catalogue.facts["columns"]), _arrays(site, catalogue)
    draws = _draws(site)
    left = []
    for partition in catalogue.partitions:
        needs = {}
        reasons: dict[str, None] = {}
        for version, fingerprint in fingerprints.items():
            array = arrays[version].digest if version in arrays else None
            need = predict_need(catalogue, partition, version, fingerprint, array, draws[version])
            receipt = receipts.get(need.unit)
            if not book.holds(receipt, need):
                needs[version] = need
                reasons |= dict.fromkeys([why] if (why := book.why(receipt, need)) else [])
        if needs:
            work = Work(partition, needs, columns)
            left.append(Task(partition.name, partition.rows, work, "; ".join(reasons)))
    undone = {need.unit for task in left for need in task.payload.needs.values()}
    notes = []
    for version in arrays.keys() & fingerprints.keys():
        written = _written(catalogue, version, receipts, undone)
        problem = (
            metadata_problem(site.layout, version, arrays[version], written) if written else ""
        )
        if problem:
            notes.append(f"{problem}: made again, around the shards that are there")
    return Pending(
        tuple(left), done=len(catalogue.partitions) - len(left), notes=tuple(sorted(notes))
    )


def _predicted(
    site: Site, model: Model, table: pa.Table, array: ArrayWriter | None, batch_rows: int | None
) -> pa.Table:
    """What a row of predictions carries of the catalogue, and the predicted columns."""
    own = own_columns(site.survey)
    size = batch_rows or max(table.num_rows, 1)
    parts = []
    for first in range(0, max(table.num_rows, 1), size):
        rows = table.slice(first, size)
        if array is None:
            predicted = model.predict(rows)
        else:
            assert isinstance(model, Photometric)
            grid = np.array(array.spec.coordinates[0].values)
            predicted, densities = model.predict_with_density(rows, grid)
            array.write(rows[site.survey.id.column].to_numpy(), {"pz": densities})
        for column in own:
            predicted = predicted.append_column(rows.schema.field(column), rows[column])
        parts.append(predicted.select([*own, *(column.name for column in model.columns)]))
    return pa.concat_tables(parts)


def _density(site: Site, catalogue: Catalogue) -> GroupSpec | None:
    """What p(z) on the job's grid is, if it is wanted."""
    grid = site.job.redshift_grid
    if grid is None:
        return None
    z = np.linspace(grid.low, grid.high, grid.points)
    pz = PredictedColumn(
        "pz", "float32", "", "stat.probability;src.redshift.phot",
        "probability density in redshift", (len(z),), ("z",),
    )  # fmt: skip
    axis = Coordinate("z", tuple(z.tolist()), "", "src.redshift.phot", "redshift")
    return group_spec([pz], catalogue.ids, [axis])


def _arrays(site: Site, catalogue: Catalogue) -> dict[str, GroupSpec]:
    """The arrays, by the versions of models whose p(z) is written out in full."""
    density = _density(site, catalogue)
    if density is None:
        return {}
    return {
        current_version(site, model): density
        for model in site.job.models
        if isinstance(model, PhotometricModel) and "redshift" in (model.targets or ("redshift",))
    }


def _draws(site: Site) -> dict[str, int]:
    """How often the fluxes are drawn anew, by version of a model."""
    return {
        current_version(site, model): (
            model.monte_carlo if isinstance(model, PhotometricModel) else 0
        )
        for model in site.job.models
    }


def _allocated(
    site: Site, catalogue: Catalogue, spec: GroupSpec, undone: Set[str]
) -> dict[str, dict[str, Span]]:
    """Room in the arrays of the versions that have something to write, or lost their metadata.

    `undone` are the units that are to be written.
    """
    versions = _arrays(site, catalogue).keys()
    rows = {partition.name: partition.rows for partition in catalogue.partitions}
    receipts, spans = site.book.all("predict"), {}
    for version in sorted(versions):
        written = _written(catalogue, version, receipts, undone)
        lost = bool(written and metadata_problem(site.layout, version, spec, written))
        if lost:
            site.book.forget("predict", version)
        if lost or any(unit.partition(".")[0] == version for unit in undone):
            spans[version] = allocate(site.layout, version, spec, rows, written)
    return spans


def _written(
    catalogue: Catalogue, version: str, receipts: Mapping[str, Receipt], undone: Set[str]
) -> dict[str, tuple[str, ...]]:
    """Outputs of the partitions that are done, by partition."""
    units = {one.name: prediction_unit(version, one) for one in catalogue.partitions}
    return {
        name: receipts[unit].outputs
        for name, unit in units.items()
        if unit in receipts and unit not in undone
    }


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
def _loaded(folder: Path, fingerprint: str, monte_carlo: int) -> Model:
    """A model, loaded once per worker; another fingerprint is another model."""
    model = load_model(lasting_copy(folder), monte_carlo=monte_carlo)
    if model.card.fingerprint != fingerprint:
        raise ValueError(f"{folder}: expected model {fingerprint}, found {model.card.fingerprint}")
    return model
