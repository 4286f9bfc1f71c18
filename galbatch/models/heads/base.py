"""What every head has in common: a target's share of the network's outputs, and all about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from galbatch.models.flags import Quality
from galbatch.spec.survey import Band, Survey
from galbatch.targets import RECORDS, TargetRecord
from galbatch.values import PredictedColumn, Target


@dataclass(frozen=True)
class DecodeSettings:
    """What decoding depends on beside the network's outputs.

    Parameters
    ----------
    odds_width : float
        The survey's half width of the interval that `odds` counts, in units of 1 + z.
    redshifts : tuple of float
        Where p(z) is wanted in full, ascending; empty where it is not.
    """

    odds_width: float
    redshifts: tuple[float, ...] = ()


@dataclass(frozen=True)
class HeadSettings:
    """What the form of a head depends on beside its labels.

    Parameters
    ----------
    bins : int, optional
        Cells that the job asks for.
    bands : sequence of Band
        That the network reads.
    old : mapping of Target to Head
        Heads of the network that it begins with.
    """

    bins: int | None = None
    bands: Sequence[Band] = ()
    old: Mapping[Target, Head] = field(default_factory=dict)


@dataclass(frozen=True)
class Head(ABC):
    """A target's share of the network's outputs, and what they stand for.

    Parameters
    ----------
    target : Target
    start : int
        Its first output.
    """

    kind: ClassVar[str]
    """Its name in a model's card."""

    target: Target
    start: int

    @classmethod
    @abstractmethod
    def learn(
        cls, target: Target, start: int, labels: NDArray[np.float32], settings: HeadSettings
    ) -> Self:
        """A head that suits its labels.

        Parameters
        ----------
        target : Target
        start : int
        labels : ndarray, shape (n,)
            Of the training rows, as they are learnt; NaN where unknown.
        settings : HeadSettings

        Returns
        -------
        Head
        """

    @property
    @abstractmethod
    def size(self) -> int:
        """How many outputs it has."""

    @abstractmethod
    def columns(self, settings: DecodeSettings) -> tuple[PredictedColumn, ...]:
        """What it predicts."""

    @property
    @abstractmethod
    def scattered(self) -> tuple[PredictedColumn, ...]:
        """The values of which `members` gives each network's; described as in "scatter of ..."."""

    @abstractmethod
    def loss(self, labels: Any, outputs: Any) -> Any:
        """Negative log likelihood, with Keras.

        Parameters
        ----------
        labels : tensor, shape (n, 1), float32
            As they are learnt; none is NaN.
        outputs : tensor, shape (n, members, size), float32

        Returns
        -------
        tensor, shape (n, members)
        """

    @classmethod
    @abstractmethod
    def decode(
        cls,
        heads: Sequence[Self],
        outputs: Any,
        calibration: Mapping[str, Any],
        magnitude: Any,
        settings: DecodeSettings,
    ) -> dict[str, Any]:
        """Predicted columns of several heads of this class.

        Parameters
        ----------
        heads : sequence of Head
        outputs : array, shape (n, members, outputs), float32
            Of the network.
        calibration : mapping
            Of the card, by target.
        magnitude : array, shape (n,), float32
            Of the reference band, AB; NaN where unknown.
        settings : DecodeSettings

        Returns
        -------
        dict of str to array, shape (n, ...), float32
            By the names of `columns`, and what `flags` needs beside them.
        """

    @abstractmethod
    def members(self, outputs: Any, calibration: Mapping[str, Any]) -> dict[str, Any]:
        """What each network says.

        Parameters
        ----------
        outputs : array, shape (n, members, outputs), float32
        calibration : mapping
            Of the card, by target.

        Returns
        -------
        dict of str to array, shape (n, members)
            By the names of `scattered`, as it is learnt.
        """

    @abstractmethod
    def calibrate(
        self,
        outputs: NDArray[np.float32],
        labels: NDArray[np.float32],
        magnitude: NDArray[np.float32],
    ) -> dict[str, Any]:
        """Corrections fitted on validation rows, as JSON values.

        Parameters
        ----------
        outputs : ndarray, shape (n, members, outputs)
        labels : ndarray, shape (n,)
            As they are learnt; none is NaN.
        magnitude : ndarray, shape (n,)
            AB, of the reference band; NaN where unknown.
        """

    @abstractmethod
    def unlike(self, old: Head, survey: str) -> str:
        """Why it cannot take up the weights of an old head of its target; empty where it can.

        Parameters
        ----------
        old : Head
        survey : str
            Name of the one that the old head was trained on.
        """

    @property
    def record(self) -> TargetRecord:
        """What is known of its target."""
        return RECORDS[self.target]

    def of(self, outputs: Any) -> Any:
        """Its share of the outputs.

        Parameters
        ----------
        outputs : array, shape (n, members, outputs)

        Returns
        -------
        array, shape (n, members, size)
        """
        return outputs[..., self.start : self.start + self.size]

    def first_bias(self) -> NDArray[np.float32]:
        """Biases of its outputs before the fit, shape (size,)."""
        return np.zeros(self.size, np.float32)

    def step(self, learnt: Any) -> Any:
        """How much a small step of what is learnt is in the target's unit, at values of it."""
        return 1

    def flags(self, values: Mapping[str, Any]) -> dict[Quality, Any]:
        """Bits of the `quality` column, arrays of shape (n,), from decoded columns."""
        return {}

    def expected(self, bins: int | None, survey: Survey) -> Self:
        """The head that a fit on another survey would have, as far as its labels are not needed."""
        return self

    def carried(self, old: Head) -> Self:
        """Itself, in the units of an old head whose weights it takes up."""
        return self

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return {"kind": self.kind, **asdict(self)}
