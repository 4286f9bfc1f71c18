"""What evaluation finds: frozen numbers, which the report draws and `report.json` keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from galbatch.values import Target


class Plain:
    """A value that can be written as JSON."""

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary; null where a number does not exist."""
        record: dict[str, Any] = _plain(self)
        return record


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@dataclass(frozen=True)
class Histogram(Plain):
    """Counts between edges.

    Parameters
    ----------
    edges : tuple of float, length n + 1
        Ascending, in the unit of the quantity.
    counts : tuple of int, length n
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class PointStatistics(Plain):
    """Point estimates against true values; NaN where a number does not exist.

    The residual is (predicted - true) / (1 + true) for redshifts and predicted - true otherwise.

    Parameters
    ----------
    rows : int
        Rows with a true and a predicted value.
    bias : float
        Median residual.
    bias_error : float
        Its bootstrap standard error.
    mean : float
        Mean residual.
    sigma_nmad : float
        1.4826 median|residual - median residual|.
    sigma_nmad_error : float
        Its bootstrap standard error.
    outliers : float
        Fraction with |residual| > `threshold` (NaN without a threshold).
    outliers_error : float
        Its binomial standard error.
    threshold : float
        0.15 for redshifts, NaN otherwise.
    outliers_5sigma : float
        Fraction with |residual - bias| > 5 sigma_nmad.
    rms : float
        Root mean square residual.
    rmse : float
        Root mean square of predicted - true (as `rms` where the residual is not normalised).
    slope : float
        Least-squares slope of predicted against true values.
    r2 : float
        Coefficient of determination, 1 - SS_residual / SS_total.
    """

    rows: int
    bias: float
    bias_error: float
    mean: float
    sigma_nmad: float
    sigma_nmad_error: float
    outliers: float
    outliers_error: float
    threshold: float
    outliers_5sigma: float
    rms: float
    rmse: float
    slope: float
    r2: float


@dataclass(frozen=True)
class DistributionStatistics(Plain):
    """Predicted uncertainties against what happened; NaN where a number does not exist.

    Parameters
    ----------
    rows : int
        Rows with a true value and an interval or quantiles.
    coverage68, coverage95 : float
        Fraction of true values within the 68 % and the 95 % interval.
    pull_median, pull_width : float
        Of (median - true) / half the 68 % interval, the median and half the range of the central
        68 %: 0 and 1 when honest. The NMAD would call peaked distributions too wide.
    crps : float
        Mean continuous ranked probability score, unit of the target.
    cde_loss : float
        Conditional density estimate loss, 1 / unit of the target.
    pit_ks : float
        Kolmogorov-Smirnov distance of the PIT from uniform.
    pit_ks_5percent : float
        A distance that an honest distribution exceeds once in 20, for this number of rows.
    pit_ks_p : float
        Chance of a distance as large or larger, if the distributions are honest.
    pit : Histogram or None
        Counts of the probability integral transform in [0, 1].
    coverage68_error, coverage95_error : float
        Binomial standard errors.
    pull_width_error, crps_error, cde_loss_error : float
        Bootstrap standard errors.
    """

    rows: int
    coverage68: float
    coverage95: float
    pull_median: float
    pull_width: float
    crps: float
    cde_loss: float
    pit_ks: float
    pit_ks_5percent: float
    pit_ks_p: float
    pit: Histogram | None
    coverage68_error: float
    coverage95_error: float
    pull_width_error: float
    crps_error: float
    cde_loss_error: float


@dataclass(frozen=True)
class ClassStatistics(Plain):
    """Star probabilities against known classes; a star is prob_star >= `threshold`.

    Parameters
    ----------
    rows, stars, galaxies : int
        Rows with a known class and a prediction.
    threshold : float
    accuracy : float
        Fraction classified correctly.
    auc : float
        Area under the ROC curve.
    galaxies_as_galaxies, galaxies_as_stars, stars_as_galaxies, stars_as_stars : int
        Confusion matrix (true class first).
    galaxy_completeness, galaxy_purity, star_completeness, star_purity : float
    calibration_error : float
        Expected calibration error: mean |fraction of stars - mean probability| over 10 bins of
        probability, weighted by their rows.
    brier : float
        Mean squared difference of probability and class.
    log_loss : float
        Mean negative log likelihood, nat.
    false_positive_rate, true_positive_rate : tuple of float
        ROC curve from (0, 0) to (1, 1): fraction of galaxies called stars, of stars called stars.
    reliability_probability, reliability_fraction : tuple of float
        Mean probability and fraction of stars in each filled bin of probability.
    reliability_rows : tuple of int
    """

    rows: int
    stars: int
    galaxies: int
    threshold: float
    accuracy: float
    auc: float
    galaxies_as_galaxies: int
    galaxies_as_stars: int
    stars_as_galaxies: int
    stars_as_stars: int
    galaxy_completeness: float
    galaxy_purity: float
    star_completeness: float
    star_purity: float
    calibration_error: float
    brier: float
    log_loss: float
    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]
    reliability_probability: tuple[float, ...]
    reliability_fraction: tuple[float, ...]
    reliability_rows: tuple[int, ...]


@dataclass(frozen=True)
class MulticlassStatistics(Plain):
    """Probabilities of several classes against known ones; a row is called what is most probable.

    Parameters
    ----------
    classes : tuple of str, length k
    rows : tuple of int, length k
        Rows of each true class with a prediction.
    accuracy : float
        Fraction called what they are.
    confusion : tuple of tuple of int, (k, k)
        Rows by true class (first) and by what they are called.
    completeness, purity : tuple of float, length k
    auc : tuple of float, length k
        Area under the ROC curve of each class against all others.
    calibration_error : tuple of float, length k
        Expected calibration error of each class' probability (see `ClassStatistics`).
    top_calibration_error : float
        The same of the highest probability against being right (Guo et al. 2017).
    brier : float
        Mean over rows of the squared difference of probability and class, summed over classes.
    log_loss : float
        Mean negative log likelihood, nat.
    reliability_probability, reliability_fraction, reliability_rows : tuple of tuple, length k
        Of each class: mean probability, fraction of its members and rows in each filled bin.
    """

    classes: tuple[str, ...]
    rows: tuple[int, ...]
    accuracy: float
    confusion: tuple[tuple[int, ...], ...]
    completeness: tuple[float, ...]
    purity: tuple[float, ...]
    auc: tuple[float, ...]
    calibration_error: tuple[float, ...]
    top_calibration_error: float
    brier: float
    log_loss: float
    reliability_probability: tuple[tuple[float, ...], ...]
    reliability_fraction: tuple[tuple[float, ...], ...]
    reliability_rows: tuple[tuple[int, ...], ...]

    def of(self, name: str, statistic: str) -> float:
        """One class' number of a statistic that has one for each."""
        return float(getattr(self, statistic)[self.classes.index(name)])


