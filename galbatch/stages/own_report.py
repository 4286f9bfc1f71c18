"""What a page says of a model that shows something of its own: one pass over its predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from galbatch.models.base import ShowingModel, SubclassModel
from galbatch.quality.spectra import spectral_statistics
from galbatch.report.data import OwnReport, RowOfReport
from galbatch.stages.catalogue import Catalogue
from galbatch.stages.known_spectra import KnownRows
from galbatch.stages.predictions import predicted
from galbatch.stages.shown_rows import BestRows, RowPlace, rows_to_show
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.rows import read_places
from galbatch.store.tables import read_partition


def own_report(
    snapshot: Snapshot, catalogue: Catalogue, version: str, model: ShowingModel
) -> OwnReport:
    """What a version of a model shows.

    Parameters
    ----------
    snapshot : Snapshot
    catalogue : Catalogue
    version : str
    model : ShowingModel

    Returns
    -------
    OwnReport
    """
    site, showing = snapshot.site, model.showing
    columns = catalogue.facts.columns
    rankings = [BestRows(role) for role in showing.roles]
    counts: dict[str, Counter[str]] = {name: Counter() for name in showing.counted}
    known = None
    if showing.judged is not None and isinstance(model, SubclassModel):
        known = KnownRows(site, columns, model, showing.judged)
    done = predicted(snapshot, catalogue, version)
    for partition in catalogue.partitions:
        if partition.name not in done:
            continue
        predictions = read_partition(site.layout, partition, model=version)
        for ranking in rankings:
            ranking.add(partition, predictions)
        for name, count in counts.items():
            count.update(_counted(predictions[name]))
        if known is not None:
            known.add(partition, predictions)
    own = OwnReport(
        rows=tuple(
            _row(site, model, columns, place, why) for place, why in rows_to_show(rankings).items()
        ),
        counts={name: dict(count.most_common()) for name, count in counts.items()},
        portrait=model.portrait(),
    )
    return own if known is None else _judged(own, known)


def _counted(column: pa.ChunkedArray) -> dict[str, int]:
    """How often each value stands in a column."""
    pairs = column.value_counts().to_pylist()
    return {str(pair["values"]): pair["counts"] for pair in pairs if pair["values"] is not None}


def _row(
    site: Site, model: ShowingModel, there: Sequence[str], place: RowPlace, why: str
) -> RowOfReport:
    """One row, as the model shows it."""
    identity = site.survey.id.column
    wanted = dict.fromkeys([identity, *model.card.inputs])
    columns = [name for name in wanted if name in there]
    table = read_places(site.layout, place.partition, columns, np.array([place.place]))
    (shown,) = model.shown(table)
    return RowOfReport(f"{identity} {table[identity][0].as_py()}", why, shown)


def _judged(own: OwnReport, known: KnownRows) -> OwnReport:
    """With what is known of its classes and redshifts, if anything is."""
    by_class, by_redshift = known.judged("star"), known.judged("redshift")
    found = spectral_statistics(by_class, by_redshift, known.columns)
    said = known.description(by_class, by_redshift)
    return replace(own, statistics=found, known=by_redshift, judged_on=said)
