"""A real Grid Engine on this machine: a master and a node, all in one folder, without systemd.

Grid Engine refuses a host that calls itself localhost or whose address has another's name first, as
in containers: so its daemons have a host name and an `/etc/hosts` of their own, and so has whoever
calls `qsub`, through a script in the folder's `bin`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from daemons import Daemons, environment, free_ports, kill, missing, on_node, until

PACKAGES = ("gridengine-master", "gridengine-exec", "gridengine-client")
TOOLS = ("sge_qmaster", "sge_execd", "qsub", "qstat", "qdel", "qconf")
NODE, QUEUE, SLOTS = "sge", "main", 4
_INSTALLED = Path("/var/lib/gridengine")
_SHARED = Path("/usr/share/gridengine")
_PROGRAMS = Path("/usr/lib/gridengine")
_CALLED = ("qsub", "qstat", "qdel", "qconf", "qhost")
_ENDS_WITHIN = 30.0
_BOOTSTRAP = """\
admin_user none
default_domain none
ignore_fqdn false
spooling_method berkeleydb
spooling_lib libspoolb
spooling_params {folder}/spool/db
binary_path /usr/sbin
qmaster_spool_dir {folder}/spool/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
"""
_QUICKLY = {
    "schedule_interval": "0:0:1",
    "flush_submit_sec": "1",
    "flush_finish_sec": "1",
    "job_load_adjustments": "NONE",
}
_OPEN_TO_ALL = {"min_uid": "0", "min_gid": "0", "mailer": "/bin/true"}


@dataclass(frozen=True)
class Job:
    """A job as `qstat` lists it."""

    number: int
    state: str
    """`qw` waits, `r` runs."""


class GridEngine:
    """A Grid Engine in a folder.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._daemons = Daemons(folder)

    @property
    def environment(self) -> dict[str, str]:
        """What has to be set where `qsub` and its kin are called."""
        return {"PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}

    def up(self) -> None:
        """Start what does not run."""
        if not self._daemons.pid("sge_qmaster"):
            self._daemons.stop("sge_execd")
            self._configure()
        hosts = self.folder / "hosts"
        for name in ("sge_qmaster", "sge_execd"):
            command = on_node(NODE, hosts, [f"exec {_PROGRAMS / name}"])
            self._daemons.start(name, command, self._for_daemons())
            if name == "sge_qmaster":
                until(lambda: NODE in self._ask("qconf", "-sh"), "sge_qmaster answers")
                self._set_up()
        ready = re.compile(rf"{QUEUE}@{NODE} +B +0/\d+/{SLOTS} +[\d.]+ +\S+ *$", re.MULTILINE)
        until(lambda: ready.search(self._ask("qstat", "-f")), "the node is up")

    def down(self) -> None:
        """Cancel all jobs, and stop what was started in this folder."""
        if self._daemons.pid("sge_qmaster"):
            with suppress(TimeoutError, subprocess.TimeoutExpired):
                self.clear()
        for name in ("sge_execd", "sge_qmaster"):
            self._daemons.stop(name)

    def jobs(self) -> list[Job]:
        """The jobs of all users that have not ended."""
        lines = [line.split() for line in self._ask("qstat", "-u", "*").splitlines()]
        return [Job(int(row[0]), row[4]) for row in lines if row and row[0].isdecimal()]

    def cancel(self, *jobs: Job) -> None:
        """`qdel` them."""
        if jobs:
            self._ask("qdel", *(str(job.number) for job in jobs))

    def clear(self) -> None:
        """Cancel all jobs, wait until they have ended, and kill what they left."""
        self.cancel(*self.jobs())
        until(lambda: not self.jobs(), "all jobs have ended", _ENDS_WITHIN)
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                its = environment(int(entry.name))
                if its.get("SGE_ROOT") == str(self._root) and "JOB_ID" in its:
                    kill(int(entry.name))

    @property
    def _root(self) -> Path:
        return self.folder / "root"

    def _configure(self) -> None:
        common = self._root / "default" / "common"
        spool = self.folder / "spool"
        folders = (common, spool / "db", spool / "qmaster" / "job_scripts", spool / "execd")
        for folder in (*folders, self.folder / "bin", self.folder / "run"):
            folder.mkdir(parents=True, exist_ok=True)
        for name in ("bin", "lib", "util", "utilbin"):
            with suppress(FileExistsError):
                (self._root / name).symlink_to(_INSTALLED / name)
        (common / "bootstrap").write_text(_BOOTSTRAP.format(folder=self.folder))
        (common / "act_qmaster").write_text(f"{NODE}\n")
        (self.folder / "hosts").write_text(f"127.0.0.1 {NODE} localhost\n")
        (self.folder / "port").write_text(str(free_ports(2)))
        text = (_SHARED / "default-configuration").read_text()
        own = _OPEN_TO_ALL | {"execd_spool_dir": str(spool / "execd")}
        (self.folder / "configuration").write_text(_changed(text, own))
        for tool in _CALLED:
            self._write_tool(tool)
        if not (spool / "db" / "sge").exists():
            resources = _SHARED / "util" / "resources"
            steps = [
                f"{_PROGRAMS}/spoolinit berkeleydb libspoolb {spool}/db init",
                f"{_PROGRAMS}/spooldefaults configuration {self.folder}/configuration",
                f"{_PROGRAMS}/spooldefaults complexes {resources}/centry",
                f"{_PROGRAMS}/spooldefaults usersets {resources}/usersets",
                f"{_PROGRAMS}/spooldefaults managers root",
            ]
            command = on_node(NODE, self.folder / "hosts", steps)
            subprocess.run(command, env=self._for_daemons(), check=True, capture_output=True)

    def _write_tool(self, name: str) -> None:
        """It works where the master does, and in the folder that it is called in."""
        own = [f"export {key}={shlex.quote(value)}" for key, value in self._sge().items()]
        enter = f'nsenter --target "$(cat {self.folder}/run/sge_qmaster.pid)" --mount --uts'
        call = f"""exec {enter} sh -c 'cd "$0" && exec "$@"' "$PWD" {_PROGRAMS / name} "$@" """
        tool = self.folder / "bin" / name
        tool.write_text("\n".join(["#!/bin/sh", *own, call, ""]))
        tool.chmod(0o755)

    def _set_up(self) -> None:
        """A host that may submit, a queue, and a scheduler that does not take its time."""
        self._ask("qconf", "-as", NODE)
        scheduler, queue = self.folder / "scheduler", self.folder / "queue"
        scheduler.write_text(_changed(self._ask("qconf", "-ssconf"), _QUICKLY))
        self._ask("qconf", "-Msconf", str(scheduler))
        own = {"qname": QUEUE, "hostlist": NODE, "slots": str(SLOTS), "qtype": "BATCH"}
        own |= {"load_thresholds": "NONE", "pe_list": "NONE", "shell_start_mode": "unix_behavior"}
        queue.write_text(_changed(self._ask("qconf", "-sq"), own))
        self._ask("qconf", "-Aq", str(queue))

    def _sge(self) -> dict[str, str]:
        port = int((self.folder / "port").read_text())
        return {
            "SGE_ROOT": str(self._root),
            "SGE_CELL": "default",
            "SGE_QMASTER_PORT": str(port),
            "SGE_EXECD_PORT": str(port + 1),
        }

    def _for_daemons(self) -> dict[str, str]:
        """With SGE_ND they stay in the foreground."""
        return {**os.environ, **self._sge(), "SGE_ND": "1"}

    def _ask(self, tool: str, *words: str) -> str:
        command = [str(self.folder / "bin" / tool), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout


def _changed(text: str, values: dict[str, str]) -> str:
    """A configuration, a name and a value on each line, with other values."""
    for name, value in values.items():
        text = re.sub(rf"^{name}\s.*$", f"{name} {value}", text, flags=re.MULTILINE)
    return text


def why_not() -> str:
    """What keeps this machine from having a Grid Engine, and how to get it."""
    return missing(TOOLS, PACKAGES)
