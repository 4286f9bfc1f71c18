"""What the page is made of: values only, given by the caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from galbatch.quality.results import Evaluation, Histogram
from galbatch.quality.spectra import KnownSpectra, SpectralStatistics
from galbatch.shown import Portrait, RowShown
from galbatch.values import RejectedRow, Target


@dataclass(frozen=True)
class StageSummary:
    """One stage of the plan, and what it took.

    Parameters
    ----------
    name : str
        ``ingest``, ``train photometric``, ...
    units : int
        Partitions, files or models it was done for.
    rows : int
        Rows it went through; 0 where rows mean nothing.
    seconds : float
        Wall time of the stage; 0 where it was not measured.
    reused : int
        Units that an earlier run had finished and whose receipts still hold.
    """

    name: str
    units: int
    rows: int
    seconds: float
    reused: int = 0

    @property
    def rows_per_second(self) -> float:
        """Throughput; 0 where rows or time mean nothing."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class SinkSummary:
    """Rows delivered.

    Parameters
    ----------
    sink : str
        ``duckdb: catalogue.duckdb``.
    table : str
    model : str
    rows : int
        Rows that the table now holds for this model.
    """

    sink: str
    table: str
    model: str
    rows: int


@dataclass(frozen=True)
class Quarantine:
    """What was set aside for one reason.

    Parameters
    ----------
    what : str
        ``rows``, ``file`` or ``partition``.
    reason : str
    count : int
        Rows, files or partitions.
    examples : tuple of RejectedRow
        A few of them.
    """

    what: str
    reason: str
    count: int
    examples: tuple[RejectedRow, ...] = ()


@dataclass(frozen=True)
class SkyPartition:
    """A partition on the sky.

    Parameters
    ----------
    name : str
    ra, dec : float
        Centre, degrees, ICRS.
    rows : int
    quarantined : bool
    """

    name: str
    ra: float
    dec: float
    rows: int
    quarantined: bool = False


@dataclass(frozen=True)
class TargetLabels:
    """Labelled rows of one target.

    Parameters
    ----------
    target : Target
    train, validation, held_out : int
        Labelled rows by role.
    skipped : str
        Why the model does not predict it; empty where it does.
    """

    target: Target
    train: int
    validation: int
    held_out: int
    skipped: str = ""


@dataclass(frozen=True)
class LossCurve:
    """Loss by epoch.

    Parameters
    ----------
    name : str
        ``member 1``, ``redshift``, ...
    training : tuple of float
        One number per epoch.
    validation : tuple of float
        One number per epoch; empty where none was measured.
    """

    name: str
    training: tuple[float, ...]
    validation: tuple[float, ...] = ()


@dataclass(frozen=True)
class Reference:
    """A published number to compare with.

    Parameters
    ----------
    target : Target
    statistic : str
        A field of `PointStatistics`, `DistributionStatistics` or `ClassStatistics`.
    value : float
    source : str
        Whose, and on which rows.
    """

    target: Target
    statistic: str
    value: float
    source: str


@dataclass(frozen=True)
class HeldOut:
    """The rows on which the models were judged.

    Parameters
    ----------
    description : str
        Which rows these are, one sentence: it stands under every number.
    truth : mapping of Target to array, shape (n,)
        True values, NaN where unknown (star: 0 galaxy, 1 star, 2 quasar).
    magnitude : array, shape (n,), or None
        AB magnitude of the reference band.
    """

    description: str
    truth: Mapping[Target, NDArray[Any]]
    magnitude: NDArray[Any] | None = None


@dataclass(frozen=True, eq=False)
class RowOfReport:
    """One row, and what a model shows of it.

    Parameters
    ----------
    name : str
        Its id, with the name of the column.
    why : str
        Why it is shown.
    shown : RowShown
    """

    name: str
    why: str
    shown: RowShown


