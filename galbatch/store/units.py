"""Names of units of work: this file alone makes one, or says what is in one.

A unit is what a receipt, or a file in the quarantine, is about. Of the receipts:

====================================  ==========================================================
``/data/a.csv``, ``mock-jpas-3``      scan: a file, a part of a simulated sky
``o3-p45``, ``rows-000007``           ingest: a partition; ``catalogue`` is the published catalogue
``photometric``, ``photometric_v2``   train: a version of a model
``photometric_v2.o3-p45``             predict: a version and a partition; ``photometric_v2`` is
                                      what is published of it
``duckdb.a.duckdb.t.photometric``     append: a database, a table, a model
``page``                              report
====================================  ==========================================================

In the quarantine a unit has its kind in front: ``rows.a.csv`` (rows that were refused),
``repeated.a.csv`` (rows that repeat an id), ``predict.o3-p45`` (a task that failed).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

CATALOGUE_UNIT = "catalogue"
PAGE_UNIT = "page"
# No stage has these names: a failed task is quarantined under that of its stage.
REJECTED, REPEATED = "rows", "repeated"
"""Kinds of units in the quarantine: rows of a source that are not sound, or that repeat an id."""

_Value = TypeVar("_Value")


def mock_unit(survey: str, number: int) -> str:
    """A part of a simulated sky."""
    return f"mock-{survey}-{number}"


def version_unit(model: str, number: int) -> str:
    """A version of a model: `<name>`, `<name>_v2`, `<name>_v3`, ..."""
    return model if number == 1 else f"{model}_v{number}"


def version_number(unit: str, model: str) -> int | None:
    """Which version of this model a unit is; None for one of another model."""
    match = re.fullmatch(re.escape(model) + r"(?:_v(\d+))?", unit)
    return int(match[1] or 1) if match else None


def prediction_unit(version: str, partition: str) -> str:
    """The predictions of one version of a model for one partition, by their names."""
    return f"{version}.{partition}"


def version_of(unit: str) -> str:
    """The version whose predictions a unit (or the name of its receipt's file) is about."""
    return unit.partition(".")[0]


def partition_of(unit: str) -> str:
    """The name of the partition that predictions are of; empty for a published version."""
    return unit.partition(".")[2]


def versions_of(units: Iterable[str]) -> list[str]:
    """The versions that units of predictions are about, in alphabetical order."""
    return sorted({version_of(unit) for unit in units})


def predictions_of(values: Mapping[str, _Value], version: str) -> dict[str, _Value]:
    """What is known of each partition that one version has predicted.

    Parameters
    ----------
    values : mapping
        By unit: receipts, say.
    version : str

    Returns
    -------
    dict
        By the name of the partition. What is published of the version is not among them.
    """
    return {
        partition_of(unit): value
        for unit, value in values.items()
        if version_of(unit) == version and partition_of(unit)
    }


def delivery_unit(database: str, table: str, model: str) -> str:
    """The predictions of a model, or of a version of it, in one table of a database."""
    return f"{database}.{table}.{model}"


def rejected_unit(kind: str, unit: str) -> str:
    """In the quarantine: a kind (`REJECTED`, `REPEATED`, the stage of a failed task) and a unit."""
    return f"{kind}.{unit}"


def split_rejected(unit: str) -> tuple[str, str]:
    """The inverse of `rejected_unit`; the kind is empty where there is none."""
    kind, _, rest = unit.partition(".")
    return (kind, rest) if rest and kind.isalpha() else ("", unit)


def failed_task(stage: str, unit: str) -> str:
    """Name of a failed task in the quarantine, where rows have their file: `scan a.csv`."""
    return f"{stage} {unit}"


def unit_that_failed(name: str) -> str:
    """The unit in the name of a failed task."""
    return name.partition(" ")[2]
