"""A real SLURM on this machine: munge, slurmctld and four nodes, all in one folder.

    PYTHONPATH=tests python -m slurm.service up FOLDER
    PYTHONPATH=tests python -m slurm.service down FOLDER

It needs root and the packages of `PACKAGES` (Debian, Ubuntu), and neither systemd nor cgroups.
Several can run at once, each in a folder and on ports of its own. slurmdbd is left out, since it
wants a MySQL server: `sacct` does not answer, and jobs that ended are in `log/jobs.txt`.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shlex
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from daemons import ROOTS_PATH, UP_WITHIN, Daemons, environment, free_ports, kill, missing, on_node
from daemons import until as wait_until
from daemons import words as command_line

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
TOOLS = ("munged", "munge", "unmunge", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
NODES = ("n1", "n2", "n3", "n4")
GPU_NODES = ("n3", "n4")
GPUS = 2
"""Of each node that has any: devices that do nothing."""
PARTITIONS = {
    "main": "Nodes=n[1-4] MaxTime=04:00:00 Default=YES",
    "cpu": "Nodes=n[1-2] MaxTime=04:00:00",
    "gpu": "Nodes=n[3-4] MaxTime=04:00:00",
    "short": "Nodes=n[1-4] MaxTime=00:02:00",
}
"""A job that asks for more than a partition allows is refused. Jobs are spread over its nodes."""
_ENDS_WITHIN = 20.0
_ANSWERS_WITHIN = 30.0
_UP = re.compile("(idle|mixed|allocated|completing)$")
"""States of a node that takes jobs; a star behind them means that it does not answer."""
_NAMES = (*(f"slurmd-{node}" for node in NODES), "slurmctld", "munged")
"""Of the daemons, in the order in which they are stopped."""
_ALIVE = ("PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING", "REQUEUED")

_CONFIGURATION = """\
ClusterName=galbatch
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld
SlurmdPidFile={folder}/run/slurmd-%n
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
SlurmdParameters=config_overrides
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/jobs.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
PreemptType=preempt/none
EnforcePartLimits=ALL
OverTimeLimit=0
KillWait=3
MessageTimeout=30
ReturnToService=2
SlurmctldTimeout=60
SlurmdTimeout=60
GresTypes=gpu
"""


@dataclass(frozen=True)
class Job:
    """A job as the queue lists it."""

    number: int
    state: str
    """As SLURM writes it, e.g. `RUNNING`."""
    node: str
    """Empty before it runs."""
    partition: str
    name: str


class Slurm:
    """A SLURM in a folder.

    Parameters
    ----------
    folder : Path
        With a short path: that of a socket within it may have 107 bytes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.configuration = folder / "etc" / "slurm.conf"
        self._daemons = Daemons(folder)

    @property
    def environment(self) -> dict[str, str]:
        """What has to be set where `sbatch` and its kin are called."""
        path = f"{os.environ.get('PATH', '')}{os.pathsep}{ROOTS_PATH}"
        return {"SLURM_CONF": str(self.configuration), "PATH": path}

    def up(self) -> None:
        """Start what does not run.

        Raises
        ------
        RuntimeError
            If it does not come up; with the end of its logs.
        """
        if not any(map(self._daemons.pid, _NAMES)):
            self._configure()
        self._start("munged", self._munged())
        self._until("munge answers", self._munge_answers)
        self._start("slurmctld", ["slurmctld", "-D", "-c", "-f", str(self.configuration)])
        self._until("slurmctld answers", lambda: "is UP" in self._ask("scontrol", "ping"))
        for node in NODES:
            self._start(f"slurmd-{node}", self._slurmd(node))
        self._until("all nodes are up", lambda: all(map(self._is_up, NODES)))

    def down(self) -> None:
        """Cancel all jobs, and stop what was started in this folder, also by another process."""
        if self._daemons.pid("slurmctld"):
            with suppress(RuntimeError, subprocess.TimeoutExpired):
                self._end_jobs()
        for name in _NAMES:
            self._daemons.stop(name)
        self._kill_processes()

    def jobs(self, *states: str) -> list[Job]:
        """The jobs of all users.

        Parameters
        ----------
        *states : str
            By default of those that have not ended; `all` for these too, which are listed for five
            minutes.
        """
        chosen = ",".join(states or _ALIVE)
        text = self._ask("squeue", "-h", f"--states={chosen}", "-o", "%A|%T|%N|%P|%j", check=True)
        rows = [line.split("|", 4) for line in text.splitlines()]
        return [Job(int(row[0]), *row[1:]) for row in sorted(rows)]

    def cancel(self, *jobs: Job | int) -> None:
        """`scancel` them."""
        numbers = [str(job.number if isinstance(job, Job) else job) for job in jobs]
        if numbers:
            self._ask("scancel", *numbers, check=True)

    def clear(self) -> None:
        """Cancel all jobs, wait until they have ended, and bring all nodes up again.

        What their processes have left is killed: without cgroups, SLURM does not know a process
        whose parent has ended.
        """
        self._end_jobs()
        self._kill_processes()
        for node in NODES:
            self.node_up(node)

    def node_down(self, node: str) -> None:
        """Kill a node with all that runs on it, as if its power were cut."""
        self._daemons.stop(f"slurmd-{node}", signal.SIGKILL)
        self._kill_processes(node)
        self._ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test", check=True)

    def node_up(self, node: str) -> None:
        """Start a node again, if it is down."""
        self._start(f"slurmd-{node}", self._slurmd(node))
        self._until(f"{node} is up", lambda: self._is_up(node) or self._resumed(node))

    @contextmanager
    def disk_of_its_own(self, node: str, folder: Path) -> Iterator[None]:
        """Let a node have a disk of its own where the others share a folder.

        Parameters
        ----------
        node : str
            It must have no jobs.
        folder : Path
            Empty on that node, whatever is in it elsewhere.
        """
        self._restart(node, self._slurmd(node, folder))
        try:
            yield
        finally:
            self._restart(node, self._slurmd(node))

    def submit(self, script: str, *options: str) -> int:
        """`sbatch` a script for bash; the number of its job."""
        words = [f"#SBATCH {option}\n" for option in options]
        text = f"#!/bin/bash\n{''.join(words)}{script}\n"
        return int(self._ask("sbatch", "--parsable", check=True, text=text).split(";")[0])

    def processes(self, node: str | None = None) -> dict[int, str]:
        """Of jobs (on one node, or all), whether these have ended or not.

        Returns
        -------
        dict of int to str
            Command lines by number.
        """
        return {pid: command_line(pid) for pid in self._of_jobs(node)}

    def said(self) -> str:
        """The end of each log of the daemons."""
        ends = []
        for log in sorted((self.folder / "log").glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()
            told = [line for line in lines if "pmix" not in line]  # which Debian does not install
            ends += [f"{log.name}: {line}" for line in told[-6:]]
        return "\n".join(ends)

    def _end_jobs(self) -> None:
        self._ask(
            "scancel", *(str(job.number) for job in self.jobs())
        )  # some may have ended by now
        self._until("all jobs have ended", lambda: not self.jobs(), _ENDS_WITHIN)

    def _kill_processes(self, node: str | None = None) -> None:
        for number in self._of_jobs(node):
            kill(number)

    def _configure(self) -> None:
        for name in ("etc", "run", "log", "state", "dev", "munge"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for node in NODES:
            (self.folder / "spool" / node).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)  # munge refuses a socket in a folder that others may write to
        port = free_ports(1 + len(NODES))
        host = socket.gethostname().split(".")[0]
        lines = [_CONFIGURATION.format(host=host, port=port, folder=self.folder)]
        for number, node in enumerate(NODES, start=1):
            gpus = f" Gres=gpu:{GPUS}" if node in GPU_NODES else ""
            lines.append(
                f"NodeName={node} NodeAddr=127.0.0.1 Port={port + number} "
                f"CPUs=4 RealMemory=16000{gpus} State=UNKNOWN\n"
            )
        for name, words in PARTITIONS.items():
            lines.append(f"PartitionName={name} {words} LLN=YES State=UP\n")
        self.configuration.write_text("".join(lines), encoding="ascii")
        devices = self._devices()
        gres = [f"NodeName={node} Name=gpu File={file}" for node in GPU_NODES for file in devices]
        self._beside("gres.conf", "\n".join(["AutoDetect=off", *gres]))
        self._beside("cgroup.conf", self._without_cgroups())
        names = " ".join(["localhost", host, *NODES])
        self._beside("hosts", f"127.0.0.1 {names}\n::1 localhost")
        key = self.folder / "munge" / "key"
        if not key.exists():
            key.touch(mode=0o600)
            key.write_bytes(secrets.token_bytes(128))

    def _beside(self, name: str, text: str) -> None:
        self.configuration.with_name(name).write_text(f"{text}\n", encoding="ascii")

    def _devices(self) -> list[Path]:
        """slurmd wants a character device for each GPU: each is a null device here."""
        files = [self.folder / "dev" / f"nvidia{number}" for number in range(GPUS)]
        for file in files:
            if not file.exists():
                os.mknod(file, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        return files

    def _without_cgroups(self) -> str:
        """What cgroup.conf says where nobody manages cgroups: SLURM 24.05 can do without them."""
        version = tuple(map(int, re.findall(r"\d+", self._ask("slurmd", "-V", check=True))[:2]))
        return "CgroupPlugin=disabled" if version >= (24, 5) else "IgnoreSystemd=yes"

    def _munged(self) -> list[str]:
        here = self.folder / "munge"
        places = {"socket": "socket", "key-file": "key", "seed-file": "seed", "pid-file": "pid"}
        options = [f"--{option}={here / name}" for option, name in places.items()]
        return ["munged", "--foreground", f"--log-file={self.folder}/log/munged.log", *options]

    def _slurmd(self, node: str, hidden: Path | None = None) -> list[str]:
        steps = [f"exec slurmd -D -N {node} -f {self.configuration}"]
        if hidden:
            steps.insert(0, f"mount -t tmpfs tmpfs {shlex.quote(str(hidden))}")
        return on_node(node, self.configuration.with_name("hosts"), steps)

    def _start(self, name: str, command: list[str]) -> None:
        node = {"SLURMD_NODENAME": name.partition("-")[2]}
        self._daemons.start(name, command, self._for_daemons() | node)

    def _restart(self, node: str, command: list[str]) -> None:
        """With another command. A node that comes back must register before it is up."""
        self._daemons.stop(f"slurmd-{node}")
        self._ask("scontrol", "update", f"nodename={node}", "state=down", "reason=restart")
        self._start(f"slurmd-{node}", command)
        self._until(f"{node} is up", lambda: self._is_up(node))

    def _of_jobs(self, node: str | None = None) -> list[int]:
        """The processes of jobs (on one node, or all), and of what watches over them."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            pid = int(entry.name)
            its = environment(pid)
            here = its.get("SLURM_CONF") == str(self.configuration)
            there = node is None or its.get("SLURMD_NODENAME") == node
            if here and there and ("SLURM_JOB_ID" in its or "slurmstepd" in command_line(pid)):
                found.append(pid)
        return found

    def _munge_answers(self) -> bool:
        place = f"--socket={self.folder}/munge/socket"
        return "Success" in self._ask("unmunge", place, text=self._ask("munge", "-n", place))

    def _is_up(self, node: str) -> bool:
        state = self._ask("sinfo", "-h", "-N", "-n", node, "-p", "main", "-o", "%T").strip()
        return bool(_UP.match(state))

    def _resumed(self, node: str) -> bool:
        self._ask("scontrol", "update", f"nodename={node}", "state=resume")
        return False

    def _for_daemons(self) -> dict[str, str]:
        """This process may itself be one of a job of another SLURM."""
        ours = {name: v for name, v in os.environ.items() if not name.startswith("SLURM")}
        return ours | self.environment

    def _ask(self, *command: str, check: bool = False, text: str = "") -> str:
        done = subprocess.run(
            command,
            env=self._for_daemons(),
            input=text,
            capture_output=True,
            text=True,
            timeout=_ANSWERS_WITHIN,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"{shlex.join(command)}: {done.stderr.strip()}\n{self.said()}")
        return done.stdout

    def _until(self, what: str, holds: Callable[[], bool], seconds: float = UP_WITHIN) -> None:
        try:
            wait_until(holds, what, seconds)
        except TimeoutError as error:
            raise RuntimeError(f"{error}\n{self.said()}") from error


def why_not() -> str:
    """What keeps this machine from having a SLURM, and how to get it; empty if nothing does."""
    return missing(TOOLS, PACKAGES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("up", "down"))
    parser.add_argument("folder", type=Path)
    words = parser.parse_args()
    slurm = Slurm(words.folder.resolve())
    if words.what == "down":
        slurm.down()
        return
    if reason := why_not():
        parser.error(reason)
    slurm.up()
    print(f"export SLURM_CONF={shlex.quote(str(slurm.configuration))} PATH=$PATH:{ROOTS_PATH}")


if __name__ == "__main__":
    main()