@dataclass(frozen=True, eq=False)
class OwnReport:
    """What a model shows of rows and of itself, beside what all models have.

    Parameters
    ----------
    rows : tuple of RowOfReport
    counts : mapping of str to mapping of str to int
        Rows of the whole catalogue by value, of some predicted columns: the most first.
    portrait : Portrait
    statistics : SpectralStatistics or None
        None where neither class nor redshift is known of any row.
    known : KnownSpectra or None
        The rows by which the redshifts were judged.
    judged_on : str
        Which rows these are, and what of them could not be judged, in sentences.
    """

    rows: tuple[RowOfReport, ...] = ()
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    portrait: Portrait = field(default_factory=Portrait)
    statistics: SpectralStatistics | None = None
    known: KnownSpectra | None = None
    judged_on: str = ""


@dataclass(frozen=True)
class ModelReport:
    """One model: its card, its training, its judgement and its predictions.

    Parameters
    ----------
    name, kind : str
    fingerprint : str
        Of the model, from its card.
    predicted : int
        Rows of the catalogue with a prediction.
    labels : tuple of TargetLabels
    card : tuple of (str, str)
        Further lines of the card: features, calibration, versions.
    history : tuple of LossCurve
    evaluation : Evaluation or None
        None where no row was held out.
    held_out : mapping of str to array, shape (n,) or (n, k)
        Predicted columns of the rows of `HeldOut`, in their order.
    redshifts : Histogram or None
        Of the point estimate over the whole catalogue.
    ood : Histogram or None
        Of the out-of-distribution score over the whole catalogue.
    quality : mapping of str to int
        Rows of the whole catalogue by named quality bit; ``ok`` for those with none.
    own : OwnReport or None
        None for a model that shows nothing of its own.
    """

    name: str
    kind: str
    fingerprint: str
    predicted: int
    labels: tuple[TargetLabels, ...] = ()
    card: tuple[tuple[str, str], ...] = ()
    history: tuple[LossCurve, ...] = ()
    evaluation: Evaluation | None = None
    held_out: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    redshifts: Histogram | None = None
    ood: Histogram | None = None
    quality: Mapping[str, int] = field(default_factory=dict)
    own: OwnReport | None = None


@dataclass(frozen=True)
class ReportData:
    """Everything on the page.

    Parameters
    ----------
    job : str
        Name of the job.
    survey : str
        Title of the survey.
    version : str
        Of galbatch.
    when, where : str
        Date and machine, as they shall stand on the page; empty where not wanted.
    reference_band : str
        Band of the magnitudes.
    rows_read, rows_rejected, rows_ingested : int
    partitions : int
    stages : tuple of StageSummary
    sinks : tuple of SinkSummary
    left : tuple of str
        What is not done, and why: a line for each stage that is not through.
    quarantine : tuple of Quarantine
    notices : tuple of str
        What a reader must know before believing a number (a simulated catalogue, say).
    aliases : tuple of str
        ``RAdeg -> RA``: spellings taken.
    notes : tuple of str
        Further remarks of the run.
    models : tuple of ModelReport
        The first one is the headline.
    held_out : HeldOut or None
    references : tuple of Reference
    magnitudes : Histogram or None
        Of the reference band over the whole catalogue.
    sky : tuple of SkyPartition
    max_points : int
        Points in a scatter plot, at most; more are drawn as a density.
    """

    job: str
    survey: str
    version: str
    when: str = ""
    where: str = ""
    reference_band: str = ""
    rows_read: int = 0
    rows_rejected: int = 0
    rows_ingested: int = 0
    partitions: int = 0
    stages: tuple[StageSummary, ...] = ()
    sinks: tuple[SinkSummary, ...] = ()
    left: tuple[str, ...] = ()
    quarantine: tuple[Quarantine, ...] = ()
    notices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    models: tuple[ModelReport, ...] = ()
    held_out: HeldOut | None = None
    references: tuple[Reference, ...] = ()
    magnitudes: Histogram | None = None
    sky: tuple[SkyPartition, ...] = ()
    max_points: int = 20_000
