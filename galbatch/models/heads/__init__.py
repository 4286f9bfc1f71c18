"""What the numbers that leave the network stand for: one class for each kind of answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from galbatch.models.heads.base import DecodeSettings, Head, HeadSettings
from galbatch.models.heads.cells import CellsHead
from galbatch.models.heads.classes import ClassesHead
from galbatch.models.heads.point import PointHead
from galbatch.targets import RECORDS
from galbatch.values import Target

__all__ = [
    "CellsHead", "ClassesHead", "DecodeSettings", "Head", "HeadSettings", "PointHead",
    "decode", "head_from_json", "head_of", "scattered_names",
]  # fmt: skip

_HEADS: Mapping[str, type[Head]] = {head.kind: head for head in (ClassesHead, CellsHead, PointHead)}


def head_of(target: Target) -> type[Head]:
    """The class that predicts a target."""
    return _HEADS[RECORDS[target].head]


def head_from_json(record: Mapping[str, Any]) -> Head:
    """The inverse of `Head.to_json`."""
    fields = dict(record)
    return _HEADS[fields.pop("kind")](**fields)


def decode(
    outputs: Any,
    heads: Sequence[Head],
    calibration: Mapping[str, Any],
    magnitude: Any,
    settings: DecodeSettings,
) -> dict[str, Any]:
    """Predicted columns from the network's outputs.

    Parameters
    ----------
    outputs : array, shape (n, members, outputs), float32
    heads : sequence of Head
    calibration : mapping
        Of the card, by target.
    magnitude : array, shape (n,), float32
        Of the reference band, AB; NaN where unknown.
    settings : DecodeSettings

    Returns
    -------
    dict of str to array, shape (n, ...), float32
        By the names of the heads' columns, and what their flags need beside them.
    """
    values: dict[str, Any] = {}
    for kind in dict.fromkeys(type(head) for head in heads):
        mine = [head for head in heads if type(head) is kind]
        values |= kind.decode(mine, outputs, calibration, magnitude, settings)
    return values


def scattered_names() -> frozenset[str]:
    """Names of all values that any head can tell the scatter of."""
    heads = [_HEADS[record.head](target, 0) for target, record in RECORDS.items()]
    return frozenset(column.name for head in heads for column in head.scattered)
