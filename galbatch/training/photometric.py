"""Training of the default family."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from galbatch.errors import SpecError
from galbatch.flux.bands import BandReader, present
from galbatch.flux.features import FeatureRecipe, learn_features
from galbatch.models import binned
from galbatch.models.base import HISTORY, Card, survey_record
from galbatch.models.device import prepare_tensorflow
from galbatch.models.heads import Head, redshift_cells
from galbatch.models.mixture import Mixture, cdf, quantiles
from galbatch.models.novelty import learn_novelty
from galbatch.models.photometric import NETWORK, VERSION, decode
from galbatch.models.runtime import OnnxNetwork
from galbatch.quality.calibration import (
    FEWEST_ROWS,
    fit_logit_scale,
    fit_pit_scale,
    fit_softmax_scale,
)
from galbatch.quality.recalibration import Calibration, fit_straightening, fit_warp
from galbatch.sample.census import Census
from galbatch.sample.choice import choose_bands, choose_targets, lacking_quasars
from galbatch.sample.rows import Labelled, labelled_rows, needs_both
from galbatch.spec.job import PhotometricModel
from galbatch.spec.survey import Band, Survey
from galbatch.training.capacity import (
    fitting_batch,
    fitting_bins,
    fitting_decay,
    fitting_dropout,
    fitting_epochs,
    fitting_rate,
    fitting_size,
)
from galbatch.training.lessons import Measured, census_columns, lessons, matrix, measure
from galbatch.training.libraries import libraries
from galbatch.training.scores import scores
from galbatch.training.transfer import (
    SLOWER,
    carried_heads,
    carried_recipe,
    carried_weights,
    provenance,
    read_pretrained,
)
from galbatch.values import CLASSES, QSO, Target

# Weight of the other targets beside the redshift, which asks most of the trunk they share: at 1, a
# redshift's error is a tenth larger, at this it is 2 %.
_OTHERS = 0.2
# Squares of larger labels are no numbers in float32.
_LARGEST = 1e6
# Narrowest component, in units of the spread of the labels.
_FLOOR = 0.02
_COMPONENTS = 3
_WARM_UP = 0.05
_LAST_RATE = 0.002
_PARITY_ROWS = 512
_USUAL_ROWS = 20_000
_AT_ONCE = 8192


def train_photometric(
    spec: PhotometricModel,
    survey: Survey,
    table: pa.Table,
    roles: ArrayLike,
    folder: Path,
    progress: Callable[[int, int, str], None],
    census: Census,
    pretrained: Path | None = None,
    sample: Mapping[str, Any] | None = None,
) -> Card:
    """Train a model of the default family; see `galbatch.training.fit.train`."""
    where = f"models.{spec.name}"
    bands = choose_bands(spec.bands, survey, where)
    survey = present(survey, table)
    reads = BandReader.of(spec, survey, bands)
    before = read_pretrained(pretrained, spec, bands) if pretrained else None
    rows = labelled_rows(survey, table, roles, spec.targets)
    choose_targets(spec.targets, survey, _training_labels(rows), where)
    rows = rows.some(measure(reads, rows.table).block.observed.any(axis=1))
    rows = rows.thinned(spec.max_rows, spec.seed)
    needs_both(rows, where)
    held = {target: values[~rows.training] for target, values in rows.known.items()}
    targets, skipped = choose_targets(spec.targets, survey, _training_labels(rows), where, held)
    if "star" in targets and (why := lacking_quasars(survey, _training_labels(rows))):
        rows, skipped = rows.without_quasars(), {**skipped, "qso": why}
    measured, train = measure(reads, rows.table), rows.training
    recipe = _learnt_recipe(reads, measured.part(train))
    answers = _answers(rows.known, targets)
    cells = before.cells(spec.bins) if before else None
    heads = _heads(answers[train], targets, spec.bins, survey.named(bands), cells)
    if before is not None:
        recipe = carried_recipe(recipe, before.recipe)
        heads = carried_heads(heads, before.heads)
    lesson = lessons(spec, reads, rows, measured, answers, targets, recipe, census)
    data = rows.fingerprint(reads.inputs)
    if lesson.notes:
        around = census.fingerprint(census_columns(reads))
        data = hashlib.sha256(f"{data} {around}".encode()).hexdigest()
    # Enough to know by what a usual row looks like, in an order that is not the catalogue's.
    usual = matrix(recipe, measured.part(_some(np.flatnonzero(train), spec.seed)))

    prepare_tensorflow()
    import keras

    from galbatch.models.network import Architecture, HeadsLoss, build
    from galbatch.training.export import export
    from galbatch.training.loop import Schedule, fit

    taught = int(train.sum())
    had = before.card.recipe["network"] if before else None
    size = fitting_size(spec, len(recipe.kept), heads, taught, had)
    dropout = fitting_dropout(taught) if spec.dropout is None else spec.dropout
    shape = Architecture(**size.words)
    start = None
    if before is not None:
        keras.utils.set_random_seed(spec.seed)
        start = carried_weights(
            [np.asarray(array) for array in build(shape, heads).get_weights()],
            before.weights(),
            (recipe.columns, before.recipe.columns),
            (heads, before.heads),
        )
    batch = min(spec.batch or fitting_batch(taught), len(lesson.sample))
    fastest = fitting_rate(spec.learning_rate, batch) * (SLOWER if before else 1.0)

    asked = [1.0 if head.target == "redshift" else _OTHERS for head in heads]
    counts = [float(one / share) for one, share in zip(asked, lesson.shares, strict=True)]

    epochs = spec.epochs or fitting_epochs(len(lesson.sample))
    came_to = {"epochs": epochs, "batch": batch, "dropout": dropout, "learning_rate": fastest}

    def compiled(steps: int) -> Any:
        model = build(shape, heads, dropout, spec.seed)
        if start is not None:
            model.set_weights(start)
        warm = int(_WARM_UP * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            0.05 * fastest,
            max(steps - warm, 1),
            alpha=_LAST_RATE,
            warmup_target=fastest,
            warmup_steps=max(warm, 1),
        )
        came_to["weight_decay"] = decay = fitting_decay(spec.weight_decay, steps)
        optimizer = keras.optimizers.AdamW(rate, weight_decay=decay, beta_2=0.99)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        model.compile(optimizer, HeadsLoss(heads, counts), jit_compile=False)
        return model

    key = hashlib.sha256(
        json.dumps(
            [VERSION, data, spec.training_words(), before and before.card.fingerprint],
            sort_keys=True,
        ).encode()
    ).hexdigest()
    work = folder / "work"
    weights, history = fit(
        compiled,
        lesson.sample,
        (lesson.judged, lesson.judged_labels),
        Schedule(batch, epochs, spec.patience, spec.seed),
        work,
        key,
        where,
        lambda epoch, text: progress(epoch, epochs, text),
    )
    model = build(shape, heads)
    model.set_weights(weights)
    export(model, folder, NETWORK, usual[:_PARITY_ROWS])
    (folder / HISTORY).write_text(json.dumps({NETWORK: history}, indent=1) + "\n", encoding="utf-8")

    network = OnnxNetwork(folder / f"{NETWORK}.onnx")
    # Of the copies too: the class is calibrated where it will be asked for.
    outputs = network(lesson.judged)
    magnitude = np.full(len(outputs), np.nan, np.float32)
    validation = int((~train).sum())
    magnitude[:validation] = reads.magnitude(measured.part(np.flatnonzero(~train)).block)
    judged_labels = lesson.judged_labels[:, : len(heads)]
    calibration = _calibrate(outputs, heads, judged_labels, magnitude)
    uncalibrated = _uncalibrated(heads, judged_labels)
    outputs, magnitude = outputs[:validation], magnitude[:validation]
    truth = {target: values[~train] for target, values in rows.known.items() if target in targets}
    warnings = (*size.warnings, *lesson.warnings, *uncalibrated)
    card = Card(
        name=spec.name,
        kind=spec.kind,
        version=VERSION,
        survey=survey.name,
        bands=bands,
        inputs=reads.inputs,
        targets=targets,
        skipped=skipped,
        data=data,
        rows=rows.counts(targets),
        recipe={
            "features": recipe.to_json(),
            "heads": [head.to_json() for head in heads],
            "network": shape.to_json(),
            "novelty": learn_novelty(usual, lesson.judged[: len(outputs)], spec.seed).to_json(),
        },
        calibration=calibration,
        metrics=scores(decode(outputs, heads, calibration, survey, magnitude), truth),
        spec=spec.training_words(),
        reading=survey_record(survey),
        libraries=libraries(),
        training={
            **provenance(
                before,
                survey,
                bands,
                data,
                rows.counts(targets),
                warnings,
                heads=heads,
                sample=sample,
            ),
            "fit": came_to,
            "refused": dict(census.refused),
            **lesson.notes,
        },
    ).sealed(weights)
    card.save(folder)
    shutil.rmtree(work, ignore_errors=True)
    return card


def _training_labels(rows: Labelled) -> dict[Target, NDArray[np.float64]]:
    return {target: values[rows.training] for target, values in rows.known.items()}


def _learnt_recipe(reads: BandReader, taught: Measured) -> FeatureRecipe:
    bands = reads.survey.named(reads.bands)
    return learn_features(taught.block, bands, taught.shapes, reads.morphology)


def _some(rows: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    return np.random.default_rng(seed).permutation(rows)[:_USUAL_ROWS]


def _answers(
    known: Mapping[Target, NDArray[np.float64]], targets: Sequence[Target]
) -> NDArray[np.float32]:
    """Labels as they are learnt, shape (n, targets): the redshift as ln(1 + z)."""
    columns = [np.log1p(known[t]) if t == "redshift" else known[t] for t in targets]
    for target, column in zip(targets, columns, strict=True):
        reach = float(np.nanmax(np.abs(column)))
        if reach > _LARGEST:
            raise SpecError(
                f"labels of {target}",
                f"reach {reach:.3g}, expected at most {_LARGEST:g}",
                "narrow the label's 'low' and 'high' in the survey",
            )
    return np.stack(columns, axis=1).astype(np.float32)


def _heads(
    answers: NDArray[np.float32],
    targets: Sequence[Target],
    bins: int | None,
    bands: Sequence[Band],
    old: Head | None,
) -> tuple[Head, ...]:
    heads: list[Head] = []
    start = 0
    for target, column in zip(targets, answers.T, strict=True):
        if target == "star":
            classes = len(CLASSES) if (column == QSO).any() else 0
            heads.append(Head(target, start, 0, classes=classes))
        elif target == "redshift":
            zeta = column[np.isfinite(column)]
            wanted = bins or fitting_bins(zeta, bands)
            low, high, count = redshift_cells(zeta, wanted, old)
            if old is not None and (low, high, count) == (old.low, old.high, old.bins):
                wanted = old.asked
            heads.append(Head(target, start, 0, low=low, high=high, bins=count, asked=wanted))
        else:
            found = column[np.isfinite(column)].astype(np.float64)
            below, middle, above = np.percentile(found, [16, 50, 84])
            scale = float((above - below) / 2 or np.std(found))
            heads.append(
                Head(
                    target,
                    start,
                    _COMPONENTS,
                    centre=float(middle),
                    scale=scale,
                    floor=_FLOOR * scale,
                    low=float(found.min()),
                    high=float(found.max()),
                )
            )
        start += heads[-1].size
    return tuple(heads)


def _calibrate(
    outputs: NDArray[np.float32],
    heads: Sequence[Head],
    answers: NDArray[np.float32],
    magnitude: NDArray[np.float32],
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for head, column in zip(heads, answers.T, strict=True):
        known = np.isfinite(column)
        if head.target == "star":
            logits = head.of(outputs[known]).mean(axis=1)
            scale = (
                fit_softmax_scale(logits, column[known])
                if head.classes
                else fit_logit_scale(logits[:, 0], column[known])
            )
            found["star"] = scale.to_json()
            continue
        calibrated = _redshift_calibration if head.bins else _calibration
        found[head.target] = calibrated(
            head, outputs[known], column[known], magnitude[known]
        ).to_json()
    return found


def _uncalibrated(heads: Sequence[Head], answers: NDArray[np.float32]) -> tuple[str, ...]:
    """What is to be said of targets with too few validation rows."""
    counts = np.isfinite(answers).sum(axis=0)
    return tuple(
        f"{head.target} is not calibrated: {count} validation rows, {FEWEST_ROWS} are needed"
        for head, count in zip(heads, counts, strict=True)
        if count < FEWEST_ROWS
    )


def _redshift_calibration(
    head: Head,
    outputs: NDArray[np.float32],
    label: NDArray[np.float32],
    magnitude: NDArray[np.float32],
) -> Calibration:
    """Corrections of the redshift: cells have no widths to stretch."""
    half = np.full(1, 0.5, np.float32)
    # Some rows at a time: each takes several times its cells.
    steps = [slice(i, i + _AT_ONCE) for i in range(0, max(len(label), 1), _AT_ONCE)]
    middle = [binned.quantiles(head.binned(outputs[some]), half)[:, 0] for some in steps]
    straightened = Calibration(fit_straightening(np.concatenate(middle), label))
    pit = [
        binned.transform(head.binned(outputs[some], straightened), label[some]) for some in steps
    ]
    return replace(straightened, warp=fit_warp(np.concatenate(pit), magnitude))


def _calibration(
    head: Head,
    outputs: NDArray[np.float32],
    label: NDArray[np.float32],
    magnitude: NDArray[np.float32],
) -> Calibration:
    """Corrections of another regression, each fitted on top of those before it."""
    middle = quantiles(head.mixture(outputs), (0.5,))[:, 0]
    straight = fit_straightening(middle, label)
    mixture = head.mixture(outputs, Calibration(straight))

    def pit(scale: float) -> NDArray[np.float32]:
        wider = Mixture(mixture.weight, mixture.mean, mixture.sigma * np.float32(scale))
        reached: NDArray[np.float32] = cdf(wider, label[:, None])[:, 0]
        return reached

    stretch = fit_pit_scale(pit)
    return Calibration(straight, stretch, fit_warp(pit(stretch.scale), magnitude))
