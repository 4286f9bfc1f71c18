"""Training of the thesis' networks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.flux.bands import BandReader, present
from galbatch.flux.clean import thesis_clean
from galbatch.flux.columns import photometry_inputs
from galbatch.models.base import Card, survey_record
from galbatch.models.device import prepare_tensorflow
from galbatch.models.runtime import OnnxNetwork
from galbatch.models.thesis import COLUMNS, VERSION, Transform, thesis_inputs, thesis_matrix
from galbatch.sample.choice import choose_targets
from galbatch.sample.rows import Labelled, labelled_rows, needs_both
from galbatch.spec.job import StandardClean, ThesisModel
from galbatch.spec.survey import Survey
from galbatch.targets import RECORDS
from galbatch.training.base import (
    WORK,
    Fitted,
    OnEpoch,
    Schedule,
    Trainer,
    TrainingData,
    save_curves,
)
from galbatch.training.data import TrainingRows, fixed
from galbatch.training.group import FitGroup
from galbatch.training.libraries import libraries
from galbatch.training.scores import scores
from galbatch.values import Target

# Section 3.3.5: 95 % of the sample trains, 5 % is looked at while it does.
_WATCHED = 0.05
_PARITY_ROWS = 512
_STEP = 8192


class ThesisTrainer(Trainer[ThesisModel]):
    """Training of the thesis' networks."""

    def train(
        self, settings: ThesisModel, data: TrainingData, folder: Path, progress: OnEpoch
    ) -> Card:
        """Train the networks one after the other and save them; see `Trainer.train`."""
        sample = _labelled_sample(settings, data)
        prepare_tensorflow()
        trained = _trained(sample, folder, progress)
        save_curves(folder, {target: one.fitted.history for target, one in trained.items()})
        card = _card(sample, trained)
        card.save(folder)
        return card


