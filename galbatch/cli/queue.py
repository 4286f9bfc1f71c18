"""Commands about the jobs of a queue: submit, logs, cancel; and what `status` says of them."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from galbatch.cli.base import FAILED, JobArgument, SetOption, err, help_text, out, site_of
from galbatch.errors import GalbatchError, SpecError, TransientError, counted, refuse_secrets
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
_LISTED_WITHIN = timedelta(seconds=15)
"""After which a queue lists a job that it has accepted."""
_URL = re.compile(r"[\w+.-]+://")
_SECRET = re.compile(r"(\w*(?:pass|secret|token|key)\w*(?<!file))\s*=\s*[^\s,\]}]", re.IGNORECASE)
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
    for words in set_ or ():
        _refuse_secrets(words)
    site = site_of(job, set_)
    from galbatch.stages.checks import agree, check_places
    from galbatch.stages.state import Snapshot

    agree(site.job, site.survey)
    spec, queue = _queue_of(site), _driver_queue(site)
    if not dry_run:
        _refuse_a_second(site)
    check_places(Snapshot(site))
    places = ["--store", str(site.layout.root), "--logs", str(site.layout.logs)]
    script = queue.script(["drive", *_words(job, set_, retrain), *places], Path.cwd())
    # Made in any case: what is wrong with them is said before the driver waits in the queue.
    workers = list(queue.worker_scripts(site.layout.work, site.layout.shared))
    if dry_run:
        for what, text in (("driver", script), *workers):
            out.print(f"# --- {what}\n{text.rstrip()}\n")
    else:
        _submit(site, queue, script)
    if spec.unasked:
        err.print(f"note: {spec.unasked}")


def _refuse_secrets(override: str) -> None:
    """Refuse what the driver's script, and who lists processes, would tell.

    Raises
    ------
    SpecError
        That does not repeat it.
    """
    key, _, value = override.partition("=")
    for url in _URL.finditer(value):
        refuse_secrets(value[url.start() :], f"--set {key}")
    secret = _SECRET.search(value)
    if secret:
        raise SpecError(
            f"--set {key}: {secret[1]}=...",
            "a password or key would stand in the driver's script, and in lists of processes",
            "give it through the environment, or a file that you alone can read",
        )


def _refuse_a_second(site: Site) -> None:
    """Refuse to submit a job that a driver works on.

    Raises
    ------
    SpecError
        If one does.
    TransientError
        If the queue cannot be asked.
    """
    from galbatch.store.queue_jobs import DRIVER

    found, notes = states_of(site.layout)
    if any(notes):
        raise TransientError(f"cluster ({_queue_of(site).kind})", notes[-1], "submit later")
    for one in found:
        if one["what"] == DRIVER and not _is_over(one):
            problem = f"job {one['number']} {one['state']} drives this job already"
            raise SpecError(site.job.name, problem, "'galbatch cancel' ends it")


def _submit(site: Site, queue: DriverQueue, script: str) -> None:
    """Hand the first driver to the queue; what it refuses leaves nothing behind."""
    from galbatch.store.commit import commit_bytes
    from galbatch.store.locations import missing
    from galbatch.store.queue_jobs import DRIVER, begin_drivers, record_job

    layout = site.layout
    made = missing(layout.logs.parent)
    remember = begin_drivers(layout)
    # What `--set` says stands in it.
    commit_bytes(layout.driver_script, script.encode(), private=True)
    try:
        number = queue.submit(layout.driver_script)
    except GalbatchError:
        layout.driver_script.unlink(missing_ok=True)
        remember()
        for folder in (layout.logs, *made):
            with suppress(OSError):  # there may be logs of earlier jobs
                folder.rmdir()
        raise
    record_job(layout, _queue_of(site).kind, number, DRIVER)
    out.print(f"job {number} drives {site.job.name}; 'galbatch status' tells how it gets on")
    out.print(f"store   {layout.root}")
    out.print(f"logs    {layout.logs}")


@commands.command("drive", hidden=True, epilog=help_text("drive jobs/jpas.yaml"))
def drive_command(
    job: JobArgument,
    set_: SetOption = None,
    retrain: Annotated[bool, _RETRAIN] = False,
    store: Annotated[str, typer.Option("--store", help="As `submit` has found it.")] = "",
    logs: Annotated[str, typer.Option("--logs", help="As `submit` has found them.")] = "",
) -> None:
    """What the job of `galbatch submit` does."""
    site = site_of(job, set_)
    for word, told, own in (("store", store, site.layout.root), ("logs", logs, site.layout.logs)):
        _refuse_other(word, told, own)
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


def _refuse_other(word: str, told: str, own: Path) -> None:
    """Refuse to work elsewhere than `submit`, `status` and `cancel` look.

    Raises
    ------
    SpecError
        If this machine has another place for the job.
    """
    if not told or str(own) == told:
        return
    # A folder may be reached by another path here.
    if "://" in told or own.resolve() != Path(told).resolve():
        raise SpecError(
            word, f"the driver sees {own}, 'submit' saw {told}",
            "a variable that the job or its site names is another here: export it in "
            "'cluster.prologue', e.g. export GALBATCH_STORES=/data/stores",
        )  # fmt: skip


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


def drivers_notes(layout: Layout, found: Sequence[dict[str, Any]], *, left: bool) -> Iterable[str]:
    """Why no further driver comes, where it is so.

    Parameters
    ----------
    layout : Layout
    found : sequence of dict
        Its jobs, see `states_of`.
    left : bool
        Whether there is work left.
    """
    from galbatch.store.queue_jobs import DRIVER, read_drivers

    said = read_drivers(layout)
    drivers = [one for one in found if one["what"] == DRIVER]
    if layout.cancelled.exists():
        yield "cancelled; 'galbatch submit' goes on where it was"
    elif said.ended:
        yield f"{said.ended}; 'galbatch submit' goes on where it was"
    elif left and not said.over and drivers and _is_lost(drivers[-1]):
        yield _lost(drivers[-1], layout)


def _is_lost(driver: dict[str, Any]) -> bool:
    """Whether a driver runs no more; a queue may not list at once what it has accepted."""
    age = datetime.now(UTC) - datetime.fromisoformat(driver["submitted"])
    return _is_over(driver) and bool(driver["state"] or age >= _LISTED_WITHIN)


def _lost(driver: dict[str, Any], layout: Layout) -> str:
    """A driver that ended without a word: its job, its state, its log, and what to do."""
    from galbatch.cluster.systems import log_of

    number = driver["number"]
    end = log_of(layout.logs, number)
    return (
        f"the driver, job {number}, is over ({driver['state'] or 'the queue has forgotten it'}) "
        f"and the run has not ended: {end}; 'galbatch submit' goes on where it was"
    )


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
