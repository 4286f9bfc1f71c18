"""Commands about the jobs of a queue: submit, logs, cancel; and what `status` says of them."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from galbatch.cli.base import FAILED, JobArgument, SetOption, err, help_text, out, site_of
from galbatch.errors import GalbatchError, SpecError, TransientError, counted
from galbatch.spec.cluster import QueueCluster
from galbatch.spec.load import lasting

if TYPE_CHECKING:
    from galbatch.cluster.driver import DriverQueue
    from galbatch.stages.site import Site
    from galbatch.store.layout import Layout

commands = typer.Typer()
_WAITS = 600
"""Seconds that a driver waits for the one before it to leave the store."""
_UNKNOWN = "unknown"
"""State of a job whose queue cannot be asked."""
_RETRAIN = typer.Option("--retrain", help="As that of `run`.")


@commands.command("submit", epilog=help_text("submit my_job.yaml --dry-run"))
def submit_command(
    job: JobArgument,
    set_: SetOption = None,
    retrain: Annotated[bool, _RETRAIN] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the scripts of all jobs, and submit none.")
    ] = False,
) -> None:
    """Run a job as jobs of its queue, which go on for as long as it takes.

    A driver asks for the workers; before its own time is up it submits the next one.
    """
    site = site_of(job, set_)
    from galbatch.stages.checks import agree

    agree(site.job, site.survey)
    queue = _driver_queue(site)
    script = queue.script(["drive", *_words(job, set_, retrain)], Path.cwd())
    if not dry_run:
        _submit(site, queue, script)
        return
    for what, text in (("driver", script), *queue.worker_scripts(site.layout.work)):
        out.print(f"# --- {what}\n{text.rstrip()}\n")


def _submit(site: Site, queue: DriverQueue, script: str) -> None:
    """Hand the first driver to the queue; what it refuses leaves nothing behind."""
    from galbatch.store.commit import commit_bytes
    from galbatch.store.queue_jobs import DRIVER, begin_drivers, record_job

    layout = site.layout
    found, notes = states_of(layout)
    if any(notes):
        raise TransientError(f"cluster ({_queue_of(site).kind})", notes[-1], "submit later")
    for one in found:
        if one["what"] == DRIVER and not _is_over(one):
            problem = f"job {one['number']} {one['state']} drives this job already"
            raise SpecError(site.job.name, problem, "'galbatch cancel' ends it")
    begin_drivers(layout)
    commit_bytes(layout.driver_script, script.encode())
    try:
        number = queue.submit(layout.driver_script)
    except GalbatchError:
        layout.driver_script.unlink()
        with suppress(OSError):  # there may be logs of earlier jobs
            layout.logs.rmdir()
        raise
    record_job(layout, _queue_of(site).kind, number, DRIVER)
    out.print(f"job {number} drives {site.job.name}; 'galbatch status' tells how it gets on")
    out.print(f"store   {layout.root}")
    out.print(f"logs    {layout.logs}")


@commands.command("drive", hidden=True, epilog=help_text("drive jobs/jpas.yaml"))
def drive_command(
    job: JobArgument, set_: SetOption = None, retrain: Annotated[bool, _RETRAIN] = False
) -> None:
    """What the job of `galbatch submit` does."""
    site = site_of(job, set_)
    from galbatch.run.drive import Driver

    words = [*_words(job, set_, retrain), "--wait", str(_WAITS)]
    driver = Driver(
        layout=site.layout,
        kind=_queue_of(site).kind,
        queue=_driver_queue(site),
        command=[sys.executable, "-m", "galbatch.cli", "run", *words],
        say=lambda text: print(f"galbatch driver: {text}", file=sys.stderr, flush=True),
    )
    raise typer.Exit(driver.drive())


@commands.command("logs", epilog=help_text("logs jobs/jpas.yaml --lines 30"))
def logs_command(
    job: JobArgument,
    set_: SetOption = None,
    lines: Annotated[int, typer.Option(min=1, max=1000, help="Of each log, at most.")] = 10,
    everything: Annotated[
        bool, typer.Option("--all", help="Also of what came before the last driver.")
    ] = False,
) -> None:
    """Print where the logs of the driver and the workers are, and how they end."""
    site = site_of(job, set_)
    from galbatch.cluster.systems import end_of, logs_of
    from galbatch.store.queue_jobs import DRIVER, recorded_jobs

    jobs = recorded_jobs(site.layout)
    if not jobs:
        raise SpecError(
            site.job.name, f"no job of a queue is on record in {site.layout.queue_jobs}",
            "'galbatch submit' makes one",
        )  # fmt: skip
    drivers = [place for place, one in enumerate(jobs) if one.what == DRIVER]
    for one in jobs[0 if everything or not drivers else drivers[-1] :]:
        with suppress(OSError):
            for path in logs_of(site.layout.logs, one.number):
                said = end_of(path)[-lines:]
                if said:
                    out.print("\n  ".join([f"{one.what}, job {one.number}: {path}", *said]))


@commands.command("cancel", epilog=help_text("cancel jobs/jpas.yaml"))
def cancel_command(job: JobArgument, set_: SetOption = None) -> None:
    """End the driver and the workers of a job; finished work is kept."""
    site = site_of(job, set_)
    from galbatch.store.queue_jobs import DRIVER, cancel_drivers

    queue, layout = _driver_queue(site), site.layout
    found, _ = states_of(layout)
    if found:
        cancel_drivers(layout)
    left = [one for one in found if not _is_over(one)]
    failed = False
    kind = site.job.cluster.kind
    for one in sorted(left, key=lambda one: bool(one["what"] != DRIVER)):
        if one["kind"] != kind:
            err.print(
                f"{one['what']}, job {one['number']}: is in a queue of kind {one['kind']}, the job "
                f"says {kind}: cancel it with --set cluster.kind={one['kind']}"
            )
            failed = True
            continue
        try:
            queue.cancel(one["number"])
        except TransientError as error:
            err.print(str(error))
            failed = True
        else:
            out.print(f"{one['what']}, job {one['number']}: cancelled")
    if not left:
        out.print(f"{site.job.name}: no job is in the queue")
    if failed:
        raise typer.Exit(FAILED)


def states_of(layout: Layout) -> tuple[list[dict[str, Any]], list[str]]:
    """The jobs on record with their states in the queue, which is asked once.

    Parameters
    ----------
    layout : Layout

    Returns
    -------
    list of dict
        Number, kind, what, submitted, state: empty where the queue does not list the job (any
        more), `unknown` where it cannot be asked.
    list of str
        What there is to say of queues that cannot be asked.
    """
    from galbatch.cluster.systems import SYSTEMS, states
    from galbatch.store.queue_jobs import recorded_jobs

    jobs = recorded_jobs(layout)
    known: dict[str, dict[str, str]] = {}
    notes = []
    for kind in {job.kind for job in jobs} & SYSTEMS.keys():
        try:
            known[kind] = states(SYSTEMS[kind])
        except TransientError as error:
            notes.append(str(error))
            known[kind] = {job.number: _UNKNOWN for job in jobs}
    found = [{**asdict(job), "state": known.get(job.kind, {}).get(job.number, "")} for job in jobs]
    return found, notes


def summary(found: Sequence[dict[str, Any]]) -> list[str]:
    """The jobs in the queue, a line for each kind and state."""
    from galbatch.cluster.systems import in_order, jobs_text

    numbers: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in found:
        if not _is_over(one):
            numbers[one["what"], one["state"]].append(one["number"])
    lines = [
        f"queue: {what}, {jobs_text(in_order(jobs))} {state}"
        for (what, state), jobs in numbers.items()
    ]
    return lines or [f"queue: none of {counted(len(found), 'job')} is left"] * bool(found)


def drivers_notes(layout: Layout) -> Iterable[str]:
    """Why no further driver comes, where it is so."""
    from galbatch.store.queue_jobs import read_drivers

    ended = read_drivers(layout).ended
    if layout.cancelled.exists():
        yield "cancelled; 'galbatch submit' goes on where it was"
    elif ended:
        yield f"{ended}; 'galbatch submit' goes on where it was"


def _is_over(one: dict[str, Any]) -> bool:
    from galbatch.cluster.systems import SYSTEMS

    return not one["state"] or bool(SYSTEMS[one["kind"]].ended.match(one["state"]))


def _queue_of(site: Site) -> QueueCluster:
    """The queue that a job names.

    Raises
    ------
    SpecError
        If it names none.
    """
    cluster = site.job.cluster
    if not isinstance(cluster, QueueCluster):
        raise SpecError(
            "cluster", f"'{cluster.kind}' is no queue: there is nothing to submit to",
            "e.g. cluster: {kind: slurm, workers: 4}, or 'galbatch run'",
        )  # fmt: skip
    return cluster


def _driver_queue(site: Site) -> DriverQueue:
    spec = _queue_of(site)
    from galbatch.cluster.driver import DriverQueue

    return DriverQueue(spec, site.layout.logs)


def _words(job: str, overrides: Sequence[str] | None, retrain: bool) -> list[str]:
    """The words behind a command that is about the same job, from whatever folder."""
    given = [word for one in overrides or () for word in ("--set", one)]
    return [lasting(job), *given, *(["--retrain"] if retrain else [])]
