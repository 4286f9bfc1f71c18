"""The table that sets the models side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from galbatch.quality.results import Evaluation, TargetEvaluation
from galbatch.report.data import ModelReport, Reference
from galbatch.report.words import NOTHING, decimals, percent, thousands
from galbatch.targets import RECORDS
from galbatch.values import TARGETS, Target

Group = Literal["point", "distribution", "classes", "multiclass", "quasars"]


@dataclass(frozen=True)
class Statistic:
    """A line of the table.

    Parameters
    ----------
    key : str
        Field of the group's values.
    label : str
    group : {"point", "distribution", "classes", "multiclass", "quasars"}
    best : {"low", "high", ""} or float
        The number to be nearest to, where neither low nor high is best; empty where models
        cannot be ranked by it.
    shown : callable
        From the number to its text.
    error : str
        Field with its standard error; empty where there is none.
    of : str
        The class whose number it is, of a statistic that every class has; empty otherwise.
    """

    key: str
    label: str
    group: Group
    best: Literal["low", "high", ""] | float
    shown: Callable[[float], str]
    error: str = ""
    of: str = ""

    @property
    def word(self) -> str:
        """What a survey's published numbers call it."""
        apart = self.group in ("multiclass", "quasars")
        return f"{self.of or self.group}_{self.key}" if apart else self.key

    def value(self, evaluation: TargetEvaluation | None, field: str = "") -> float:
        """The number (or another field of its group), NaN where there is none."""
        group = getattr(evaluation, self.group, None)
        if self.of and group is not None:
            return float(group.of(self.of, field or self.key))
        return float(getattr(group, field or self.key, math.nan))

    def loss(self, value: float) -> float:
        """How far from the best, infinite where there is no number."""
        if not math.isfinite(value) or self.best == "":
            return math.inf
        if isinstance(self.best, str):
            return value if self.best == "low" else -value
        return abs(value - self.best)


@dataclass(frozen=True)
class Cell:
    """One model's number.

    Parameters
    ----------
    text : str
    error : str
        Its standard error; empty where there is none.
    best : bool
        Better than every other model by more than their standard errors.
    """

    text: str
    error: str = ""
    best: bool = False


@dataclass(frozen=True)
class ComparisonLine:
    """One statistic of all models.

    Parameters
    ----------
    label : str
    goal : str
        What would be best.
    cells : tuple of Cell
        One per model.
    references : tuple of str
        Published numbers and whose they are.
    """

    label: str
    goal: str
    cells: tuple[Cell, ...]
    references: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """One target.

    Parameters
    ----------
    title : str
    lines : tuple of ComparisonLine
    """

    title: str
    lines: tuple[ComparisonLine, ...]


def _three(value: float) -> str:
    return decimals(value, 3)


_HONESTY = (
    Statistic(
        "coverage68",
        "true values within the 68\u202f% interval",
        "distribution",
        0.68,
        percent,
        "coverage68_error",
    ),
    Statistic(
        "coverage95",
        "true values within the 95\u202f% interval",
        "distribution",
        0.95,
        percent,
        "coverage95_error",
    ),
    Statistic("pull_width", "width of the pulls", "distribution", 1.0, _three, "pull_width_error"),
)
_REDSHIFT = (
    Statistic(
        "sigma_nmad",
        Markup("σ<sub>NMAD</sub> of Δz/(1+z)"),
        "point",
        "low",
        decimals,
        "sigma_nmad_error",
    ),
    Statistic("bias", "bias, median Δz/(1+z)", "point", 0.0, decimals, "bias_error"),
    Statistic("mean", "mean Δz/(1+z)", "point", 0.0, decimals),
    Statistic(
        "outliers", "outliers, Δz/(1+z) beyond ±0.15", "point", "low", percent, "outliers_error"
    ),
    Statistic(
        "outliers_5sigma", Markup("outliers beyond 5 σ<sub>NMAD</sub>"), "point", "", percent
    ),
    Statistic("rms", "r.m.s. of Δz/(1+z)", "point", "low", decimals),
    Statistic("slope", "slope of predicted against true", "point", 1.0, _three),
    Statistic("r2", "r²", "point", "high", _three),
    Statistic("crps", "CRPS", "distribution", "low", decimals, "crps_error"),
    Statistic("cde_loss", "CDE loss", "distribution", "low", _three, "cde_loss_error"),
    Statistic("pit_ks", "KS distance of the PIT from uniform", "distribution", "low", decimals),
    Statistic("pit_ks_p", "chance of such a KS distance", "distribution", "", _three),
    *_HONESTY,
    Statistic(
        "sigma_nmad",
        Markup("quasars: σ<sub>NMAD</sub> of Δz/(1+z)"),
        "quasars",
        "low",
        decimals,
        "sigma_nmad_error",
    ),
    Statistic(
        "outliers",
        "quasars: outliers, Δz/(1+z) beyond ±0.15",
        "quasars",
        "low",
        percent,
        "outliers_error",
    ),
)
_STAR = (
    Statistic("accuracy", "accuracy at P(star) = 0.5", "classes", "high", percent),
    Statistic("auc", "AUC", "classes", "high", decimals),
    Statistic("galaxy_completeness", "completeness of galaxies", "classes", "high", percent),
    Statistic("galaxy_purity", "purity of galaxies", "classes", "high", percent),
    Statistic("star_completeness", "completeness of stars", "classes", "high", percent),
    Statistic("star_purity", "purity of stars", "classes", "high", percent),
    Statistic("calibration_error", "calibration error", "classes", "low", decimals),
    Statistic("log_loss", "log loss", "classes", "low", decimals),
    Statistic("accuracy", "accuracy of all three classes", "multiclass", "high", percent),
    Statistic("log_loss", "log loss of all three classes", "multiclass", "low", decimals),
    Statistic(
        "auc", "AUC of galaxies against stars and quasars", "multiclass", "high", decimals,
        of="galaxy",
    ),
    Statistic("auc", "AUC of quasars", "multiclass", "high", decimals, of="qso"),
    Statistic("completeness", "completeness of quasars", "multiclass", "high", percent, of="qso"),
    Statistic("purity", "purity of quasars", "multiclass", "high", percent, of="qso"),
    Statistic(
        "calibration_error", "calibration error of P(quasar)", "multiclass", "low", decimals,
        of="qso",
    ),
)  # fmt: skip
_VALUE = (
    Statistic("sigma_nmad", Markup("σ<sub>NMAD</sub>"), "point", "low", _three, "sigma_nmad_error"),
    Statistic("bias", "bias, median", "point", 0.0, _three, "bias_error"),
    Statistic("rmse", "r.m.s. error", "point", "low", _three),
    Statistic(
        "outliers_5sigma", Markup("outliers beyond 5 σ<sub>NMAD</sub>"), "point", "", percent
    ),
    Statistic("slope", "slope of predicted against true", "point", 1.0, _three),
    Statistic("r2", "r²", "point", "high", _three),
    *_HONESTY,
)


