"""The labelled rows that no model has seen, with what is predicted of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pandas.util import hash_array

from galbatch.errors import counted
from galbatch.flux.bands import reference_inputs, reference_magnitude
from galbatch.report.data import HeldOut
from galbatch.sample.labels import labels, meets
from galbatch.sample.split import TEST, roles
from galbatch.spec.job import SkySplit
from galbatch.stages.catalogue import Catalogue
from galbatch.stages.predictions import own_columns
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.stages.training_rows import label_columns, split_of
from galbatch.store.tables import HEALPIX, read_partition
from galbatch.store.units import prediction_unit
from galbatch.values import TARGETS, Partition, Target


@dataclass(frozen=True)
class JudgedRows:
    """Rows of one partition that are judged."""

    rank: NDArray[np.uint64]
    truth: Mapping[Target, NDArray[Any]]
    magnitude: NDArray[Any]
    predicted: Mapping[str, pa.Table]

    def below(self, limit: np.uint64) -> JudgedRows:
        """Its rows of a rank below the limit."""
        kept = self.rank < limit
        if kept.all():
            return self
        return JudgedRows(
            self.rank[kept],
            {target: values[kept] for target, values in self.truth.items()},
            self.magnitude[kept],
            {name: table.filter(pa.array(kept)) for name, table in self.predicted.items()},
        )


class Sample:
    """At most so many rows, drawn by a hash of their ids: memory does not grow with the survey.

    Parameters
    ----------
    at_most : int
    """

    def __init__(self, at_most: int) -> None:
        self.below = np.uint64(2**64 - 1)
        """Rows of this rank and above are not wanted."""
        self.thinned = False
        self.rows = 0
        self._at_most = at_most
        self._parts: list[JudgedRows] = []

    def add(self, part: JudgedRows) -> None:
        """One more partition's rows."""
        self._parts.append(part)
        self.rows += len(part.rank)
        if self.rows > 2 * self._at_most:
            self._thin()

    def parts(self) -> list[JudgedRows]:
        """What is left, in the order in which it came."""
        if self.rows > self._at_most:
            self._thin()
        return self._parts

    def _thin(self) -> None:
        ranks = np.concatenate([part.rank for part in self._parts])
        self.below = np.partition(ranks, self._at_most)[self._at_most]
        self._parts = [part.below(self.below) for part in self._parts]
        self.rows = sum(len(part.rank) for part in self._parts)
        self.thinned = True


def held_out_rows(
    snapshot: Snapshot, catalogue: Catalogue
) -> tuple[HeldOut | None, dict[str, dict[str, NDArray[Any]]]]:
    """Truth and predictions of the labelled rows that no model has seen."""
    site = snapshot.site
    known = set(catalogue.facts.columns)
    columns = [name for name in _columns_to_judge(site) if name in known]
    receipts = snapshot.receipts.all("predict")
    names = snapshot.versions.all_current
    sample = Sample(site.job.report.max_rows)
    for partition in catalogue.partitions:
        if all(prediction_unit(name, partition.name) in receipts for name in names):
            rows = _judged_rows(site, partition, columns, names, sample.below)
            if rows is not None:
                sample.add(rows)
    parts = sample.parts()
    columns_of = {name: _columns([part.predicted[name] for part in parts]) for name in names}
    if not parts:
        return None, columns_of
    truth = {target: np.concatenate([part.truth[target] for part in parts]) for target in TARGETS}
    magnitude = np.concatenate([part.magnitude for part in parts])
    return HeldOut(_description(site, sample), truth, magnitude), columns_of


def _columns_to_judge(site: Site) -> tuple[str, ...]:
    """Columns of the catalogue that decide which rows are judged, and their truth."""
    survey = site.survey
    wanted = [*own_columns(survey), *label_columns(survey), *reference_inputs(survey)]
    wanted += [condition.column for condition in site.job.report.where]
    return tuple(dict.fromkeys(wanted))


def _judged_rows(
    site: Site, partition: Partition, columns: Sequence[str], names: Sequence[str], below: np.uint64
) -> JudgedRows | None:
    """The rows of a partition that are judged, with the predictions of some versions.

    Parameters
    ----------
    site : Site
    partition : Partition
    columns : sequence of str
        Of the catalogue.
    names : sequence of str
        The versions.
    below : numpy.uint64
        Only rows of a lower rank.

    Returns
    -------
    JudgedRows or None
        None where there are none.
    """
    survey, layout = site.survey, site.layout
    table = read_partition(layout, partition, columns)
    healpix = table[HEALPIX].to_numpy() if survey.sky is not None else None
    ids = table[survey.id.column].to_numpy()
    judged = roles(split_of(site.job, survey), healpix, ids) == TEST
    labelled = labels(survey, table)
    judged &= np.any([np.isfinite(values) for values in labelled.values()], axis=0)
    judged &= meets(site.job.report.where, table)
    rank = hash_array(ids if ids.dtype.kind == "i" else ids.astype(object), categorize=False)
    judged &= rank < below
    if not judged.any():
        return None
    mask, own = pa.array(judged), list(own_columns(survey))
    truth = {target: labelled.get(target, np.full(len(judged), np.nan)) for target in TARGETS}
    predicted = {
        name: read_partition(layout, partition, model=name).filter(mask).drop_columns(own)
        for name in names
    }
    return JudgedRows(
        rank[judged],
        {target: values[judged] for target, values in truth.items()},
        reference_magnitude(survey, table.filter(mask)),
        predicted,
    )


def _description(site: Site, sample: Sample) -> str:
    """How the judged rows were chosen."""
    split = split_of(site.job, site.survey)
    by = (
        f"whole sky cells (HEALPix order {split.order})"
        if isinstance(split, SkySplit)
        else "rows drawn by their id"
    )
    text = (
        f"labelled rows of the {split.test:.0%} held out: {by}, seed {split.seed}; "
        "no model was trained, stopped or calibrated on them"
    )
    if sample.thinned:
        text += f"; of them a random {counted(sample.rows, 'row')}"
    return text


def _columns(tables: Sequence[pa.Table]) -> dict[str, NDArray[Any]]:
    if not tables:
        return {}
    table = pa.concat_tables(tables).combine_chunks()
    columns: dict[str, NDArray[Any]] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            flat = column.flatten().to_numpy(zero_copy_only=False)
            columns[name] = flat.reshape(-1, column.type.list_size)
        else:
            columns[name] = column.to_numpy(zero_copy_only=False)
    return columns
