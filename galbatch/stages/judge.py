"""Whether what the scans found can become a catalogue: before anything of it is written."""

from __future__ import annotations

from collections.abc import Sequence

from galbatch.errors import SpecError, counted
from galbatch.models.families import needs_labels
from galbatch.spec.job import FilesSource
from galbatch.stages.catalogue import CatalogueState
from galbatch.stages.site import Site
from galbatch.store.facts import SourceFacts, Totals
from galbatch.store.quarantine import rejected_rows
from galbatch.store.units import REJECTED, rejected_unit
from galbatch.values import Receipt


def tolerated_duplicates(site: Site, state: CatalogueState, scans: Sequence[Receipt]) -> int:
    """Rows that may repeat an id, given the bad ones that were found.

    Parameters
    ----------
    site : Site
    state : CatalogueState
    scans : sequence of Receipt
        Of the files whose rows are merged into the catalogue.
    """
    totals = Totals.of(map(SourceFacts.of, _unjudged(state, scans)))
    left = _allowed(site, totals.read) - totals.rejected
    before = {source.key: source.duplicates for source in state.sources.values()}
    return max(left, 0) + sum(before.get(scan.key, 0) for scan in scans)


def judge_rows(
    site: Site, state: CatalogueState, scans: Sequence[Receipt], *, holds_rows: bool
) -> None:
    """Refuse files with more bad rows than the job allows, and a catalogue without rows.

    Parameters
    ----------
    site : Site
    state : CatalogueState
    scans : sequence of Receipt
        Of the files whose rows are merged into the catalogue.
    holds_rows : bool
        Whether it will have any.

    Raises
    ------
    SpecError
        Naming a bad row.
    """
    unjudged = {scan.unit: SourceFacts.of(scan) for scan in _unjudged(state, scans)}
    totals = Totals.of(unjudged.values())
    if totals.rejected > _allowed(site, totals.read):
        unit = next(unit for unit, source in unjudged.items() if source.rejected)
        (bad,) = rejected_rows(site.layout, rejected_unit(REJECTED, unit), at_most=1)
        raise SpecError(
            f"{bad.file}: row {bad.row}: {bad.reason}",
            f"{totals.rejected:,} of {counted(totals.read, 'row')} "
            f"{'is' if totals.rejected == 1 else 'are'} bad",
            "correct the file, or allow more with source.bad_rows",
        )
    if not holds_rows:
        raise SpecError("source", "the files hold no rows", "is it the right file?")


def judge_labels(site: Site, totals: Totals) -> None:
    """Refuse a catalogue without the labels that the job's models are trained on.

    Raises
    ------
    SpecError
        Naming the target and the column.
    """
    if needs_labels(site.job.models) and not any(totals.labelled.values()):
        raise SpecError(
            "models",
            f"none of {counted(totals.read, 'row')} has a label: there is nothing to train on",
            "give a file with labels, or correct 'labels' in the survey",
        )
    for model in site.job.models:
        for target in model.targets or ():
            label = site.survey.labels.of(target)
            if label is not None and not totals.labelled[target]:
                raise SpecError(
                    f"models.{model.name}.targets",
                    f"'{target}' has no label: column '{label.column}' holds no usable value "
                    f"in {counted(totals.read, 'row')}",
                    f"take '{target}' out of the targets, or give a file with labels",
                )


def _unjudged(state: CatalogueState, scans: Sequence[Receipt]) -> tuple[Receipt, ...]:
    """Scans of files that are not as they were: the others were judged before."""
    known = {source.key for source in state.sources.values()}
    return tuple(scan for scan in scans if scan.key not in known)


def _allowed(site: Site, read: int) -> int:
    source = site.job.source
    return int(source.bad_rows * read) if isinstance(source, FilesSource) else 0
