"""What a page says of models that show something of their own: numbers, sections, terms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from galbatch.quality.spectra import (
    ALL,
    GOOD,
    GOOD_QSO,
    WITHIN,
    Confusion,
    Ranking,
    RedshiftsOfClass,
    SpectralStatistics,
)
from galbatch.report import figures
from galbatch.report.data import ModelReport, OwnReport, ReportData, RowOfReport
from galbatch.report.parts import Headline, PageFigure, PageTable, Section
from galbatch.report.style import colour_of, data_uri
from galbatch.report.words import NOTHING, counted, decimals, percent, sentence, thousands
from galbatch.shown import MapShown

_VALUES = 20
"""Of a column, that are counted on the page."""
_PROPERTIES = 6
"""Drawn on a map, at most; the table of clusters has all."""
_WORTHLESS, _WEAK = 0.6, 0.8
"""Areas under a ROC curve; 0.5 is chance."""

TERMS = (
    ("reduced chi-square", "χ² of the best model over the pixels with data less all coefficients."),
    ("second minimum", "The best fit of another class, or of the same one far enough in redshift."),
    (
        "D",
        "How much worse the second minimum is, as a part of the least χ²: the larger, the surer.",
    ),
    (
        "good redshift",
        f"Within {GOOD:g} (1 + z) of the known one, of a quasar within {GOOD_QSO:g} (1 + z); a "
        "failure is another redshift, or another class than the known one.",
    ),
    (
        "pull",
        "(z − z known) / error; half the range of its central 68 % is 1 when errors are honest.",
    ),
)
MAP_TERMS = (
    ("hits", "Rows whose nearest cell it is."),
    ("U-matrix", "Mean distance of a cell to those that touch it: ridges part what is different."),
    ("quantisation error", "Mean distance of a row to its cell, in spreads of the latents."),
    ("topographic error", "Share of rows whose two nearest cells do not touch."),
    ("silhouette", "1 for clusters far apart, 0 for a cut through one (Rousseeuw 1987)."),
    ("stability", "Adjusted Rand index between fits with other seeds: 1 for the same clusters."),
    (
        "directions used",
        "Participation ratio of the latents: the squared sum of their variances over the sum of "
        "the squares.",
    ),
)


def own_terms(data: ReportData) -> tuple[tuple[str, str], ...]:
    """Words of these sections, and what they mean; only those that the page uses."""
    owns = [model.own for model in data.models if model.own is not None]
    spectral = any(row.shown.minima for own in owns for row in own.rows)
    spectral |= any(own.statistics is not None for own in owns)
    maps = any(own.portrait.map is not None for own in owns)
    return (*(TERMS if spectral else ()), *(MAP_TERMS if maps else ()))


def own_headlines(data: ReportData) -> tuple[Headline, ...]:
    """Numbers of the first model, with those of the others that have the same.

    Parameters
    ----------
    data : ReportData
        Whose first model has something of its own.
    """
    first = data.models[0]
    others = [
        (model.name, {one.label: one for one in _numbers(model)}) for model in data.models[1:]
    ]
    return tuple(
        Headline(
            number.label, number.value, number.detail,
            tuple((name, found[number.label].beside) for name, found in others
                  if number.label in found),
        )
        for number in _numbers(first)
    )  # fmt: skip


@dataclass(frozen=True)
class _Number:
    """A number of a model, what it is of, and on how many rows (empty where it is of none)."""

    label: str
    value: str
    detail: str
    rows: str = ""

    @property
    def beside(self) -> str:
        """As it stands beside that of another model, which may be of other rows."""
        return f"{self.value} of {self.rows}" if self.rows else self.value


def _numbers(model: ModelReport) -> Iterator[_Number]:
    """Numbers of a model, those that it has of itself first."""
    if model.own is None:
        return
    for number in model.own.portrait.numbers:
        value = f"{number.value:.3g}".replace("-", "\u2212")
        yield _Number(number.label, value, number.note)
    statistics = model.own.statistics
    if statistics is None:
        return
    for label, table in (("classes", statistics.classes), ("subclasses", statistics.subclasses)):
        if table is not None:
            rows = counted(table.total, "row")
            detail = f"of {rows} are those that are known"
            yield _Number(label, percent(table.right / table.total), detail, rows)
    for one in statistics.redshifts:
        if one.name == ALL:
            rows = counted(one.rows, "known redshift")
            label = Markup("σ<sub>NMAD</sub>, redshift")
            yield _Number(label, decimals(one.sigma_nmad, 5), f"of {rows}", rows)
        else:
            at = WITHIN.index(GOOD_QSO if one.name == "QSO" else GOOD)
            rows = counted(one.rows, "row")
            detail = f"within {WITHIN[at]:g} (1 + z), of {rows}"
            label = f"good redshifts, {one.name}"
            yield _Number(label, percent(one.within[at], 1), detail, rows)


def own_judged_on(data: ReportData) -> str:
    """Which rows the numbers at the top are of, of each model where they differ.

    Parameters
    ----------
    data : ReportData
        Whose first model has something of its own.
    """
    names: dict[str, list[str]] = {}
    for model in data.models:
        if model.own is not None:
            names.setdefault(_judged_on(model.own), []).append(model.name)
    if len(names) == 1:
        return next(iter(names))
    return " ".join(f"{', '.join(some)}: {said}" for said, some in names.items())


def _judged_on(own: OwnReport) -> str:
    """Which rows the numbers at the top are of."""
    if own.statistics is not None:
        return own.judged_on
    if own.portrait.numbers:
        said = "Nothing is known of these rows to judge by: the numbers are the model's own."
    else:
        said = (
            "Neither class nor redshift is known of these rows: this run has no measure of how "
            "good what it finds is."
        )
    return f"{said} {own.judged_on}".rstrip()


def own_sections(data: ReportData) -> tuple[Section, ...]:
    """Sections of every model that shows something of its own.

    Parameters
    ----------
    data : ReportData

    Returns
    -------
    tuple of Section
        Only those with something in them.
    """
    found = []
    for place, model in enumerate(data.models):
        if model.own is None:
            continue
        of = f": {model.name}" if len(data.models) > 1 else ""
        own, end, colour = model.own, f"-{place}", colour_of(place)
        found += [
            Section(
                f"counts{end}", f"What was found{of}", (), tables=_counts(own, data.rows_ingested)
            ),
            Section(
                f"known{end}", f"Against what is known{of}", _judged_figures(own),
                tables=_judged_tables(own), words=_judged_words(own),
            ),
            Section(f"spectra{end}", f"Single spectra{of}", _row_figures(own.rows, colour)),
            Section(
                f"map{end}", f"Map and clusters{of}", _map_figures(own.portrait.map),
                tables=_cluster_tables(own.portrait.map),
            ),
        ]  # fmt: skip
    return tuple(section for section in found if section.figures or section.tables)


def ranking_words(ranking: Ranking) -> str:
    """How much the score and chi-square are worth, in words with their numbers.

    Parameters
    ----------
    ranking : Ranking
    """
    rows = f"{counted(ranking.failures, 'failure')} among {counted(ranking.rows, 'row')}"
    if not math.isfinite(ranking.by_score):
        return f"{rows}: nothing to rank."
    return (
        f"{rows}. {ranking.name} ranks failures with AUC {decimals(ranking.by_score, 3)}, "
        f"{_worth(ranking.by_score)}; reduced chi-square ranks failures with AUC "
        f"{decimals(ranking.by_chi2, 3)}, {_worth(ranking.by_chi2)} (0.5 is chance)."
    )


def _worth(area: float) -> str:
    if area < _WORTHLESS:
        return "worth nothing here"
    return "worth little here" if area < _WEAK else "worth trusting here"


def _counts(own: OwnReport, rows: int) -> tuple[PageTable, ...]:
    tables = []
    for column, counts in own.counts.items():
        whole = sum(counts.values())
        shown = list(counts.items())[:_VALUES]
        rest = whole - sum(number for _, number in shown)
        if rest:
            shown.append((f"{len(counts) - _VALUES} others", rest))
        lines = tuple(
            (name or "none", thousands(number), percent(number / whole, 1))
            for name, number in shown
        )
        if lines:
            caption = f"Values of {column} over {counted(rows, 'row')} of the catalogue."
            tables.append(PageTable(column, (column, "rows", "share"), lines, caption))
    return tuple(tables)


def _judged_words(own: OwnReport) -> str:
    statistics = own.statistics
    if statistics is None:
        return ""
    ranked = f" {ranking_words(statistics.ranking)}" if statistics.ranking else ""
    return f"{own.judged_on}{ranked}"


def _judged_tables(own: OwnReport) -> tuple[PageTable, ...]:
    statistics = own.statistics
    if statistics is None:
        return ()
    tables = [_redshift_table(statistics.redshifts)] if statistics.redshifts else []
    for name, table in (("classes", statistics.classes), ("subclasses", statistics.subclasses)):
        if table is not None:
            tables.append(_confusion_table(f"Confusion of {name}", table))
    return tuple(tables)


def _redshift_table(found: Sequence[RedshiftsOfClass]) -> PageTable:
    shares = tuple(f"within {limit:g}" for limit in WITHIN)
    lines = tuple(
        (
            one.name, thousands(one.rows), decimals(one.sigma_nmad, 5), decimals(one.offset, 5),
            *(percent(share, 1) for share in one.within), decimals(one.pull_width, 2),
        )
        for one in found
    )  # fmt: skip
    missing = sum(one.missing for one in found if one.name == ALL)
    without = f" {counted(missing, 'row')} more have no redshift." if missing else ""
    return PageTable(
        "Redshifts by class",
        ("known class", "rows", "σ NMAD", "median", *shares, "pull width"),
        lines,
        "Of (z − z known) / (1 + z known): its scatter, its median, and the shares of rows within "
        f"limits. Pull width: of (z − z known) / error, 1 when errors are honest.{without}",
    )


def _confusion_table(title: str, table: Confusion) -> PageTable:
    lines = []
    for name, line in zip(table.names, table.rows, strict=True):
        whole = sum(line)
        if whole:
            shares = (f"{thousands(n)} ({percent(n / whole, 0)})" if n else "0" for n in line)
            lines.append((name, *shares))
    marked = len(lines) == len(table.names)
    return PageTable(
        title, ("known", *table.names), tuple(lines),
        f"Lines: known; columns: found. {percent(table.right / table.total, 1)} of "
        f"{counted(table.total, 'row')} are found as they are known.", marked,
    )  # fmt: skip


def _judged_figures(own: OwnReport) -> tuple[PageFigure, ...]:
    statistics, known = own.statistics, own.known
    if statistics is None or known is None:
        return ()
    found = []
    if statistics.redshifts and statistics.redshifts[0].rows:
        classes = [one.name for one in statistics.redshifts if one.name != ALL]
        one = statistics.redshifts[0]
        found.append(
            PageFigure(
                "Redshifts found and known",
                data_uri(figures.known_redshifts(known, classes)),
                f"{counted(one.rows, 'row')}, σ NMAD {decimals(one.sigma_nmad, 5)}. Above: solid "
                "is equality. Below: what they differ by, on a logarithmic axis beyond 0.002; "
                f"dashed: {WITHIN[0]:g} and {WITHIN[-1]:g}.",
            )
        )
    found += _ranking_figure(statistics)
    return tuple(found)


def _ranking_figure(statistics: SpectralStatistics) -> Iterator[PageFigure]:
    ranking = statistics.ranking
    if ranking is not None and len(ranking.score) > 1:
        yield PageFigure(
            f"What a limit on {ranking.name} keeps",
            data_uri(figures.ranked_failures(ranking)),
            f"Share of rows with at least so much {ranking.name}, and of failures among these. "
            f"{ranking_words(ranking)}",
        )


def _row_figures(rows: Sequence[RowOfReport], colour: str) -> tuple[PageFigure, ...]:
    found = []
    for row in rows:
        shown = row.shown
        if shown.spectrum is None:
            continue
        spectrum = shown.spectrum
        number = figures.together(len(spectrum.flux))
        pixels = f" ({number} pixels are drawn as one)" if number > 1 else ""
        unit = f" in {spectrum.unit}" if spectrum.unit else ""
        scale = "" if spectrum.error is None else ", in units of its error"
        found.append(
            PageFigure(
                f"{row.name}: {row.why}",
                data_uri(figures.spectrum(spectrum, colour)),
                f"{sentence(shown.words)} Grey: the spectrum{unit}{pixels}; coloured: the model. "
                f"Below: what the model leaves{scale}.",
            )
        )
        if shown.curves:
            found.append(
                PageFigure(
                    f"{row.name}: chi-square by redshift",
                    data_uri(figures.chi2_curves(shown.curves, shown.minima)),
                    f"The least chi-square of any template of a class; {_marks(row)}. Fits are "
                    "compared by chi-square and a penalty for each vector of a template, so that "
                    "the best one need not be the lowest of all curves.",
                )
            )
    return tuple(found)


def _marks(row: RowOfReport) -> str:
    words = [
        f"{place}: {one.name} at z = {one.z:.5f}"
        for place, one in zip(("disc, the best", "diamond, the second"), row.shown.minima,
                              strict=False)
    ]  # fmt: skip
    return "; ".join(words) or NOTHING


def _map_figures(found: MapShown | None) -> tuple[PageFigure, ...]:
    if found is None:
        return ()
    x, y = found.hits.shape
    rows = counted(int(found.hits.sum()), "row")
    shown = [
        PageFigure(
            "Hits",
            data_uri(figures.cells(found.hits, "rows")),
            f"A map of {x} by {y} cells; numbers are rows whose nearest cell it is, of {rows} that "
            f"taught it: {int((found.hits == 0).sum())} cells have none. On others, the "
            f"quantisation error is {decimals(found.quantisation, 3)}, the topographic error "
            f"{percent(found.topographic, 1)}.",
        ),
        PageFigure(
            "U-matrix",
            data_uri(figures.cells(found.u_matrix, "distance to the cells around")),
            "Dark ridges part what is different; pale cells are like those around them.",
        ),
        PageFigure(
            "Clusters on the map",
            data_uri(figures.cell_clusters(found.clusters, found.hits, found.k)),
            f"The cluster of each cell, of {found.k}, the largest is 0; grey where no row is.",
        ),
    ]
    shown += [
        PageFigure(
            f"{one.name} on the map",
            data_uri(figures.cells(one.cells, one.name)),
            f"Its median in each cell, over {counted(sum(found.rows), 'row')}; empty where no row "
            "has it.",
        )
        for one in found.properties[:_PROPERTIES]
        if np.isfinite(one.cells).any()
    ]
    if found.tried:
        best = max(found.tried, key=lambda one: one.silhouette)
        used = next((one for one in found.tried if one.k == found.k), None)
        own = (
            f"; of the {found.k} that were taken {decimals(used.silhouette, 2)} and "
            f"{decimals(used.stability, 2)}"
            if used
            else ""
        )
        shown.append(
            PageFigure(
                "How many clusters?",
                data_uri(figures.clusters_tried(found.tried, found.k)),
                f"The silhouette is largest for {best.k}, {decimals(best.silhouette, 2)}, with a "
                f"stability of {decimals(best.stability, 2)}{own}. Dashed: what was taken.",
            )
        )
    return tuple(shown)


def _cluster_tables(found: MapShown | None) -> tuple[PageTable, ...]:
    """What the rows of each cluster are like."""
    if found is None or not found.properties:
        return ()
    lines = tuple(
        (
            str(cluster), thousands(rows),
            *(_with_spread(*one.clusters[cluster]) for one in found.properties),
        )
        for cluster, rows in enumerate(found.rows)
    )  # fmt: skip
    caption = (
        "Median, and half the distance from the 16th to the 84th percentile, over "
        f"{counted(sum(found.rows), 'row')}."
    )
    header = ("cluster", "rows", *(one.name for one in found.properties))
    return (PageTable("What clusters are like", header, lines, caption),)


def _with_spread(median: float | None, spread: float | None) -> str:
    if median is None or spread is None:
        return NOTHING
    return f"{median:.4g} ± {spread:.2g}"


def own_numbers(own: OwnReport) -> Mapping[str, object]:
    """What the page shows of a model, JSON-ready."""
    return {
        "rows": [{"name": row.name, "why": row.why, "words": row.shown.words} for row in own.rows],
        "counts": {name: dict(counts) for name, counts in own.counts.items()},
        "numbers": {number.label: number.value for number in own.portrait.numbers},
        "statistics": own.statistics.to_json() if own.statistics else None,
        "judged_on": own.judged_on or None,
    }
