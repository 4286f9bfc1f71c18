"""The command line."""

from __future__ import annotations

import atexit
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from galbatch import __version__
from galbatch.cli import queue
from galbatch.cli.base import (
    CHANGE_SOMETHING,
    DONE,
    FAILED,
    INTERRUPTED,
    QUARANTINED,
    JobArgument,
    SetOption,
    app,
    err,
    help_text,
    out,
    site_of,
)
from galbatch.errors import GalbatchError, SpecError, counted
from galbatch.spec import load_survey

if TYPE_CHECKING:
    from galbatch.monitor import BarMonitor, LineMonitor
    from galbatch.run.loop import Outcome
    from galbatch.stages.site import Site


_MANY = 10
"""Files that `validate` tells of one by one, at most."""
_A_MOMENT = 0.05
"""Seconds."""


@app.command(
    "run",
    epilog=help_text(
        "run jobs/zcosmos.yaml --set store=stores/mine",
        "0 all done and nothing left",
        "1 done but for what was quarantined or is left (it is listed)",
        "130 stopped (the same command goes on)",
    ),
)
def run_command(
    job: JobArgument,
    set_: SetOption = None,
    retrain: Annotated[
        bool,
        typer.Option(
            "--retrain", help="Train a new version of models whose catalogue has changed since."
        ),
    ] = False,
    wait: Annotated[
        float,
        typer.Option(min=0, help="Seconds to wait for another run that works on the store."),
    ] = 0.0,
) -> None:
    """Do everything the job says that has not been done yet."""
    _stop_on_signals()
    try:
        site = site_of(job, set_)
        from galbatch.cluster import connect, taking_part
        from galbatch.plan import plan
        from galbatch.run.loop import run
        from galbatch.run.store import opened
        from galbatch.store.queue_jobs import record_job

        stages = plan(site.job, site.survey, retrain=retrain)
        layout = site.layout
        cluster, record = site.job.cluster, partial(record_job, layout, site.job.cluster.kind)
        workers = partial(connect, cluster, layout.work, layout.logs, layout.shared, record)
        with taking_part(cluster, layout.work, layout.logs) as drives:
            if not drives:
                raise typer.Exit(DONE)
            with opened(site, wait), _monitor() as monitor:
                outcome = run(stages, site, workers, monitor)
    except KeyboardInterrupt:
        err.print("stopped; run the same command to go on where it was")
        raise typer.Exit(INTERRUPTED) from None
    _tell(site, outcome)


@app.command("plan", epilog=help_text("plan jobs/jpas.yaml --rows 500000000"))
def plan_command(
    job: JobArgument,
    set_: SetOption = None,
    rows: Annotated[
        int | None,
        typer.Option(
            min=1, help="Rows of the catalogue, where files do not say it or are yet to come."
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Measure rates on this machine; they are kept."),
    ] = False,
) -> None:
    """Show the stages, who does each, what it needs and how long it takes."""
    site = site_of(job, set_)
    from galbatch.forecast.page import plan_page

    table, lines = plan_page(site, rows, measure)
    out.print(table)
    for line in lines:
        out.print(line)


@app.command(
    "status",
    epilog=help_text(
        "status jobs/zcosmos.yaml --check",
        "0 nothing is in quarantine (with --check: nothing is left)",
        "1 something is",
    ),
)
def status_command(
    job: JobArgument,
    set_: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Exit with 1 while work is left, with 0 when none is, whatever is in quarantine.",
        ),
    ] = False,
) -> None:
    """Say what is done, what is left, and what was quarantined."""
    site = site_of(job, set_)
    from galbatch.plan import plan
    from galbatch.run.status import status

    state = status(plan(site.job, site.survey), site)
    jobs, notes = queue.states_of(site.layout)
    notes += queue.drivers_notes(site.layout, jobs, left=bool(state["left"]))
    state["queue"] = {"jobs": jobs, "notes": notes}
    if as_json:
        print(json.dumps(state, indent=1))
    else:
        table = Table(title=f"{site.job.name}: {state['store']}", title_justify="left")
        for heading in ("stage", "done", "left", "stale", "rows", ""):
            right = heading in ("done", "left", "stale", "rows")
            table.add_column(heading, justify="right" if right else "left")
        for row in state["stages"]:
            waits = f"waits for {row['waiting']}" if row["waiting"] else ""
            left = "?" if waits and not row["left"] else f"{row['left']:,}"
            done, stale = f"{row['done']:,}", f"{row['stale']:,}"
            table.add_row(row["stage"], done, left, stale, f"{row['rows']:,}", waits)
        out.print(table)
        for version in state["models"]:
            out.print(f"model: {_version_line(version)}")
        for row in state["stages"]:
            for reason, count in row["reasons"].items():
                out.print(f"stale: {row['stage']}, {count:,} x {reason}")
            for note in row["notes"]:
                out.print(f"note: {note}")
        for line in (*queue.summary(jobs), *(f"note: {note}" for note in notes)):
            out.print(line)
        for line in _quarantined(site):
            out.print(line)
    raise typer.Exit(QUARANTINED if state["left" if check else "quarantine"] else DONE)


