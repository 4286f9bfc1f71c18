"""What the steps of a fit are shown: training rows, worse copies of them, and their weights."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.flux.bands import BandReader, reference_inputs, reference_magnitude
from galbatch.flux.features import FeatureRecipe, features
from galbatch.sample.census import Census
from galbatch.sample.rows import Labelled
from galbatch.sample.weights import Matching, colours, distance, match
from galbatch.spec.job import PhotometricModel
from galbatch.targets import RECORDS
from galbatch.training.augment import Fainter, learn_fainter, with_noise, without_bands
from galbatch.training.data import Mine, RowMaker, TrainingRows, fixed
from galbatch.values import FluxBlock, Target

_STEP = 8192


@dataclass(frozen=True)
class Measured:
    """What is measured of n rows.

    Parameters
    ----------
    block : FluxBlock
    shapes : ndarray, shape (n, m)
        Morphology.
    magnitude : ndarray, shape (n,)
        AB in the survey's reference band; NaN where it is not detected.
    """

    block: FluxBlock
    shapes: NDArray[np.float64]
    magnitude: NDArray[np.float64]

    def part(self, rows: slice | NDArray[Any]) -> Measured:
        """Some of the rows."""
        block = FluxBlock(*(array[rows] for array in vars(self.block).values()))
        return Measured(block, self.shapes[rows], self.magnitude[rows])

    def features(self, recipe: FeatureRecipe) -> NDArray[np.float32]:
        """The network's inputs, shape (n, f)."""
        made: NDArray[np.float32] = features(recipe, self.block, self.shapes)
        return made


def measure(reader: BandReader, table: pa.Table) -> Measured:
    """Read a table some rows at a time: cleaning needs several times as much as it leaves.

    Parameters
    ----------
    reader : BandReader
    table : pa.Table
        n rows.

    Returns
    -------
    Measured
    """
    starts = range(0, max(table.num_rows, 1), _STEP)
    parts = [table.slice(start, _STEP) for start in starts]
    blocks = [vars(reader.block(part)) for part in parts]
    return Measured(
        FluxBlock(*(np.concatenate([block[name] for block in blocks]) for name in blocks[0])),
        np.concatenate([reader.shapes(part) for part in parts]),
        np.concatenate([reference_magnitude(reader.survey, part) for part in parts]),
    )


@dataclass(frozen=True)
class Examples:
    """Rows for a fit.

    Parameters
    ----------
    sample : TrainingRows
        Training rows and copies of them. Labels (n, targets), or (n, 2 targets) with the weights
        behind them.
    judged : ndarray, shape (v, f)
        Features of the validation rows, and behind them of their copies.
    judged_labels : ndarray, shape (v, targets) or (v, 2 targets)
    shares : ndarray, shape (targets,)
        Of the training rows and copies that have each label.
    notes : dict
        What was done, for the card.
    warnings : tuple of str
        What was not.
    """

    sample: TrainingRows
    judged: NDArray[np.float32]
    judged_labels: NDArray[np.float32]
    shares: NDArray[np.float64]
    notes: dict[str, Any]
    warnings: tuple[str, ...]


def census_columns(reader: BandReader) -> tuple[str, ...]:
    """Columns of a catalogue's sample that `make_examples` reader."""
    return tuple(dict.fromkeys((*reader.inputs, *reference_inputs(reader.survey))))


