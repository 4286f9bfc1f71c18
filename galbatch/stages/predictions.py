"""The predictions of a store: what those of each version of a model depend on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from galbatch.models.base import Model
from galbatch.models.families import load_model
from galbatch.spec.survey import Survey
from galbatch.stages import code
from galbatch.stages.catalogue import Catalogue
from galbatch.stages.state import Snapshot
from galbatch.store.arrays import GroupSpec, group_spec
from galbatch.store.locations import lasting_copy
from galbatch.store.model_facts import PredictFacts
from galbatch.store.receipts import Need
from galbatch.store.tables import HEALPIX
from galbatch.store.units import prediction_unit
from galbatch.values import Partition, Receipt, is_array


@dataclass(frozen=True)
class Predictor:
    """A trained version of a model, and what the job wants of it.

    Parameters
    ----------
    version : str
    fingerprint : str
    arrays : GroupSpec or None
        What those of the predicted columns that are arrays are kept as, where there are any.
    asked : mapping
        What is asked of its predictions: the settings that train nothing, as JSON values.
    """

    version: str
    fingerprint: str
    arrays: GroupSpec | None
    asked: Mapping[str, Any]

    def need(self, catalogue: Catalogue, partition: Partition) -> Need:
        """What its predictions for one partition depend on."""
        return predict_need(
            catalogue,
            partition,
            self.version,
            self.fingerprint,
            self.arrays.digest if self.arrays else None,
            self.asked,
        )


def predictors(snapshot: Snapshot, catalogue: Catalogue) -> tuple[Predictor, ...]:
    """The versions of models that the job's settings call for, as far as they are trained."""
    trained = snapshot.versions.trained()
    found = []
    for model in snapshot.site.job.models:
        version = snapshot.versions.current(model)
        if version in trained:
            asked = model.predict_settings()
            folder = snapshot.site.layout.model(version)
            columns = loaded_model(folder, trained[version], asked).columns
            arrays = group_spec(
                [column for column in columns if is_array(column.shape)],
                catalogue.ids,
                {axis.name: axis for column in columns for axis in column.coordinates}.values(),
            )
            found.append(Predictor(version, trained[version], arrays, asked))
    return tuple(found)


def loaded_model(folder: Path, fingerprint: str, asked: Mapping[str, Any]) -> Model:
    """A model, loaded once in a process; another fingerprint is another model."""
    return _kept(folder, fingerprint, json.dumps(asked, sort_keys=True))


@lru_cache(maxsize=8)
def _kept(folder: Path, fingerprint: str, asked: str) -> Model:
    model = load_model(lasting_copy(folder), **json.loads(asked))
    if model.card.fingerprint != fingerprint:
        raise ValueError(f"{folder}: expected model {fingerprint}, found {model.card.fingerprint}")
    return model


def predict_need(
    catalogue: Catalogue,
    partition: Partition,
    version: str,
    fingerprint: str,
    arrays: str | None,
    asked: Mapping[str, Any],
) -> Need:
    """What the predictions of one version for one partition depend on.

    `arrays` is the digest of the arrays that are written with them, `asked` what is asked of them.
    """
    depends = {
        "code": code.PREDICT,
        "rows": catalogue.digests[partition],
        "model": fingerprint,
        "arrays": arrays,
        **asked,
    }
    return Need("predict", prediction_unit(version, partition.name), depends)


def predicted(snapshot: Snapshot, catalogue: Catalogue, version: str) -> dict[str, Receipt]:
    """The receipts of the partitions that a version has predicted, by the partition's name."""
    receipts = snapshot.receipts.all("predict")
    units = {one.name: prediction_unit(version, one.name) for one in catalogue.partitions}
    found = {name: receipts[unit] for name, unit in units.items() if unit in receipts}
    return found if snapshot.site.job.mixed_devices else of_one_kind(found)


def standing(snapshot: Snapshot, catalogue: Catalogue, predictor: Predictor) -> dict[str, Receipt]:
    """The receipts of `predicted` that need not be made again."""
    receipts, known = snapshot.receipts, snapshot.receipts.all("predict")
    found = {}
    for partition in catalogue.partitions:
        need = predictor.need(catalogue, partition)
        if receipts.holds(known.get(need.unit), need):
            found[partition.name] = known[need.unit]
    return found if snapshot.site.job.mixed_devices else of_one_kind(found)


def of_one_kind(receipts: Mapping[str, Receipt]) -> dict[str, Receipt]:
    """Those of a version's predictions that the kind of device made which made most of them."""
    devices = {name: PredictFacts.device_in(one.facts) for name, one in receipts.items()}
    count = Counter(devices.values())
    most = max(count, key=lambda device: (count[device], device), default="")
    return {name: receipt for name, receipt in receipts.items() if devices[name] == most}


def own_columns(survey: Survey) -> tuple[str, ...]:
    """What a row of predictions carries of the catalogue: the id, and where it is on the sky."""
    names = [survey.id.column, *survey.id.parts]
    if survey.sky is not None:
        names = [HEALPIX, *names, survey.sky.ra, survey.sky.dec]
    return tuple(dict.fromkeys(names))
