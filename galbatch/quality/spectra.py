"""How good classes and redshifts of spectra are, against those that are known."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galbatch.quality.classes import auc
from galbatch.quality.metrics import redshift_residual, sigma_68, sigma_nmad
from galbatch.quality.results import Plain
from galbatch.quality.rows import Array
from galbatch.shown import SpectralColumns

WITHIN = (0.001, 0.003, 0.01)
"""Of (z - z_known) / (1 + z_known): shares within these are told."""
GOOD, GOOD_QSO = WITHIN[0], WITHIN[2]
"""What a redshift is good within: lines of quasars are broad, and shifted against each other."""
ALL = "all"
_MOST = 14
"""Names of a table of confusion; the rarest others are told as one."""
OTHERS = "others"
_LIMITS = 200
_ALIASES = {"QUASAR": "QSO"}


@dataclass(frozen=True, eq=False)
class KnownSpectra:
    """Predictions of n rows beside what is known of them.

    Parameters
    ----------
    known_kind, kind : ndarray of str, shape (n,)
        Class; empty where it is not known, or nothing was predicted.
    known_subclass, subclass : ndarray of str, shape (n,)
        As the model's are judged; empty for none.
    known_z, z, error : ndarray, shape (n,)
        NaN where not known, or without a prediction.
    score, chi2 : ndarray, shape (n,)
        The larger, the surer; reduced chi-square.
    """

    known_kind: NDArray[np.str_]
    kind: NDArray[np.str_]
    known_subclass: NDArray[np.str_]
    subclass: NDArray[np.str_]
    known_z: Array
    z: Array
    error: Array
    score: Array
    chi2: Array

    def part(self, rows: NDArray[np.bool_]) -> KnownSpectra:
        """Some of them."""
        return KnownSpectra(**{name: values[rows] for name, values in vars(self).items()})


@dataclass(frozen=True)
class Confusion(Plain):
    """How often members of each class are called so.

    Parameters
    ----------
    names : tuple of str
        Known and told ones.
    rows : tuple of tuple of int
        By known name, then by told name.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]

    @property
    def right(self) -> int:
        """Rows that are called what they are."""
        return sum(line[place] for place, line in enumerate(self.rows))

    @property
    def total(self) -> int:
        """All rows."""
        return sum(map(sum, self.rows))


@dataclass(frozen=True)
class RedshiftsOfClass(Plain):
    """Redshifts of the members of a class; NaN where there are none.

    Parameters
    ----------
    name : str
        A class, or ``all``.
    rows : int
        With a known redshift and a predicted one.
    missing : int
        With a known redshift and no predicted one.
    sigma_nmad, offset : float
        Of (z - z_known) / (1 + z_known); its median.
    within : tuple of float
        Shares within `WITHIN`, of those that have a prediction.
    pull_width : float
        Half the range of the central 68 % of (z - z_known) / error.
    """

    name: str
    rows: int
    missing: int
    sigma_nmad: float
    offset: float
    within: tuple[float, ...]
    pull_width: float


@dataclass(frozen=True)
class Ranking(Plain):
    """How well a number tells failures: a wrong class, or a redshift that is not good.

    Parameters
    ----------
    name : str
        Of the score.
    rows, failures : int
    by_score, by_chi2 : float
        Area under the ROC curve of the score and of the reduced chi-square; NaN without a failure,
        or with nothing else.
    score : tuple of float
        Limits, rising.
    kept, failing : tuple of float
        Shares: of rows at or above a limit, and of failures among these.
    """

    name: str
    rows: int
    failures: int
    by_score: float
    by_chi2: float
    score: tuple[float, ...]
    kept: tuple[float, ...]
    failing: tuple[float, ...]


@dataclass(frozen=True)
class SpectralStatistics(Plain):
    """What is known of how good a model is.

    Parameters
    ----------
    classes, subclasses : Confusion or None
        None where none are known.
    redshifts : tuple of RedshiftsOfClass
        ``all`` first.
    ranking : Ranking or None
    """

    classes: Confusion | None
    subclasses: Confusion | None
    redshifts: tuple[RedshiftsOfClass, ...]
    ranking: Ranking | None


def class_of_words(said: NDArray[np.str_], classes: tuple[str, ...]) -> NDArray[np.str_]:
    """Classes as a catalogue writes them: in letters of any case, with spaces, `quasar`.

    Parameters
    ----------
    said : ndarray of str, shape (n,)
    classes : tuple of str
        In capital letters.

    Returns
    -------
    ndarray of str, shape (n,)
        One of the classes; empty for a word that is none of them.
    """
    names, place = np.unique(said, return_inverse=True)
    upper = [name.strip().upper() for name in names.tolist()]
    meant = [_ALIASES.get(name, name) for name in upper]
    found = np.array([name if name in classes else "" for name in meant], dtype=np.str_)
    return found[place]


