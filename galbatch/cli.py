"""The command line."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from galbatch import __version__
from galbatch.errors import GalbatchError, SpecError
from galbatch.spec import load_job, load_survey

if TYPE_CHECKING:
    from galbatch.monitor import BarMonitor, LineMonitor
    from galbatch.run import Outcome
    from galbatch.stages.base import Site

app = typer.Typer(
    name="galbatch",
    help="Partition, clean, train, predict, append, report: galaxy surveys of any size.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_out = Console(soft_wrap=True, highlight=False)
_err = Console(stderr=True, soft_wrap=True, highlight=False)

DONE, QUARANTINED, CHANGE_SOMETHING, FAILED, INTERRUPTED = 0, 1, 2, 3, 130
_A_MOMENT = 0.05
"""Seconds."""

JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="A job file, or the name of a job galbatch ships.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Replace any word of the job file."),
]


@app.command("run")
def run_command(
    job: JobArgument,
    set_: SetOption = None,
    retrain: Annotated[
        bool,
        typer.Option(
            "--retrain", help="Train a new version of models whose catalogue has changed since."
        ),
    ] = False,
) -> None:
    """Do everything the job says that has not been done yet."""
    _stop_on_signals()
    try:
        site = _site(job, set_)
        from galbatch.cluster import connect
        from galbatch.plan import plan
        from galbatch.run import opened, run

        stages = plan(site.job, site.survey, retrain=retrain)
        places = site.layout
        workers = partial(connect, site.job.cluster, places.work, places.logs, places.shared)
        with opened(site), _monitor() as monitor:
            outcome = run(stages, site, workers, monitor)
    except KeyboardInterrupt:
        _err.print("stopped; run the same command to go on where it was")
        raise typer.Exit(INTERRUPTED) from None
    _tell(site, outcome)


@app.command("plan")
def plan_command(job: JobArgument, set_: SetOption = None) -> None:
    """Show the stages, what each does and what a worker needs for it."""
    site = _site(job, set_)
    from galbatch.plan import plan

    table = Table(title=f"{site.job.name}: {site.survey.title}", title_justify="left")
    for heading in ("stage", "runs on", "memory", "what it does"):
        table.add_column(heading, overflow="fold")
    for stage in plan(site.job, site.survey):
        memory = f"{stage.memory(site) / 2**30:.1f} GiB"
        table.add_row(stage.name, stage.where, memory, stage.summary(site))
    _out.print(table)
    _out.print(f"store: {site.layout.root}")


@app.command("status")
def status_command(
    job: JobArgument,
    set_: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what is done, what is left, and what was quarantined."""
    site = _site(job, set_)
    from galbatch.plan import plan
    from galbatch.run import status

    state = status(plan(site.job, site.survey), site)
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
        _out.print(table)
        for version in state["models"]:
            _out.print(f"model: {_version_line(version)}", markup=False)
        for row in state["stages"]:
            for reason, count in row["reasons"].items():
                _out.print(f"stale: {row['stage']}, {count:,} x {reason}", markup=False)
            for note in row["notes"]:
                _out.print(f"note: {note}", markup=False)
        for reason, count in state["quarantine"].items():
            _out.print(f"quarantined: {count:,} x {reason}", markup=False)
    raise typer.Exit(QUARANTINED if state["quarantine"] else DONE)


@app.command("validate")
def validate_command(job: JobArgument, set_: SetOption = None) -> None:
    """Check a job, its survey and the header of every source file, without running anything.

    The rows are not read: a file that breaks further on is found by `run`.
    """
    site = _site(job, set_)
    from galbatch.stages.checks import agree, check_sources

    agree(site.job, site.survey)
    for line in check_sources(site.job, site.survey):
        _out.print(line, markup=False)
    _out.print(f"[green]{job}: valid")


