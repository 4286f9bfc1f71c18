"""Training of self-organising maps of a catalogue, which is read part by part in every pass."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from galbatch.errors import SpecError
from galbatch.flux.columns import numbers
from galbatch.maps.som import Each, Moments, Scaling, Som, SomErrors, fit_som, narrowing
from galbatch.models.base import Card, survey_record
from galbatch.models.device import cores
from galbatch.models.maps import LearnedMap
from galbatch.models.som import PIECE, VERSION, read_numbers
from galbatch.sample.labels import labels
from galbatch.sample.rows import columns_digest
from galbatch.sample.split import TRAIN
from galbatch.spec.map_models import SomModel
from galbatch.spec.survey import Survey
from galbatch.training.base import CataloguePart, OnEpoch, Trainer, TrainingData
from galbatch.training.maps import clustered, map_record, property_record

_PROPERTY_ROWS = 1_000_000
"""Rows that stand for all when properties of cells are told, at most."""
_CELL, _CLUSTER = "\0cell", "\0cluster"
"""Names that no column has."""


class SomTrainer(Trainer[SomModel]):
    """Learns maps."""

    def train(
        self, settings: SomModel, data: TrainingData, folder: Path, progress: OnEpoch
    ) -> Card:
        """See `Trainer.train`."""
        # Every thread has a part of its own; threads of its products would stand in their way.
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(cores()) as pool:
            return _trained(settings, data, folder, progress, pool.map)


def _trained(
    settings: SomModel, data: TrainingData, folder: Path, progress: OnEpoch, each: Each
) -> Card:
    census = _counted(settings, data.parts, each)
    scaling = census.moments.scaling(settings.directions)
    parts = [partial(_scaled, part, settings.columns, scaling, True) for part in data.parts]
    total = settings.passes + 3
    som = fit_som(
        parts,
        settings.cells,
        widths=narrowing(*settings.width, settings.passes).tolist(),
        plane=np.eye(2, scaling.matrix.shape[1]),
        each=each,
        progress=lambda done, _: progress(done + 1, total, "passes over the catalogue"),
    )
    judged = list(each(partial(_judged, settings=settings, som=som, scaling=scaling), data.parts))
    taught, watched = (reduce(add, (one[at] for one in judged)) for at in (0, 1))
    progress(total - 1, total, "passes over the catalogue")
    centres, clusters = clustered(
        som.cells, settings.clusters, settings.seed, taught.hits.astype(np.float64)
    )
    learned = LearnedMap(scaling, som, centres)
    learned.save(folder)
    properties = _described(settings, data, learned, census, each)
    progress(total, total, "passes over the catalogue")
    card = Card(
        name=settings.name,
        kind=settings.kind,
        version=VERSION,
        survey=data.survey.name,
        bands=(),
        inputs=settings.columns,
        targets=(),
        skipped={},
        data=census.digest,
        rows={"map": {"training": census.training, "validation": census.validation}},
        recipe={"directions": int(scaling.matrix.shape[1])},
        calibration={},
        metrics={
            "map": {
                "quantisation_error": watched.quantisation,
                "topographic_error": watched.topographic,
            }
        },
        spec=settings.training_settings(),
        reading=survey_record(data.survey),
        training={
            "lineage": [dict(data.origin)] if data.origin else [],
            "warnings": census.warnings,
            "som": map_record(som, taught, watched),
            "clusters": clusters,
            "properties": properties,
        },
    ).sealed(learned.arrays)
    card.save(folder)
    return card


@dataclass(frozen=True, eq=False)
class _Census:
    """What the first reading of the catalogue tells.

    `moments` are those of the training rows; `left_out` rows lack a number.
    """

    moments: Moments
    training: int
    validation: int
    left_out: int
    digest: str
    same: tuple[str, ...]

    @property
    def warnings(self) -> list[str]:
        """What the user is told."""
        found = [f"column '{name}': all rows have the same numbers" for name in self.same]
        if self.left_out:
            found.append(
                f"{self.left_out:,} rows are not on the map: one of their numbers is missing, or "
                "too large to be one"
            )
        return found


def _counted(settings: SomModel, parts: Sequence[CataloguePart], each: Each) -> _Census:
    found = list(each(partial(_counted_part, columns=settings.columns), parts))
    moments = [one for one, *_ in found if one is not None]
    training, validation, left_out = (sum(one[at] for one in found) for at in (1, 2, 3))
    least = settings.clusters + 1
    for rows, what in ((training, "train on"), (validation, "validate with")):
        if rows < least:
            raise SpecError(
                f"models.{settings.name}",
                f"{rows} rows to {what}, expected at least {least}",
                f"{left_out} rows lack one of: {', '.join(settings.columns)}" if left_out else "",
            )
    digest = hashlib.sha256("".join(one[4] for one in found).encode()).hexdigest()
    together = reduce(add, moments)
    same = _without_spread(settings, together, parts)
    if len(same) == len(settings.columns):
        raise SpecError(
            f"models.{settings.name}.columns", "all rows have the same numbers: nothing to map"
        )
    return _Census(together, training, validation, left_out, digest, same)


def _without_spread(
    settings: SomModel, moments: Moments, parts: Sequence[CataloguePart]
) -> tuple[str, ...]:
    """Columns in which all rows have the same numbers."""
    table = next(table for part in parts for table, _ in part())
    sizes = [read_numbers(table.slice(0, 1), [name])[0].shape[1] for name in settings.columns]
    ends = np.cumsum(sizes)
    return tuple(
        name
        for name, size, end in zip(settings.columns, sizes, ends, strict=True)
        if not (moments.spreads[end - size : end] > 0).any()
    )


def _counted_part(
    part: CataloguePart, columns: Sequence[str]
) -> tuple[Moments | None, int, int, int, str]:
    moments: Moments | None = None
    training = validation = left_out = 0
    digests = []
    for table, roles in _pieces(part):
        rows, good = read_numbers(table, columns)
        teaches = roles == TRAIN
        more = Moments.of([rows[good & teaches]])
        moments = more if moments is None or more is None else moments + more
        training += int((good & teaches).sum())
        validation += int((good & ~teaches).sum())
        left_out += int((~good).sum())
        digests.append(columns_digest(table, columns).hexdigest())
        digests.append(hashlib.sha256(np.ascontiguousarray(roles).tobytes()).hexdigest())
    return moments, training, validation, left_out, "".join(digests)


def _pieces(part: CataloguePart) -> Iterator[tuple[pa.Table, NDArray[np.int8]]]:
    """A part in fewer rows at a time: several copies of their numbers are made."""
    for table, roles in part():
        for start in range(0, table.num_rows, PIECE):
            yield table.slice(start, PIECE), roles[start : start + PIECE]


def _scaled(
    part: CataloguePart, columns: Sequence[str], scaling: Scaling, teaches: bool
) -> Iterator[NDArray[np.float32]]:
    """Rows that teach, or those that do not, as the map sees them."""
    for table, roles in _pieces(part):
        rows, good = read_numbers(table, columns)
        yield scaling(rows[good & ((roles == TRAIN) == teaches)])


def _judged(
    part: CataloguePart, settings: SomModel, som: Som, scaling: Scaling
) -> tuple[SomErrors, SomErrors]:
    """Errors of the rows of a part that taught, and of the others."""
    taught = watched = som.errors([])
    for table, roles in _pieces(part):
        rows, good = read_numbers(table, settings.columns)
        scaled = scaling(rows)
        taught += som.errors([scaled[good & (roles == TRAIN)]])
        watched += som.errors([scaled[good & (roles != TRAIN)]])
    return taught, watched


def _described(
    settings: SomModel, data: TrainingData, learned: LearnedMap, census: _Census, each: Each
) -> dict[str, Any]:
    """Properties of cells and clusters, by some rows if there are many."""
    share = min(1.0, _PROPERTY_ROWS / (census.training + census.validation))
    read = partial(_drawn, survey=data.survey, settings=settings, learned=learned, share=share)
    # A part without rows has no columns either.
    found = [one for one in each(read, list(enumerate(data.parts))) if one]
    joined = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    return property_record(learned, joined.pop(_CELL), joined.pop(_CLUSTER), joined)


def _drawn(
    numbered: tuple[int, CataloguePart],
    survey: Survey,
    settings: SomModel,
    learned: LearnedMap,
    share: float,
) -> dict[str, NDArray[Any]]:
    """Cells, clusters and properties of some rows of a part."""
    number, part = numbered
    draw = np.random.default_rng([settings.seed, number])
    found = []
    for table, _ in _pieces(part):
        rows, good = read_numbers(table, settings.columns)
        drawn = good & (draw.random(len(good)) < share)
        cells, clusters = learned.places(learned.scaling(rows[drawn]))
        places = {_CELL: cells.astype(np.int32), _CLUSTER: clusters.astype(np.int32)}
        found.append(places | _properties(survey, settings, table.filter(pa.array(drawn))))
    return (
        {name: np.concatenate([one[name] for one in found]) for name in found[0]} if found else {}
    )


def _properties(survey: Survey, settings: SomModel, table: pa.Table) -> dict[str, Any]:
    """Those that are asked for, or else the labels."""
    if settings.properties is not None:
        return {name: numbers(table, name) for name in settings.properties}
    return {target: values for target, values in labels(survey, table).items() if target != "star"}
