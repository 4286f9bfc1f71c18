"""Predictions of spectra beside the classes and redshifts that the catalogue knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pandas.util import hash_array

from galbatch.columns import to_numpy, words
from galbatch.errors import counted
from galbatch.models.base import Card, SubclassModel
from galbatch.quality.spectra import KnownSpectra, class_of_words
from galbatch.sample.labels import labels, meets
from galbatch.sample.split import TEST, roles
from galbatch.shown import SpectralColumns
from galbatch.stages.predictions import own_columns
from galbatch.stages.site import Site
from galbatch.stages.training_rows import label_columns, split_of
from galbatch.store.tables import HEALPIX, read_partition
from galbatch.values import Partition, Target

_WORDS, _NAMED = 100, 5
"""Words that are no class: how many are counted each, and how many are named."""


@dataclass(frozen=True)
class _Part:
    """Rows of one partition or more; of those with `held_out` no model has seen a label."""

    rank: NDArray[np.uint64]
    held_out: NDArray[np.bool_]
    spectra: KnownSpectra

    def rows(self, kept: NDArray[np.bool_]) -> _Part:
        """Some of them."""
        return _Part(self.rank[kept], self.held_out[kept], self.spectra.part(kept))


class KnownRows:
    """A sample of the rows whose class or redshift is known: at most `report.max_rows`.

    Parameters
    ----------
    site : Site
    columns : sequence of str
        That the catalogue has.
    model : SubclassModel
    judged : SpectralColumns
    """

    def __init__(
        self, site: Site, columns: Sequence[str], model: SubclassModel, judged: SpectralColumns
    ) -> None:
        self._site, self._model, self.columns = site, model, judged
        survey = site.survey
        assert survey.spectra is not None
        self._kind, self._subclass = survey.spectra.known_class, survey.spectra.known_subclass
        wanted = [*own_columns(survey), *label_columns(survey)]
        wanted += [name for name in (self._kind, self._subclass) if name]
        wanted += [condition.column for condition in site.job.report.where]
        there = set(columns)
        self._wanted = [name for name in dict.fromkeys(wanted) if name in there]
        self._parts: list[_Part] = []
        self._below = np.uint64(2**64 - 1)
        self._thinned = False
        self._strange: Counter[str] = Counter()

    def add(self, partition: Partition, predictions: pa.Table) -> None:
        """One more partition's predictions."""
        site, survey = self._site, self._site.survey
        table = read_partition(site.layout, partition, self._wanted)
        ids = table[survey.id.column].to_numpy()
        healpix = table[HEALPIX].to_numpy() if survey.sky is not None else None
        wanted = meets(site.job.report.where, table)
        spectra = self._spectra(table, predictions, wanted)
        rank = hash_array(ids if ids.dtype.kind == "i" else ids.astype(object), categorize=False)
        known = (spectra.known_kind != "") | np.isfinite(spectra.known_z)
        known &= wanted & (rank < self._below)
        held_out = roles(split_of(site.job, survey), healpix, ids) == TEST
        self._parts.append(_Part(rank, held_out, spectra).rows(known))
        if sum(len(part.rank) for part in self._parts) > 2 * site.job.report.max_rows:
            self._parts = [self._joined()]

    def _spectra(
        self, table: pa.Table, predictions: pa.Table, wanted: NDArray[np.bool_]
    ) -> KnownSpectra:
        """What is known and told of a partition's rows; strange words of the wanted are counted."""
        judged = self.columns
        z = labels(self._site.survey, table).get("redshift")
        known_z = np.full(table.num_rows, np.nan) if z is None else z
        said = words(table, self._kind or "")
        if z is not None:
            said = np.where(np.isfinite(z), said, "")
        kind = class_of_words(said, judged.classes)
        self._count(said[wanted & (said != "") & (kind == "")])
        subclass = self._model.subclasses(kind, words(table, self._subclass or ""))
        numbers = [
            np.asarray(to_numpy(predictions[name]), np.float64)
            for name in (judged.z, judged.error, judged.score, judged.chi2)
        ]
        return KnownSpectra(
            kind, words(predictions, judged.kind),
            np.where(kind == "", "", subclass), self._model.told_subclasses(predictions),
            known_z, *numbers,
        )  # fmt: skip

    def _count(self, strange: NDArray[np.str_]) -> None:
        """Count words that are no class, of very many the later ones together."""
        for word, rows in Counter(strange.tolist()).items():
            is_own = word in self._strange or len(self._strange) < _WORDS
            self._strange[word if is_own else ""] += rows

    def _joined(self) -> _Part:
        """All of them together; of too many those of the lowest ranks."""
        parts, at_most = self._parts, self._site.job.report.max_rows
        spectra = KnownSpectra(
            **{
                name: np.concatenate([getattr(part.spectra, name) for part in parts])
                for name in vars(parts[0].spectra)
            }
        )
        rank = np.concatenate([part.rank for part in parts])
        held_out = np.concatenate([part.held_out for part in parts])
        whole = _Part(rank, held_out, spectra)
        if len(rank) <= at_most:
            return whole
        self._below, self._thinned = np.partition(rank, at_most)[at_most], True
        return whole.rows(rank < self._below)

    def judged(self, target: Target) -> KnownSpectra | None:
        """The rows by which a target is judged; None without any.

        Parameters
        ----------
        target : {"redshift", "star"}
        """
        if not self._parts:
            return None
        part = self._joined()
        if _is_taught(self._model.card, target):
            part = part.rows(part.held_out)
        return part.spectra if len(part.rank) else None

    def description(self, by_class: KnownSpectra | None, by_redshift: KnownSpectra | None) -> str:
        """Which rows are judged, and what could not be, in sentences.

        Parameters
        ----------
        by_class, by_redshift : KnownSpectra or None
            As `judged` gives them.
        """
        has_class = by_class is not None and bool((by_class.known_kind != "").any())
        said = [self._classes_on() if has_class else self._no_class()]
        if self._strange:
            said.append(self._strange_words())
        if by_redshift is not None and np.isfinite(by_redshift.known_z).any():
            said.append(self._redshifts_on())
            bare = np.isfinite(by_redshift.known_z) & (by_redshift.known_kind == "")
            if bare.any():
                said.append(
                    f"Of {counted(int(bare.sum()), 'row')} of these no class is known: whether "
                    "their redshift is good is judged by the limit of the class that was found."
                )
        else:
            rows = "held-out row" if _is_taught(self._model.card, "redshift") else "row"
            said.append(f"No {rows} has a known redshift.")
        if self._site.job.report.where:
            said.append("Rows for which report.where does not hold are left out.")
        if self._thinned:
            at_most = counted(self._site.job.report.max_rows, "row")
            said.append(f"Of all these {at_most} were drawn at random.")
        return " ".join(said)

    def _classes_on(self) -> str:
        """Which rows the classes are judged on."""
        if _is_taught(self._model.card, "star"):
            return f"Classes are judged on {self._held_out()}, since labels of others taught them."
        return (
            f"Classes are judged on all rows where they are known{self._of_those}, since no label "
            "taught them."
        )

    def _redshifts_on(self) -> str:
        """Which rows the redshifts are judged on."""
        if _is_taught(self._model.card, "redshift"):
            return (
                f"Redshifts are judged on {self._held_out()}, since labels of the others have "
                "calibrated their errors."
            )
        return (
            "Redshifts are judged on all rows where the survey's label of them holds, since no "
            "label taught this model."
        )

    def _held_out(self) -> str:
        split = split_of(self._site.job, self._site.survey)
        return f"the {split.test:.0%} held out (seed {split.seed})"

    @property
    def _of_those(self) -> str:
        """Which rows have a known class at all, if the survey has a label of the redshift."""
        label = self._site.survey.labels.redshift
        return ", of those whose redshift the survey's label takes" if label is not None else ""

    def _no_class(self) -> str:
        """Why no class is judged."""
        if self._kind is None:
            return "No class is known: the survey has no spectra.known_class."
        if self._kind not in self._wanted:
            return f"No class is known: the catalogue lacks column '{self._kind}' (known_class)."
        of_those = f"{self._of_those}," if self._of_those else ""
        return (
            f"No class is judged: no row{of_those} has {_listed(self.columns.classes)} in column "
            f"'{self._kind}' (known_class)."
        )

    def _strange_words(self) -> str:
        """Words of the column of known classes that are none."""
        named = Counter({word: rows for word, rows in self._strange.items() if word})
        told = [f"'{word}' {rows}" for word, rows in named.most_common(_NAMED)]
        more = " and others" if len(self._strange) > _NAMED else ""
        return (
            f"Left out of the classes are {counted(self._strange.total(), 'row')} whose word in "
            f"column '{self._kind}' is not {_listed(self.columns.classes)}: "
            f"{', '.join(told)}{more}."
        )


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _is_taught(card: Card, target: Target) -> bool:
    """Whether a model has seen labels of a target."""
    return sum(card.rows.get(target, {}).values()) > 0
