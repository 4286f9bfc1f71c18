"""What all commands share: exit codes, consoles, arguments, and the job that they are about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from galbatch.spec import load_job, load_survey

if TYPE_CHECKING:
    from galbatch.stages.site import Site

DONE, QUARANTINED, CHANGE_SOMETHING, FAILED, INTERRUPTED = 0, 1, 2, 3, 130
_FAILURES = ("2 you must change something (one line says what)", "3 failed")


def help_text(example: str, *codes: str) -> str:
    """The text below a command's options: an example and the exit codes."""
    said = sorted((*(codes or ("0 done",)), *_FAILURES), key=lambda code: int(code.split()[0]))
    return f"Example: galbatch {example}\n\nExit codes: {', '.join(said)}."


app = typer.Typer(
    name="galbatch",
    help="Partition, clean, train, predict, append, report: galaxy surveys of any size.",
    epilog=help_text("run quickstart", "0 all done", "1 done but for what is listed"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
# What is printed comes from users and files: [brackets] and :colons: in it are no markup.
out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)

JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="A job file, or the name of a job galbatch ships.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Replace any setting of the job file."),
]


def site_of(job: str, overrides: list[str] | None) -> Site:
    """Where a job works, with what `--set` says."""
    from galbatch.stages.site import Site

    spec = load_job(job, overrides or ())
    return Site.of(spec, load_survey(spec.survey, beside=Path(job).parent))