@dataclass(frozen=True)
class _Sample:
    """The labelled rows, and what the networks are to say of them.

    Parameters
    ----------
    settings : ThesisModel
    survey : Survey
        Without what the rows do not have.
    names : tuple of str
        Columns that the networks read.
    rows : Labelled
        n rows.
    matrix : ndarray, shape (n, i), float32
        Cleaned inputs.
    targets : tuple of Target
    skipped : mapping
        Why others are left out.
    group : FitGroup or None
        The other processes that do this fit.
    """

    settings: ThesisModel
    survey: Survey
    names: tuple[str, ...]
    rows: Labelled
    matrix: NDArray[np.float32]
    targets: tuple[Target, ...]
    skipped: Mapping[str, str]
    group: FitGroup | None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns of the catalogue that a prediction reads."""
        photometry = photometry_inputs(self.survey, self.survey.band_names)
        return tuple(dict.fromkeys((*self.names, *photometry)))

    @property
    def data(self) -> str:
        """Fingerprint of the rows."""
        return self.rows.fingerprint(self.inputs)


@dataclass(frozen=True)
class _Trained:
    """A target's network.

    Parameters
    ----------
    fitted : Fitted
    transform : Transform or None
        None for classes.
    predicted : ndarray, shape (v,)
        Of the validation rows.
    """

    fitted: Fitted
    transform: Transform | None
    predicted: NDArray[np.float64]


def _labelled_sample(settings: ThesisModel, data: TrainingData) -> _Sample:
    """The rows to learn from, and the targets that they can teach."""
    where = f"models.{settings.name}"
    survey = present(data.survey, data.table)
    names = tuple(name for name in thesis_inputs(survey) if name in data.table.column_names)
    # Its networks know two classes.
    rows = labelled_rows(survey, data.table, data.roles, settings.targets).without_quasars()
    reader = BandReader(survey, survey.band_names, StandardClean(), ())
    rows = rows.selected(reader.block(rows.table).observed.any(axis=1))
    needs_both(rows, where)
    if settings.sample < 1:
        rows = rows.thinned(max(int(settings.sample * rows.training.sum()), 1), settings.seed)
    known = {target: values[rows.training] for target, values in rows.known.items()}
    targets, skipped = choose_targets(settings.targets, survey, known, where)
    matrix = thesis_clean(thesis_matrix(survey, names, rows.table), settings.clean)
    return _Sample(settings, survey, names, rows, matrix, targets, skipped, data.group)


def _trained(sample: _Sample, folder: Path, progress: OnEpoch) -> dict[Target, _Trained]:
    """All networks, one after the other."""
    from galbatch.models.thesis_networks import network_of

    networks = {target: network_of(target, sample.settings.layout) for target in sample.targets}
    epochs = {target: sample.settings.epochs or one.epochs for target, one in networks.items()}
    total, done, data = sum(epochs.values()), 0, sample.data
    found: dict[Target, _Trained] = {}
    for target, mine in epochs.items():

        def report(epoch: int, text: str, target: Target = target, before: int = done) -> None:
            progress(before + epoch, total, f"{target}: {text}")

        found[target] = _train_one(sample, target, mine, data, folder, report)
        done += mine
    return found


def _card(sample: _Sample, trained: Mapping[Target, _Trained]) -> Card:
    rows = sample.rows
    predicted = {COLUMNS[target].name: one.predicted for target, one in trained.items()}
    truth = {target: rows.known[target][~rows.training] for target in sample.targets}
    transforms = {target: one.transform for target, one in trained.items() if one.transform}
    return Card(
        name=sample.settings.name,
        kind=sample.settings.kind,
        version=VERSION,
        survey=sample.survey.name,
        bands=sample.survey.band_names,
        inputs=sample.inputs,
        targets=sample.targets,
        skipped=sample.skipped,
        data=sample.data,
        rows=rows.counts(sample.targets),
        recipe={
            "inputs": list(sample.names),
            "width": sample.matrix.shape[1],
            "transforms": {target: one.to_json() for target, one in transforms.items()},
        },
        calibration={},
        metrics=scores(predicted, truth),
        spec=sample.settings.training_settings(),
        reading=survey_record(sample.survey),
        libraries=libraries(),
    ).sealed([weights for one in trained.values() for weights in one.fitted.weights])


def _train_one(
    sample: _Sample,
    target: Target,
    epochs: int,
    data: str,
    folder: Path,
    report: Callable[[int, str], None],
) -> _Trained:
    """Fit a target's network, write it to the folder, and see what it says."""
    from galbatch.models.thesis_networks import build, network_of
    from galbatch.training.export import export
    from galbatch.training.loop import fit

    settings, matrix = sample.settings, sample.matrix
    network = network_of(target, settings.layout)
    label = sample.rows.known[target]
    use = sample.rows.training & np.isfinite(label)
    values, features = label[use], matrix[use]
    transform, answers = _wanted(target, values, network.power)
    order = np.random.default_rng(settings.seed).permutation(len(values))
    watched = order[: max(int(_WATCHED * len(values)), 1)]
    taught = order[len(watched) :]

    def compiled(steps: int) -> Any:
        model = build(target, settings.layout, matrix.shape[1])
        loss = "mse" if transform else "categorical_crossentropy"
        model.compile(network.optimizer, loss, jit_compile=False)
        return model

    facts = [VERSION, target, data, settings.training_settings()]
    fitted = fit(
        compiled,
        TrainingRows(fixed(features[taught]), answers[taught]),
        (features[watched], answers[watched]),
        Schedule(network.batch, epochs, None, settings.seed),
        folder / WORK / target,
        hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
        f"models.{settings.name}",
        report,
        sample.group,
    )
    model = build(target, settings.layout, matrix.shape[1])
    model.set_weights(fitted.weights)
    export(model, folder, target, features[:_PARITY_ROWS])
    saved = OnnxNetwork(folder / f"{target}.onnx")
    judged = _outputs(saved, matrix[~sample.rows.training])
    if transform is None:
        return _Trained(fitted, None, judged[:, 1].astype(np.float64))
    if settings.polynomial:
        given = transform.back(_outputs(saved, features[taught])[:, 0])
        transform = _with_polynomial(transform, given, values[taught], settings.polynomial)
    return _Trained(fitted, transform, transform.corrected(transform.back(judged[:, 0])))


def _wanted(
    target: Target, values: NDArray[np.float64], power: float
) -> tuple[Transform | None, NDArray[np.float32]]:
    """What the network is to say: two classes, or values between 0 and 1."""
    if RECORDS[target].is_class:
        return None, np.stack([1 - values, values], axis=1).astype(np.float32)
    transform = Transform(float(values.min()), float(values.max()), power)
    return transform, transform.forward(values)[:, None].astype(np.float32)


def _outputs(network: OnnxNetwork, features: NDArray[np.float32]) -> NDArray[np.float32]:
    parts = [network(features[i : i + _STEP]) for i in range(0, max(len(features), 1), _STEP)]
    return np.concatenate(parts)


def _with_polynomial(
    transform: Transform, given: NDArray[np.float64], expected: NDArray[np.float64], degree: int
) -> Transform:
    """Least squares from predicted to expected values."""
    ends = (transform.low, transform.high)
    inside = np.clip(given, *ends)
    # A network that says the same number everywhere leaves nothing to fit.
    degree = min(degree, len(np.unique(inside)) - 1)
    if degree < 1:
        return transform
    series = np.polynomial.Polynomial.fit(inside, expected, degree, domain=ends)
    return replace(transform, polynomial=tuple(float(value) for value in series.coef))
