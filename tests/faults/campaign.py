"""Kill a run at a moment, go on, and compare with a run that nobody killed.

    python tests/faults/campaign.py [--moments 50] [--seed 0]

`make faults` does so at fifty moments; the tests at a few of the same. Each moment is a stage, a
time within it and a victim: the driver, one of its workers, or all processes at once.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import psutil
import yaml

STAGES = ("scan", "ingest", "train", "predict", "append", "report")
VICTIMS = ("driver", "worker", "everything")
ROWS = 2400
TIMEOUT = 240
ORPHANS_LIVE = 15.0
JOB = {
    "name": "faults",
    "survey": "alhambra",
    "source": {"kind": "mock", "rows": ROWS, "seed": 3, "batch_rows": 300},
    "store": "store",
    "partition": {"rows": 200},
    "split": {"kind": "sky", "order": 10},
    "models": [
        {"kind": "photometric", "members": 2, "width": 16, "layers": 1, "bins": 40,
         "epochs": 6, "batch": 64},
        {"kind": "thesis", "targets": ["redshift"], "epochs": 2},
    ],
    "sinks": [{"kind": "duckdb", "path": "faults.duckdb"}],
    "cluster": {"kind": "local", "workers": 2, "memory": "3 GiB"},
}  # fmt: skip


@dataclass(frozen=True)
class Moment:
    """When and whom to kill."""

    stage: str
    share: float
    """Of the time that the stage takes."""
    victim: str

    def __str__(self) -> str:
        return f"{self.stage:8} {self.share:4.0%} {self.victim:10}"


def moments(number: int, seed: int) -> list[Moment]:
    """The same for the same seed; stages and victims in turn, so that a few are of each kind."""
    draw = random.Random(seed)
    kinds = [(stage, victim) for stage in STAGES for victim in VICTIMS]
    draw.shuffle(kinds)
    return [Moment(*_swap(kinds[n % len(kinds)], draw.random())) for n in range(number)]


def _swap(kind: tuple[str, str], share: float) -> tuple[str, float, str]:
    return kind[0], share, kind[1]


class Campaign:
    """A folder with an uninterrupted run to compare with.

    Parameters
    ----------
    folder : Path
        Empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reference = folder / "reference"
        self.reference.mkdir()
        self._write_job(self.reference)
        run = Run(self.reference)
        assert run.wait() == 0, run.said
        self.seconds = run.seconds
        self.expected = contents(self.reference)
        self._count = 0

    def _write_job(self, folder: Path) -> None:
        (folder / "job.yaml").write_text(yaml.safe_dump(JOB), encoding="utf-8")

    def at(self, moment: Moment) -> str:
        """Kill at a moment, go on and compare; what went wrong, or nothing."""
        self._count += 1
        folder = self.folder / f"{self._count:03d}"
        begin_at(self.reference, folder, moment.stage)
        try:
            return "; ".join(self._tried(folder, moment))
        finally:
            shutil.rmtree(folder)

    def _tried(self, folder: Path, moment: Moment) -> Iterator[str]:
        run = Run(folder)
        killed = run.kill(moment, moment.share * self.seconds[moment.stage])
        if moment.victim == "worker":
            code = run.wait()
            if code != 0:
                yield f"the run ended with {code} when a worker was killed: {run.said[-1]}"
        resumed = Run(folder)  # at once: whoever is left over must do no harm
        code = resumed.wait()
        if code != 0:
            yield f"resumed, it ended with {code}: {resumed.said[-1:]}"
        if moment.victim != "worker" and killed:
            alive = run.orphans()
            if alive:
                yield f"still alive: {alive}"
        found = contents(folder)
        wrong = sorted(
            name
            for name in found.keys() | self.expected.keys()
            if found.get(name) != self.expected.get(name)
        )
        if wrong:
            yield f"{len(wrong)} differ from the uninterrupted run: {', '.join(wrong[:4])}"
        again = Run(folder)
        code = again.wait()
        more = [line for line in again.said if " to do" in line and "nothing to do" not in line]
        if code != 0 or more:
            yield f"a further run ends with {code} and finds something to do: {more}"