def make_examples(
    settings: PhotometricModel,
    reader: BandReader,
    rows: Labelled,
    measured: Measured,
    answers: NDArray[np.float32],
    targets: Sequence[Target],
    recipe: FeatureRecipe,
    census: Census,
) -> Examples:
    """What a fit is shown.

    Parameters
    ----------
    settings : PhotometricModel
    reader : BandReader
    rows : Labelled
        n rows.
    measured : Measured
        Of them.
    answers : ndarray, shape (n, targets), float32
        Labels as they are learnt, NaN where unknown.
    targets : sequence of Target
    recipe : FeatureRecipe
    census : Census

    Returns
    -------
    Examples
    """
    notes: dict[str, Any] = {}
    train = rows.training
    around = measure(reader, census.sample)
    around = around.part(around.block.observed.any(axis=1))
    taught, tested = (
        _Rows(measured.part(part), answers[part], targets) for part in (train, ~train)
    )
    fainter = _fainter(settings, reader, taught, around)
    copies = taught.copies(fainter, settings.fainter, settings.seed)
    tests = tested.copies(fainter, settings.fainter, settings.seed + 1)
    if fainter is not None:
        notes["fainter"] = fainter.to_json() | {"copies": int(copies.size)}
    labels, judged_labels = taught.labels(copies), tested.labels(tests)
    shares = np.isfinite(labels).mean(axis=0)
    found = _matched(settings, reader, measured, answers, targets, around, fainter is not None)
    if found:
        notes["match"] = {target: one.to_json() for target, one in found.items()}
        weights = np.ones((len(answers), len(targets)), np.float32)
        for target, one in found.items():
            weights[:, targets.index(target)] = one.weights
        labels = _with_weights(labels, weights[train])
        judged_labels = _with_weights(judged_labels, weights[~train])
    judged = matrix(recipe, tested.measured)
    if fainter is not None and tests.size:
        generator = np.random.default_rng(settings.seed)
        judged = np.concatenate([judged, matrix(recipe, tested.seen(fainter, tests, generator))])
    inputs = _inputs(settings, recipe, taught, copies, fainter)
    dealt_with: set[Target] = {*found, "star"} if fainter is not None else {*found}
    warnings = _brighter(measured, answers, targets, around, dealt_with)
    return Examples(TrainingRows(inputs, labels), judged, judged_labels, shares, notes, warnings)


@dataclass(frozen=True)
class _Rows:
    """Rows with their labels, as they are learnt."""

    measured: Measured
    answers: NDArray[np.float32]
    targets: Sequence[Target]

    @property
    def classes(self) -> NDArray[np.float64] | None:
        if "star" not in self.targets:
            return None
        return self.answers[:, self.targets.index("star")].astype(np.float64)

    def copies(self, fainter: Fainter | None, times: float, seed: int) -> NDArray[np.intp]:
        """Rows that are shown beyond the class labels as well."""
        classes = self.classes
        if fainter is None or classes is None:
            return np.zeros(0, np.intp)
        count = round(times * int(np.isfinite(classes).sum()))
        usable, generator = ~self.measured.block.saturated, np.random.default_rng(seed)
        return fainter.sources(self.measured.magnitude, classes, usable, count, generator)

    def labels(self, copies: NDArray[np.intp]) -> NDArray[np.float32]:
        """Labels of the rows, and behind them of copies: the class alone."""
        more = np.full((copies.size, len(self.targets)), np.nan, np.float32)
        if copies.size:
            star = self.targets.index("star")
            more[:, star] = self.answers[copies, star]
        return np.concatenate([self.answers, more])

    def seen(
        self, fainter: Fainter, copies: NDArray[np.intp], generator: np.random.Generator
    ) -> Measured:
        """Copies as they would be in the catalogue, each time another way."""
        classes = self.classes
        assert classes is not None
        bright = self.measured.part(copies)
        models = fainter.models(classes[copies], generator)
        block, shapes = fainter.seen(bright.block, bright.magnitude, models, generator)
        return Measured(block, shapes, fainter.magnitude[models])


def _fainter(
    settings: PhotometricModel, reader: BandReader, taught: _Rows, around: Measured
) -> Fainter | None:
    if settings.fainter == 0 or taught.classes is None:
        return None
    return learn_fainter(
        around.block,
        around.shapes,
        around.magnitude,
        taught.measured.magnitude,
        taught.classes,
        reader.survey.photometry,
    )


