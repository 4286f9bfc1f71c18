"""From labelled rows and a model's settings to a folder with a trained model."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from numpy.typing import ArrayLike

from galbatch.models.base import Card
from galbatch.models.families import FAMILIES, named
from galbatch.sample.census import Census, take_census
from galbatch.spec.model_settings import ModelSettings
from galbatch.spec.survey import Survey
from galbatch.training.base import WORK, CataloguePart, OnEpoch, Trainer, TrainingData
from galbatch.training.group import FitGroup


def trainer_of(kind: str) -> Trainer[Any]:
    """How models of a kind are trained.

    Parameters
    ----------
    kind : str
        A key of `galbatch.models.families.FAMILIES`.

    Returns
    -------
    Trainer
    """
    trainer: Trainer[Any] = named(FAMILIES[kind].trainer)()
    return trainer


def train(
    settings: ModelSettings,
    survey: Survey,
    table: pa.Table,
    roles: ArrayLike,
    folder: Path,
    progress: OnEpoch,
    *,
    census: Census | None = None,
    pretrained: Path | None = None,
    origin: Mapping[str, Any] | None = None,
    group: FitGroup | None = None,
    parts: Sequence[CataloguePart] = (),
) -> Card:
    """Train a model and save it.

    Parameters
    ----------
    settings : ModelSettings
    survey : Survey
    table : pa.Table
        n rows with the columns of the inputs and the labels.
    roles : array, shape (n,), int8
        Rows that are `TEST` are not looked at; `VALIDATION` ends the fit and calibrates it.
    folder : Path
        Where the model goes: ``card.json``, for each network ``.onnx`` and ``.weights.h5``, and
        ``history.json``. While it trains, ``work`` holds the state after each epoch; a fit that
        was killed is called again with the same arguments and goes on from there.
    progress : callable
        Told (epochs done, epochs at most, losses).
    census : Census, optional
        Of the catalogue that the rows are of; by default `table` is all of it.
    pretrained : Path, optional
        Folder of the model that `settings.begins_with` names.
    origin : mapping, optional
        Source and split of the rows, for the card: see `galbatch.sample.lineage.origin`.
    group : FitGroup, optional
        The other processes that do this fit, each with the same arguments but for the folder: only
        what the chief writes is kept.

    Returns
    -------
    Card

    Raises
    ------
    SpecError
        If there is too little to learn from, or a band or target that is not there is asked for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if census is None:
        census = take_census(survey, table, roles, settings.seed)
    data = TrainingData(survey, table, roles, census, pretrained, origin or {}, group, parts)
    card = trainer_of(settings.kind).train(settings, data, folder, progress)
    shutil.rmtree(folder / WORK, ignore_errors=True)
    return card
