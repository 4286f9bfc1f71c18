"""The default family: one trunk over cleaned fluxes, a head for each target."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.arrays import namespace, to_numpy, worker_namespace
from galbatch.errors import SpecError
from galbatch.flux.bands import BandReader
from galbatch.flux.features import FeatureRecipe, features
from galbatch.models.base import Card, tabulate
from galbatch.models.binned import AT_ONCE, Binned, density, redshift_statistics
from galbatch.models.classes import class_columns, class_probabilities
from galbatch.models.flags import Quality
from galbatch.models.heads import Head
from galbatch.models.mixture import Mixture, quantiles
from galbatch.models.monte_carlo import apart, scatter
from galbatch.models.novelty import Novelty
from galbatch.models.pdf import QUANTILES
from galbatch.models.runtime import Network, open_network
from galbatch.quality.recalibration import Calibration
from galbatch.spec.job import PhotometricModel
from galbatch.spec.survey import Survey
from galbatch.values import CLASSES, FluxBlock, PredictedColumn, Target

VERSION = 3
NETWORK = "network"
# The memory of a prediction is that of so many rows, beside the result.
_BATCH = 4096
_DISAGREEMENT = 0.05
# Lower end, value and upper end of what is no redshift.
_LEVELS = (0.16, 0.5, 0.84)

_Z = "src.redshift.phot"
_Z_ERROR = "stat.error;src.redshift.phot"
_LEVELS_TEXT = ", ".join(f"{level:g}" for level in QUANTILES)


def _interval(name: str, unit: str, ucd: str, what: str) -> tuple[PredictedColumn, ...]:
    error = "stat.error;" + ucd
    return (
        PredictedColumn(name, "float32", unit, ucd, what),
        PredictedColumn(
            f"{name}_low68", "float32", unit, error, f"Lower end of the 68 % interval of {name}"
        ),
        PredictedColumn(
            f"{name}_high68", "float32", unit, error, f"Upper end of the 68 % interval of {name}"
        ),
    )


_COLUMNS: Mapping[Target, tuple[PredictedColumn, ...]] = {
    "redshift": (
        PredictedColumn("z_mode", "float32", "", f"{_Z};meta.main", "Redshift, highest density"),
        PredictedColumn("z_median", "float32", "", f"{_Z};stat.median", "Redshift, median"),
        PredictedColumn("z_mean", "float32", "", f"{_Z};stat.mean", "Redshift, mean"),
        *(
            PredictedColumn(
                f"z_err{percent}_{end}", "float32", "", f"{_Z_ERROR};stat.{extreme}",
                f"{side} end, as a redshift, of the central {percent} % interval",
            )
            for percent in (68, 95)
            for end, extreme, side in (("low", "min", "Lower"), ("high", "max", "Upper"))
        ),
        PredictedColumn(
            "odds", "float32", "", f"stat.probability;{_Z}",
            "Probability of a redshift near z_mode, within the survey's odds_width (1 + z_mode)",
        ),
        PredictedColumn(
            "z_quantiles", "float32", "", f"stat.pdf;{_Z}",
            f"Redshift where its cumulative probability reaches {_LEVELS_TEXT}",
            (len(QUANTILES),), ("quantile",),
        ),
    ),
    "log_mass": _interval(
        "log_mass", "[solMass]", "phys.mass", "log10 of the stellar mass in solar masses, median"
    ),
    "abs_mag_b": _interval(
        "abs_mag_b", "mag", "phys.magAbs;em.opt.B", "Absolute AB magnitude in Johnson B, median"
    ),
    "spectral_type": _interval(
        "spectral_type", "", "src.spType", "Spectral type on the survey's scale, median"
    ),
}  # fmt: skip


_ALWAYS = (
    PredictedColumn(
        "ood", "float32", "", "stat.value",
        "Distance to the training sample; above 1 for 0.5 % of objects like it",
    ),
    PredictedColumn(
        "quality", "int32", "", "meta.code.qual", f"Sum of bits, 0 for none: {Quality.describe()}"
    ),
)  # fmt: skip


class Photometric:
    """A trained model of the default family.

    Parameters
    ----------
    card : Card
    folder : Path
        With its network.
    monte_carlo : int
        Times that the fluxes are drawn anew within their errors; 0 for none.

    Raises
    ------
    SpecError
        If `monte_carlo` is negative, or 1.
    """

    def __init__(self, card: Card, folder: Path, monte_carlo: int = 0) -> None:
        if monte_carlo < 0 or monte_carlo == 1:
            hint = "one draw has no scatter; 0 for none, or 2 and more"
            raise SpecError(f"model '{card.name}'", f"monte_carlo is {monte_carlo}", hint)
        self.card = card
        self._draws = monte_carlo
        self._folder = folder
        survey = Survey.model_validate(card.reading)
        self._spec = PhotometricModel.model_validate(card.spec)
        self._reading = BandReader.of(self._spec, survey, card.bands)
        self._features = FeatureRecipe.from_json(card.recipe["features"])
        self._heads = tuple(Head.from_json(head) for head in card.recipe["heads"])
        self._novelty = Novelty.from_json(card.recipe["novelty"])

    @property
    def columns(self) -> tuple[PredictedColumn, ...]:
        """What it predicts."""
        found: tuple[PredictedColumn, ...] = ()
        for head in self._heads:
            star = head.target == "star"
            mine = class_columns(head) if star else _COLUMNS[head.target]
            found += mine
            if self._draws:
                found += apart(mine if star else mine[:1])
        return found + _ALWAYS

    @cached_property
    def _network(self) -> Network:
        def build() -> Any:
            from galbatch.models.device import prepare_tensorflow

            prepare_tensorflow()
            from galbatch.models.network import Architecture, build

            return build(Architecture(**self.card.recipe["network"]), self._heads)

        return open_network(self._folder, NETWORK, build)

    def predict(self, table: pa.Table) -> pa.Table:
        """Predictions for a catalogue's rows; see `Model.predict`."""
        xp = worker_namespace()
        parts = [
            self._predict(table.slice(start, _BATCH), xp)
            for start in range(0, max(table.num_rows, 1), _BATCH)
        ]
        return pa.concat_tables(parts).combine_chunks()

    def predict_with_density(
        self, table: pa.Table, grid: NDArray[np.float64]
    ) -> tuple[pa.Table, NDArray[np.float32]]:
        """Predictions, and the whole p(z) that they summarise, from one pass of the network.

        Parameters
        ----------
        table : pa.Table
            As for `predict`.
        grid : ndarray, shape (m,)
            Redshifts, ascending.

        Returns
        -------
        pa.Table
            What `predict` returns.
        ndarray, shape (n, m), float32
            Density in redshift; see `binned.density`. NaN for a row without photometry.

        Raises
        ------
        SpecError
            If the model does not predict the redshift.
        """
        head = next((head for head in self._heads if head.target == "redshift"), None)
        if head is None:
            raise SpecError(f"model '{self.card.name}'", "has no redshift to give a density of")
        calibration = Calibration.from_json(self.card.calibration["redshift"])
        warp = calibration.warp if calibration.warp.changes else None
        xp = worker_namespace()
        points = xp.asarray(grid)
        grids: NDArray[np.float32] = np.empty((table.num_rows, len(grid)), np.float32)
        parts = []
        for start in range(0, max(table.num_rows, 1), _BATCH):
            block, outputs, predicted = self._passed(table.slice(start, _BATCH), xp)
            magnitude = self._reading.magnitude(block)
            values = density(head.binned(outputs, calibration), points, warp, magnitude)
            values[~block.observed.any(axis=1)] = xp.nan
            grids[start : start + _BATCH] = to_numpy(values)
            parts.append(predicted)
        return pa.concat_tables(parts).combine_chunks(), grids

    def _predict(self, table: pa.Table, xp: Any) -> pa.Table:
        return self._passed(table, xp)[2]

    def _passed(self, table: pa.Table, xp: Any) -> tuple[FluxBlock, Any, pa.Table]:
        """Fluxes, the network's outputs and the predictions of some rows."""
        if table.num_rows == 1:
            # NumPy adds up a single column in another order than many: other last bits.
            twice = self._passed(pa.concat_tables([table, table]), xp)
            return _first(twice[0]), twice[1][:1], twice[2].slice(0, 1)
        block = self._reading.block(table, xp)
        shapes = xp.asarray(self._reading.shapes(table))
        inputs = features(self._features, block, shapes)

        def ask(fluxes: FluxBlock) -> Any:
            seen = inputs if fluxes is block else features(self._features, fluxes, shapes)
            return xp.asarray(self._network(seen))

        outputs = ask(block)
        magnitude = self._reading.magnitude(block)
        values = decode(
            outputs, self._heads, self.card.calibration, self._reading.survey, magnitude
        )
        if self._draws:
            values |= scatter(
                ask,
                block,
                outputs,
                self._heads,
                self.card.calibration,
                self._draws,
                self._spec.seed,
            )
        values["ood"] = self._novelty.score(inputs)
        blind = ~block.observed.any(axis=1)
        if blind.any():
            for column in values.values():
                column[blind] = xp.nan
        values["quality"] = _quality(block, values, self._heads)
        arrays = {name: to_numpy(array) for name, array in values.items()}
        return block, outputs, tabulate(self.columns, arrays)


