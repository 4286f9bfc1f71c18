"""Star, galaxy or quasar: what the class head of the network says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from galbatch.arrays import namespace
from galbatch.models.heads import Head
from galbatch.quality.calibration import LogitScale, SoftmaxScale
from galbatch.values import CLASSES, PredictedColumn

_TWO = (
    PredictedColumn(
        "prob_star", "float32", "", "stat.probability;src.class.starGalaxy",
        "Probability of a star rather than a galaxy",
    ),
)  # fmt: skip
_THREE = (
    PredictedColumn(
        "prob_star", "float32", "", "stat.probability;src.class.starGalaxy",
        "Probability of a star rather than a galaxy or a quasar",
    ),
    PredictedColumn(
        "prob_qso", "float32", "", "stat.probability;src.class",
        "Probability of a quasar rather than a star or a galaxy",
    ),
    PredictedColumn(
        "prob_galaxy", "float32", "", "stat.probability;src.class.starGalaxy",
        "Probability of a galaxy rather than a star or a quasar",
    ),
)  # fmt: skip


def class_columns(head: Head) -> tuple[PredictedColumn, ...]:
    """Columns that a class head predicts.

    Parameters
    ----------
    head : Head
        Of the target `star`.

    Returns
    -------
    tuple of PredictedColumn
        ``prob_star`` alone, or one for each class; these sum to 1.
    """
    return _THREE if head.classes else _TWO


def class_probabilities(head: Head, outputs: Any, calibration: Mapping[str, Any]) -> dict[str, Any]:
    """Calibrated probabilities of the classes, from the mean logits of the ensemble.

    Parameters
    ----------
    head : Head
        Of the target `star`.
    outputs : array, shape (n, members, outputs), float32
        Of the network.
    calibration : mapping
        The card's for the target: a `LogitScale`, or a `SoftmaxScale` where quasars are a class.

    Returns
    -------
    dict of str to array, shape (n,), float32
        By the names of `class_columns`.
    """
    mine = head.of(outputs)
    # One class after the other: a row's sum must not depend on how many rows there are.
    logits = [mine[..., place].mean(axis=1) for place in range(head.size)]
    if not head.classes:
        return {"prob_star": LogitScale.from_json(calibration).apply(logits[0])}
    stacked = namespace(outputs).stack(logits, axis=1)
    found = SoftmaxScale.from_json(calibration).apply(stacked)
    return {f"prob_{name}": found[:, place] for place, name in enumerate(CLASSES)}
