"""A fit in a process of its own: what begins it, and what runs in it.

TensorFlow's memory goes with the process, and a Dask worker that has used TensorFlow once cannot
do so again. Messages are JSON lines: the request on standard input, progress and the outcome on
standard output. A fit may have several such processes; the first one is the chief.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from galbatch.errors import GalbatchError, SpecError, TransientError
from galbatch.models.device import share_machine
from galbatch.models.families import FAMILIES, Entry, family_of
from galbatch.sample.lineage import origin
from galbatch.spec.job import AnyModel, Job
from galbatch.spec.survey import Survey
from galbatch.stages.base import OnProgress
from galbatch.stages.fit_members import FAILED, Members, meeting
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.stages.training_rows import no_rows, split_of, streamed_rows, training_rows
from galbatch.store import fence
from galbatch.store.layout import Layout
from galbatch.store.locations import local_copy, location
from galbatch.training.group import Certificates, FitGroup, Meeting, joined

_SECONDS_BETWEEN_LOOKS = 2.0
"""Between two looks whether a fit is still wanted."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class FitResult:
    """What came of a fit.

    Parameters
    ----------
    rows : int
        That the model was trained on.
    fingerprint : str
        Of its card.
    """

    rows: int
    fingerprint: str


def lineage_of(site: Site) -> dict[str, Any]:
    """Which rows a fit on this catalogue sees, as cards remember it."""
    return origin(site.job.source, split_of(site.job, site.survey))


def fit_in_subprocess(site: Site, model: str, folder: Path, report: OnProgress) -> FitResult:
    """Fit a model in a process of its own, which ends when this one does.

    Parameters
    ----------
    site : Site
    model : str
        Its name in the job.
    folder : Path
        To write it to; with the checkpoints of a fit that was cut short.
    report : callable
        Told of every epoch.

    Raises
    ------
    SpecError
        If the user must change something, or the run is over.
    TransientError
        If the process ended without an answer.
    """
    run = fence.attempt()
    request = {
        "parent": os.getpid(),
        "run": run.run if run else None,
        "job": site.job.model_dump(mode="json"),
        "survey": site.survey.model_dump(mode="json"),
        "root": str(site.layout.root),
        "scratch": str(site.layout.scratch) if site.layout.scratch else None,
        "model": model,
        "families": {kind: asdict(entry) for kind, entry in FAMILIES.items()},
        "folder": str(folder.resolve()),
    }
    with (
        meeting(site) as place,
        Members(site.job.training, {**request, "members": place}) as members,
    ):
        return _outcome(model, members, report)


def _outcome(model: str, members: Members, report: OnProgress) -> FitResult:
    """What the chief says in the end, and on the way."""
    outcome: dict[str, Any] = {}
    for message in members.messages():
        if "done" in message:
            report(message["done"], message["total"], message["note"])
            continue
        outcome = message
        if "error" in message:
            break  # others may wait for one that cannot come
    if "error" in outcome:
        kind = SpecError if outcome["error"] == "SpecError" else TransientError
        hint = members.word() if kind is TransientError else ""
        raise kind(outcome["where"], outcome["problem"], hint or outcome["hint"])
    failed = members.failure()
    if failed or "facts" not in outcome:
        problem, last = failed or ("the process ended without an answer", "")
        raise TransientError(f"train {model}", problem, last)
    return FitResult(**outcome["facts"])


def fit_here(
    site: Site, model: str, folder: Path, report: OnProgress, group: FitGroup | None = None
) -> FitResult:
    """Fit a model in this process.

    Parameters
    ----------
    site : Site
    model : str
        Its name in the job.
    folder : Path
        To write it to; with the checkpoints of a fit that was cut short.
    report : callable
        Told of every epoch.
    group : FitGroup, optional
        The other processes that do it.

    Raises
    ------
    SpecError
        If the user must change something.
    TransientError
        If there is no catalogue any more, or a process of the group is gone.
    """
    job, survey = site.job, site.survey
    settings = next(one for one in job.models if one.name == model)
    catalogue = Snapshot(site).catalogue
    if catalogue is None:
        raise TransientError(str(site.layout.root), "the catalogue changed meanwhile")
    split = split_of(job, survey)
    rows = site.layout, survey, split, catalogue, settings
    streams = family_of(settings.kind).streams
    parts = streamed_rows(*rows) if streams else ()
    table, role, census = no_rows() if streams else training_rows(*rows)
    from galbatch.training.fit import train

    with pretrained_folder(settings) as before:
        card = train(
            settings,
            survey,
            table,
            role,
            folder,
            report,
            census=census,
            pretrained=before,
            origin=lineage_of(site),
            group=group,
            parts=parts,
        )
    taught = sum(sum(counts.values()) for counts in card.rows.values())
    return FitResult(taught if streams else table.num_rows, card.fingerprint)


