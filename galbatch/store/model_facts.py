"""Facts in receipts of models, for later stages: one frozen class for each kind.

`to_json` and `from_json` are inverses; the order of the keys is part of a receipt's bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from galbatch.store.facts import Counts


@dataclass(frozen=True)
class TrainFacts:
    """A trained version of a model.

    Parameters
    ----------
    rows : int
        That it was trained on.
    fingerprint : str
        Of its card.
    catalogue : str
        Digest of the catalogue that they are from.
    """

    rows: int
    fingerprint: str
    catalogue: str

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> TrainFacts:
        """The inverse of `to_json`."""
        return cls(**record)


@dataclass(frozen=True)
class PredictFacts:
    """Counts of a partition's predictions, so that the report need not read them again.

    Parameters
    ----------
    predicted : int
        Rows with photometry.
    quality : mapping of str to int
        Rows with each flag, and those with none (``ok``).
    redshifts, ood : Counts or None
        Of the values; None where the model has no such column.
    device : str
        The kind that computed: ``cpu``, or e.g. ``cuda: NVIDIA H100 80GB HBM3``.
    missing : mapping of str to int, or None
        Rows without a value, by predicted array; None where there are no arrays.
    """

    predicted: int
    quality: Mapping[str, int]
    redshifts: Counts | None
    ood: Counts | None
    device: str = "cpu"
    missing: Mapping[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return {
            "predicted": self.predicted,
            "quality": dict(self.quality),
            "redshifts": self.redshifts and self.redshifts.to_json(),
            "ood": self.ood and self.ood.to_json(),
            "device": self.device,
            **({} if self.missing is None else {"missing": dict(self.missing)}),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> PredictFacts:
        """The inverse of `to_json`."""
        return cls(
            predicted=record["predicted"],
            quality=dict(record["quality"]),
            redshifts=record["redshifts"] and Counts.from_json(record["redshifts"]),
            ood=record["ood"] and Counts.from_json(record["ood"]),
            device=cls.device_in(record),
            missing=record.get("missing"),
        )

    @staticmethod
    def device_in(record: Mapping[str, Any]) -> str:
        """The kind of device alone; receipts did not say it while all were of a CPU."""
        return str(record.get("device", "cpu"))


@dataclass(frozen=True)
class PublishedFacts:
    """The published predictions of a version of a model.

    Parameters
    ----------
    fingerprint : str
        Of the model.
    partitions : int
        How many are predicted.
    arrays : mapping or None
        What their arrays are (`arrays.GroupSpec.to_json`), where there are any.
    """

    fingerprint: str
    partitions: int
    arrays: Mapping[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> PublishedFacts:
        """The inverse of `to_json`; before there were arrays, receipts did not say so."""
        return cls(**{"arrays": None, **record})


@dataclass(frozen=True)
class AppendFacts:
    """The predictions that a database has.

    Parameters
    ----------
    where : str
        The database, as messages name it.
    kind : str
        Of the database.
    table : str
    model : str
        The version whose predictions they are.
    rows : int
        In the table, of this model.
    """

    where: str
    kind: str
    table: str
    model: str
    rows: int

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> AppendFacts:
        """The inverse of `to_json`."""
        return cls(**record)
