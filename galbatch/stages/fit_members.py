"""The processes of a fit as their parent sees them: begun, watched, and ended together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Self

from galbatch.cluster.certificates import certificates
from galbatch.errors import SpecError
from galbatch.spec.training import TrainingProcesses
from galbatch.stages.site import Site

FAILED = "This process of the fit ended: "
"""So begins what a process says on standard error that is not the chief."""
_COMMAND = (sys.executable, "-m", "galbatch.stages.fit_process")
_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_TO_END = 30.0
_LINES = 5
_LONGEST = 60


class Members:
    """The processes of a fit. They end when one of them fails, and when this one is left.

    Parameters
    ----------
    spec : TrainingProcesses
    request : mapping
        What they are asked to do, JSON-ready; each is told its number as well.

    Raises
    ------
    SpecError
        If there is no srun.
    """

    def __init__(self, spec: TrainingProcesses, request: Mapping[str, Any]) -> None:
        self._far = spec.launch == "srun" and spec.processes > 1
        if self._far:
            count = f"--ntasks={spec.processes}"
            begin = ("srun", count, "--kill-on-bad-exit=1", "--overlap", *spec.options, *_COMMAND)
            # All tasks read the same request: SLURM tells each its number.
            asked = [{**request, "parent": None, "number": None}]
        else:
            begin = _COMMAND
            asked = [{**request, "number": number} for number in range(spec.processes)]
        self._all: list[subprocess.Popen[str]] = []
        self._logs: list[IO[str]] = []
        self._over = threading.Event()
        try:
            for _ in asked:
                self._begin(begin)
            for process, one in zip(self._all, asked, strict=True):
                assert process.stdin is not None
                with suppress(BrokenPipeError):  # it has ended, and its code tells
                    process.stdin.write(json.dumps(one) + "\n")
                    process.stdin.flush()  # and left open: when it closes, this process is gone
        except BaseException:
            self.__exit__()
            raise
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._kill()
        for process in self._all:
            try:
                process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
        for log in self._logs:
            log.close()

    def messages(self) -> Iterator[dict[str, Any]]:
        """JSON lines of the chief's, until all have ended; libraries write there as well."""
        chief = self._all[0]
        assert chief.stdout is not None
        for line in chief.stdout:
            if line.startswith("{"):
                try:
                    message = json.loads(line)
                except ValueError:
                    continue
                if message.pop("galbatch", None):
                    yield message
        for process in self._all:
            process.wait()

    def word(self) -> str:
        """What a process that is not the chief says went wrong; empty if none does."""
        for log in self._logs:
            log.seek(0)
            for line in log:
                if line.startswith(FAILED):
                    return line.strip()
        return ""

    def failure(self) -> tuple[str, str] | None:
        """What went wrong, with the last lines of the log; None if nothing did."""
        for number, (process, log) in enumerate(zip(self._all, self._logs, strict=True)):
            # Those that were killed as another had failed tell nothing.
            if process.returncode and (number == self._first or self._first is None):
                log.seek(0)
                last = deque((line.strip() for line in log if line.strip()), maxlen=_LINES)
                name = "the process" if len(self._all) == 1 else f"process {number}"
                return f"{name} ended with code {process.returncode}", " | ".join(last)
        return None

    _first: int | None = None
    """The process that failed first."""

    def _begin(self, command: Sequence[str]) -> None:
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
        # Set to 1 for workers, it would bind the fit to one core as well.
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environment.pop(name, None)
        log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - read when it is over
        self._logs.append(log)
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log if self._all else subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        except FileNotFoundError as error:
            problem = f"there is no program '{command[0]}' on this machine"
            raise SpecError(
                "training.launch", problem, "train in an allocation of SLURM"
            ) from error
        self._all.append(process)

    def _watch(self) -> None:
        """One that dies would leave the others waiting for it."""
        while not self._over.wait(_SECONDS_BETWEEN_LOOKS):
            for number, process in enumerate(self._all):
                if process.poll():
                    self._first = number
                    self._kill()
                    return

    def _kill(self) -> None:
        for process in self._all:
            # srun ends its tasks on other machines before it ends.
            process.terminate() if self._far else process.kill()


@contextmanager
def meeting(site: Site) -> Iterator[dict[str, Any] | None]:
    """Where the processes of a fit find each other: a folder that nobody else can read.

    Parameters
    ----------
    site : Site

    Yields
    ------
    dict or None
        For their request. None where one process trains.
    """
    spec = site.job.training
    if spec.processes == 1:
        yield None
        return
    place = {"count": spec.processes, "interface": spec.interface, "certificates": None}
    if spec.launch == "here":
        # The path of a socket has at most 107 bytes.
        short = len(os.fsencode(tempfile.gettempdir())) < _LONGEST
        with tempfile.TemporaryDirectory(
            prefix="galbatch-fit-", dir=None if short else "/tmp"
        ) as folder:
            yield {**place, "folder": folder}
        return
    site.layout.work.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="fit-", dir=site.layout.work) as folder,
        certificates(Path(folder)) as made,
    ):
        names = ("tls_ca_file", "tls_worker_cert", "tls_worker_key")
        yield {
            **place,
            "folder": str(Path(folder).absolute()),
            "certificates": [str(Path(getattr(made, name)).absolute()) for name in names],
        }
