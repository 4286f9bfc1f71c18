"""Training of the default family."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.errors import SpecError
from galbatch.flux.bands import BandReader, choose_bands, present
from galbatch.flux.features import FeatureRecipe, learn_features
from galbatch.models.base import Card, survey_record
from galbatch.models.device import prepare_tensorflow
from galbatch.models.heads import DecodeSettings, Head, HeadSettings, decode, head_of
from galbatch.models.novelty import learn_novelty
from galbatch.models.photometric import NETWORK, VERSION
from galbatch.models.runtime import OnnxNetwork
from galbatch.quality.calibration import FEWEST_ROWS
from galbatch.sample.census import Census
from galbatch.sample.choice import choose_targets, lacking_quasars
from galbatch.sample.rows import Labelled, labelled_rows, needs_both
from galbatch.spec.job import PhotometricModel
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
from galbatch.training.capacity import (
    NetworkSize,
    fitting_batch,
    fitting_decay,
    fitting_dropout,
    fitting_epochs,
    fitting_rate,
    fitting_size,
)
from galbatch.training.examples import (
    Examples,
    Measured,
    census_columns,
    make_examples,
    matrix,
    measure,
)
from galbatch.training.group import FitGroup
from galbatch.training.libraries import libraries
from galbatch.training.scores import scores
from galbatch.training.transfer import (
    SLOWER,
    Pretrained,
    carried_heads,
    carried_recipe,
    carried_weights,
    differences,
    provenance,
    read_pretrained,
)
from galbatch.values import Target

# Weight of the other targets beside the redshift, which asks most of the trunk they share: at 1, a
# redshift's error is a tenth larger, at this it is 2 %.
_OTHERS = 0.2
# Squares of larger labels are no numbers in float32.
_LARGEST = 1e6
_WARM_UP = 0.05
_LAST_RATE = 0.002
_PARITY_ROWS = 512
_USUAL_ROWS = 20_000

LabelArrays = Mapping[Target, NDArray[np.float64]]


class PhotometricTrainer(Trainer[PhotometricModel]):
    """Training of the default family."""

    def train(
        self, settings: PhotometricModel, data: TrainingData, folder: Path, progress: OnEpoch
    ) -> Card:
        """Train a model and save it; see `Trainer.train`."""
        sample = _labelled_sample(settings, data)
        plan = _planned(sample, data.census)
        prepare_tensorflow()
        fitted = _fitted(sample, plan, folder, progress, data.group)
        card = _card(sample, plan, fitted, data, folder)
        card.save(folder)
        return card

    def check_pretrained(self, settings: PhotometricModel, survey: Survey, folder: Path) -> None:
        """See `Trainer.check_pretrained`."""
        read_pretrained(folder, settings, settings.bands or survey.band_names)

    def differences(
        self, settings: PhotometricModel, survey: Survey, folder: Path, origin: Mapping[str, Any]
    ) -> tuple[str, ...]:
        """See `Trainer.differences`."""
        bands = settings.bands or survey.band_names
        before = read_pretrained(folder, settings, bands)
        return differences(before, survey, bands, settings, origin)


@dataclass(frozen=True)
class _Sample:
    """The labelled rows, and what a network is to say of them.

    Parameters
    ----------
    settings : PhotometricModel
    survey : Survey
        Without what the rows do not have.
    reader : BandReader
    before : Pretrained or None
        What the network begins with.
    rows : Labelled
        n rows.
    measured : Measured
        Of them.
    targets : tuple of Target
    skipped : mapping
        Why others are left out.
    answers : ndarray, shape (n, targets), float32
        Labels as they are learnt, NaN where unknown.
    """

    settings: PhotometricModel
    survey: Survey
    reader: BandReader
    before: Pretrained | None
    rows: Labelled
    measured: Measured
    targets: tuple[Target, ...]
    skipped: Mapping[str, str]
    answers: NDArray[np.float32]

    @property
    def where(self) -> str:
        """The model in the job, for messages."""
        return f"models.{self.settings.name}"

    @property
    def training(self) -> NDArray[np.bool_]:
        """Rows that train; the others validate."""
        return self.rows.training


@dataclass(frozen=True)
class _Plan:
    """What is decided before the first step.

    Parameters
    ----------
    recipe : FeatureRecipe
        How rows become the network's inputs.
    heads : tuple of Head
        What its outputs are.
    examples : Examples
        What it is shown.
    usual : ndarray, shape (m, f)
        Features of training rows: enough to know by what a usual row looks like, in an order that
        is not the catalogue's.
    data : str
        Fingerprint of all rows that have a say.
    size : NetworkSize
        Of the network.
    batch, epochs : int
    dropout, rate : float
    """

    recipe: FeatureRecipe
    heads: tuple[Head, ...]
    examples: Examples
    usual: NDArray[np.float32]
    data: str
    size: NetworkSize
    batch: int
    epochs: int
    dropout: float
    rate: float


def _labelled_sample(settings: PhotometricModel, data: TrainingData) -> _Sample:
    """The rows to learn from, and the targets that they can teach."""
    where = f"models.{settings.name}"
    bands = choose_bands(settings.bands, data.survey, where)
    survey = present(data.survey, data.table)
    reader = BandReader.of(settings, survey, bands)
    before = read_pretrained(data.pretrained, settings, bands) if data.pretrained else None
    rows = labelled_rows(survey, data.table, data.roles, settings.targets)
    choose_targets(settings.targets, survey, _training_labels(rows), where)
    rows = rows.selected(measure(reader, rows.table).block.observed.any(axis=1))
    rows = rows.thinned(settings.max_rows, settings.seed)
    needs_both(rows, where)
    held = {target: values[~rows.training] for target, values in rows.known.items()}
    targets, skipped = choose_targets(settings.targets, survey, _training_labels(rows), where, held)
    if "star" in targets and (why := lacking_quasars(survey, _training_labels(rows))):
        rows, skipped = rows.without_quasars(), {**skipped, "qso": why}
    measured = measure(reader, rows.table)
    answers = _answers(rows.known, targets)
    return _Sample(settings, survey, reader, before, rows, measured, targets, skipped, answers)


def _training_labels(rows: Labelled) -> LabelArrays:
    return {target: values[rows.training] for target, values in rows.known.items()}


def _answers(known: LabelArrays, targets: Sequence[Target]) -> NDArray[np.float32]:
    """Labels as they are learnt, shape (n, targets)."""
    columns = []
    for target in targets:
        column = np.log1p(known[target]) if RECORDS[target].is_relative else known[target]
        reach = float(np.nanmax(np.abs(column)))
        if reach > _LARGEST:
            raise SpecError(
                f"labels of {target}",
                f"reach {reach:.3g}, expected at most {_LARGEST:g}",
                "narrow the label's 'low' and 'high' in the survey",
            )
        columns.append(column)
    return np.stack(columns, axis=1).astype(np.float32)


def _planned(sample: _Sample, census: Census) -> _Plan:
    """What goes into the network and comes out of it, what it is shown, and how long."""
    settings, train, before = sample.settings, sample.training, sample.before
    recipe = _learnt_recipe(sample.reader, sample.measured.part(train))
    heads = _learnt_heads(sample)
    if before is not None:
        recipe = carried_recipe(recipe, before.recipe)
        heads = carried_heads(heads, before.heads)
    examples = make_examples(
        settings,
        sample.reader,
        sample.rows,
        sample.measured,
        sample.answers,
        sample.targets,
        recipe,
        census,
    )
    taught = int(train.sum())
    had = before.card.recipe["network"] if before else None
    size = fitting_size(settings, len(recipe.kept), heads, taught, had)
    shown = len(examples.sample)
    batch = min(settings.batch or fitting_batch(taught), shown)
    return _Plan(
        recipe,
        heads,
        examples,
        usual=matrix(recipe, sample.measured.part(_some(np.flatnonzero(train), settings.seed))),
        data=_data_fingerprint(sample, examples, census),
        size=size,
        batch=batch,
        epochs=settings.epochs or fitting_epochs(shown),
        dropout=fitting_dropout(taught) if settings.dropout is None else settings.dropout,
        rate=fitting_rate(settings.learning_rate, batch) * (SLOWER if before else 1.0),
    )


def _learnt_recipe(reader: BandReader, taught: Measured) -> FeatureRecipe:
    bands = reader.survey.named(reader.bands)
    return learn_features(taught.block, bands, taught.shapes, reader.morphology)


def _learnt_heads(sample: _Sample) -> tuple[Head, ...]:
    old = {head.target: head for head in sample.before.heads} if sample.before else {}
    bands = sample.survey.named(sample.reader.bands)
    given = HeadSettings(sample.settings.bins, bands, old)
    heads: list[Head] = []
    start = 0
    for target, labels in zip(sample.targets, sample.answers[sample.training].T, strict=True):
        heads.append(head_of(target).learn(target, start, labels, given))
        start += heads[-1].size
    return tuple(heads)


def _some(rows: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    return np.random.default_rng(seed).permutation(rows)[:_USUAL_ROWS]


def _data_fingerprint(sample: _Sample, examples: Examples, census: Census) -> str:
    """Of the labelled rows, and of those around them where they had a say."""
    data = sample.rows.fingerprint(sample.reader.inputs)
    if not examples.notes:
        return data
    around = census.fingerprint(census_columns(sample.reader))
    return hashlib.sha256(f"{data} {around}".encode()).hexdigest()


def _fitted(
    sample: _Sample, plan: _Plan, folder: Path, progress: OnEpoch, group: FitGroup | None
) -> Fitted:
    """Fit the network and write it to the folder."""
    from galbatch.models.network import Architecture, build
    from galbatch.training.export import export
    from galbatch.training.loop import fit

    settings, examples = sample.settings, plan.examples
    found = fit(
        _compiler(sample, plan),
        examples.sample,
        (examples.judged, examples.judged_labels),
        Schedule(plan.batch, plan.epochs, settings.patience, settings.seed),
        folder / WORK,
        _key(sample, plan.data),
        sample.where,
        lambda epoch, text: progress(epoch, plan.epochs, text),
        group,
    )
    model = build(Architecture(**plan.size.numbers), plan.heads)
    model.set_weights(found.weights)
    export(model, folder, NETWORK, plan.usual[:_PARITY_ROWS])
    save_curves(folder, {NETWORK: found.history})
    return found


def _key(sample: _Sample, data: str) -> str:
    """What tells this fit from any other."""
    before = sample.before and sample.before.card.fingerprint
    facts = [VERSION, data, sample.settings.training_settings(), before]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _compiler(sample: _Sample, plan: _Plan) -> Callable[[int], Any]:
    """From the number of steps to a compiled model."""
    import keras

    from galbatch.models.network import Architecture, HeadsLoss, build

    shape, heads = Architecture(**plan.size.numbers), plan.heads
    start = _first_weights(sample, plan)
    asked = [1.0 if RECORDS[head.target].main else _OTHERS for head in heads]
    shares = zip(asked, plan.examples.shares, strict=True)
    weights = [float(one / share) for one, share in shares]

    def compiled(steps: int) -> Any:
        model = build(shape, heads, plan.dropout, sample.settings.seed)
        if start is not None:
            model.set_weights(start)
        warm = int(_WARM_UP * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            0.05 * plan.rate,
            max(steps - warm, 1),
            alpha=_LAST_RATE,
            warmup_target=plan.rate,
            warmup_steps=max(warm, 1),
        )
        decay = fitting_decay(sample.settings.weight_decay, steps)
        optimizer = keras.optimizers.AdamW(rate, weight_decay=decay, beta_2=0.99)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        model.compile(optimizer, HeadsLoss(heads, weights), jit_compile=False)
        return model

    return compiled


def _first_weights(sample: _Sample, plan: _Plan) -> list[NDArray[np.float32]] | None:
    """Those of the model that it begins with; None for random ones."""
    import keras

    from galbatch.models.network import Architecture, build

    before = sample.before
    if before is None:
        return None
    keras.utils.set_random_seed(sample.settings.seed)
    random = build(Architecture(**plan.size.numbers), plan.heads)
    return carried_weights(
        [np.asarray(array) for array in random.get_weights()],
        before.weights(),
        (plan.recipe.columns, before.recipe.columns),
        (plan.heads, before.heads),
    )


def _card(sample: _Sample, plan: _Plan, fitted: Fitted, data: TrainingData, folder: Path) -> Card:
    """Calibrate and score the network on the validation rows, and tell what it is."""
    settings, survey, rows, heads = sample.settings, sample.survey, sample.rows, plan.heads
    outputs, magnitude = _judged(sample, plan, folder)
    labels = plan.examples.judged_labels[:, : len(heads)]
    calibration = _calibrated(outputs, heads, labels, magnitude)
    # Copies calibrate the class, as that is where it will be asked for; they are not scored.
    validation = int((~sample.training).sum())
    outputs, magnitude = outputs[:validation], magnitude[:validation]
    decoding = DecodeSettings(survey.odds_width)
    predicted = decode(outputs, heads, calibration, magnitude, decoding)
    truth = {target: rows.known[target][~sample.training] for target in sample.targets}
    novelty = learn_novelty(plan.usual, plan.examples.judged[:validation], settings.seed)
    return Card(
        name=settings.name,
        kind=settings.kind,
        version=VERSION,
        survey=survey.name,
        bands=sample.reader.bands,
        inputs=sample.reader.inputs,
        targets=sample.targets,
        skipped=sample.skipped,
        data=plan.data,
        rows=rows.counts(sample.targets),
        recipe={
            "features": plan.recipe.to_json(),
            "heads": [head.to_json() for head in heads],
            "network": plan.size.numbers,
            "novelty": novelty.to_json(),
        },
        calibration=calibration,
        metrics=scores(predicted, truth),
        spec=settings.training_settings(),
        reading=survey_record(survey),
        libraries=libraries(),
        training=_training_notes(sample, plan, fitted, data, _uncalibrated(heads, labels)),
    ).sealed(fitted.weights)


def _judged(
    sample: _Sample, plan: _Plan, folder: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Outputs for the validation rows and their copies, and magnitudes of the former."""
    outputs = OnnxNetwork(folder / f"{NETWORK}.onnx")(plan.examples.judged)
    rows = np.flatnonzero(~sample.training)
    magnitude = np.full(len(outputs), np.nan, np.float32)
    magnitude[: len(rows)] = sample.reader.magnitude(sample.measured.part(rows).block)
    return outputs, magnitude