class Run:
    """`galbatch run` in a folder, in a session of its own."""

    def __init__(self, folder: Path) -> None:
        self.said: list[str] = []
        self.began: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "galbatch.cli", "run", "job.yaml"],
            cwd=folder,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._session = self._process.pid
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._hear(line)
        with self._changed:
            self._changed.notify_all()

    def _hear(self, line: str) -> None:
        words = line.split()
        stage = words[1].rstrip(":") if line.startswith("galbatch ") else ""
        with self._changed:
            self.said.append(line.rstrip())
            if "to do" in line and "nothing to do" not in line:
                self.began[stage] = time.monotonic()
            if "done: " in line:
                self.seconds[stage] = time.monotonic() - self.began[stage]
            self._changed.notify_all()

    def wait(self) -> int:
        """Its exit code."""
        try:
            return self._process.wait(TIMEOUT)
        finally:
            if self._process.poll() is None:
                os.killpg(self._session, signal.SIGKILL)
            self._reader.join(10)

    def reach(self, stage: str) -> bool:
        """Wait until a stage begins; whether it does."""
        with self._changed:
            self._changed.wait_for(
                lambda: stage in self.began or not self._reader.is_alive(), TIMEOUT
            )
            return stage in self.began

    def kill(self, moment: Moment, seconds: float) -> bool:
        """Kill so long after a stage began; False if it was all over by then."""
        assert self.reach(moment.stage), self.said
        time.sleep(max(0.0, self.began[moment.stage] + seconds - time.monotonic()))
        if self._process.poll() is not None:
            return False
        if moment.victim == "driver":
            self._process.kill()
        elif moment.victim == "everything":
            os.killpg(self._session, signal.SIGKILL)
        else:
            workers = self._workers()
            if workers:
                workers[int(1000 * moment.share) % len(workers)].kill()
            return bool(workers)
        self._process.wait(TIMEOUT)
        return True

    def stop(self) -> int:
        """Ask it to stop (SIGTERM); its exit code."""
        self._process.terminate()
        return self.wait()

    def _workers(self) -> list[psutil.Process]:
        found = []
        for child in psutil.Process(self._process.pid).children(recursive=True):
            try:
                words = " ".join(child.cmdline())
            except psutil.NoSuchProcess:
                continue
            if "spawn_main" in words or "galbatch.stages.fit_process" in words:
                found.append(child)
        return sorted(found, key=lambda child: child.pid)

    def orphans(self) -> list[str]:
        """Processes of the run that outlive it by more than they may."""
        deadline = time.monotonic() + ORPHANS_LIVE
        while True:
            alive = []
            for process in psutil.process_iter(["pid", "cmdline", "status"]):
                try:
                    same = os.getsid(process.pid) == self._session
                except ProcessLookupError:
                    continue
                if same and process.info["status"] != psutil.STATUS_ZOMBIE:
                    alive.append(" ".join(process.info["cmdline"] or [])[-60:])
            if not alive or time.monotonic() > deadline:
                return alive
            time.sleep(0.5)


def begin_at(reference: Path, folder: Path, stage: str) -> None:
    """A copy of the finished run in which all from a stage on has yet to be done.

    What is trained is kept where the catalogue is made anew: it stands for it all the same, and
    fifty trainings would take an hour.
    """
    shutil.copytree(reference, folder)
    store = folder / "store"
    left = STAGES[STAGES.index(stage) :]
    for name in left:
        if name != "train" or stage == "train":
            shutil.rmtree(store / "receipts" / name, ignore_errors=True)
    gone = [store / "report"]
    if "append" in left:
        gone.append(folder / "faults.duckdb")
    if "predict" in left:
        gone += [store / "predictions", *store.glob("*.properties")]
    if stage == "train":
        gone.append(store / "models")
    if "ingest" in left:
        gone += [store / "catalogue", store / "sources.json"]
    for path in gone:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def contents(folder: Path) -> dict[str, bytes | str]:
    """Everything that must be the same: tables, models, and what the database holds."""
    store = folder / "store"
    found: dict[str, bytes | str] = {}
    for name in ("catalogue", "predictions", "models"):
        for path in sorted((store / name).rglob("*")):
            if path.is_file():
                found[path.relative_to(store).as_posix()] = path.read_bytes()
    for path in store.glob("*.properties"):
        found[path.name] = path.read_bytes()
    for path in (store / "quarantine").rglob("*.parquet"):
        found[path.relative_to(store).as_posix()] = "quarantined"
    if (folder / "faults.duckdb").exists():
        with duckdb.connect(str(folder / "faults.duckdb"), read_only=True) as database:
            for table in ("photometric", "thesis"):
                rows = database.execute(
                    f"SELECT * EXCLUDE (galbatch_receipt) FROM {table} ORDER BY ID"
                ).fetchall()
                assert len({row[1] for row in rows}) == len(rows)
                found[f"database {table}"] = f"{len(rows)} rows {rows!r}"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        campaign = Campaign(Path(temporary))
        for number, moment in enumerate(moments(arguments.moments, arguments.seed), start=1):
            problem = campaign.at(moment)
            failed += bool(problem)
            print(f"{number:3} {moment} {problem or 'ends the same'}", flush=True)
    print(f"{arguments.moments - failed} of {arguments.moments} end as if nobody had killed them")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