def optional_columns() -> frozenset[str]:
    """Names of the columns that any model has with draws, and lacks without."""
    star = class_columns(Head("star", 0, 0, classes=len(CLASSES)))
    points = (column for columns in _COLUMNS.values() for column in columns[:1])
    return frozenset(column.name for column in apart((*star, *points)))


def decode(
    outputs: Any,
    heads: tuple[Head, ...],
    calibration: Mapping[str, Any],
    survey: Survey,
    magnitude: Any,
) -> dict[str, Any]:
    """Predicted columns from the network's outputs.

    Parameters
    ----------
    outputs : array, shape (n, members, outputs), float32
    heads : tuple of Head
    calibration : mapping
        Of the card.
    survey : Survey
        Its definition of the odds.
    magnitude : array, shape (n,), float32
        Of the reference band, AB; NaN where unknown.

    Returns
    -------
    dict of str to array
        Those, and ``z_apart``: the standard deviation of ln(1 + z) between the members, 0 of one.
    """
    xp = namespace(outputs)
    values: dict[str, Any] = {}
    alike: dict[int, dict[Target, tuple[Mixture, Any]]] = {}
    for head in heads:
        if head.target == "star":
            values |= class_probabilities(head, outputs, calibration["star"])
            continue
        corrections = Calibration.from_json(calibration[head.target])
        if head.target == "redshift":
            values |= _redshift(head, outputs, corrections, survey.odds_width, magnitude)
            continue
        levels = corrections.warp.levels(_LEVELS, magnitude)
        mixture = head.mixture(outputs, corrections)
        alike.setdefault(head.components, {})[head.target] = (mixture, levels)
    for parts in alike.values():
        # Few levels make short work, most of it in calling NumPy: all at once.
        mixtures, levels = zip(*parts.values(), strict=True)
        ends = quantiles(Mixture.joined(mixtures), xp.concatenate(levels, axis=1))
        for target, of_target in zip(parts, xp.split(ends, len(parts)), strict=True):
            values[f"{target}_low68"], values[target], values[f"{target}_high68"] = of_target.T
    return values


