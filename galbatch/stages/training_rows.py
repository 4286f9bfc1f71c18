"""Which rows of the catalogue a model is trained on, and which columns of them are read."""

from __future__ import annotations

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
from galbatch.values import TARGETS


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
        Of all rows that are not held out, labelled or not.
    """
    family = family_of(model.kind)
    known = set(catalogue.facts.columns)
    reads = dict.fromkeys((survey.id.column, *family.inputs(model, survey)))
    wanted = [*reads, *label_columns(survey)]
    if survey.sky is not None:
        wanted.append(HEALPIX)
    columns = [name for name in dict.fromkeys(wanted) if name in known]
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
            healpix = table[HEALPIX].to_numpy() if survey.sky is not None else None
            role = roles(split, healpix, table[survey.id.column].to_numpy())
            seen = role != TEST
            kept = seen & _has_label(survey, table) if family.needs_labels else seen
            if share < 1:
                kept &= draw.random(table.num_rows) < share
            tables.append(table.filter(pa.array(kept)))
            role_parts.append(role[kept])
            drawn = seen & (other.random(table.num_rows) < sampled)
            samples.append(table.select(inputs).filter(pa.array(drawn)))
            refused.append(refusals(survey, table.filter(pa.array(seen))))
    census = Census(pa.concat_tables(samples).combine_chunks(), added(refused))
    return pa.concat_tables(tables).combine_chunks(), np.concatenate(role_parts), census


def _has_label(survey: Survey, table: pa.Table) -> NDArray[np.bool_]:
    labelled = np.zeros(table.num_rows, bool)
    for values in labels(survey, table).values():
        labelled |= np.isfinite(values)
    return labelled