def spectral_statistics(
    by_class: KnownSpectra | None, by_redshift: KnownSpectra | None, columns: SpectralColumns
) -> SpectralStatistics | None:
    """Judge classes and redshifts.

    Parameters
    ----------
    by_class, by_redshift : KnownSpectra or None
        Rows whose class, and whose redshift, the model has not learned by; often the same. None
        without any.
    columns : SpectralColumns
        Of the model.

    Returns
    -------
    SpectralStatistics or None
        None where nothing is known.
    """
    kinds = subclasses = ranked = None
    redshifts: tuple[RedshiftsOfClass, ...] = ()
    if by_class is not None:
        kinds = confusion(by_class.known_kind, by_class.kind, columns.classes)
        subclasses = confusion(by_class.known_subclass, by_class.subclass)
    if by_redshift is not None:
        redshifts = _redshifts_by_class(by_redshift, columns.classes)
        ranked = ranking(by_redshift, columns.score_name)
    if kinds is None and not redshifts:
        return None
    return SpectralStatistics(kinds, subclasses, redshifts, ranked)


def confusion(
    known: NDArray[np.str_], told: NDArray[np.str_], names: tuple[str, ...] = ()
) -> Confusion | None:
    """How often each known name is told as each.

    Parameters
    ----------
    known, told : ndarray of str, shape (n,)
        A row with an empty name is left out.
    names : tuple of str
        That come first, in this order, if there are any of them; others by their frequency.

    Returns
    -------
    Confusion or None
        None without a row. The rarest of very many names are told as `OTHERS`.
    """
    both = (known != "") & (told != "")
    pairs = Counter(zip(known[both].tolist(), told[both].tolist(), strict=True))
    if not pairs:
        return None
    often: Counter[str] = Counter()
    for (one, other), number in pairs.items():
        often[one] += number
        often[other] += number
    order = [name for name in names if name in often]
    order += sorted(often.keys() - set(order), key=lambda name: (-often[name], name))
    kept = order if len(order) <= _MOST else [*order[: _MOST - 1], OTHERS]
    place = {name: min(number, len(kept) - 1) for number, name in enumerate(order)}
    table = np.zeros((len(kept), len(kept)), np.int64)
    for (one, other), number in pairs.items():
        table[place[one], place[other]] += number
    return Confusion(tuple(kept), tuple(tuple(line) for line in table.tolist()))


def failures(rows: KnownSpectra) -> NDArray[np.bool_]:
    """Which rows have another class than is known, or no good redshift.

    Where no class is known, a redshift is good within the limit of the class that was found.

    Parameters
    ----------
    rows : KnownSpectra

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    kind = np.where(rows.known_kind == "", rows.kind, rows.known_kind)
    limit = np.where(kind == "QSO", GOOD_QSO, GOOD)
    far = np.abs(redshift_residual(rows.z, rows.known_z)) > limit
    return np.asarray(far | ((rows.known_kind != "") & (rows.known_kind != rows.kind)))


def ranking(rows: KnownSpectra, name: str) -> Ranking | None:
    """How well the score and chi-square tell failures; None without a row to tell it by."""
    rows = rows.part(
        np.isfinite(rows.known_z) & np.isfinite(rows.z) & np.isfinite(rows.chi2)
        & ~np.isnan(rows.score)
    )  # fmt: skip
    if not len(rows.z):
        return None
    # Without a second minimum, where the score is -1, there is no doubt.
    score = np.where(rows.score < 0, np.inf, rows.score)
    failed = failures(rows)
    limits = np.unique(score[np.isfinite(score)])
    if len(limits) > _LIMITS:
        limits = limits[np.linspace(0, len(limits) - 1, _LIMITS).astype(int)]
    above = len(score) - np.searchsorted(np.sort(score), limits)
    failing = int(failed.sum()) - np.searchsorted(np.sort(score[failed]), limits)
    return Ranking(
        name, len(score), int(failed.sum()), auc(_ranks(-score), failed),
        auc(_ranks(rows.chi2), failed),
        tuple(limits.tolist()), tuple((above / len(score)).tolist()),
        tuple((failing / above).tolist()),
    )  # fmt: skip


def _ranks(values: Array) -> Array:
    """From 0 to 1, the same for the same values: infinite ones are ranked as well."""
    _, places = np.unique(values, return_inverse=True)
    return np.asarray(places / max(int(places.max()), 1), np.float64)


def _redshifts_by_class(
    rows: KnownSpectra, classes: tuple[str, ...]
) -> tuple[RedshiftsOfClass, ...]:
    """Of all rows with a known redshift, and of those of each known class; empty without a row."""
    known = rows.part(np.isfinite(rows.known_z))
    if not len(known.z):
        return ()
    members = {name: known.known_kind == name for name in classes}
    each = [_redshifts(name, known.part(own)) for name, own in members.items() if own.any()]
    return (_redshifts(ALL, known), *each)


def _redshifts(name: str, rows: KnownSpectra) -> RedshiftsOfClass:
    found = np.isfinite(rows.z)
    rows = rows.part(found)
    residual = redshift_residual(rows.z, rows.known_z)
    good = np.isfinite(rows.error) & (rows.error > 0)
    pulls = (rows.z[good] - rows.known_z[good]) / rows.error[good]
    within = [float(np.mean(np.abs(residual) <= limit)) if found.any() else np.nan
              for limit in WITHIN]  # fmt: skip
    return RedshiftsOfClass(
        name, len(residual), int((~found).sum()), sigma_nmad(residual),
        float(np.median(residual)) if len(residual) else float("nan"),
        tuple(within), sigma_68(pulls) if len(pulls) > 1 else float("nan"),
    )  # fmt: skip
