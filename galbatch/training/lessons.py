"""What the steps of a fit are shown: training rows, worse copies of them, and their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.flux.columns import photometry_inputs
from galbatch.flux.features import FeatureRecipe, features
from galbatch.flux.magnitudes import reference_inputs, reference_magnitude
from galbatch.models.photometric import Reading
from galbatch.spec.job import PhotometricModel
from galbatch.spec.survey import Survey
from galbatch.training.augment import Fainter, learn_fainter, with_noise, without_bands
from galbatch.training.census import Census
from galbatch.training.data import Rows, Sample, fixed
from galbatch.training.rows import Labelled
from galbatch.training.weights import Matching, colours, match
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


def measure(reads: Reading, table: pa.Table) -> Measured:
    """Read a table some rows at a time: cleaning needs several times as much as it leaves.

    Parameters
    ----------
    reads : Reading
    table : pa.Table
        n rows.

    Returns
    -------
    Measured
    """
    starts = range(0, max(table.num_rows, 1), _STEP)
    parts = [table.slice(start, _STEP) for start in starts]
    blocks = [vars(reads.block(part)) for part in parts]
    return Measured(
        FluxBlock(*(np.concatenate([block[name] for block in blocks]) for name in blocks[0])),
        np.concatenate([reads.shapes(part) for part in parts]),
        np.concatenate([reference_magnitude(reads.survey, part) for part in parts]),
    )


@dataclass(frozen=True)
class Lessons:
    """Rows for a fit.

    Parameters
    ----------
    sample : Sample
        Training rows and copies of them. Labels (n, targets), or (n, 2 targets) with the weights
        behind them.
    judged : ndarray
        Labels of the validation rows, of as many columns.
    shares : ndarray, shape (targets,)
        Of the training rows and copies that have each label.
    notes : dict
        What was done, for the card.
    """

    sample: Sample
    judged: NDArray[np.float32]
    shares: NDArray[np.float64]
    notes: dict[str, Any]


def census_columns(survey: Survey, bands: Sequence[str], reads: Reading) -> tuple[str, ...]:
    """Columns of a catalogue's sample that `lessons` reads."""
    names = (*photometry_inputs(survey, bands), *reads.morphology, *reference_inputs(survey))
    return tuple(dict.fromkeys(names))


def lessons(
    spec: PhotometricModel,
    reads: Reading,
    rows: Labelled,
    measured: Measured,
    answers: NDArray[np.float32],
    targets: Sequence[Target],
    recipe: FeatureRecipe,
    census: Census,
) -> Lessons:
    """What a fit is shown.

    Parameters
    ----------
    spec : PhotometricModel
    reads : Reading
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
    Lessons
    """
    notes: dict[str, Any] = {}
    train = rows.training
    around = measure(reads, census.sample)
    around = around.part(around.block.observed.any(axis=1))
    taught = measured.part(train)
    fainter, copies = None, np.zeros(0, np.intp)
    classes = answers[train, targets.index("star")] if "star" in targets else None
    if spec.fainter > 0 and classes is not None:
        fainter, copies = _copies(spec, reads, taught, classes.astype(np.float64), around)
    if fainter is not None:
        notes["fainter"] = fainter.to_json() | {"copies": int(copies.size)}
    labels = np.concatenate([answers[train], _of_copies(answers[train], copies, targets)])
    judged = answers[~train]
    shares = np.isfinite(labels).mean(axis=0)
    found = _matched(spec, reads, measured, answers, targets, around, fainter is not None)
    if found:
        notes["match"] = {target: one.to_json() for target, one in found.items()}
        weights = np.ones((len(answers), len(targets)), np.float32)
        for target, one in found.items():
            weights[:, targets.index(target)] = one.weights
        extended = np.concatenate([weights[train], np.ones((copies.size, len(targets)))])
        labels = np.concatenate([labels, extended], axis=1).astype(np.float32)
        judged = np.concatenate([judged, weights[~train]], axis=1)
    inputs = _inputs(spec, recipe, taught, copies, fainter, classes)
    return Lessons(Sample(inputs, labels), judged, shares, notes)


def _copies(
    spec: PhotometricModel,
    reads: Reading,
    taught: Measured,
    classes: NDArray[np.float64],
    around: Measured,
) -> tuple[Fainter | None, NDArray[np.intp]]:
    """How rows look beyond the class labels, and which are shown there too."""
    fainter = learn_fainter(
        around.block,
        around.shapes,
        around.magnitude,
        taught.magnitude,
        classes,
        reads.survey.photometry,
    )
    if fainter is None:
        return None, np.zeros(0, np.intp)
    count = round(spec.fainter * int(np.isfinite(classes).sum()))
    generator = np.random.default_rng(spec.seed)
    usable = ~taught.block.saturated
    return fainter, fainter.sources(taught.magnitude, classes, usable, count, generator)


def _of_copies(
    answers: NDArray[np.float32], copies: NDArray[np.intp], targets: Sequence[Target]
) -> NDArray[np.float32]:
    """Labels of copies: the class alone."""
    labels = np.full((copies.size, len(targets)), np.nan, np.float32)
    if copies.size:
        star = targets.index("star")
        labels[:, star] = answers[copies, star]
    return labels


def _matched(
    spec: PhotometricModel,
    reads: Reading,
    measured: Measured,
    answers: NDArray[np.float32],
    targets: Sequence[Target],
    around: Measured,
    has_copies: bool,
) -> dict[Target, Matching]:
    """Weights of the targets whose labels are brighter than the catalogue."""
    if not spec.match:
        return {}
    of = {band.name: band.wavelength for band in reads.survey.bands}
    wavelengths = np.array([of[name] for name in reads.bands])
    mine = colours(measured.block, wavelengths, measured.magnitude)
    theirs = colours(around.block, wavelengths, around.magnitude)
    found: dict[Target, Matching] = {}
    for index, target in enumerate(targets):
        # What copies fill up needs no weights.
        if target == "star" and has_copies:
            continue
        one = match(mine, np.isfinite(answers[:, index]), theirs, spec.seed)
        if one is not None:
            found[target] = one
    return found


def _inputs(
    spec: PhotometricModel,
    recipe: FeatureRecipe,
    taught: Measured,
    copies: NDArray[np.intp],
    fainter: Fainter | None,
    classes: NDArray[np.float32] | None,
) -> Rows:
    """Features of training rows, and of copies: the numbers after those of the rows."""
    count = len(taught.block)
    if spec.noise == 0 and spec.drop_bands == 0 and fainter is None:
        return fixed(taught.features(recipe))

    def made(block: FluxBlock, shapes: Any, generator: np.random.Generator) -> Any:
        if spec.drop_bands > 0:
            block = without_bands(block, spec.drop_bands, generator)
        return features(recipe, block, shapes)

    def drawn(rows: NDArray[np.intp], generator: np.random.Generator) -> NDArray[np.float32]:
        copied = rows >= count
        part = taught.part(rows[~copied])
        block = with_noise(part.block, spec.noise, generator) if spec.noise > 0 else part.block
        real: NDArray[np.float32] = made(block, part.shapes, generator)
        if fainter is None or classes is None or not copied.any():
            return real
        chosen = copies[rows[copied] - count]
        bright = taught.part(chosen)
        models = fainter.models(classes[chosen].astype(np.float64), generator)
        seen, shapes = fainter.seen(bright.block, bright.magnitude, models, generator)
        both = np.empty((len(rows), real.shape[1]), np.float32)
        both[~copied], both[copied] = real, made(seen, shapes, generator)
        return both

    return drawn
