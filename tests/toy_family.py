"""A family of models of its own: an array in, an array and a number out; no labels, no network."""

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from galbatch.columns import to_numpy
from galbatch.models.base import Card, Family, survey_record, tabulate
from galbatch.sample.rows import columns_digest
from galbatch.sample.split import TRAIN
from galbatch.spec.model_settings import ModelSettings
from galbatch.spec.survey import Survey
from galbatch.training.base import OnEpoch, Trainer, TrainingData
from galbatch.values import PredictedColumn


class ToySettings(ModelSettings):
    kind: Literal["toy"]
    name: str = "toy"
    column: str = "spectrum"


class Toy:
    def __init__(self, card: Card, folder: Path) -> None:
        self.card, self._mean = card, np.load(folder / "mean.npy")
        self.columns = (
            PredictedColumn("residual", "float32", "", "stat.fit.residual", "Minus the mean one",
                            self._mean.shape, ("pixel",)),
            PredictedColumn("chi2", "float32", "", "stat.fit.chi2", "Sum of the squares of it"),
        )  # fmt: skip

    def predict(self, table: pa.Table) -> pa.Table:
        away = to_numpy(table[self.card.inputs[0]]) - self._mean
        return tabulate(self.columns, {"residual": away, "chi2": (away**2).sum(axis=1)})


class ToyFamily(Family[ToySettings]):
    version, needs_labels = 1, False

    def inputs(self, settings: ToySettings, survey: Survey) -> tuple[str, ...]:
        return (settings.column,)

    def load(self, card: Card, folder: Path, settings: ToySettings) -> Toy:
        return Toy(card, folder)


class ToyTrainer(Trainer[ToySettings]):
    def train(self, settings: ToySettings, data: TrainingData, folder: Path, _: OnEpoch) -> Card:
        rows = to_numpy(data.table[settings.column])
        mean = rows[np.asarray(data.roles) == TRAIN].mean(axis=0)
        np.save(folder / "mean.npy", mean)
        digest = columns_digest(data.table, (settings.column,)).hexdigest()
        card = Card(
            settings.name, settings.kind, 1, data.survey.name, (), (settings.column,), (), {},
            digest, {}, {}, {}, {}, settings.training_settings(), survey_record(data.survey),
        ).sealed([mean])  # fmt: skip
        card.save(folder)
        return card