def _end_with_parent(parent: int | None) -> None:
    """Nobody shall go on with a checkpoint that another run has taken up.

    Without a parent on this machine, SLURM ends what it began.
    """
    if parent is not None:
        with suppress(OSError, AttributeError):
            # On Linux at once, whatever this process is at. The thread that began it waits for it.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _end_when_unwanted(run: fence.Attempt | None, folder: Path) -> None:
    """The parent may outlive its run, on a machine of a cluster, and not know that this is over."""

    def look() -> None:
        while True:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            try:
                _check_wanted(run, folder)
            except SpecError as error:
                _say_error(error)
                os._exit(1)
            except TransientError:  # the disk may be back at the next look
                continue

    threading.Thread(target=look, daemon=True).start()


def _check_wanted(run: fence.Attempt | None, folder: Path) -> None:
    if run is not None:
        run.check()
    if not folder.is_dir():
        raise SpecError(str(folder), "is gone: another try has taken over this fit")


@contextmanager
def pretrained_folder(model: AnyModel) -> Iterator[Path | None]:
    """Folder of the model that a fit begins with; None where it begins from random weights."""
    if model.begins_with is None:
        yield None
        return
    with local_copy(location(model.begins_with)) as folder:
        yield folder


def _say(**message: Any) -> None:
    print(json.dumps({"galbatch": True, **message}), flush=True)


def _say_error(error: GalbatchError) -> None:
    kind = SpecError if isinstance(error, SpecError) else type(error)
    _say(error=kind.__name__, where=error.where, problem=error.problem, hint=error.hint)


@contextmanager
def _group(place: dict[str, Any] | None, number: int) -> Iterator[FitGroup | None]:
    """The other processes of this fit; None if it is the only one."""
    if place is None:
        yield None
        return
    count, files, host = place["count"], place["certificates"], ""
    if files is None:
        share_machine(number, count)
    elif number == 0:
        host = address_of(place["interface"])
    made = Certificates(*files) if files else None
    with joined(Meeting(Path(place["folder"]), count, made, host), number) as group:
        yield group


def address_of(interface: str | None) -> str:
    """Where processes of other machines reach this one: its name may mean itself alone.

    Raises
    ------
    SpecError
        If this machine has no such interface.
    """
    from distributed.utils import get_ip, get_ip_interface

    try:
        found: str = get_ip_interface(interface) if interface else get_ip()
    except ValueError as error:
        raise SpecError("training.interface", str(error)) from error
    return found


def main() -> None:
    """The subprocess: read a request, fit, say how it goes."""
    request = json.loads(sys.stdin.readline())
    _end_with_parent(request["parent"])
    FAMILIES.update({kind: Entry(**entry) for kind, entry in request["families"].items()})
    for settings in request["job"]["models"]:
        family_of(settings["kind"])  # who has loaded a family knows its settings
    job = Job.model_validate(request["job"])
    survey = Survey.model_validate(request["survey"])
    scratch = Path(request["scratch"]) if request["scratch"] else None
    site = Site(job, survey, Layout(location(request["root"]), scratch))
    model, folder = request["model"], Path(request["folder"])
    run = fence.Attempt(site.layout.lock, request["run"]) if request["run"] else None
    _end_when_unwanted(run, folder)

    def report(done: int, total: int | None, note: str) -> None:
        # Before the epoch is kept, and before the first file of the finished model.
        _check_wanted(run, folder)
        _say(done=done, total=total, note=note)

    number = request["number"]
    number = int(os.environ["SLURM_PROCID"]) if number is None else number
    try:
        with _group(request["members"], number) as group:
            if number > 0:
                # Helps the chief, who keeps what comes of it.
                own = Path(request["members"]["folder"]) / f"member-{number}"
                fit_here(site, model, own, lambda _done, _total, _note: None, group)
                return
            fitted = fit_here(site, model, folder, report, group)
    except GalbatchError as error:
        if number > 0:
            # The chief notices, and says what the parent hears.
            print(f"{FAILED}{error}", file=sys.stderr, flush=True)
            return
        _say_error(error)
        return
    _say(facts=asdict(fitted))


if __name__ == "__main__":
    main()
