"""What the training of every family has in common."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from galbatch.models.base import HISTORY, Card
from galbatch.sample.census import Census
from galbatch.spec.model_settings import ModelSettings
from galbatch.spec.survey import Survey
from galbatch.training.group import FitGroup

WORK = "work"
"""Folder in a model's own, with the state of its fit while that lasts; then it is removed."""
OnEpoch = Callable[[int, int, str], None]
"""Is told (epochs done, epochs at most, losses)."""

CataloguePart = Callable[[], Iterable[tuple[pa.Table, NDArray[np.int8]]]]
"""Reads a part of the catalogue again: pieces of it with the role of each row, none of them `TEST`,
in the same order each time."""

S = TypeVar("S", bound=ModelSettings, contravariant=True)


@dataclass(frozen=True)
class TrainingData:
    """What a fit is given.

    Parameters
    ----------
    survey : Survey
    table : pa.Table
        n rows with the columns of the inputs and the labels.
    roles : array, shape (n,), int8
        Rows that are `TEST` must not be looked at; `VALIDATION` ends the fit and calibrates it.
    census : Census
        Of the catalogue that the rows are of.
    pretrained : Path, optional
        Folder of the model to begin with.
    origin : mapping
        Source and split of the rows, for the card: see `galbatch.sample.lineage.origin`.
    group : FitGroup, optional
        The other processes that do this fit, each with the same data. Only what the chief writes
        is kept.
    parts : sequence of callable
        All rows of the catalogue that are not held out, for a family that `streams`: its `table`
        has none.
    """

    survey: Survey
    table: pa.Table
    roles: ArrayLike
    census: Census
    pretrained: Path | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    group: FitGroup | None = None
    parts: Sequence[CataloguePart] = ()


@dataclass(frozen=True)
class Schedule:
    """How long and in which steps.

    Parameters
    ----------
    batch, epochs : int
    patience : int or None
        Epochs without a better validation loss; None for all epochs.
    seed : int
    """

    batch: int
    epochs: int
    patience: int | None
    seed: int


@dataclass(frozen=True)
class Fitted:
    """What comes of a fit.

    Parameters
    ----------
    weights : list of ndarray
        Of the best epoch, or of the last one without patience.
    history : dict of str to list of float
        Loss curves.
    steps : int
        In all its epochs, had it gone through them.
    """

    weights: list[NDArray[Any]]
    history: dict[str, list[float]]
    steps: int


def save_curves(folder: Path, curves: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Write the loss curves of a model's networks, by their names, into its folder."""
    (folder / HISTORY).write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")


class Trainer(Protocol[S]):
    """How models of a family are trained.

    A subclass of a family whose settings name no model to begin with has to define `train` alone.
    """

    def train(self, settings: S, data: TrainingData, folder: Path, progress: OnEpoch) -> Card:
        """Train a model and save it; see `galbatch.training.fit.train`."""
        ...

    def check_pretrained(self, settings: S, survey: Survey, folder: Path) -> None:
        """Raise a SpecError where a fit cannot begin with the model in a folder."""
        return

    def differences(
        self, settings: S, survey: Survey, folder: Path, origin: Mapping[str, Any]
    ) -> tuple[str, ...]:
        """What a fit has otherwise than the model it begins with, as far as is known before.

        Parameters
        ----------
        settings : ModelSettings
        survey : Survey
        folder : Path
            Of the model that `settings.begins_with` names.
        origin : mapping
            Source and split; see `galbatch.sample.lineage.origin`.

        Returns
        -------
        tuple of str
            A sentence each.

        Raises
        ------
        SpecError
            If a fit cannot begin with that model.
        """
        return ()
