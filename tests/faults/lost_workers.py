"""Lose all workers of a run as each stage begins, and compare with a run that lost none.

    PYTHONPATH=tests python tests/faults/lost_workers.py [KIND ...]

`make faults` does so on this machine and in a queue of each kind, two jobs each; the tests do it
for one.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml
from faults.campaign import JOB, Campaign, Run, contents
from queues import StubQueue

STAGES = ("scan", "ingest", "train", "predict")
KINDS = ("local", "slurm", "pbs", "sge", "lsf")
SAID_WITHIN = 60.0


class Losing(Run):
    """A run that loses its workers, and when it said so."""

    def __init__(self, folder: Path, queue: StubQueue | None) -> None:
        self.spoke: list[tuple[float, str]] = []
        self._queue = queue
        super().__init__(folder)

    def _hear(self, line: str) -> None:
        self.spoke.append((time.monotonic(), line))
        super()._hear(line)

    def lose(self, stage: str) -> Iterator[str]:
        """End all workers when a stage begins; what is wrong with what is said of it."""
        assert self.reach(stage), self.said
        while self._process.poll() is None and not self._some_came():
            time.sleep(0.1)
        ended = time.monotonic()
        if self._queue is None:
            for worker in self._workers():
                worker.kill()
            return
        self._queue.kill()
        while not any(when > ended and " lost (" in line for when, line in self.spoke):
            if time.monotonic() - ended > SAID_WITHIN:
                yield f"{stage}: not a word of the workers that were lost"
                return
            time.sleep(0.1)

    def _some_came(self) -> bool:
        if self._queue is None:
            return bool(self._workers())
        logs = (self._queue.folder.parent / "store.logs").iterdir()
        running = self._queue.running()
        texts = [log.read_text() for log in logs if any(str(job) in log.name for job in running)]
        return any("Registered to:" in text for text in texts)


def tried(kind: str, folder: Path, campaign: Campaign) -> Iterator[str]:
    """What goes wrong with one kind of cluster."""
    folder.mkdir()
    path = os.environ["PATH"]
    queue = None if kind == "local" else StubQueue(folder / "queue", kind)
    cluster = {"kind": kind, "workers": 2, "memory": "3 GiB"}
    if queue is not None:
        cluster["interface"] = "lo"
        os.environ["PATH"] = queue.path
    (folder / "job.yaml").write_text(yaml.safe_dump(JOB | {"cluster": cluster}), encoding="utf-8")
    try:
        run = Losing(folder, queue)
        for stage in STAGES:
            yield from run.lose(stage)
        code = run.wait()
        if code != 0:
            yield f"it ended with {code}: {run.said[-1:]}"
        if any("Traceback" in line for line in run.said):
            yield "a traceback"
        if contents(folder) != campaign.expected:
            yield "it differs from the run that lost none"
        if queue is not None and not queue.all_end():
            yield "jobs are left in the queue"
    finally:
        os.environ["PATH"] = path
        if queue is not None:
            queue.kill()


def main() -> None:
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        campaign = Campaign(Path(temporary))
        for kind in sys.argv[1:] or KINDS:
            problems = "; ".join(tried(kind, Path(temporary) / kind, campaign))
            failed += bool(problems)
            print(
                f"all workers lost in every stage, {kind:5} {problems or 'ends the same'}",
                flush=True,
            )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
