"""Daemons of a queue for tests: all that they write is in one folder, and they end with it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

ROOTS_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where Debian has daemons, and a user's PATH does not look."""
UP_WITHIN = 60.0
_ENDS_WITHIN = 20.0


class Daemons:
    """Daemons of one folder, whoever started them.

    Parameters
    ----------
    folder : Path
        Each daemon has it among its arguments or in its environment: that and its name tell it
        from a process that got its number later.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start one, unless it runs.

        Parameters
        ----------
        name : str
            That of its program; what follows a dash tells several of a kind apart.
        command : sequence of str
            Stays in the foreground.
        environment : mapping of str to str
            All of it.
        """
        if self.pid(name):
            return
        for part in ("log", "run"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        with (self.folder / "log" / f"{name}.out").open("ab") as out:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._started[name] = process
        self._file(name).write_text(f"{process.pid}\n", encoding="ascii")

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop one, if it runs; one that does not end on a signal is killed."""
        pid = self.pid(name)
        if pid:
            kill(pid, number)
            with suppress(TimeoutError):
                until(lambda: not self.pid(name), f"{name} has ended", _ENDS_WITHIN)
            if self.pid(name):
                kill(pid)
        if name in self._started:
            self._started.pop(name).wait(_ENDS_WITHIN)
        self._file(name).unlink(missing_ok=True)

    def pid(self, name: str) -> int | None:
        """The process of a daemon that runs."""
        try:
            pid = int(self._file(name).read_text())
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError):
            return None
        told = " ".join([words(pid), *environment(pid).values()])
        ours = name.partition("-")[0] in words(pid) and str(self.folder) in told
        return pid if ours and state not in "ZX" else None

    def _file(self, name: str) -> Path:
        return self.folder / "run" / f"{name}.pid"


@contextmanager
def folder_of_this_checkout(name: str) -> Iterator[Path]:
    """A folder for daemons, which no other session of pytest uses meanwhile; else it is waited for.

    It is always the same, so that what a session that was killed has left can be stopped; and its
    path is short, since that of a socket within it may have 107 bytes.
    """
    checkout = hashlib.sha256(str(Path(__file__).parent).encode()).hexdigest()[:8]
    folder = Path("/tmp", f"galbatch-{name}-{checkout}")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def until(holds: Callable[[], object], what: str, seconds: float = UP_WITHIN) -> None:
    """Wait until something holds.

    Raises
    ------
    TimeoutError
        If it does not within so many seconds; it says what.
    """
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a process, which may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def words(pid: int) -> str:
    """The command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def environment(pid: int) -> dict[str, str]:
    """What a process was started with; empty if it has ended."""
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(pair.partition("=")[::2] for pair in text.split("\0"))


def free_ports(number: int) -> int:
    """The first of so many free ports in a row, below those that outgoing connections get."""
    for first in random.sample(range(20_000, 32_000, 10), 100):
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + number):
                stack.enter_context(socket.socket()).bind(("", port))
            return first
    raise RuntimeError(f"no {number} free ports in a row between 20000 and 32000")


def missing(tools: Sequence[str], packages: Sequence[str]) -> str:
    """What keeps this machine from having a queue, and how to get it; empty if nothing does."""
    path = f"{os.environ.get('PATH', '')}{os.pathsep}{ROOTS_PATH}"
    absent = [tool for tool in tools if shutil.which(tool, path=path) is None]
    if absent:
        return f"no {', '.join(absent)} here: apt-get install {' '.join(packages)}"
    if os.geteuid():
        return "the daemons of a queue must be started by root"
    tried = subprocess.run(["unshare", "--mount", "--uts", "true"], check=False)
    return "nodes need namespaces: give this container CAP_SYS_ADMIN" if tried.returncode else ""


def on_node(name: str, hosts: Path, steps: Sequence[str]) -> list[str]:
    """A command that runs others on a node with a name of its own.

    Parameters
    ----------
    name : str
    hosts : Path
        Its `/etc/hosts`.
    steps : sequence of str
        Of a shell, as root.
    """
    first = [f"echo {name} >/proc/sys/kernel/hostname", f"mount --bind {hosts} /etc/hosts"]
    return ["unshare", "--mount", "--uts", "sh", "-c", " && ".join([*first, *steps])]