@app.command("verify")
def verify_command(
    store: Annotated[
        str, typer.Argument(metavar="STORE", help="A store's folder, or the job that made it.")
    ],
) -> None:
    """Read everything in a store and compare it with its receipts; `run` then mends the damage."""
    from galbatch.store.identity import examine, read_identity
    from galbatch.store.layout import Layout
    from galbatch.store.places import place
    from galbatch.store.verify import verify, withdraw

    if "://" in store or Path(store).is_dir():
        layout = Layout(place(store))
    else:
        layout = _site(store, None).layout
    moved = 0
    with examine(layout) as writable:
        identity = read_identity(layout)
        found = list(verify(layout))
        for damage in found:
            _out.print(str(damage), markup=False)
            moved += withdraw(layout, damage) if writable else 0
    if found:
        assert identity is not None  # examine() refuses what is no store
        words = [f"{len(found):,} damaged"]
        if moved:
            words.append(f"{moved:,} moved to {layout.quarantine / 'damaged'}")
        if not writable:
            words.append("nothing was moved, since the store cannot be written")
        line = f"{', '.join(words)}; 'galbatch run' with job '{identity.job}' makes just that anew"
        _err.print(line, markup=False)
        raise typer.Exit(QUARANTINED)
    _out.print(f"[green]{layout.root}: sound")


@app.command("drop")
def drop_command(
    job: JobArgument,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A version: see `status`.")],
    set_: SetOption = None,
) -> None:
    """Remove a version of a model and all that it predicted from the store."""
    site = _site(job, set_)
    from galbatch.run import opened
    from galbatch.stages.drop import drop

    with opened(site):
        for line in drop(site, model):
            _out.print(line, markup=False)


@app.command("export")
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
    site = _site(job, set_)
    from galbatch.run import opened
    from galbatch.stages.export import export_qp
    from galbatch.stages.train import current_version

    with opened(site):
        version = model or current_version(site, site.job.models[0])
        rows = export_qp(site, version, path, force)
    _out.print(f"{path}: {rows:,} distributions of {version}", markup=False)


@app.command("mock")
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
    _out.print(f"{path}: {rows:,} objects of a simulated {survey} sky")


@app.command("report")
def report_command(job: JobArgument, set_: SetOption = None) -> None:
    """Draw the report of a store again."""
    site = _site(job, set_)
    from galbatch.run import opened
    from galbatch.stages.report import Report

    with opened(site):
        path = Report().draw(site)
    _out.print(f"{path}", markup=False)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        _out.print(f"galbatch {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; never show a traceback for a user's mistake."""
    try:
        app(standalone_mode=True)
    except GalbatchError as error:
        code = CHANGE_SOMETHING if isinstance(error, SpecError) else FAILED
        _err.print("[bold red]error:[/] ", end="")
        _err.print(" ".join(str(error).split()), markup=False)
        sys.exit(code)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing to say, and nowhere to say it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DONE)
    except Exception:
        _err.print(traceback.format_exc(), markup=False, style="dim")
        _err.print("[bold red]failed:[/] this is a defect in galbatch, not a mistake of yours; ")
        _err.print("finished work is kept: run the same command again, and please report it")
        sys.exit(FAILED)


def _site(job: str, overrides: list[str] | None) -> Site:
    from galbatch.stages.base import Site
    from galbatch.store.layout import Layout
    from galbatch.store.places import place

    words = load_job(job, overrides or ())
    survey = load_survey(words.survey, beside=Path(job).parent)
    scratch = Path(words.scratch).expanduser().absolute() if words.scratch else None
    return Site(words, survey, Layout(place(words.store), scratch))


def _monitor() -> BarMonitor | LineMonitor:
    from galbatch.monitor import BarMonitor, LineMonitor

    return BarMonitor(_err) if _err.is_terminal else LineMonitor(sys.stderr)


def _tell(site: Site, outcome: Outcome) -> None:
    """The last words of a run."""
    from galbatch.store.quarantine import rejected_counts

    if not any(record.units or record.failed for record in outcome.records):
        _out.print(f"{site.job.name}: nothing to do, all of it is in {site.layout.root}")
    else:
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
        _out.print(table)
    counts = rejected_counts(site.layout)
    for reason, count in counts.items():
        _err.print(f"quarantined: {count:,} x {reason}", markup=False)
    _out.print(f"store   {site.layout.root}")
    _out.print(f"report  {site.layout.report / 'index.html'}")
    raise typer.Exit(QUARANTINED if counts else DONE)


def _version_line(version: dict[str, Any]) -> str:
    words = [version["name"], f"fingerprint {version['fingerprint'][:12]}"]
    words.append(f"{version['rows']:,} rows predicted" if version["rows"] else "nothing predicted")
    if version["current"]:
        words.append("what the job says")
    if version["earlier_catalogue"]:
        words.append("of an earlier catalogue")
    return ", ".join(words)


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


if __name__ == "__main__":
    main()
