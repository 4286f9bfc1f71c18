"""What every family of models has in common."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.columns import arrow_type, from_numpy
from galbatch.errors import SpecError
from galbatch.shown import Portrait, RowShown, Showing
from galbatch.spec.model_settings import ModelSettings
from galbatch.spec.survey import Survey
from galbatch.values import PredictedColumn, Target

CARD = "card.json"
HISTORY = "history.json"


@dataclass(frozen=True)
class Card:
    """What a saved model is, and all it needs beside its weights. JSON values only.

    Parameters
    ----------
    name, kind : str
        Name of the model in the job, and its family.
    version : int
        Of the family's code: a card of another version is refused.
    survey : str
        Name of the survey it was trained on.
    bands : tuple of str
        Bands that it reads.
    inputs : tuple of str
        Columns of the catalogue that it reads.
    targets : tuple of str
        What it predicts.
    skipped : mapping
        Targets it was not asked for by name and could not learn, and why; ``qso`` where quasars
        are too few to be a class.
    data : str
        Fingerprint (SHA-256) of the training and validation rows.
    rows : mapping
        For each target, how many labelled rows trained it and how many validated it.
    recipe : mapping
        Family's own: how rows become the network's inputs and outputs become predictions.
    calibration : mapping
        Corrections fitted on validation rows.
    metrics : mapping
        Scores on validation rows, after calibration.
    spec : mapping
        Those of the model's settings in the job that it was trained by.
    reading : mapping
        The survey, as it was when the model was trained.
    libraries : mapping
        Versions of what made it.
    training : mapping
        What the sample was and what was made of it: ``warnings``, ``lineage`` (what it was trained
        on, first to last: survey, source, split, rows), ``refused`` (labels that cannot be, by
        target), and family's own.
    fingerprint : str
        SHA-256 over the weights and the rest of the card.
    """

    name: str
    kind: str
    version: int
    survey: str
    bands: tuple[str, ...]
    inputs: tuple[str, ...]
    targets: tuple[Target, ...]
    skipped: Mapping[str, str]
    data: str
    rows: Mapping[str, Mapping[str, int]]
    recipe: Mapping[str, Any]
    calibration: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, float]]
    spec: Mapping[str, Any]
    reading: Mapping[str, Any]
    libraries: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        record: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Card:
        """The inverse of `to_json`."""
        tuples = {name: tuple(record[name]) for name in ("bands", "inputs", "targets")}
        return cls(**{**record, **tuples})

    def sealed(self, weights: Iterable[NDArray[Any]]) -> Card:
        """The card with its fingerprint.

        Parameters
        ----------
        weights : iterable of ndarray
            Of all networks, in a fixed order.

        Returns
        -------
        Card
        """
        digest = hashlib.sha256()
        for array in weights:
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        content = json.loads(json.dumps(replace(self, fingerprint="").to_json()))
        for sample in content["training"].get("lineage", ()):
            # The same rows make the same model, by whatever name their files go.
            sample.pop("source", None)
        digest.update(json.dumps(content, sort_keys=True).encode())
        return replace(self, fingerprint=digest.hexdigest())

    def save(self, folder: Path) -> None:
        """Write ``card.json``."""
        text = json.dumps(self.to_json(), indent=1, sort_keys=True)
        (folder / CARD).write_text(text + "\n", encoding="utf-8")


def survey_record(survey: Survey) -> dict[str, object]:
    """The survey as a model's card keeps it."""
    exclude: Any = {
        "mock": True, "references": True, "spectra": {"known_class", "known_subclass"}
    }  # fmt: skip
    return survey.model_dump(mode="json", exclude=exclude)


