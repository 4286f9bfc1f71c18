"""Star, galaxy or quasar: a logit for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from galbatch.arrays import namespace
from galbatch.models.flags import Quality
from galbatch.models.heads.base import DecodeSettings, Head, HeadSettings
from galbatch.quality.calibration import (
    LogitScale,
    SoftmaxScale,
    fit_logit_scale,
    fit_softmax_scale,
)
from galbatch.spec.survey import Survey
from galbatch.targets import RECORDS
from galbatch.values import CLASSES, QSO, PredictedColumn, Target

_PROBABLE = 0.5

_TWO = (
    PredictedColumn(
        "prob_star", "float32", "", RECORDS["star"].ucd, RECORDS["star"].description
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


@dataclass(frozen=True)
class ClassesHead(Head):
    """The class of an object.

    Parameters
    ----------
    target : Target
    start : int
    quasars : bool
        True: a logit for each of `values.CLASSES`; False: one, of star against galaxy.
    """

    kind = "classes"

    quasars: bool = True

    @classmethod
    def learn(
        cls, target: Target, start: int, labels: NDArray[np.float32], settings: HeadSettings
    ) -> Self:
        """With quasars where some rows are; see `Head.learn`."""
        return cls(target, start, bool((labels == QSO).any()))

    @property
    def size(self) -> int:
        """One output, or one for each class."""
        return len(CLASSES) if self.quasars else 1

    def columns(self, settings: DecodeSettings) -> tuple[PredictedColumn, ...]:
        """``prob_star`` alone, or one for each class; these sum to 1."""
        return _THREE if self.quasars else _TWO

    @property
    def scattered(self) -> tuple[PredictedColumn, ...]:
        """The probabilities."""
        columns = _THREE if self.quasars else _TWO
        return tuple(replace(column, description=column.name) for column in columns)

    def loss(self, labels: Any, outputs: Any) -> Any:
        """Cross entropy; see `Head.loss`."""
        from keras import ops

        if not self.quasars:
            logit = outputs[..., 0]
            return ops.softplus(logit) - labels * logit
        right = ops.equal(labels[..., None], ops.arange(outputs.shape[-1], dtype="float32"))
        of_right = ops.sum(ops.where(right, outputs, ops.zeros_like(outputs)), -1)
        return ops.logsumexp(outputs, -1) - of_right

    @classmethod
    def decode(
        cls,
        heads: Sequence[Self],
        outputs: Any,
        calibration: Mapping[str, Any],
        magnitude: Any,
        settings: DecodeSettings,
    ) -> dict[str, Any]:
        """Calibrated probabilities; see `Head.decode`."""
        found: dict[str, Any] = {}
        for head in heads:
            found |= head.probabilities(outputs, calibration[head.target])
        return found

    def probabilities(self, outputs: Any, calibration: Mapping[str, Any]) -> dict[str, Any]:
        """Calibrated probabilities of the classes, from the mean logits of the ensemble.

        Parameters
        ----------
        outputs : array, shape (n, members, outputs), float32
            Of the network.
        calibration : mapping
            The card's for the target: a `LogitScale`, or a `SoftmaxScale` where quasars are a
            class.

        Returns
        -------
        dict of str to array, shape (n,), float32
            By the names of `columns`.
        """
        mine = self.of(outputs)
        # One class after the other: a row's sum must not depend on how many rows there are.
        logits = [mine[..., place].mean(axis=1) for place in range(self.size)]
        if not self.quasars:
            return {"prob_star": LogitScale.from_json(calibration).apply(logits[0])}
        stacked = namespace(outputs).stack(logits, axis=1)
        found = SoftmaxScale.from_json(calibration).apply(stacked)
        return {f"prob_{name}": found[:, place] for place, name in enumerate(CLASSES)}

    def members(self, outputs: Any, calibration: Mapping[str, Any]) -> dict[str, Any]:
        """Each network's probabilities; see `Head.members`."""
        one_by_one = [
            self.probabilities(outputs[:, member : member + 1], calibration[self.target])
            for member in range(outputs.shape[1])
        ]
        stack = namespace(outputs).stack
        return {name: stack([one[name] for one in one_by_one], axis=1) for name in one_by_one[0]}

    def calibrate(
        self,
        outputs: NDArray[np.float32],
        labels: NDArray[np.float32],
        magnitude: NDArray[np.float32],
    ) -> dict[str, Any]:
        """A line through the logits; see `Head.calibrate`."""
        logits = self.of(outputs).mean(axis=1)
        if self.quasars:
            return fit_softmax_scale(logits, labels).to_json()
        return fit_logit_scale(logits[:, 0], labels).to_json()

    def flags(self, values: Mapping[str, Any]) -> dict[Quality, Any]:
        """What an object probably is."""
        found = {Quality.PROBABLY_STAR: values["prob_star"] > _PROBABLE}
        if self.quasars:
            found[Quality.PROBABLY_QSO] = values["prob_qso"] > _PROBABLE
        return found

    def expected(self, bins: int | None, survey: Survey) -> Self:
        """Without quasars where the survey's labels do not tell them; see `Head.expected`."""
        label = survey.labels.star
        return self if label is not None and label.qso else replace(self, quasars=False)

    def unlike(self, old: Head, survey: str) -> str:
        """Other classes; see `Head.unlike`."""
        if self.size == old.size:
            return ""
        then, now = (", ".join(CLASSES[: max(head.size, 2)]) for head in (old, self))
        return f"{then} in {survey}; {now} here"