def _with_weights(labels: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights behind the labels; those of copies are 1."""
    whole = np.ones_like(labels)
    whole[: len(weights)] = weights
    return np.concatenate([labels, whole], axis=1)


def _matched(
    settings: PhotometricModel,
    reader: BandReader,
    measured: Measured,
    answers: NDArray[np.float32],
    targets: Sequence[Target],
    around: Measured,
    has_copies: bool,
) -> dict[Target, Matching]:
    """Weights of the targets whose labels are brighter than the catalogue."""
    if not settings.match:
        return {}
    of = {band.name: band.wavelength for band in reader.survey.bands}
    wavelengths = np.array([of[name] for name in reader.bands])
    mine = colours(measured.block, wavelengths, measured.magnitude)
    theirs = colours(around.block, wavelengths, around.magnitude)
    found: dict[Target, Matching] = {}
    for index, target in enumerate(targets):
        # What copies fill up needs no weights.
        if RECORDS[target].is_class and has_copies:
            continue
        one = match(mine, np.isfinite(answers[:, index]), theirs, settings.seed)
        if one is not None:
            found[target] = one
    return found


def _brighter(
    measured: Measured,
    answers: NDArray[np.float32],
    targets: Sequence[Target],
    around: Measured,
    dealt_with: Container[Target],
) -> tuple[str, ...]:
    """Targets whose labels are brighter than the catalogue, without anything done about it."""
    away = {
        target: distance(measured.magnitude[np.isfinite(column)], around.magnitude)
        for target, column in zip(targets, answers.T, strict=True)
        if target not in dealt_with
    }
    return tuple(
        f"{target} labels are brighter than the catalogue: their cumulative magnitude counts "
        f"differ by {value:.2f}"
        for target, value in away.items()
        if value
    )


def _inputs(
    settings: PhotometricModel,
    recipe: FeatureRecipe,
    taught: _Rows,
    copies: NDArray[np.intp],
    fainter: Fainter | None,
) -> RowMaker:
    """Features of training rows, and of copies: the numbers after those of the rows."""
    count = len(taught.answers)
    if settings.noise == 0 and settings.drop_bands == 0 and fainter is None:
        return fixed(matrix(recipe, taught.measured))

    def made(part: Measured, generator: np.random.Generator, mine: Mine) -> NDArray[np.float32]:
        if settings.drop_bands > 0:
            block = without_bands(part.block, settings.drop_bands, generator)
            part = Measured(block, part.shapes, part.magnitude)
        return (part if mine is None else part.part(mine)).features(recipe)

    def drawn(
        rows: NDArray[np.intp], generator: np.random.Generator, mine: Mine
    ) -> NDArray[np.float32]:
        # Whoever makes a few of the rows draws for all: theirs would be others else.
        copied = rows >= count
        wanted = None if mine is None else mine[~copied]
        part = taught.measured.part(rows[~copied])
        if settings.noise > 0:
            noisy = with_noise(part.block, settings.noise, generator)
            part = Measured(noisy, part.shapes, part.magnitude)
        real = made(part, generator, wanted)
        if fainter is None or not copied.any():
            return real
        seen = taught.seen(fainter, copies[rows[copied] - count], generator)
        others = made(seen, generator, None if mine is None else mine[copied])
        place = copied if mine is None else copied[mine]
        both = np.empty((len(place), real.shape[1]), np.float32)
        both[~place] = real
        both[place] = others
        return both

    return drawn


def matrix(recipe: FeatureRecipe, measured: Measured) -> NDArray[np.float32]:
    """The network's inputs, made some rows at a time.

    Parameters
    ----------
    recipe : FeatureRecipe
    measured : Measured
        n rows.

    Returns
    -------
    ndarray, shape (n, f)
    """
    starts = range(0, max(len(measured.block), 1), _STEP)
    return np.concatenate([measured.part(slice(i, i + _STEP)).features(recipe) for i in starts])