def _calibrated(
    outputs: NDArray[np.float32],
    heads: Sequence[Head],
    labels: NDArray[np.float32],
    magnitude: NDArray[np.float32],
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for head, column in zip(heads, labels.T, strict=True):
        known = np.isfinite(column)
        found[head.target] = head.calibrate(outputs[known], column[known], magnitude[known])
    return found


def _uncalibrated(heads: Sequence[Head], labels: NDArray[np.float32]) -> tuple[str, ...]:
    """What is to be said of targets with too few validation rows."""
    counts = np.isfinite(labels).sum(axis=0)
    return tuple(
        f"{head.target} is not calibrated: {count} validation rows, {FEWEST_ROWS} are needed"
        for head, count in zip(heads, counts, strict=True)
        if count < FEWEST_ROWS
    )


def _training_notes(
    sample: _Sample, plan: _Plan, fitted: Fitted, data: TrainingData, uncalibrated: Sequence[str]
) -> dict[str, Any]:
    """What the sample was and what was made of it."""
    examples, counts = plan.examples, sample.rows.counts(sample.targets)
    origins = provenance(
        sample.before,
        sample.survey,
        sample.reader.bands,
        plan.data,
        counts,
        (*plan.size.warnings, *examples.warnings, *uncalibrated),
        heads=plan.heads,
        sample=data.origin,
    )
    taken = {
        "epochs": plan.epochs,
        "batch": plan.batch,
        "dropout": plan.dropout,
        "learning_rate": plan.rate,
        "weight_decay": fitting_decay(sample.settings.weight_decay, fitted.steps),
    }
    return {**origins, "fit": taken, "refused": dict(data.census.refused), **examples.notes}