def statistics_of(target: Target) -> tuple[Statistic, ...]:
    """The lines of one target.

    Parameters
    ----------
    target : Target

    Returns
    -------
    tuple of Statistic
    """
    record = RECORDS[target]
    if record.is_class:
        return _STAR
    return _REDSHIFT if record.is_relative else _VALUE


def compare(models: Sequence[ModelReport], references: Sequence[Reference]) -> tuple[Block, ...]:
    """Every number of every model, by target.

    Parameters
    ----------
    models : sequence of ModelReport
    references : sequence of Reference

    Returns
    -------
    tuple of Block
        Of the targets for which some model was judged.
    """
    blocks = []
    for target in TARGETS:
        found = [_of(model.evaluation, target) for model in models]
        if not any(found):
            continue
        lines = [_rows(found)]
        for statistic in statistics_of(target):
            values = [statistic.value(one) for one in found]
            known = [value for value in values if math.isfinite(value)]
            published = tuple(
                f"{statistic.shown(one.value)} {one.source}"
                for one in references
                if one.target == target and one.statistic == statistic.word
            )
            if known:
                lines.append(
                    ComparisonLine(
                        statistic.label, _goal(statistic), _cells(statistic, found), published
                    )
                )
        blocks.append(Block(RECORDS[target].title, tuple(lines)))
    return tuple(blocks)


def _cells(statistic: Statistic, found: Sequence[TargetEvaluation | None]) -> tuple[Cell, ...]:
    values = [statistic.value(one) for one in found]
    errors = [
        statistic.value(one, statistic.error) if statistic.error else math.nan for one in found
    ]
    best = _best([statistic.loss(value) for value in values], errors)
    return tuple(
        Cell(
            statistic.shown(value),
            f"±\u202f{statistic.shown(error)}" if math.isfinite(error) else "",
            place == best,
        )
        for place, (value, error) in enumerate(zip(values, errors, strict=True))
    )


def _best(losses: Sequence[float], errors: Sequence[float]) -> int | None:
    """The model ahead of all others, or None where chance may have put it there."""
    order = sorted(range(len(losses)), key=losses.__getitem__)
    if len(order) < 2 or not math.isfinite(losses[order[1]]):
        return None
    first, second = order[:2]
    chance = math.hypot(*(errors[one] for one in (first, second) if math.isfinite(errors[one])))
    return first if losses[second] - losses[first] > chance else None


def _rows(found: Sequence[TargetEvaluation | None]) -> ComparisonLine:
    cells = []
    for one in found:
        if one is None:
            cells.append(Cell(NOTHING))
            continue
        missing = f"{thousands(one.missing)} without a prediction" if one.missing else ""
        cells.append(Cell(thousands(one.labelled - one.missing), missing))
    return ComparisonLine("held-out rows", "", tuple(cells), ())


def _goal(statistic: Statistic) -> str:
    if isinstance(statistic.best, str):
        return f"{statistic.best} is good" if statistic.best else ""
    number = percent(statistic.best, 0) if statistic.shown is percent else f"{statistic.best:g}"
    return f"{number} is good"


def _of(evaluation: Evaluation | None, target: Target) -> TargetEvaluation | None:
    return evaluation.of(target) if evaluation else None