@app.command(
    "validate",
    epilog=help_text(
        "validate jobs/zcosmos.yaml", "0 valid", "1 valid but for files that are named"
    ),
)
def validate_command(
    job: JobArgument,
    set_: SetOption = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="A line for each file, however many there are.")
    ] = False,
) -> None:
    """Make every check of a run that needs just headers and a few rows, without running anything.

    A file that breaks further on is found by `run`.
    """
    site = site_of(job, set_)
    from galbatch.stages.checks import agree, check_sources, source_notes, summarise

    agree(site.job, site.survey)
    source = site.job.source
    if source.kind == "mock":
        out.print(counted(source.rows, "simulated object"))
    facts = list(check_sources(site.job, site.survey))
    if verbose or len(facts) <= _MANY:
        for one in facts:
            out.print(str(one))
    else:
        for line in (*summarise(facts), "--verbose tells of each file"):
            out.print(line)
    for note in source_notes(site.job, site.survey, facts):
        out.print(f"note: {note}")
    out.print(f"{job}: valid", style="green")
    if any(one.problem for one in facts):
        raise typer.Exit(QUARANTINED)


@app.command(
    "verify", epilog=help_text("verify stores/zcosmos", "0 sound", "1 damaged (what is, is listed)")
)
def verify_command(
    store: Annotated[
        str, typer.Argument(metavar="STORE", help="A store's folder, or the job that made it.")
    ],
) -> None:
    """Read a whole store and compare it with its receipts; `run` then repairs the damage."""
    from galbatch.store.identity import examine, read_identity
    from galbatch.store.layout import Layout
    from galbatch.store.locations import location
    from galbatch.store.verify import verify, withdraw

    if "://" in store or Path(store).is_dir():
        layout = Layout(location(store))
    else:
        layout = site_of(store, None).layout
    moved = 0
    with examine(layout) as writable:
        identity = read_identity(layout)
        found = list(verify(layout))
        for damage in found:
            out.print(str(damage))
            moved += withdraw(layout, damage) if writable else 0
    if found:
        assert identity is not None  # examine() refuses what is no store
        parts = [f"{len(found):,} damaged"]
        if moved:
            parts.append(f"{moved:,} moved to {layout.quarantine / 'damaged'}")
        if not writable:
            parts.append("nothing was moved, since the store cannot be written")
        line = f"{', '.join(parts)}; 'galbatch run' with job '{identity.job}' makes just that again"
        err.print(line)
        raise typer.Exit(QUARANTINED)
    out.print(f"{layout.root}: sound", style="green")


@app.command("drop", epilog=help_text("drop jobs/zcosmos.yaml photometric_v2"))
def drop_command(
    job: JobArgument,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A version: see `status`.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Also the version that the job says now, unasked.")
    ] = False,
    set_: SetOption = None,
) -> None:
    """Remove a version of a model and all that it predicted from the store."""
    site = site_of(job, set_)
    from galbatch.run.store import opened
    from galbatch.stages.drop import drop

    if not yes:
        _ask_to_drop(site, model)
    with opened(site):
        for line in drop(site, model):
            out.print(line)


