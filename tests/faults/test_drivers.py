"""Drivers that never began, or died, are told of; what is printed of jobs is what is submitted."""

from __future__ import annotations

import json
import re
import shlex
import stat
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from queues import StubQueue, words
from slurm.runs import write_small
from small import galbatch

from galbatch.cli import queue as queue_commands
from galbatch.cluster.driver import DriverQueue
from galbatch.cluster.shell import check_prologues, for_condor
from galbatch.errors import SpecError
from galbatch.spec.cluster import QueueCluster
from galbatch.store.layout import Layout
from galbatch.store.queue_jobs import Drivers, write_drivers

pytest.importorskip("dask_jobqueue")
pytestmark = pytest.mark.timeout(300)
GOES_ON = "; 'galbatch submit' goes on where it was"


def held(found: StubQueue, folder: Path, **changes: Any) -> None:
    """A driver in the queue that does not begin."""
    found.hold()
    write_small(folder, words(found.kind, **changes))
    done = galbatch("submit", "job.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr


def notes(folder: Path) -> list[str]:
    """What `status` notes of the queue, for people and programs alike."""
    shown = galbatch("status", "job.yaml", cwd=folder)
    told = galbatch("status", "job.yaml", "--json", cwd=folder)
    assert (shown.returncode, told.returncode) == (0, 0), shown.stderr
    found: list[str] = json.loads(told.stdout)["queue"]["notes"]
    for note in found:
        assert f"note: {note}\n" in shown.stdout
    assert galbatch("status", "job.yaml", "--check", cwd=folder).returncode == 1
    return found


@pytest.mark.parametrize("kind", ["slurm", "pbs", "sge", "lsf"])
def test_a_driver_that_never_began_is_told_of(
    kind: str, tmp_path: Path, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = stub(kind)
    held(found, tmp_path)
    assert notes(tmp_path) == []
    found.kill()
    state = {"slurm": "CANCELLED", "lsf": "EXIT"}.get(kind, "")
    if not state:
        assert notes(tmp_path) == []  # its queue may not list it yet
        monkeypatch.setattr(queue_commands, "_LISTED_WITHIN", timedelta(0))
    logs = tmp_path / "store.logs"
    beginning = (
        f"the driver, job 101, is over ({state or 'the queue has forgotten it'}) and the run has "
        "not ended: "
    )
    (note,) = notes(tmp_path)
    assert note.startswith(beginning) and note.endswith(GOES_ON)
    for log in logs.glob("galbatch-driver*"):
        log.unlink()
    for log in logs.glob("*101"):
        log.unlink()
    assert notes(tmp_path) == [f"{beginning}it has left no log in {logs}{GOES_ON}"]
    log = logs / "galbatch-driver-101.err"
    log.touch()
    assert notes(tmp_path) == [f"{beginning}its log {log} is empty{GOES_ON}"]
    log.write_text("slurmstepd: error: execve(): no such shell\n")
    end = "ends: slurmstepd: error: execve(): no such shell"
    assert notes(tmp_path) == [f"{beginning}{log} {end}{GOES_ON}"]


def test_a_driver_that_ended_its_run_or_was_cancelled_is_not_lost(
    tmp_path: Path, stub: Any
) -> None:
    found = stub("slurm")
    held(found, tmp_path)
    found.kill()
    layout = Layout(tmp_path / "store")
    write_drivers(layout, Drivers(over=True))
    assert notes(tmp_path) == []
    write_drivers(layout, Drivers(ended="3 drivers in a row have finished nothing"))
    assert notes(tmp_path) == [f"3 drivers in a row have finished nothing{GOES_ON}"]
    layout.drivers.unlink()
    assert len(notes(tmp_path)) == 1
    galbatch("cancel", "job.yaml", cwd=tmp_path)
    assert notes(tmp_path) == [f"cancelled{GOES_ON}"]


def test_what_is_said_of_drivers_stays_where_the_next_is_refused(tmp_path: Path, stub: Any) -> None:
    found = stub("slurm")
    held(found, tmp_path)
    galbatch("cancel", "job.yaml", cwd=tmp_path)
    drivers = Layout(tmp_path / "store").drivers
    drivers.write_text('{"barren": 2}')
    found.refuse("error: no such partition")
    assert galbatch("submit", "job.yaml", cwd=tmp_path).returncode == 2
    assert notes(tmp_path) == [f"cancelled{GOES_ON}"]
    assert drivers.read_text() == '{"barren": 2}'


@pytest.mark.parametrize("by_itself", [True, False])
def test_a_script_that_is_gone_is_named(by_itself: bool, tmp_path: Path, stub: Any) -> None:
    stub("lsf")
    spec = QueueCluster.model_validate(words("lsf", options={"use_stdin": by_itself}))
    script = tmp_path / "driver.sh"
    with pytest.raises(SpecError, match=f"^{script}: cannot be read: No such file"):
        DriverQueue(spec, tmp_path).submit(script)


def test_only_the_user_can_read_what_set_says(tmp_path: Path, stub: Any) -> None:
    held(stub("slurm"), tmp_path)
    script = Layout(tmp_path / "store").driver_script
    assert stat.S_IMODE(script.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "override",
    ["store=s3://me:hush@host/a", 'source.paths=["a.csv", "https://host/a.csv?sig=hush"]',
     "source.paths=https://me:hu,sh@host/a.csv", "cluster.prologue=[export PGPASSWORD=hush]",
     "cluster.driver.prologue=['A=1 aws_secret_access_key = hush run']",
     "cluster.directives=['--export=MY_TOKEN=\"hush\"']"],
)  # fmt: skip
def test_a_secret_in_set_is_refused(override: str, tmp_path: Path, stub: Any) -> None:
    found = stub("slurm")
    write_small(tmp_path, words("slurm"))
    for more in ([], ["--dry-run"]):
        done = galbatch("submit", "job.yaml", "--set", override, *more, cwd=tmp_path)
        assert done.returncode == 2
        key = override.partition("=")[0]
        assert done.stderr.startswith(f"error: --set {key}: "), done.stderr
        assert "give it through the environment" in done.stderr
        assert "hu" not in done.stderr
    assert found.submitted() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.yaml", "queue"]


def test_where_a_secret_is_may_be_set(tmp_path: Path, stub: Any) -> None:
    stub("slurm")
    write_small(tmp_path, words("slurm"))
    override = "cluster.prologue=[export PGPASSFILE=/home/me/.pgpass]"
    done = galbatch("submit", "job.yaml", "--set", override, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_store_that_cannot_be_written_is_named(
    dry_run: bool, tmp_path: Path, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = stub("slurm")
    write_small(tmp_path, words("slurm"), store="locked/store")
    (tmp_path / "locked").mkdir()
    # Root may write everywhere.
    allowed = tmp_path.joinpath("locked").__ne__
    monkeypatch.setattr("galbatch.store.locations.os.access", lambda path, _: allowed(path))
    more = ["--dry-run"] * dry_run
    done = galbatch("submit", "job.yaml", *more, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    line = f"error: store: {tmp_path}/locked/store: {tmp_path}/locked cannot be written (choose "
    assert done.stderr == f"{line}another place)\n"
    assert galbatch("validate", "job.yaml", cwd=tmp_path).stderr == done.stderr
    (tmp_path / "locked" / "store").mkdir()  # its logs are beside it
    done = galbatch("submit", "job.yaml", *more, cwd=tmp_path)
    assert f"error: store: {tmp_path}/locked/store.logs: {tmp_path}/locked cannot" in done.stderr
    assert found.submitted() == []


def test_logs_that_cannot_be_made_are_named(tmp_path: Path, stub: Any) -> None:
    stub("slurm")
    spec = QueueCluster.model_validate(words("slurm"))
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match=f"^{tmp_path}/file/logs: cannot be made: Not a directory"):
        DriverQueue(spec, tmp_path / "file" / "logs").script(["drive"], tmp_path)


def test_a_folder_that_no_script_can_name_is_refused(tmp_path: Path, stub: Any) -> None:
    found = stub("slurm")
    write_small(tmp_path, words("slurm"), scratch=str(tmp_path / "with space"))
    done = galbatch("submit", "job.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "with space" in done.stderr and "that scripts do not take" in done.stderr
    assert found.submitted() == []


@pytest.mark.parametrize("elsewhere", ["store", "logs"])
def test_a_driver_that_sees_another_place_than_submit_says_so(
    elsewhere: str, tmp_path: Path, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue need not hand on the variables that a job or its site names."""
    found = stub("slurm")
    found.hold()
    monkeypatch.setenv("PLACE", str(tmp_path / "there"))
    setting = {"store": "store", "logs": "scratch"}[elsewhere]
    write_small(tmp_path, words("slurm"), **{setting: "${PLACE:-here}/a"})
    done = galbatch("submit", "job.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    script = (found.folder / "101.sh").read_text()
    drive = shlex.split(script.partition("-m galbatch.cli ")[2])
    monkeypatch.delenv("PLACE")
    done = galbatch(*drive, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {elsewhere}: the driver sees {tmp_path}/here/a")
    assert f", 'submit' saw {tmp_path}/there/a" in done.stderr
    assert "export GALBATCH_STORES=" in done.stderr
    assert not (tmp_path / "here").exists()
    (tmp_path / "link").symlink_to(tmp_path)
    queue_commands._refuse_other("store", f"{tmp_path}/store", tmp_path / "link" / "store")


GROUPS = {
    "cpu": {"workers": 2, "memory": "2 GiB", "prologue": ["export ONE=1"]},
    "gpu": {"workers": 2, "cores": 2, "gpus": 2, "memory": "4 GiB"},
}


@pytest.mark.parametrize("tls", [True, False])
def test_what_is_printed_of_workers_is_what_is_submitted(
    tls: bool, tmp_path: Path, stub: Any
) -> None:
    found = stub("slurm")
    cluster = words("slurm", groups=GROUPS, tls=tls) | {"workers": None, "memory": "8 GiB"}
    write_small(tmp_path, {key: value for key, value in cluster.items() if value is not None})
    done = galbatch("submit", "job.yaml", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.yaml", "queue"]
    _, cpu, gpu = re.split(r"# --- .*\n", done.stdout.partition("\n")[2])
    assert "--resources scan=1,ingest=1 " in cpu and "--resources train=1,predict=1 " in gpu
    galbatch("submit", "job.yaml", cwd=tmp_path)
    until = time.monotonic() + 60
    while len(found.submitted()) < 4:
        assert time.monotonic() < until
        time.sleep(0.1)
    galbatch("cancel", "job.yaml", cwd=tmp_path)
    given = {as_printed((found.folder / f"{number}.sh").read_text()) for number in (102, 103, 104)}
    assert given == {cpu.strip(), gpu.strip()}


def as_printed(script: str) -> str:
    """A script without what is known only as the driver runs."""
    script = re.sub(r"(token-)[0-9a-f]{32}", r"\1RUN", script)
    script = re.sub(r"keys-\w+", "keys-RUN", script)
    script = re.sub(r"(dask_worker) \S+://\S+", r"\1 SCHEDULER", script)
    return re.sub(r"--name \S+", "--name NAME", script).strip()


def test_htcondor_has_a_script_in_one_line(tmp_path: Path) -> None:
    """And puts its own words for `$(word)`."""
    prologue = [
        "# load python",
        "echo 'a # b' ${x#y} # as always",
        "export NODE=$(echo node7)",
        'echo it\\\'s "$NODE \\" #";# end',
    ]
    cluster = words(
        "htcondor", prologue=prologue, account="survey", directives=["+Big = true", "rank = a == b"]
    )
    write_small(tmp_path, cluster)
    done = galbatch("submit", "job.yaml", "--set", "store=a$(b)#c/d", "--dry-run", cwd=tmp_path)
    assert done.returncode == 2 and "that scripts do not take" in done.stderr
    done = galbatch("submit", "job.yaml", "--dry-run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]
    driver, worker = done.stdout.split("# --- worker, 1 x\n")
    for script, command in (
        (driver, "galbatch.cli drive"),
        (worker, "distributed.cli.dask_worker"),
    ):
        assert "+Big = true\nrank = a == b\naccounting_group = survey\n" in script
        shell = shell_of_condor(script)
        assert command in shell
        until, _, _ = shell.partition("; cd " if script is driver else f"; {shell_word(shell)}")
        ran = subprocess.run(["sh", "-c", until], capture_output=True, text=True, check=True)
        assert ran.stdout == "a # b\nit's node7 \" #\n"


def shell_word(shell: str) -> str:
    """The Python that a worker is started with."""
    return shell.rpartition(" -m distributed.cli.dask_worker")[0].rpartition("; ")[2]


def shell_of_condor(script: str) -> str:
    """What the shell is given, as HTCondor reads a submit file."""
    (arguments,) = re.findall(r'^Arguments = "(.*)"$', script, re.M)
    assert not re.search(r"\$\((?!DOLLAR\))", arguments)
    text = arguments.replace("$(DOLLAR)", "$").replace('""', '"')
    assert text.startswith("-c '") and text.endswith("'")
    return text[4:-1].replace("''", "'")


@pytest.mark.parametrize(
    ("kind", "prologue", "said"),
    [
        ("slurm", ["if true; then"], "is not what a shell understands: bash: "),
        ("slurm", ["# a \\", "export A=1 \\"], r"'export A=1 \\' goes on in a line that is not of"),
        ("htcondor", ["for x in a b; do", "echo $x", "done"], "is not what a shell under"),
        ("htcondor", ["module load python &&", "true"], "is not what a shell understands: sh: "),
        ("htcondor", ["module load \\", "python"], r"'module load \\' goes on in a line"),
    ],
)
@pytest.mark.parametrize("place", ["prologue", "driver.prologue", "groups.cpu.prologue"])
def test_a_prologue_that_is_no_shell_is_refused(
    kind: str, prologue: list[str], said: str, place: str
) -> None:
    *within, _ = place.split(".")
    cluster = words(kind, groups={"cpu": {"workers": 1}}, driver={})
    del cluster["workers"]
    inner = cluster
    for key in within:
        inner = inner[key]
    inner["prologue"] = prologue
    with pytest.raises(SpecError, match=f"^cluster.{place}: {said}"):
        check_prologues(QueueCluster.model_validate(cluster))


def test_prologues_that_a_shell_understands() -> None:
    lines = ["for x in a b; do", "echo $x \\\\", "done  # it's", "true && \\", "true"]
    check_prologues(QueueCluster.model_validate(words("slurm", prologue=lines)))
    lines = ["for x in a b; do true; done", "echo '$$(x)' $$$(y) $(z) ${w}  # it's"]
    spec = QueueCluster.model_validate(words("htcondor", prologue=lines))
    check_prologues(spec)
    assert for_condor(lines)[1] == (
        "echo '$$(DOLLARDOLLAR)(x)' $$(DOLLARDOLLAR)$(DOLLAR)(y) $(DOLLAR)(z) ${w}"
    )


def test_a_prologue_is_looked_at_before_a_driver_waits(tmp_path: Path, stub: Any) -> None:
    found = stub("slurm")
    write_small(tmp_path, words("slurm", prologue=["if true; then"]))
    done = galbatch("submit", "job.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cluster.prologue: is not what a shell understands")
    assert found.submitted() == []
