"""Training of the thesis' networks."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from galbatch.flux.bands import BandReader, present
from galbatch.flux.clean import thesis_clean
from galbatch.flux.columns import photometry_inputs
from galbatch.models.base import HISTORY, Card, survey_record
from galbatch.models.device import prepare_tensorflow
from galbatch.models.runtime import OnnxNetwork
from galbatch.models.thesis import COLUMNS, VERSION, Transform, thesis_inputs, thesis_matrix
from galbatch.sample.choice import choose_targets
from galbatch.sample.rows import Labelled, labelled_rows, needs_both
from galbatch.spec.job import StandardClean, ThesisModel
from galbatch.spec.survey import Survey
from galbatch.training.data import Sample, fixed
from galbatch.training.libraries import libraries
from galbatch.training.scores import scores
from galbatch.values import Target

# Section 3.3.5: 95 % of the sample trains, 5 % is looked at while it does.
_LOOKED_AT = 0.05
_PARITY_ROWS = 512
_STEP = 8192


def train_thesis(
    spec: ThesisModel,
    survey: Survey,
    table: pa.Table,
    roles: ArrayLike,
    folder: Path,
    progress: Callable[[int, int, str], None],
) -> Card:
    """Train the networks of the thesis; see `galbatch.training.fit.train`."""
    where = f"models.{spec.name}"
    survey = present(survey, table)
    names = tuple(name for name in thesis_inputs(survey) if name in table.column_names)
    # Its networks know two classes.
    rows = labelled_rows(survey, table, roles, spec.targets).without_quasars()
    reads = BandReader(survey, survey.band_names, StandardClean(), ())
    rows = rows.some(reads.block(rows.table).observed.any(axis=1))
    needs_both(rows, where)
    if spec.sample < 1:
        rows = rows.thinned(max(int(spec.sample * rows.training.sum()), 1), spec.seed)
    known = {target: values[rows.training] for target, values in rows.known.items()}
    targets, skipped = choose_targets(spec.targets, survey, known, where)
    inputs = tuple(dict.fromkeys((*names, *photometry_inputs(survey, survey.band_names))))
    data = rows.fingerprint(inputs)
    matrix = thesis_clean(thesis_matrix(survey, names, rows.table), spec.clean)

    prepare_tensorflow()
    from galbatch.models import thesis_networks

    epochs = {t: spec.epochs or thesis_networks.recipe(t, spec.layout).epochs for t in targets}
    total, done = sum(epochs.values()), 0
    weights: list[NDArray[Any]] = []
    transforms: dict[str, Transform] = {}
    history: dict[str, dict[str, list[float]]] = {}
    predicted: dict[str, NDArray[np.float64]] = {}
    for target in targets:
        before = done

        def report(epoch: int, text: str, target: Target = target, before: int = before) -> None:
            progress(before + epoch, total, f"{target}: {text}")

        found, curves, transform, values = _train_one(
            spec, target, epochs[target], rows, matrix, folder, (where, data), report
        )
        weights += found
        history[target] = curves
        predicted[COLUMNS[target].name] = values
        if transform is not None:
            transforms[target] = transform
        done += epochs[target]
    truth = {t: values[~rows.training] for t, values in rows.known.items() if t in targets}
    (folder / HISTORY).write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
    card = Card(
        name=spec.name,
        kind=spec.kind,
        version=VERSION,
        survey=survey.name,
        bands=survey.band_names,
        inputs=inputs,
        targets=targets,
        skipped=skipped,
        data=data,
        rows=rows.counts(targets),
        recipe={
            "inputs": list(names),
            "width": matrix.shape[1],
            "transforms": {target: t.to_json() for target, t in transforms.items()},
        },
        calibration={},
        metrics=scores(predicted, truth),
        spec=spec.training_words(),
        reading=survey_record(survey),
        libraries=libraries(),
    ).sealed(weights)
    card.save(folder)
    shutil.rmtree(folder / "work", ignore_errors=True)
    return card


def _train_one(
    spec: ThesisModel,
    target: Target,
    epochs: int,
    rows: Labelled,
    matrix: NDArray[np.float32],
    folder: Path,
    identity: tuple[str, str],
    report: Callable[[int, str], None],
) -> tuple[list[NDArray[Any]], dict[str, list[float]], Transform | None, NDArray[np.float64]]:
    """Weights, loss curves, target transform, and predictions of the validation rows."""
    from galbatch.models.thesis_networks import build, recipe
    from galbatch.training.export import export
    from galbatch.training.loop import Schedule, fit

    where, data = identity
    words = recipe(target, spec.layout)
    label = rows.known[target]
    use = rows.training & np.isfinite(label)
    values, features = label[use], matrix[use]
    transform: Transform | None = None
    if target == "star":
        wanted = np.stack([1 - values, values], axis=1)
    else:
        power = 0.1 if target == "redshift" else 1.0
        transform = Transform(float(values.min()), float(values.max()), power)
        wanted = transform.forward(values)[:, None]
    answers = wanted.astype(np.float32)
    order = np.random.default_rng(spec.seed).permutation(len(values))
    looked = order[: max(int(_LOOKED_AT * len(values)), 1)]
    taught = order[len(looked) :]

    def compiled(steps: int) -> Any:
        model = build(target, spec.layout, matrix.shape[1])
        model.compile(
            words.optimizer,
            "categorical_crossentropy" if target == "star" else "mse",
            jit_compile=False,
        )
        return model

    key = hashlib.sha256(
        json.dumps([VERSION, target, data, spec.training_words()], sort_keys=True).encode()
    ).hexdigest()
    weights, history = fit(
        compiled,
        Sample(fixed(features[taught]), answers[taught]),
        (features[looked], answers[looked]),
        Schedule(words.batch, epochs, None, spec.seed),
        folder / "work" / target,
        key,
        where,
        report,
    )
    model = build(target, spec.layout, matrix.shape[1])
    model.set_weights(weights)
    export(model, folder, target, features[:_PARITY_ROWS])
    network = OnnxNetwork(folder / f"{target}.onnx")
    judged = _outputs(network, matrix[~rows.training])
    if transform is None:
        return weights, history, None, judged[:, 1].astype(np.float64)
    if spec.polynomial:
        given = transform.back(_outputs(network, features[taught])[:, 0])
        transform = _with_polynomial(transform, given, values[taught], spec.polynomial)
    return weights, history, transform, transform.corrected(transform.back(judged[:, 0]))


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
