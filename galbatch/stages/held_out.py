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
from galbatch.stages.state import Snapshot
from galbatch.stages.training_rows import label_columns, split_of
from galbatch.store.tables import HEALPIX, read_partition
from galbatch.store.units import prediction_unit
from galbatch.values import TARGETS, Target


@dataclass(frozen=True)
class JudgedRows:
    """What is judged of one partition."""

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
    survey, layout = site.survey, site.layout
    split = split_of(site.job, survey)
    known = set(catalogue.facts.columns)
    wanted = [*own_columns(survey), *label_columns(survey), *reference_inputs(survey)]
    wanted += [condition.column for condition in site.job.report.where]
    columns = [name for name in dict.fromkeys(wanted) if name in known]
    receipts = snapshot.receipts.all("predict")
    names = snapshot.versions.all_current
    sample = Sample(site.job.report.max_rows)
    for partition in catalogue.partitions:
        if any(prediction_unit(name, partition.name) not in receipts for name in names):
            continue
        table = read_partition(layout, partition, columns)
        healpix = table[HEALPIX].to_numpy() if survey.sky is not None else None
        ids = table[survey.id.column].to_numpy()
        judged = roles(split, healpix, ids) == TEST
        labelled = labels(survey, table)
        judged &= np.any([np.isfinite(values) for values in labelled.values()], axis=0)
        judged &= meets(site.job.report.where, table)
        rank = hash_array(ids if ids.dtype.kind == "i" else ids.astype(object), categorize=False)
        judged &= rank < sample.below
        if not judged.any():
            continue
        mask = pa.array(judged)
        truth = {target: labelled.get(target, np.full(len(judged), np.nan)) for target in TARGETS}
        sample.add(
            JudgedRows(
                rank[judged],
                {target: values[judged] for target, values in truth.items()},
                reference_magnitude(survey, table.filter(mask)),
                {
                    name: read_partition(layout, partition, model=name)
                    .filter(mask)
                    .drop_columns(list(own_columns(survey)))
                    for name in names
                },
            )
        )
    parts = sample.parts()
    columns_of = {name: _columns([part.predicted[name] for part in parts]) for name in names}
    if not parts:
        return None, columns_of
    by = (
        f"whole sky cells (HEALPix order {split.order})"
        if isinstance(split, SkySplit)
        else "rows drawn by their id"
    )
    description = (
        f"labelled rows of the {split.test:.0%} held out: {by}, seed {split.seed}; "
        "no model was trained, stopped or calibrated on them"
    )
    if sample.thinned:
        description += f"; of them a random {counted(sample.rows, 'row')}"
    return (
        HeldOut(
            description,
            {target: np.concatenate([part.truth[target] for part in parts]) for target in TARGETS},
            np.concatenate([part.magnitude for part in parts]),
        ),
        columns_of,
    )


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