def read_card(folder: Path) -> Card:
    """The card in a model's folder.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    Card

    Raises
    ------
    SpecError
        If there is none, or it is not a card.
    """
    file = folder / CARD
    try:
        return Card.from_json(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise SpecError(str(file), f"no model here: {error.strerror}", "train it first") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SpecError(str(file), f"is not a model's card: {error}", "train it again") from error


S = TypeVar("S", bound=ModelSettings, contravariant=True)


class Family(Protocol[S]):
    """A kind of model: what it reads and predicts, by the settings that a job gives it.

    How it is trained is another object, `galbatch.training.base.Trainer`, so that who predicts
    loads nothing of it; `galbatch.models.families` knows both. A subclass need not repeat what is
    as it is here.
    """

    version: int
    """Of its code: a model of another version is refused."""
    needs_labels: bool = True
    """Whether rows must have labels to teach it; otherwise any row does."""
    streams: bool = False
    """Whether a fit reads the catalogue itself, a part at a time; otherwise it is given rows."""

    @property
    def optional_columns(self) -> frozenset[str]:
        """Names of predicted columns that a model may have by one setting, and lack by another.

        They come and go in a database's table; all others are there for good.
        """
        return frozenset()

    def check(self, settings: S, survey: Survey) -> None:
        """Raise a SpecError where the settings ask for what the survey does not have."""
        return

    def inputs(self, settings: S, survey: Survey) -> tuple[str, ...]:
        """Columns of the catalogue that it may read, to learn and to predict; of any shape."""
        ...

    def needed(self, settings: S, survey: Survey) -> dict[str, str]:
        """Columns that a survey may lack, and this model must have: the setting that needs each."""
        return {}

    def teaching(self, rows: int, labelled: Mapping[Target, int]) -> int:
        """How many rows of a catalogue teach it, of a family that `streams`.

        Parameters
        ----------
        rows : int
            Of the catalogue.
        labelled : mapping of Target to int
            With a label, by target.
        """
        return rows

    def training_bytes(self, settings: S, survey: Survey) -> int:
        """Memory that a row to train on takes, beside the row of the catalogue."""
        return 0

    def fit_bytes(self, settings: S, survey: Survey) -> int:
        """Memory that a fit takes whatever its rows: what it simulates, or streams through."""
        return 0

    def predicting_bytes(self, settings: S, survey: Survey) -> int:
        """Memory that a row takes on its way through the model, with what is predicted for it."""
        return 0

    def batch_bytes(self, settings: S, survey: Survey) -> int:
        """Memory that it predicts in, whatever the rows, where it takes some of them at a time."""
        return 0

    def load(self, card: Card, folder: Path, settings: S) -> Model:
        """A trained model.

        Parameters
        ----------
        card : Card
            Of this family and version.
        folder : Path
            That the card is in.
        settings : ModelSettings
            Those it was trained by, and what is asked of its predictions.

        Returns
        -------
        Model
            Without TensorFlow, unless this process has a GPU. What is large is read when it first
            predicts.
        """
        ...


class Model(Protocol):
    """A trained model."""

    @property
    def card(self) -> Card:
        """What it is."""
        ...

    @property
    def columns(self) -> tuple[PredictedColumn, ...]:
        """What it predicts."""
        ...

    def predict(self, table: pa.Table) -> pa.Table:
        """Predictions for a catalogue's rows.

        Parameters
        ----------
        table : pa.Table
            With at least the columns `card.inputs`.

        Returns
        -------
        pa.Table
            Same rows in the same order, with `columns`.
        """
        ...


@runtime_checkable
class ShowingModel(Model, Protocol):
    """A model with something to look at, on a page of its own; not every one is."""

    @property
    def showing(self) -> Showing:
        """Which rows are shown, and what is counted and judged."""
        ...

    def shown(self, table: pa.Table) -> tuple[RowShown, ...]:
        """What it makes of a few rows, each of them.

        Parameters
        ----------
        table : pa.Table
            With at least the columns `card.inputs`.
        """
        ...

    def portrait(self) -> Portrait:
        """What it knows of itself."""
        ...


@runtime_checkable
class SubclassModel(ShowingModel, Protocol):
    """A model that tells subclasses: those of `Showing.judged` do."""

    def subclasses(self, kind: NDArray[np.str_], subclass: NDArray[np.str_]) -> NDArray[np.str_]:
        """Known classes and subclasses in the words that the model's are judged in.

        Parameters
        ----------
        kind, subclass : ndarray of str, shape (n,)
            As the catalogue has them.

        Returns
        -------
        ndarray of str, shape (n,)
            Empty where the model tells no such subclass.
        """
        ...

    def told_subclasses(self, predictions: pa.Table) -> NDArray[np.str_]:
        """The subclasses of its own predictions in the same words, shape (n,)."""
        ...


def tabulate(columns: Iterable[PredictedColumn], values: Mapping[str, NDArray[Any]]) -> pa.Table:
    """Predicted columns as a table.

    Parameters
    ----------
    columns : iterable of PredictedColumn
        Which, in this order.
    values : mapping of str to ndarray
        Shape (n,), or (n, ...) for a column of lists or arrays.

    Returns
    -------
    pa.Table
        With the declared types; NaN stays NaN.
    """
    kinds = {one.name: arrow_type(one.dtype, one.shape, one.dimensions) for one in columns}
    arrays = [from_numpy(np.asarray(values[name]), kind) for name, kind in kinds.items()]
    fields = [pa.field(name, array.type) for name, array in zip(kinds, arrays, strict=True)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))
