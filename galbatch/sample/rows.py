"""Labelled rows, and nothing of the rows that are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from galbatch.columns import is_tensor
from galbatch.errors import SpecError
from galbatch.sample.labels import labels
from galbatch.sample.split import TEST, TRAIN
from galbatch.spec.survey import Survey
from galbatch.values import QSO, Target


@dataclass(frozen=True)
class Labelled:
    """Rows that may be learnt from.

    Parameters
    ----------
    table : pa.Table
        n rows.
    known : mapping
        Labels, arrays of shape (n,), NaN where unknown.
    training : ndarray, shape (n,), bool
        True: train; False: validate.
    """

    table: pa.Table
    known: Mapping[Target, NDArray[np.float64]]
    training: NDArray[np.bool_]

    def selected(self, kept: NDArray[np.bool_]) -> Labelled:
        """Those of its rows for which `kept` is True."""
        return Labelled(
            self.table.filter(pa.array(kept)),
            {target: values[kept] for target, values in self.known.items()},
            self.training[kept],
        )

    def without_quasars(self) -> Labelled:
        """The same rows; of those that are quasars, the class is unknown."""
        if "star" not in self.known:
            return self
        star = self.known["star"]
        return replace(self, known={**self.known, "star": np.where(star == QSO, np.nan, star)})

    def thinned(self, at_most: int, seed: int) -> Labelled:
        """A random sample: at most so many training rows, and a quarter of that to validate."""
        kept = np.zeros(len(self.training), bool)
        generator = np.random.default_rng(seed)
        for rows, most in (
            (np.flatnonzero(self.training), at_most),
            (np.flatnonzero(~self.training), max(at_most // 4, 1)),
        ):
            kept[rows if rows.size <= most else generator.permutation(rows)[:most]] = True
        return self if kept.all() else self.selected(kept)

    def fingerprint(self, columns: Sequence[str]) -> str:
        """SHA-256 of what is learnt from: some columns, the labels and the roles."""
        digest = columns_digest(self.table, columns)
        for target, known in self.known.items():
            digest.update(target.encode() + np.ascontiguousarray(known).tobytes())
        digest.update(self.training.tobytes())
        return digest.hexdigest()

    def counts(self, targets: Sequence[Target]) -> dict[str, dict[str, int]]:
        """Labelled rows of each target that train and that validate."""
        return {
            target: {
                "training": int(np.isfinite(self.known[target][self.training]).sum()),
                "validation": int(np.isfinite(self.known[target][~self.training]).sum()),
            }
            for target in targets
        }


def labelled_rows(
    survey: Survey, table: pa.Table, roles: ArrayLike, asked: Sequence[Target] | None
) -> Labelled:
    """The rows with a label that are not held out.

    Parameters
    ----------
    survey : Survey
    table : pa.Table
        n rows.
    roles : array, shape (n,), int8
        `TRAIN`, `VALIDATION` or `TEST`.
    asked : sequence of Target, optional
        Only labels of these; of all by default.

    Returns
    -------
    Labelled
    """
    role = np.asarray(roles)
    # First of all: what follows cannot even see the rows that are held out.
    table = table.filter(pa.array(role != TEST)).combine_chunks()
    role = role[role != TEST]
    known = labels(survey, table)
    if asked is not None:
        known = {target: values for target, values in known.items() if target in asked}
    has_one = np.zeros(table.num_rows, bool)
    for values in known.values():
        has_one |= np.isfinite(values)
    return Labelled(table, known, role == TRAIN).selected(has_one)


def columns_digest(table: pa.Table, columns: Sequence[str]) -> hashlib._Hash:
    """SHA-256 of the names and values of some columns, to be continued or read."""
    digest = hashlib.sha256()
    for name in columns:
        digest.update(name.encode())
        column = table.column(name).combine_chunks()
        stored = column.storage if is_tensor(column.type) else column
        values = stored.flatten() if pa.types.is_nested(stored.type) else stored
        digest.update(np.ascontiguousarray(values.to_numpy(zero_copy_only=False)).tobytes())
    return digest


def needs_both(rows: Labelled, where: str) -> None:
    """Raise SpecError unless there are rows to train and rows to validate."""
    training = int(rows.training.sum())
    for what, found in (("training", training), ("validation", len(rows.training) - training)):
        if not found:
            raise SpecError(
                where,
                f"no labelled {what} rows with photometry",
                "change the shares or the order of 'split'" if len(rows.training) else "",
            )
