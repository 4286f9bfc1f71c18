"""Predictions of spectra beside the classes and redshifts that the catalogue knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pandas.util import hash_array

from galbatch.columns import to_numpy, words
from galbatch.errors import counted
from galbatch.models.base import Card, SubclassModel
from galbatch.quality.spectra import KnownSpectra
from galbatch.sample.labels import labels, meets
from galbatch.sample.split import TEST, roles
from galbatch.shown import SpectralColumns
from galbatch.stages.predictions import own_columns
from galbatch.stages.site import Site
from galbatch.stages.training_rows import label_columns, split_of
from galbatch.store.tables import HEALPIX, read_partition
from galbatch.values import Partition, Target


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

    def add(self, partition: Partition, predictions: pa.Table) -> None:
        """One more partition's predictions."""
        site, survey = self._site, self._site.survey
        table = read_partition(site.layout, partition, self._wanted)
        ids = table[survey.id.column].to_numpy()
        healpix = table[HEALPIX].to_numpy() if survey.sky is not None else None
        spectra = self._spectra(table, predictions)
        rank = hash_array(ids if ids.dtype.kind == "i" else ids.astype(object), categorize=False)
        known = (spectra.known_kind != "") | np.isfinite(spectra.known_z)
        known &= meets(site.job.report.where, table) & (rank < self._below)
        held_out = roles(split_of(site.job, survey), healpix, ids) == TEST
        self._parts.append(_Part(rank, held_out, spectra).rows(known))
        if sum(len(part.rank) for part in self._parts) > 2 * site.job.report.max_rows:
            self._parts = [self._joined()]

    def _spectra(self, table: pa.Table, predictions: pa.Table) -> KnownSpectra:
        """What is known and told of a partition's rows."""
        judged = self.columns
        z = labels(self._site.survey, table).get("redshift")
        known_z = np.full(table.num_rows, np.nan) if z is None else z
        kind = words(table, self._kind or "")
        if z is not None:
            kind = np.where(np.isfinite(z), kind, "")
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

    def description(self) -> str:
        """Which rows are judged, a sentence."""
        split = split_of(self._site.job, self._site.survey)
        said = "Classes and redshifts are judged on all rows where they are known"
        if _is_taught(self._model.card, "redshift"):
            said = (
                "Classes are judged on all rows where they are known, since no label taught them; "
                f"redshifts on the {split.test:.0%} held out (seed {split.seed}), since labels of "
                "the others have calibrated their errors"
            )
        else:
            said += ", since no label taught this model"
        if self._thinned:
            said += f"; of all these on {counted(self._site.job.report.max_rows, 'row')} at random"
        return f"{said}."


def _is_taught(card: Card, target: Target) -> bool:
    """Whether a model has seen labels of a target."""
    return sum(card.rows.get(target, {}).values()) > 0
