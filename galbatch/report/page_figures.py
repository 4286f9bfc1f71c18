"""Which figures a page has: each with its caption, and only those that there are data for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.quality.evaluation import of_galaxies
from galbatch.quality.results import (
    BinnedClass,
    BinnedDistributions,
    BinnedStatistics,
    ClassStatistics,
    DistributionStatistics,
    Histogram,
    MulticlassStatistics,
    TargetEvaluation,
)
from galbatch.report import figures
from galbatch.report.data import ModelReport, ReportData
from galbatch.report.parts import PageFigure
from galbatch.report.style import colour_of, data_uri
from galbatch.report.words import CLASS_MEMBERS, counted, decimals, percent, thousands
from galbatch.targets import RECORDS
from galbatch.values import Target

_PROPERTIES = tuple(
    target for target, one in RECORDS.items() if not one.is_class and not one.is_relative
)
"""Targets with a figure of predicted against true values, but for the redshift."""


_OfModel = tuple[ModelReport, figures.Curve, TargetEvaluation, NDArray[Any], NDArray[Any]]
"""A model, its name and colour, and of a target its evaluation, true and predicted values."""


def redshift_figures(data: ReportData) -> tuple[PageFigure, ...]:
    """Figures of the held-out redshifts.

    Parameters
    ----------
    data : ReportData

    Returns
    -------
    tuple of PageFigure
        Empty without held-out redshifts.
    """
    judged = list(_judged(data, "redshift"))
    labels = {
        "magnitude": f"{figures.literal(data.reference_band)}  [AB mag]".strip(),
        "redshift": r"predicted redshift  $z_{phot}$",
        "odds": "odds",
    }
    scatter = (
        PageFigure(
            f"Predicted and true redshift: {model.name}",
            data_uri(figures.redshift_scatter(true, predicted, one.point, curve, data.max_points)),
            f"{_sample(one)} Solid: equality. Dashed: Δz/(1+z) = ±0.15, beyond which a row"
            " counts as an outlier. Darker: more rows.",
        )
        for model, curve, one, true, predicted in judged
        if one.point is not None
    )
    return (
        *scatter,
        *_quality_by_bins(judged, labels),
        *_transforms(judged),
        *_honesty_by_bins(judged, labels),
    )


def _quality_by_bins(judged: Sequence[_OfModel], labels: Mapping[str, str]) -> Iterator[PageFigure]:
    """Scatter, bias and outliers by magnitude, redshift and odds."""
    tables: dict[str, list[tuple[figures.Curve, BinnedStatistics]]] = {}
    for _, curve, one, _, _ in judged:
        for table in one.binned:
            tables.setdefault(table.by, []).append((curve, table))
    meanings = {
        "magnitude": "magnitude of the reference band",
        "redshift": "predicted redshift, the one a sample can be cut on",
        "odds": "odds, the model's own confidence",
    }
    for by, found in tables.items():
        yield PageFigure(
            f"Quality by {by}",
            data_uri(figures.by_bins(found, labels[by])),
            f"Held-out rows in bins of {meanings[by]}; points stand at the median of their bin."
            f" {_rows_of(found)} Bars: 1σ (bootstrap; binomial for outliers). Bins of fewer than"
            " 10 rows are left out.",
        )


def _transforms(judged: Sequence[_OfModel]) -> Iterator[PageFigure]:
    """Probability integral transforms, of the models that give distributions."""
    honest: list[tuple[figures.Curve, DistributionStatistics]] = [
        (curve, one.distribution)
        for _, curve, one, _, _ in judged
        if one.distribution is not None and one.distribution.pit is not None
    ]
    if honest:
        words = "; ".join(
            f"{name}: the 68\u202f% intervals hold {percent(one.coverage68, 1)} of the true"
            f" redshifts, the 95\u202f% intervals {percent(one.coverage95, 1)}"
            f" ({counted(one.rows, 'row')})"
            for (name, _), one in honest
        )
        yield PageFigure(
            "Are the redshift errors honest?",
            data_uri(figures.pit_histogram(honest)),
            f"Histogram of the probability integral transform on held-out rows: flat when"
            f" the distributions are honest, ∪ when too narrow, ∩ when too wide. Grey: what"
            f" chance allows (95\u202f%) for {honest[0][0][0]}. {words}.",
        )


def _honesty_by_bins(judged: Sequence[_OfModel], labels: Mapping[str, str]) -> list[PageFigure]:
    """Intervals and pulls by magnitude, redshift and odds."""
    tables: dict[str, list[tuple[figures.Curve, BinnedDistributions]]] = {}
    for _, curve, one, _, _ in judged:
        for table in one.honesty:
            tables.setdefault(table.by, []).append((curve, table))
    return [
        PageFigure(
            f"Are they honest at every {by}?" if by != "odds" else "Are they honest at all odds?",
            data_uri(figures.honesty_by_bins(found, labels[by])),
            "Share of the true redshifts inside the 68\u202f% and the 95\u202f% interval, and the"
            " width of (predicted - true) over half the 68\u202f% interval, in bins of held-out"
            " rows. Lines: honest. Bars: 1σ (binomial; bootstrap for the width).",
        )
        for by, found in tables.items()
    ]


def class_figures(data: ReportData) -> tuple[PageFigure, ...]:
    """Figures of the held-out star/galaxy classes.

    Parameters
    ----------
    data : ReportData

    Returns
    -------
    tuple of PageFigure
        Empty without held-out classes of both kinds.
    """
    found = class_statistics_of(data)
    both = [(curve, one) for curve, one in found if one.stars and one.galaxies]
    if not both:
        return ()
    sample = _counted(both)
    return (
        PageFigure(
            "Stars from galaxies",
            data_uri(figures.roc(both)),
            f"ROC curve. {sample} The dot marks P(star) = 0.5; the horizontal axis is"
            " logarithmic, because galaxies outnumber stars.",
        ),
        PageFigure(
            "Are the probabilities honest?",
            data_uri(figures.reliability(both)),
            f"Fraction of stars among rows of similar P(star), with 1σ binomial bars. {sample}",
        ),
        *(
            PageFigure(
                f"Three honest probabilities? {curve[0]}",
                data_uri(figures.class_reliability(one)),
                "Fraction of a class' members among rows of similar probability of it, with 1σ"
                f" binomial bars. {_members(one)}",
            )
            for curve, one in multiclass(data)
        ),
        *_classes_by_magnitude(data),
    )


def _classes_by_magnitude(data: ReportData) -> Iterator[PageFigure]:
    """A figure for each class that some model tells from all others."""
    label = f"{figures.literal(data.reference_band)}  [AB mag]".strip()
    tables: dict[str, list[tuple[figures.Curve, BinnedClass]]] = {}
    for curve, one in _classified(data):
        for table in one.binned_classes:
            if table.against == "rest":
                tables.setdefault(table.name, []).append((curve, table))
    for name, found in tables.items():
        yield PageFigure(
            f"{CLASS_MEMBERS[name].capitalize()} against the rest, by magnitude",
            data_uri(figures.classes_by_magnitude(found, label)),
            "Area that the ROC curve lacks, with its standard error (Hanley & McNeil 1982), and"
            f" calibration error of the probability. {_members_of(found[0][1])}",
        )


def class_statistics_of(data: ReportData) -> tuple[tuple[figures.Curve, ClassStatistics], ...]:
    """Class statistics of the models that have them.

    Parameters
    ----------
    data : ReportData

    Returns
    -------
    tuple of ((str, str), ClassStatistics)
        With each model's name and colour.
    """
    return tuple((curve, one.classes) for curve, one in _classified(data) if one.classes)


def multiclass(data: ReportData) -> tuple[tuple[figures.Curve, MulticlassStatistics], ...]:
    """Statistics of all classes of the models for which quasars are one.

    Parameters
    ----------
    data : ReportData

    Returns
    -------
    tuple of ((str, str), MulticlassStatistics)
        With each model's name and colour.
    """
    return tuple((curve, one.multiclass) for curve, one in _classified(data) if one.multiclass)


def _classified(data: ReportData) -> Iterator[tuple[figures.Curve, TargetEvaluation]]:
    """The models whose classes are judged: name and colour of each, and how it did."""
    for place, model in enumerate(data.models):
        one = model.evaluation.of("star") if model.evaluation else None
        if one is not None:
            yield (model.name, colour_of(place)), one


def property_figures(data: ReportData) -> tuple[PageFigure, ...]:
    """Figures of the held-out masses, types and absolute magnitudes.

    Parameters
    ----------
    data : ReportData

    Returns
    -------
    tuple of PageFigure
    """
    return tuple(
        PageFigure(
            f"{RECORDS[target].title}: {model.name}",
            data_uri(
                figures.target_scatter(target, true, predicted, one.point, curve, data.max_points)
            ),
            f"{_sample(one)} Solid: equality. Dotted: least-squares line. Darker: more rows."
            + _interval(one),
        )
        for target in _PROPERTIES
        for model, curve, one, true, predicted in _judged(data, target)
        if one.point is not None
    )


def catalogue_figures(data: ReportData) -> tuple[PageFigure, ...]:
    """Figures of the whole catalogue.

    Parameters
    ----------
    data : ReportData

    Returns
    -------
    tuple of PageFigure
    """
    parts = (_redshifts, _magnitudes, _sky, _flags, _novelty)
    return tuple(figure for part in parts for figure in part(data))


def _curves(data: ReportData) -> list[tuple[ModelReport, figures.Curve]]:
    return [(model, (model.name, colour_of(place))) for place, model in enumerate(data.models)]


def _redshifts(data: ReportData) -> Iterator[PageFigure]:
    redshifts = [
        (curve, model.redshifts)
        for model, curve in _curves(data)
        if model.redshifts is not None and any(model.redshifts.counts)
    ]
    if redshifts:
        known = _known(data, "redshift", redshifts[0][1])
        yield PageFigure(
            "Redshift distribution n(z)",
            data_uri(figures.distributions(known, redshifts, "redshift  $z$")),
            "Point estimates of every predicted row of the catalogue, stars included"
            + ("; grey: true redshifts of the held-out rows." if known else "."),
        )


def _magnitudes(data: ReportData) -> Iterator[PageFigure]:
    if data.magnitudes is None or not any(data.magnitudes.counts):
        return
    known = _known(data, "magnitude", data.magnitudes)
    label = f"{figures.literal(data.reference_band)}  [AB mag]".strip()
    whole = [(("catalogue", "#3a3f47"), data.magnitudes)]
    yield PageFigure(
        "Is the judged sample like the catalogue?",
        data_uri(figures.distributions(known, whole, label)),
        "Magnitudes of the whole catalogue"
        + (
            " and of the held-out rows with a known redshift. Where the two part, the"
            " numbers above do not speak for the catalogue."
            if known
            else "."
        ),
    )


def _sky(data: ReportData) -> Iterator[PageFigure]:
    if data.sky:
        bad = len([one for one in data.sky if one.quarantined])
        yield PageFigure(
            "Partitions on the sky",
            data_uri(figures.sky(data.sky)),
            f"Centres of {counted(len(data.sky), 'partition')}"
            + (f", {bad} of them in quarantine." if bad else "; none in quarantine."),
        )


def _flags(data: ReportData) -> Iterator[PageFigure]:
    flags = [(curve, model.quality) for model, curve in _curves(data) if model.quality]
    if flags:
        yield PageFigure(
            "Quality flags",
            data_uri(figures.quality_flags(flags, data.rows_ingested)),
            f"Bits of the quality column over {counted(data.rows_ingested, 'row')}; a row can"
            " have several.",
        )


def _novelty(data: ReportData) -> Iterator[PageFigure]:
    scores = [
        (curve, model.ood)
        for model, curve in _curves(data)
        if model.ood is not None and any(model.ood.counts)
    ]
    if scores:
        yield PageFigure(
            "Unlike the training rows?",
            data_uri(figures.ood(scores)),
            "Out-of-distribution score of every predicted row: high where an object looks"
            " unlike those that the model learned from.",
        )


def loss_figure(data: ReportData, place: int) -> PageFigure | None:
    """Loss curves of one model.

    Parameters
    ----------
    data : ReportData
    place : int
        Of the model.

    Returns
    -------
    PageFigure or None
        None without a history.
    """
    model = data.models[place]
    history = [curve for curve in model.history if curve.training]
    if not history:
        return None
    return PageFigure(
        f"Training of {model.name}",
        data_uri(figures.loss_curves(history, (model.name, colour_of(place)))),
        "Loss by epoch: solid on validation rows, dashed on training rows; the dot marks the"
        " lowest validation loss.",
    )


def _judged(data: ReportData, target: Target) -> Iterator[_OfModel]:
    """Models with numbers and arrays of a target, and their colours."""
    if data.held_out is None or target not in data.held_out.truth:
        return
    for place, model in enumerate(data.models):
        one = model.evaluation.of(target) if model.evaluation else None
        if one is not None and one.column in model.held_out:
            true = of_galaxies(target, data.held_out.truth)
            predicted = np.asarray(model.held_out[one.column], float)
            if (np.isfinite(true) & np.isfinite(predicted)).any():
                yield model, (model.name, colour_of(place)), one, true, predicted


def _known(data: ReportData, what: str, like: Histogram | None) -> list[tuple[str, Histogram]]:
    """Held-out rows with a known redshift, counted in the bins of another histogram."""
    if data.held_out is None or like is None:
        return []
    true = data.held_out.truth.get("redshift")
    values = true if what == "redshift" else data.held_out.magnitude
    if true is None or values is None:
        return []
    counts, _ = np.histogram(np.asarray(values, float)[np.isfinite(true)], like.edges)
    if not counts.sum():
        return []
    name = "held out, true" if what == "redshift" else "held out"
    return [(name, Histogram(like.edges, tuple(int(number) for number in counts)))]


def _sample(one: TargetEvaluation) -> str:
    missing = f" ({thousands(one.missing)} more have no prediction)" if one.missing else ""
    return (
        f"{thousands(one.labelled - one.missing)} held-out rows with a"
        f" {RECORDS[one.target].known}{missing}."
    )


def _interval(one: TargetEvaluation) -> str:
    if one.distribution is None or one.distribution.rows == 0:
        return ""
    return (
        f" The 68\u202f% intervals hold {percent(one.distribution.coverage68, 1)} of the true"
        f" values; pulls are {decimals(one.distribution.pull_width, 2)} wide (1 is honest)."
    )


def _rows_of(found: Sequence[tuple[figures.Curve, BinnedStatistics]]) -> str:
    counts = [rows for _, table in found for rows in table.rows]
    low, high = min(counts), max(counts)
    if low == high:
        return f"{counted(low, 'row')} in each bin."
    return f"{thousands(low)} to {counted(high, 'row')} in a bin."


def _counted(found: Sequence[tuple[figures.Curve, ClassStatistics]]) -> str:
    counts = {(one.stars, one.galaxies) for _, one in found}
    return " / ".join(
        f"{thousands(stars)} stars and {thousands(galaxies)} galaxies, held out."
        for stars, galaxies in sorted(counts)
    )


def _members(one: MulticlassStatistics) -> str:
    counts = (
        f"{thousands(rows)} {CLASS_MEMBERS[name]}"
        for name, rows in zip(one.classes, one.rows, strict=True)
    )
    return f"{', '.join(counts)}, held out."


def _members_of(table: BinnedClass) -> str:
    return (
        f"{thousands(sum(table.members))} {CLASS_MEMBERS[table.name]} among"
        f" {thousands(sum(table.rows))} held-out rows."
    )