@dataclass(frozen=True)
class BinnedStatistics(Plain):
    """Point statistics in bins of another quantity.

    Parameters
    ----------
    by : {"magnitude", "redshift", "odds"}
        Magnitude of the reference band, predicted redshift, or odds.
    edges : tuple of float, length n + 1
    rows : tuple of int, length n
    centre : tuple of float, length n
        Median of the quantity in the bin; NaN where empty.
    bias, bias_error, sigma_nmad, sigma_nmad_error, outliers, outliers_error : tuple of float
        As in `PointStatistics`; NaN where a bin has too few rows.
    """

    by: Literal["magnitude", "redshift", "odds"]
    edges: tuple[float, ...]
    rows: tuple[int, ...]
    centre: tuple[float, ...]
    bias: tuple[float, ...]
    bias_error: tuple[float, ...]
    sigma_nmad: tuple[float, ...]
    sigma_nmad_error: tuple[float, ...]
    outliers: tuple[float, ...]
    outliers_error: tuple[float, ...]


@dataclass(frozen=True)
class BinnedClass(Plain):
    """One class against others, in bins of the reference band's magnitude.

    Parameters
    ----------
    name : str
        The class.
    against : str
        What the others are: `galaxy`, or `rest` for all of them.
    edges : tuple of float, length n + 1
        AB magnitudes.
    rows, members : tuple of int, length n
        Rows of known class in the bin, and those of them that are of the class.
    centre : tuple of float, length n
        Median magnitude in the bin; NaN where empty.
    auc, auc_error : tuple of float, length n
        Area under the ROC curve and its standard error; NaN where a class is absent.
    calibration_error : tuple of float, length n
        As in `ClassStatistics`; NaN in bins of fewer than 10 rows.
    """

    name: str
    against: Literal["galaxy", "rest"]
    edges: tuple[float, ...]
    rows: tuple[int, ...]
    members: tuple[int, ...]
    centre: tuple[float, ...]
    auc: tuple[float, ...]
    auc_error: tuple[float, ...]
    calibration_error: tuple[float, ...]


@dataclass(frozen=True)
class BinnedDistributions(Plain):
    """How honest the predicted uncertainties are, in bins of another quantity.

    Parameters
    ----------
    by : {"magnitude", "redshift", "odds"}
        Magnitude of the reference band, predicted redshift, or odds.
    edges : tuple of float, length n + 1
    centre : tuple of float, length n
        Median of the quantity in the bin; NaN where empty.
    bins : tuple of DistributionStatistics, length n
        NaN where a bin has too few rows.
    """

    by: Literal["magnitude", "redshift", "odds"]
    edges: tuple[float, ...]
    centre: tuple[float, ...]
    bins: tuple[DistributionStatistics, ...]


@dataclass(frozen=True)
class TargetEvaluation(Plain):
    """How good one model is at one target.

    Parameters
    ----------
    target : Target
    column : str
        The predicted column that was judged.
    labelled : int
        Rows with a true value.
    missing : int
        Of these, rows without a prediction: left out of every number.
    point : PointStatistics or None
        None for star/galaxy.
    distribution : DistributionStatistics or None
        None where the model gives no uncertainty.
    classes : ClassStatistics or None
        For the target `star` only: stars against galaxies, quasars left out.
    multiclass : MulticlassStatistics or None
        For the target `star` only, where quasars are a class that the model predicts.
    binned_classes : tuple of BinnedClass
        For the target `star` only, where magnitudes are known.
    quasars : PointStatistics or None
        For redshifts only: those of quasars, which no other number counts.
    binned : tuple of BinnedStatistics
        For redshifts only.
    honesty : tuple of BinnedDistributions
        Where the model gives an uncertainty.
    """

    target: Target
    column: str
    labelled: int
    missing: int
    point: PointStatistics | None = None
    distribution: DistributionStatistics | None = None
    classes: ClassStatistics | None = None
    multiclass: MulticlassStatistics | None = None
    binned_classes: tuple[BinnedClass, ...] = ()
    quasars: PointStatistics | None = None
    binned: tuple[BinnedStatistics, ...] = ()
    honesty: tuple[BinnedDistributions, ...] = ()


@dataclass(frozen=True)
class Evaluation(Plain):
    """How good one model is.

    Parameters
    ----------
    rows : int
        Rows it was judged on (each target uses those of them that have its label).
    targets : tuple of TargetEvaluation
        Those with at least one labelled and predicted row.
    """

    rows: int
    targets: tuple[TargetEvaluation, ...]

    def of(self, target: Target) -> TargetEvaluation | None:
        """One target's evaluation."""
        return next((item for item in self.targets if item.target == target), None)