def _first(block: FluxBlock) -> FluxBlock:
    return FluxBlock(*(array[:1] for array in vars(block).values()))


def _redshift(
    head: Head, outputs: Any, calibration: Calibration, odds_width: float, magnitude: Any
) -> dict[str, Any]:
    """Columns of the redshift, some rows at a time: their cells stay in a core's cache."""
    xp = namespace(outputs)
    edges = calibration.straightening.apply(xp.asarray(head.edges))
    warp = calibration.warp if calibration.warp.changes else None
    n = len(outputs)
    found = {name: xp.empty(n, xp.float32) for name in ("z_mode", "z_mean", "odds", "z_apart")}
    table = xp.empty((n, len(QUANTILES)), xp.float32)
    for start in range(0, n, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        shares = head.shares(outputs[part])
        z = redshift_statistics(
            Binned.of(shares.mean(axis=1), edges), odds_width, warp, magnitude[part]
        )
        found["z_mode"][part], found["z_mean"][part] = z.mode, z.mean
        found["odds"][part], table[part] = z.odds, z.quantiles
        found["z_apart"][part] = _scatter(head.centres_of(shares))
    found |= {"z_median": table[:, QUANTILES.index(0.5)], "z_quantiles": table}
    for percent, low, high in ((68, 0.16, 0.84), (95, 0.025, 0.975)):
        found[f"z_err{percent}_low"] = table[:, QUANTILES.index(low)]
        found[f"z_err{percent}_high"] = table[:, QUANTILES.index(high)]
    return found


def _scatter(each: Any) -> Any:
    """Standard deviation that the members (n, m) are a sample of."""
    members = each.shape[1]
    return each.std(axis=1, ddof=1 if members > 1 else 0)


def _quality(block: FluxBlock, values: Mapping[str, Any], heads: tuple[Head, ...]) -> Any:
    xp = namespace(block.flux)
    seen = block.observed.sum(axis=1)
    bits = {
        Quality.NO_PHOTOMETRY: seen == 0,
        Quality.FEW_BANDS: (seen > 0) & (2 * seen < block.observed.shape[1]),
        Quality.SATURATED: block.saturated,
        Quality.UNDETECTED: (seen > 0) & ~block.detected.any(axis=1),
        Quality.OUTSIDE_TRAINING: values["ood"] > 1,
    }
    for head in heads:
        if head.target == "redshift":
            bits[Quality.ENSEMBLE_DISAGREES] = (seen > 0) & (values["z_apart"] > _DISAGREEMENT)
        elif head.target == "star":
            bits[Quality.PROBABLY_STAR] = values["prob_star"] > 0.5
            if head.classes:
                bits[Quality.PROBABLY_QSO] = values["prob_qso"] > 0.5
    total = xp.zeros(len(block), xp.int32)
    for flag, holds in bits.items():
        total |= xp.where(holds, xp.int32(flag.value), xp.int32(0))
    return total
