"""Which rows of the catalogue a model is trained on, and which columns of them are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.models.families import family_of
from galbatch.sample.census import SAMPLE_ROWS, Census, added, refusals
from galbatch.sample.labels import labels
from galbatch.sample.split import TEST, default_split, roles
from galbatch.spec.job import AnyModel, Job, Split
from galbatch.spec.labels import Label, StarLabel
from galbatch.spec.survey import Survey
from galbatch.stages.catalogue import Catalogue
from galbatch.store.layout import Layout
from galbatch.store.rows import read_rows
from galbatch.store.tables import HEALPIX
from galbatch.values import TARGETS, Partition


def split_of(job: Job, survey: Survey) -> Split:
    """The job's split, or the one that suits the survey."""
    return job.split or default_split(survey)


def label_columns(survey: Survey) -> tuple[str, ...]:
    """Columns that labels are made of."""
    names: list[str] = []
    for target in TARGETS:
        label: Label | StarLabel | None = survey.labels.of(target)
        if label is not None:
            names += [label.column, *(condition.column for condition in label.where)]
    return tuple(dict.fromkeys(names))


def training_rows(
    layout: Layout, survey: Survey, split: Split, catalogue: Catalogue, model: AnyModel
) -> tuple[pa.Table, Any, Census]:
    """Rows that teach a model: not held out, labelled if it needs labels, and not too many.

    Partitions are read a row group at a time: memory is that of the rows that are kept.

    Parameters
    ----------
    layout : Layout
    survey : Survey
    split : Split
    catalogue : Catalogue
    model : ModelSettings
        Of its `max_rows`, about so many are drawn at random if there are more.

    Returns
    -------
    table : pyarrow.Table
        Inputs and labels.
    roles : array of int8, shape (rows,)
        `TRAIN` or `VALIDATION`.
    census : Census
        Of all rows that are not held out, labelled or not; of none for a family without labels.
    """
    family = family_of(model.kind)
    known = set(catalogue.facts.columns)
    reads = dict.fromkeys((survey.id.column, *family.inputs(model, survey)))
    columns = _known_columns(survey, catalogue, [*reads, *label_columns(survey)])
    labelled = max(catalogue.facts.totals.labelled.values())
    teaching = labelled if family.needs_labels else catalogue.rows
    share = min(1.0, model.max_rows / max(teaching, 1))
    inputs = [name for name in reads if name in known]
    sampled = min(1.0, SAMPLE_ROWS / max(catalogue.rows, 1))
    tables, role_parts, samples, refused = [], [], [], []
    for partition in catalogue.partitions:
        at = (partition.order, partition.index)
        draw, other = (
            np.random.default_rng([model.seed, *at]),
            np.random.default_rng([model.seed, *at, 1]),
        )
        for table in read_rows(layout, partition, columns):
            role = _roles(split, survey, table)
            seen = role != TEST
            kept = seen & (_has_label(survey, table) if family.needs_labels else True)
            if share < 1:
                kept &= draw.random(table.num_rows) < share
            tables.append(table.filter(pa.array(kept)))
            role_parts.append(role[kept])
            if family.needs_labels:
                drawn = seen & (other.random(table.num_rows) < sampled)
                samples.append(table.select(inputs).filter(pa.array(drawn)))
                refused.append(refusals(survey, table.filter(pa.array(seen))))
    sample = pa.concat_tables(samples).combine_chunks() if samples else pa.table({})
    census = Census(sample, added(refused))
    return pa.concat_tables(tables).combine_chunks(), np.concatenate(role_parts), census


@dataclass(frozen=True)
class PartitionRows:
    """Rows of a partition that may teach, read again at each call: see `TrainingData.parts`."""

    layout: Layout
    survey: Survey
    split: Split
    partition: Partition
    columns: tuple[str, ...]
    share: float
    seed: int

    def __call__(self) -> Iterator[tuple[pa.Table, NDArray[np.int8]]]:
        """A row group at a time, at most."""
        at = (self.partition.order, self.partition.index)
        draw = np.random.default_rng([self.seed, *at])
        for table in read_rows(self.layout, self.partition, self.columns):
            role = _roles(self.split, self.survey, table)
            kept = role != TEST
            if self.share < 1:
                kept &= draw.random(table.num_rows) < self.share
            yield table.filter(pa.array(kept)), role[kept]


def streamed_rows(
    layout: Layout, survey: Survey, split: Split, catalogue: Catalogue, model: AnyModel
) -> tuple[PartitionRows, ...]:
    """Rows that teach a model whose family reads the catalogue itself, by partition.

    Parameters
    ----------
    layout : Layout
    survey : Survey
    split : Split
    catalogue : Catalogue
    model : ModelSettings
        Of its `max_rows`, about so many are drawn at random if there are more.

    Returns
    -------
    tuple of PartitionRows
        Empty where no row teaches it.
    """
    family = family_of(model.kind)
    reads = (survey.id.column, *family.inputs(model, survey))
    columns = tuple(_known_columns(survey, catalogue, [*reads, *label_columns(survey)]))
    teaching = family.teaching(catalogue.rows, catalogue.facts.totals.labelled)
    if not teaching:
        return ()
    share = min(1.0, model.max_rows / teaching)
    return tuple(
        PartitionRows(layout, survey, split, partition, columns, share, model.seed)
        for partition in catalogue.partitions
    )


def no_rows() -> tuple[pa.Table, NDArray[np.int8], Census]:
    """What `training_rows` gives, of no row."""
    return pa.table({}), np.zeros(0, np.int8), Census(pa.table({}), {})


def _known_columns(survey: Survey, catalogue: Catalogue, wanted: Iterable[str]) -> list[str]:
    """Those of some columns that the catalogue has, and what a split by sky needs."""
    known = set(catalogue.facts.columns)
    sky = [HEALPIX] if survey.sky is not None else []
    return [name for name in dict.fromkeys([*wanted, *sky]) if name in known]


def _roles(split: Split, survey: Survey, table: pa.Table) -> NDArray[np.int8]:
    healpix = table[HEALPIX].to_numpy() if survey.sky is not None else None
    return roles(split, healpix, table[survey.id.column].to_numpy())


def _has_label(survey: Survey, table: pa.Table) -> NDArray[np.bool_]:
    labelled = np.zeros(table.num_rows, bool)
    for values in labels(survey, table).values():
        labelled |= np.isfinite(values)
    return labelled