@app.command("export", epilog=help_text("export jobs/zcosmos.yaml redshifts.hdf5"))
def export_command(
    job: JobArgument,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Ends with .hdf5.")],
    model: Annotated[
        str | None, typer.Option(help="A version: see `status`. The job's first by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    set_: SetOption = None,
) -> None:
    """Write the redshift distributions of all rows as an ensemble of `qp`."""
    site = site_of(job, set_)
    from galbatch.run.store import opened
    from galbatch.stages.export import export_qp
    from galbatch.stages.state import Snapshot

    with opened(site):
        version = model or Snapshot(site).versions.current(site.job.models[0])
        rows = export_qp(site, version, path, force)
    out.print(f"{path}: {counted(rows, 'distribution')} of {version}")


@app.command("mock", epilog=help_text("mock alhambra sky.csv.gz --rows 100000"))
def mock_command(
    survey: Annotated[str, typer.Argument(metavar="SURVEY", help="Name or file of a survey.")],
    path: Annotated[Path, typer.Argument(metavar="FILE", help=".csv.gz, .csv, .fits or .parquet")],
    rows: Annotated[int, typer.Option(min=1, help="Objects in the catalogue.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same sky.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a simulated catalogue in a survey's own column layout."""
    from galbatch.stages.mock import write_mock

    write_mock(load_survey(survey), rows, seed, path, force=force)
    out.print(f"{path}: {counted(rows, 'object')} of a simulated {survey} sky")


@app.command("report", epilog=help_text("report jobs/zcosmos.yaml"))
def report_command(job: JobArgument, set_: SetOption = None) -> None:
    """Draw the report of a store again."""
    site = site_of(job, set_)
    from galbatch.plan import plan
    from galbatch.run.status import draw
    from galbatch.run.store import opened

    with opened(site):
        path = draw(plan(site.job, site.survey), site)
    out.print(f"{path}")


app.add_typer(queue.commands)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        out.print(f"galbatch {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; never show a traceback for a user's mistake."""
    _fit_in()
    try:
        app(standalone_mode=True)
    except GalbatchError as error:
        code = CHANGE_SOMETHING if isinstance(error, SpecError) else FAILED
        err.print("error: ", style="bold red", end="")
        err.print(" ".join(str(error).split()))
        sys.exit(code)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing to say, and nowhere to say it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DONE)
    except Exception:
        err.print(traceback.format_exc(), style="dim")
        err.print("failed: ", style="bold red", end="")
        err.print("this is a defect in galbatch, not a mistake of yours; ")
        err.print("finished work is kept: run the same command again, and please report it")
        sys.exit(FAILED)


def _fit_in() -> None:
    """Work the same where no home folder can be written, or the terminal shows ASCII only."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        Path.home()
    except RuntimeError:  # a user whom this machine does not know: astropy cannot be imported
        os.environ["HOME"] = _folder_for_now()
    if "MPLCONFIGDIR" in os.environ or _writable(os.environ.get("XDG_CONFIG_HOME") or "~/.config"):
        return
    # Otherwise each process would complain, and make one of its own.
    os.environ["MPLCONFIGDIR"] = _folder_for_now()


def _folder_for_now() -> str:
    folder = tempfile.mkdtemp(prefix="galbatch-home-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _writable(folder: str) -> bool:
    """Whether a file can be made in a folder, or where the folder would be made."""
    try:
        path = Path(folder).expanduser().absolute()
        existing = next(parent for parent in (path, *path.parents) if parent.exists())
        with tempfile.TemporaryFile(dir=existing):
            return True
    except OSError:
        return False


def _monitor() -> BarMonitor | LineMonitor:
    from galbatch.monitor import BarMonitor, LineMonitor

    return BarMonitor(err) if err.is_terminal else LineMonitor(sys.stderr)


def _ask_to_drop(site: Site, model: str) -> None:
    """Ask before the version is removed that the job's settings ask for."""
    from galbatch.stages.state import Snapshot

    held = next((one for one in Snapshot(site).held_versions if one.name == model), None)
    if held is None or not held.current:
        return
    loss = f"is what the job says now, with {counted(held.rows, 'row')} predicted"
    if not sys.stdin.isatty():
        raise SpecError(model, loss, "--yes removes it all the same")
    if not typer.confirm(f"{model} {loss}: remove it?", err=True):
        out.print(f"{model} stays")
        raise typer.Exit(CHANGE_SOMETHING)


def _tell(site: Site, outcome: Outcome) -> None:
    """The summary at the end of a run."""
    if any(record.units or record.failed for record in outcome.records):
        table = Table(title=site.job.name, title_justify="left")
        table.add_column("stage")
        for heading in ("rows", "seconds", "rows/s", "peak memory of a process"):
            table.add_column(heading, justify="right")
        for record in outcome.records:
            if record.units or record.failed:
                speed = f"{record.rows / record.seconds:,.0f}" if record.rows else ""
                memory = f"{record.peak_memory / 2**30:.2f} GiB" if record.peak_memory else ""
                seconds = f"{record.seconds:.1f}"
                table.add_row(record.stage, f"{record.rows:,}", seconds, speed, memory)
        out.print(table)
    elif not outcome.left:
        out.print(f"{site.job.name}: nothing to do, all of it is in {site.layout.root}")
    quarantined = _quarantined(site)
    for line in (*quarantined, *outcome.left):
        err.print(line)
    out.print(f"store   {site.layout.root}")
    page = site.layout.report / "index.html"
    if page.exists():
        out.print(f"report  {page}")
    raise typer.Exit(QUARANTINED if quarantined or outcome.left else DONE)


def _quarantined(site: Site) -> list[str]:
    """What is in quarantine, and where to look: a line for each reason."""
    from galbatch.stages.base import UNITS
    from galbatch.store.quarantine import rejected_kinds

    return [
        f"quarantined: {counted(number, UNITS.get(stage, 'task') if stage else 'row')} "
        f"x {reason}: see {site.layout.quarantine}"
        for (stage, reason), number in rejected_kinds(site.layout).items()
    ]


def _version_line(version: dict[str, Any]) -> str:
    parts = [version["name"], f"fingerprint {version['fingerprint'][:12]}"]
    predicted = counted(version["rows"], "row") if version["rows"] else "nothing"
    parts.append(f"{predicted} predicted")
    if version["current"]:
        parts.append("what the job says")
    if version["earlier_catalogue"]:
        parts.append("of an earlier catalogue")
    return ", ".join(parts)


def _stop_on_signals() -> None:
    """SIGTERM is what Ctrl-C is, and neither is lost.

    Python throws away what is raised while it collects garbage, where Dask has something to do
    each time: then it is raised once more, a moment later.
    """
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGALRM, _stop)
    sys.unraisablehook = _raise_again


def _stop(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _raise_again(lost: sys.UnraisableHookArgs) -> None:
    if issubclass(lost.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, _A_MOMENT)
    else:
        sys.__unraisablehook__(lost)
