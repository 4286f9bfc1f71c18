"""The page: data in, one self-contained HTML document out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from galbatch.quality.results import ClassStatistics
from galbatch.report.comparison import compare
from galbatch.report.data import ModelReport, ReportData
from galbatch.report.own import own_headlines, own_judged_on, own_sections, own_terms
from galbatch.report.page_figures import (
    catalogue_figures,
    class_figures,
    class_statistics_of,
    loss_figure,
    multiclass,
    property_figures,
    redshift_figures,
)
from galbatch.report.parts import Headline, Section
from galbatch.report.style import colour_of
from galbatch.report.words import (
    CLASS_MEMBERS,
    NOTHING,
    counted,
    decimals,
    duration,
    percent,
    sentence,
    thousands,
)
from galbatch.targets import RECORDS
from galbatch.values import Target


@dataclass(frozen=True)
class Flow:
    """A step of the rows' way through the run.

    Parameters
    ----------
    label : str
    rows : int
    share : float
        Of the rows read, 0 to 1.
    bad : bool
        Rows lost.
    """

    label: str
    rows: int
    share: float
    bad: bool = False


def render(data: ReportData) -> str:
    """The page.

    Parameters
    ----------
    data : ReportData

    Returns
    -------
    str
        HTML that loads nothing from elsewhere.
    """
    environment = Environment(
        loader=PackageLoader("galbatch.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        thousands=thousands, percent=percent, duration=duration, counted=counted
    )
    data = _judged_once(data)
    comparison = compare(data.models, data.references)
    return environment.get_template("page.html").render(
        data=data,
        targets=RECORDS,
        colours=[colour_of(place) for place in range(len(data.models))],
        headlines=_headlines(data),
        judged_on=_judged_on(data),
        held_out=f"Held out: {sentence(data.held_out.description)}" if data.held_out else "",
        flow=_flow(data),
        outcome=_outcome(data),
        quarantined=sum(one.count for one in data.quarantine),
        comparison=comparison,
        has_references=any(line.references for block in comparison for line in block.lines),
        sections=_sections(data),
        classes=class_statistics_of(data),
        multiclass=multiclass(data),
        class_members=CLASS_MEMBERS,
        own_terms=own_terms(data),
        own_alone=_own_alone(data),
        losses=[loss_figure(data, place) for place in range(len(data.models))],
    )


def _judged_once(data: ReportData) -> ReportData:
    """Without the common evaluation of models that are judged in words of their own."""
    models = (
        replace(model, evaluation=None) if model.own is not None and model.own.statistics else model
        for model in data.models
    )
    return replace(data, models=tuple(models))


def _own_alone(data: ReportData) -> bool:
    """Whether every model shows something of its own: what is common to others may be left out."""
    return bool(data.models) and all(model.own is not None for model in data.models)


def _headlines(data: ReportData) -> tuple[Headline, ...]:
    if not data.models:
        return ()
    first, rest = data.models[0], data.models[1:]
    of = f"of {counted(data.rows_ingested, 'row')}" if data.rows_ingested else ""
    lines = [
        Headline(
            "predicted",
            thousands(first.predicted),
            of,
            tuple((model.name, thousands(model.predicted)) for model in rest),
        )
    ]
    if first.own is not None:
        return (*lines, *own_headlines(data))
    for label, key in (
        (Markup("σ<sub>NMAD</sub>, redshift"), "sigma_nmad"),
        ("bias, redshift", "bias"),
        ("outliers, redshift", "outliers"),
    ):
        show = percent if key == "outliers" else decimals
        value, error = _point(first, key), _point(first, f"{key}_error")
        lines.append(
            Headline(
                label,
                show(value),
                f"± {show(error)}" if math.isfinite(error) else _why_not(data, first, "redshift"),
                tuple(
                    (model.name, show(_point(model, key)))
                    for model in rest
                    if math.isfinite(_point(model, key))
                ),
            )
        )
    for label, key in (("star / galaxy accuracy", "accuracy"), ("star / galaxy AUC", "auc")):
        show = percent if key == "accuracy" else decimals
        classes = _classes(first)
        lines.append(
            Headline(
                label,
                show(getattr(classes, key)) if classes else NOTHING,
                f"{thousands(classes.stars)} stars, {thousands(classes.galaxies)} galaxies"
                if classes
                else _why_not(data, first, "star"),
                tuple(
                    (model.name, show(getattr(other, key)))
                    for model in rest
                    if (other := _classes(model)) is not None
                ),
            )
        )
    return tuple(lines)


def _point(model: ModelReport, key: str) -> float:
    one = model.evaluation.of("redshift") if model.evaluation else None
    return float(getattr(one.point, key)) if one is not None and one.point else math.nan


def _classes(model: ModelReport) -> ClassStatistics | None:
    one = model.evaluation.of("star") if model.evaluation else None
    return one.classes if one is not None else None


def _why_not(data: ReportData, model: ModelReport, target: Target) -> str:
    skipped = next((one.skipped for one in model.labels if one.target == target), "")
    if skipped:
        return skipped
    if data.held_out is None or model.evaluation is None:
        return "no rows were held out"
    return f"no held-out rows with a {RECORDS[target].known}"


def _judged_on(data: ReportData) -> str:
    if data.models and data.models[0].own is not None:
        return own_judged_on(data)
    if data.held_out is None or not data.models or data.models[0].evaluation is None:
        return "Nothing was held out: this run has no measure of how good its predictions are."
    one = data.models[0].evaluation.of("redshift")
    rows = thousands(one.labelled - one.missing) if one is not None else ""
    sample = f"Redshifts were judged on {rows} held-out rows. " if rows else ""
    return f"{sample}Held out: {sentence(data.held_out.description)}"


def _flow(data: ReportData) -> tuple[Flow, ...]:
    whole = max(data.rows_read, data.rows_ingested + data.rows_rejected, 1)
    steps = [Flow("read", data.rows_read, data.rows_read / whole)]
    if data.rows_rejected:
        steps.append(Flow("rejected", data.rows_rejected, data.rows_rejected / whole, bad=True))
    steps.append(Flow("ingested", data.rows_ingested, data.rows_ingested / whole))
    steps += [
        Flow(f"predicted by {model.name}", model.predicted, model.predicted / whole)
        for model in data.models
    ]
    steps += [
        Flow(f"{one.model} → {one.sink}, table {one.table}", one.rows, one.rows / whole)
        for one in data.sinks
    ]
    return tuple(steps)


def _outcome(data: ReportData) -> tuple[str, bool]:
    """One line on whether everything was done, and whether it was."""
    counts: dict[str, int] = {}
    for one in data.quarantine:
        counts[one.what] = counts.get(one.what, 0) + one.count
    parts = ", ".join(counted(number, what) for what, number in counts.items())
    aside = f", with {parts} in quarantine" if parts else ""
    if data.left:
        return f"Not complete{aside}: see what is left, and run again.", False
    if aside:
        return f"Done{aside}.", False
    return f"Complete: every row of {counted(data.partitions, 'partition')} was processed.", True


def _sections(data: ReportData) -> tuple[Section, ...]:
    common: tuple[Section, ...] = (
        Section(
            "redshift",
            "Redshifts",
            redshift_figures(data),
            "No held-out rows with a known redshift.",
        ),
        Section(
            "star",
            "Stars and galaxies",
            class_figures(data),
            "No held-out rows of both known classes.",
        ),
        Section(
            "properties",
            "Masses, types and luminosities",
            property_figures(data),
            "No held-out rows with a known stellar mass, spectral type or absolute magnitude.",
        ),
        Section("catalogue", "The whole catalogue", catalogue_figures(data), "Nothing to draw."),
    )
    if _own_alone(data):
        common = tuple(section for section in common if section.figures)
    return (*own_sections(data), *common)
