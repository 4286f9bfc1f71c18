"""The end of a run: what is left is said, on the page, in the last lines and by the exit code."""

from __future__ import annotations

import io
import json
import re
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from small import job_words, partitions
from typer.testing import CliRunner

from galbatch import cli
from galbatch.cli import app
from galbatch.errors import DataError, SpecError, counted
from galbatch.monitor import BarMonitor, LineMonitor
from galbatch.run.loop import Outcome, run
from galbatch.spec import load_job, load_survey
from galbatch.spec.job import Job
from galbatch.stages import predict
from galbatch.stages.base import OnProgress, Pending, Task, Where
from galbatch.stages.checks import summarise
from galbatch.stages.headers import FileFacts
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.layout import Layout
from galbatch.store.quarantine import quarantine
from galbatch.values import Receipt, RejectedRow


@pytest.fixture
def copy(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a job that has run, and may be changed; commands are given in it."""
    monkeypatch.chdir(copy)
    return copy


def told(*words: str) -> tuple[int, str, str]:
    """What a command exits with, prints, and says beside it."""
    done = CliRunner().invoke(app, list(words))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def test_what_a_run_could_not_do_is_said_everywhere(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = partitions(copy, "predictions/photometric")[0]
    unit = victim.relative_to(copy / "store/predictions/photometric/dataset")
    victim.unlink()

    def fail(*_: object) -> Any:
        raise DataError("the disk", "is tired")

    with monkeypatch.context() as patched:
        patched.setattr(predict, "read_rows", fail)
        code, out, err = told("run", "job.yaml")
    assert code == 1
    (line,) = [line for line in err.splitlines() if line.startswith("predict: 1 partition left: ")]
    assert line.endswith(": the disk: is tired")
    assert "quarantined: 1 partition x the disk: is tired: see " in err
    assert str(copy / "store/quarantine") in err
    assert "nothing to do, all of it" not in out
    page = (copy / "store/report/index.html").read_text(encoding="utf-8")
    assert "Not complete" in page and "Complete:" not in page and line in page, unit
    numbers = json.loads((copy / "store/report/report.json").read_text(encoding="utf-8"))
    assert numbers["left"] == [line]

    code, out, _ = told("status", "job.yaml", "--json", "--check")
    assert (code, json.loads(out)["left"]) == (1, [line])

    code, out, err = told("run", "job.yaml")
    assert code == 0, err
    assert "left" not in err
    page = (copy / "store/report/index.html").read_text(encoding="utf-8")
    assert "Complete: every row of" in page and "Not complete" not in page
    assert told("status", "job.yaml", "--check")[0] == 0


def test_check_is_about_what_is_left_and_not_about_quarantine(copy: Path) -> None:
    rejected = RejectedRow("sky.csv", 3, "column 'RA': the id is missing", "")
    quarantine(Layout(copy / "store"), "rows.sky.csv", (rejected, rejected))
    code, out, _ = told("status", "job.yaml")
    assert code == 1
    where = copy / "store" / "quarantine"
    assert f"quarantined: 2 rows x column 'RA': the id is missing: see {where}" in out
    # The page tells of the quarantine: it is another one now.
    assert told("status", "job.yaml", "--check")[0] == 1
    told("run", "job.yaml")
    assert told("status", "job.yaml", "--check")[0] == 0
    assert told("status", "job.yaml", "--check", "--set", "models.photometric.seed=5")[0] == 1


@dataclass(frozen=True)
class Stub:
    """A stage that has just what a test gives it."""

    asked: Pending[None, None]
    name: str = "ingest"
    progress_unit: str = "rows"
    where: Where = "driver"
    ran: list[str] = field(default_factory=list, compare=False)

    def summary(self, site: Site) -> str:
        return ""

    def memory(self, site: Site) -> int:
        return 0

    def pending(self, snapshot: Snapshot) -> Any:
        return self.asked

    def begin(self, snapshot: Snapshot, pending: Any) -> Stub:
        self.ran.append("begin")
        return self

    def run(self, site: Site, task: Task[None], report: OnProgress) -> tuple[Receipt, ...]:
        self.ran.append(task.unit)
        return ()

    def finish(self, snapshot: Snapshot, pending: Any) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A store that holds nothing."""
    words = job_words(survey="lsst_dc2", split=None, sinks=[], models=[{"kind": "photometric"}])
    site = Site(Job.model_validate(words), load_survey("lsst_dc2"), Layout(tmp_path / "store"))
    site.layout.root.mkdir()
    return site


def heard(site: Site, *stages: Stub) -> tuple[Outcome, str]:
    stream = io.StringIO()
    return run(stages, site, lambda: nullcontext(None), LineMonitor(stream)), stream.getvalue()


def test_a_stage_that_waits_has_not_nothing_to_do(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome, said = heard(site, Stub(Pending((), waiting="scan")), Stub(Pending((), done=3)))
    assert said.splitlines() == [
        "galbatch ingest: waits for scan",
        "galbatch ingest: nothing to do",
    ]
    assert outcome.left == ("ingest: waits for scan",)
    with pytest.raises(cli.typer.Exit) as ended:
        cli._tell(site, outcome)
    assert ended.value.exit_code == 1
    printed = capsys.readouterr()
    assert "nothing to do" not in printed.out and "index.html" not in printed.out
    assert printed.err.strip() == "ingest: waits for scan"


def test_nothing_is_taken_down_before_there_are_workers(site: Site) -> None:
    def nobody() -> Any:
        raise SpecError("cluster", "no Dask scheduler answers")

    stage = Stub(Pending((Task("p0", 1, None),)), where="workers")
    with pytest.raises(SpecError, match="no Dask scheduler"):
        run((stage,), site, nobody, LineMonitor(io.StringIO()))
    assert stage.ran == []
    heard(site, stage)
    assert stage.ran == ["begin", "p0"]


def test_bars_say_so_too(site: Site) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    with BarMonitor(console) as monitor:
        stages = (Stub(Pending((), waiting="scan")), Stub(Pending((), done=3), name="train"))
        run(stages, site, lambda: nullcontext(None), monitor)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue().splitlines()
    for stage, words in (("ingest", "waits for scan"), ("train", "nothing to do")):
        assert any(stage in line and words in line for line in shown), stage


def test_tasks_that_are_left_are_counted_and_the_first_are_named(site: Site) -> None:
    tasks = tuple(Task(f"p{number}", 1, None, "its receipt is gone") for number in range(1200))
    outcome, _ = heard(site, Stub(Pending(tasks[:1])), Stub(Pending(tasks), name="predict"))
    one, many = outcome.left
    assert one == "ingest: 1 partition left: p0: its receipt is gone"
    assert many.startswith("predict: 1,200 partitions left: p0: its receipt is gone; p1: ")
    assert many.endswith("p2: its receipt is gone; and 1,197 more")


@pytest.mark.parametrize(
    ("number", "what", "text"),
    [
        (1, "row", "1 row"),
        (0, "row", "0 rows"),
        (1234, "row", "1,234 rows"),
        (2, "delivery", "2 deliveries"),
    ],
)
def test_one_and_many(number: int, what: str, text: str) -> None:
    assert counted(number, what) == text


def test_many_files_are_told_in_a_few_lines() -> None:
    facts = [FileFacts(f"{number}.csv", 113) for number in range(500)]
    assert summarise(facts) == ("500 files, 113 columns each",)
    for number in (7, 8, 400):
        facts[number] = FileFacts(f"{number}.csv", 113, ("RAdeg -> RA",), notes=("no unit of RA",))
    told = (
        "500 files, 113 columns each",
        "3 files spell RA as RAdeg: 7.csv, 8.csv, 400.csv",
        "3 files: 7.csv, 8.csv, 400.csv: no unit of RA",
    )
    assert summarise(facts) == told
    facts[9] = FileFacts("9.csv", problem="is empty")
    assert summarise(facts) == (
        "499 files, 113 columns each", *told[1:], "9.csv: a run would set it aside: is empty",
    )  # fmt: skip
    facts[9] = FileFacts("9.csv", 112, ("DEdeg -> Dec",))
    assert summarise(facts)[1] == "112 columns in 1 file: 9.csv"
    assert "1 file spells Dec as DEdeg: 9.csv" in summarise(facts)
    spelt = tuple(f"{name} -> {name.upper()}" for name in "abcdefgh")
    facts = [FileFacts(f"{number}.csv", 9, spelt) for number in (1, 2)]
    assert summarise(facts)[1].startswith("all spell A as a, B as b, ")
    assert re.search(r" and \d more$", summarise(facts)[1])


def test_validate_of_many_files_is_short_unless_all_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    columns = [column.name for column in load_survey("zcosmos").columns]
    for number in range(12):
        (tmp_path / f"{number:02d}.csv").write_text(f"{','.join(columns)}\n")
    words = job_words(
        survey="zcosmos", source={"kind": "files", "paths": ["*.csv"]}, sinks=[],
        models=[{"kind": "photometric"}],
    )  # fmt: skip
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(words))
    code, out, _ = told("validate", "job.yaml")
    assert code == 0
    assert out.splitlines() == [
        f"12 files, {len(columns)} columns each", "--verbose tells of each file", "job.yaml: valid",
    ]  # fmt: skip
    _, out, _ = told("validate", "job.yaml", "--verbose")
    assert [line.split(":")[0] for line in out.splitlines()][:2] == ["00.csv", "01.csv"]
    _, out, _ = told("validate", "job.yaml", "--set", "source.paths=[0*.csv]")
    assert len(out.splitlines()) == 11


class Terminal(io.StringIO):
    """Someone who answers."""

    def isatty(self) -> bool:
        return True


def test_what_the_job_says_now_is_not_dropped_unasked(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = load_job(str(finished / "job.yaml"), ())
    site = Site(job, load_survey(job.survey), Layout(finished / "store"))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(SpecError, match=r"photometric: is what the job says now, .*--yes"):
        cli._ask_to_drop(site, "photometric")
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    with pytest.raises(cli.typer.Exit) as ended:
        cli._ask_to_drop(site, "photometric")
    assert ended.value.exit_code == 2
    assert "1,500 rows predicted: remove it?" in "".join(capsys.readouterr())
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    cli._ask_to_drop(site, "photometric")
    # Another version is nobody's.
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    other = Site(
        load_job(str(finished / "job.yaml"), ("models.photometric.seed=5",)),
        site.survey,
        site.layout,
    )
    cli._ask_to_drop(other, "photometric")
