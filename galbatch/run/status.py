"""What is done in a store, and what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from galbatch.errors import counted
from galbatch.stages.base import UNITS, AnyPending, AnyStage, AnyTask
from galbatch.stages.report import DrawReport
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.history import latest_records
from galbatch.store.quarantine import rejected_counts, rejected_rows
from galbatch.store.units import rejected_unit

_TOLD = 3
"""Of the tasks that are left, so many are told by name."""


def status(plan: Sequence[AnyStage], site: Site) -> dict[str, Any]:
    """What is done and what is left, as JSON values.

    Parameters
    ----------
    plan : sequence of AnyStage
    site : Site

    Returns
    -------
    dict
        ``job``, ``survey``, ``store``, ``models`` (the versions in the store), ``stages`` (stage,
        done, left, stale: those of `left` that were done once, reasons: number of tasks by why,
        waiting, notes, rows, seconds, peak_memory), ``left`` (see `remaining`), ``quarantine``
        (number by reason).
    """
    records = latest_records(site.layout)
    stages = []
    snapshot = Snapshot(site)
    asked = ask(plan, snapshot)
    unfinished = ""
    for stage, pending in asked:
        reasons = Counter(task.why for task in pending.tasks if task.why)
        record = records.get(stage.name)
        stages.append(
            {
                "stage": stage.name,
                "done": pending.done,
                "left": len(pending.tasks),
                "stale": sum(reasons.values()),
                "reasons": dict(reasons.most_common()),
                "waiting": pending.waiting or unfinished,
                "notes": list(pending.notes),
                "rows": record.rows if record else 0,
                "seconds": round(record.seconds, 3) if record else 0.0,
                "peak_memory": record.peak_memory if record else 0,
            }
        )
        if pending.tasks and not unfinished:
            unfinished = stage.name
    return {
        "job": site.job.name,
        "survey": site.survey.name,
        "store": str(site.layout.root),
        "stages": stages,
        "left": list(remaining(site, asked)),
        "models": [asdict(version) for version in snapshot.held_versions],
        "quarantine": rejected_counts(site.layout),
    }


def draw(plan: Sequence[AnyStage], site: Site) -> Path:
    """Draw the page of a store again.

    Parameters
    ----------
    plan : sequence of AnyStage
    site : Site

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    SpecError
        If there is nothing to report yet.
    """
    snapshot = Snapshot(site)
    asked = ask(plan, snapshot)
    (path,) = (stage.draw(snapshot) for stage, _ in asked if isinstance(stage, DrawReport))
    return path


def ask(plan: Sequence[AnyStage], snapshot: Snapshot) -> list[tuple[AnyStage, AnyPending]]:
    """Every stage with what it has left; the page knows what those before it have.

    Parameters
    ----------
    plan : sequence of Stage
    snapshot : Snapshot
        Of a store that nobody works on meanwhile.
    """
    asked: list[tuple[AnyStage, AnyPending]] = []
    for stage in plan:
        if isinstance(stage, DrawReport):
            stage = replace(stage, left=remaining(snapshot.site, asked))
        asked.append((stage, stage.pending(snapshot)))
    return asked


def remaining(site: Site, asked: Iterable[tuple[AnyStage, AnyPending]]) -> tuple[str, ...]:
    """What is left to do, and why: a line for each stage that is not through.

    Parameters
    ----------
    site : Site
    asked : iterable of (AnyStage, AnyPending)
        Stages, each with what it has left.

    Returns
    -------
    tuple of str
        ``scan: 1 file left: a.csv: the file changed``; none where nothing is left.
    """
    lines = []
    for stage, pending in asked:
        tasks = pending.tasks
        if tasks:
            said = [_told(site, stage, task) for task in tasks[:_TOLD]]
            if len(tasks) > _TOLD:
                said.append(f"and {len(tasks) - _TOLD:,} more")
            count = counted(len(tasks), UNITS.get(stage.name, "task"))
            lines.append(f"{stage.name}: {count} left: {'; '.join(said)}")
        elif pending.waiting:
            lines.append(f"{stage.name}: waits for {pending.waiting}")
    return tuple(lines)


def _told(site: Site, stage: AnyStage, task: AnyTask) -> str:
    """A task that is left, and why: what it failed of, or why it must be done again."""
    failed = rejected_rows(site.layout, rejected_unit(stage.name, task.unit), at_most=1)
    why = " ".join(failed[0].reason.split()) if failed else task.why
    if not why or why.startswith(task.unit):
        return why or task.unit
    return f"{task.unit}: {why}"
