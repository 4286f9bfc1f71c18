"""The predictions of a store: what those of each version of a model depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from galbatch.spec.job import Model, PhotometricModel
from galbatch.spec.survey import Survey
from galbatch.stages import code
from galbatch.stages.catalogue import Catalogue
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.arrays import GroupSpec, group_spec
from galbatch.store.receipts import Need
from galbatch.store.tables import HEALPIX
from galbatch.store.units import prediction_unit
from galbatch.values import Coordinate, Partition, PredictedColumn, Receipt


@dataclass(frozen=True)
class Predictor:
    """A trained version of a model, and what the job wants of it.

    Parameters
    ----------
    version : str
    fingerprint : str
    density : GroupSpec or None
        What p(z) on the job's grid is, where it is written.
    monte_carlo : int
        How often the fluxes are drawn anew.
    """

    version: str
    fingerprint: str
    density: GroupSpec | None
    monte_carlo: int

    def need(self, catalogue: Catalogue, partition: Partition) -> Need:
        """What its predictions for one partition depend on."""
        return predict_need(
            catalogue,
            partition,
            self.version,
            self.fingerprint,
            self.density.digest if self.density else None,
            self.monte_carlo,
        )


def predictors(snapshot: Snapshot, catalogue: Catalogue) -> tuple[Predictor, ...]:
    """The versions of models that the job's settings call for, as far as they are trained."""
    trained = snapshot.versions.trained()
    current = ((snapshot.versions.current(model), model) for model in snapshot.site.job.models)
    return tuple(
        Predictor(
            version=version,
            fingerprint=trained[version],
            density=_density(snapshot.site, catalogue, model),
            monte_carlo=model.monte_carlo if isinstance(model, PhotometricModel) else 0,
        )
        for version, model in current
        if version in trained
    )


def _density(site: Site, catalogue: Catalogue, model: Model) -> GroupSpec | None:
    """What p(z) on the job's grid is, if it is wanted and the model gives it."""
    grid = site.job.redshift_grid
    if grid is None or not isinstance(model, PhotometricModel):
        return None
    if "redshift" not in (model.targets or ("redshift",)):
        return None
    z = np.linspace(grid.low, grid.high, grid.points)
    pz = PredictedColumn(
        "pz", "float32", "", "stat.probability;src.redshift.phot",
        "probability density in redshift", (len(z),), ("z",),
    )  # fmt: skip
    axis = Coordinate("z", tuple(z.tolist()), "", "src.redshift.phot", "redshift")
    return group_spec([pz], catalogue.ids, [axis])


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
        "code": code.PREDICT,
        "rows": catalogue.digests[partition],
        "model": fingerprint,
        "arrays": arrays,
        "monte_carlo": monte_carlo,
    }
    return Need("predict", prediction_unit(version, partition.name), depends)


def predicted(
    catalogue: Catalogue, version: str, receipts: Mapping[str, Receipt]
) -> dict[str, Receipt]:
    """The receipts of the partitions that a version has predicted, by the partition's name."""
    units = {one.name: prediction_unit(version, one.name) for one in catalogue.partitions}
    return {name: receipts[unit] for name, unit in units.items() if unit in receipts}


def own_columns(survey: Survey) -> tuple[str, ...]:
    """What a row of predictions carries of the catalogue: the id, and where it is on the sky."""
    names = [survey.id.column, *survey.id.parts]
    if survey.sky is not None:
        names = [HEALPIX, *names, survey.sky.ra, survey.sky.dec]
    return tuple(dict.fromkeys(names))
