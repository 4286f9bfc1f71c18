"""What `galbatch plan` says: stages, who does them, and what they will take."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rich.table import Table

from galbatch.errors import NoFileError, counted
from galbatch.forecast.rates import Rates, measure_rates, measured_rates, rates_of_store
from galbatch.forecast.work import StageForecast, doers, forecast, warnings
from galbatch.plan import plan
from galbatch.readers.counting import rows_of
from galbatch.readers.remote import is_url
from galbatch.spec.job import MockSource
from galbatch.stages.catalogue import sources_now
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot

_COUNTED = 100
"""Files whose rows are counted, at most; the others have as many."""


@dataclass(frozen=True)
class Amount:
    """How much there is to do.

    Parameters
    ----------
    rows : int or None
        None where nobody knows without reading.
    files : int
    said : str
        For people.
    """

    rows: int | None
    files: int
    said: str


def plan_page(site: Site, rows: int | None, measure: bool) -> tuple[Table, list[str]]:
    """The table of stages, and what there is to say besides, a line each.

    Parameters
    ----------
    site : Site
    rows : int or None
        Of the catalogue, where the user says it.
    measure : bool
        Whether the rates are measured now.

    Raises
    ------
    SpecError
        If the job asks for something that this survey does not have, or cannot be measured; if
        files are missing and nobody says how many rows there will be.
    """
    site = _with_rows(site, rows)
    stages = plan(site.job, site.survey)
    size = _size(site, rows)
    rates = measure_rates(site) if measure else _known_rates(site)
    known = rates is not None and size.rows is not None
    forecasts = forecast(stages, site, size.rows or 0, size.files, rates) if rates and known else {}
    table = Table(title=f"{site.job.name}: {site.survey.title}", title_justify="left")
    for heading in ("stage", "runs on", "memory", "tasks", "core time", "wall time"):
        right = heading in ("tasks", "core time", "wall time")
        table.add_column(heading, overflow="fold", justify="right" if right else "left")
    for stage in stages:
        memory = f"{stage.memory(site) / 2**30:.1f} GiB"
        numbers = _numbers(forecasts.get(stage.name))
        table.add_row(stage.name, doers(stage, site).said, memory, *numbers)
    lines = [f"{stage.name}: {stage.summary(site)}" for stage in stages]
    lines += [f"store: {site.layout.root}", size.said, _of_rates(rates)]
    if forecasts:
        wall = _time(sum(one.seconds for one in forecasts.values()))
        cores = sum(one.core_seconds for one in forecasts.values()) / 3600
        lines.append(f"in all: {cores:,.2f} core hours, {wall} with these workers")
    lines += [f"warning: {line}" for line in warnings(stages, site, forecasts)]
    return table, lines


def _with_rows(site: Site, rows: int | None) -> Site:
    """The job with as many simulated rows as the user says."""
    source = site.job.source
    if rows is None or not isinstance(source, MockSource):
        return site
    changed = source.model_copy(update={"rows": rows})
    return replace(site, job=site.job.model_copy(update={"source": changed}))


def _known_rates(site: Site) -> Rates | None:
    return rates_of_store(Snapshot(site)) or measured_rates(site)


def _numbers(found: StageForecast | None) -> tuple[str, str, str]:
    if found is None:
        return "", "", ""
    return f"{found.tasks:,}", _time(found.core_seconds), _time(found.seconds)


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


def _of_rates(rates: Rates | None) -> str:
    if rates is None:
        return "rates: not known; --measure tries the job's stages on a simulated sky, for a minute"
    return str(rates)


def _size(site: Site, rows: int | None) -> Amount:
    source = site.job.source
    if isinstance(source, MockSource):
        return Amount(source.rows, 1, f"rows: {source.rows:,}, simulated")
    try:
        paths = [file.unit for file in sources_now(site)]
    except NoFileError:
        if rows is None:
            raise
        # What is planned for may not be there yet.
        return Amount(rows, len(source.paths), f"rows: {rows:,}, as you say; files are missing")
    if rows is not None:
        return Amount(rows, len(paths), f"rows: {rows:,}, as you say")
    looked = [path for path in paths[:_COUNTED] if not is_url(path)]
    counts = [rows_of(path, source.format) for path in looked]
    known = [one for one in counts if one is not None]
    if len(known) < len(counts) or not counts:
        said = f"rows: not known before the files are read ({len(paths):,}); --rows N says how many"
        return Amount(None, len(paths), said)
    number = sum(one[0] for one in known)
    exact = all(one[1] for one in known) and len(looked) == len(paths)
    number = number if len(looked) == len(paths) else round(number * len(paths) / len(looked))
    about = "" if exact else "about "
    return Amount(number, len(paths), f"rows: {about}{number:,} in {counted(len(paths), 'file')}")
