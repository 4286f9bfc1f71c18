"""A queue for tests: `sbatch`, `qsub`, `bsub` and their kin, which run jobs on this machine."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from galbatch.cluster import connect
from galbatch.spec.cluster import QueueCluster

_SUBMIT = r"""
refuse=$(cat "$Q/refuse" 2>/dev/null) && { echo "$refuse" >&2; exit 1; }
exec 9>"$Q/lock"; flock 9
number=$(( $(cat "$Q/number" 2>/dev/null || echo 100) + 1 ))
echo $number >"$Q/number"
flock -u 9; exec 9>&-
cat "${1:-/dev/stdin}" >"$Q/$number.sh"
directive() { sed -n "s/^#[A-Z\$]* *-$1 \([^ ]*\)$/\1/p" "$Q/$number.sh" | head -n 1; }
place() {
    case "$2" in
        */) echo "$2dask-worker.$1$number" ;;
        *) echo "$2" | sed "s/%J/$number/" ;;
    esac
}
out=$(place o "$(directive o)") err=$(place e "$(directive e)")
grep -q '^#\$ -j y' "$Q/$number.sh" && err=$out
limit=$(sed -n 's/^#SBATCH -t \(..\):\(..\):\(..\)$/\1 \2 \3/p' "$Q/$number.sh" |
    { read -r h m s && echo $(( 10#$h * 3600 + 10#$m * 60 + 10#$s )); } 2>/dev/null)
setsid bash -c '
    touch "$1/$2.ready"
    while [ -e "$1/hold" ]; do sleep 0.1; done
    touch "$1/$2.began"
    export SLURM_JOB_ID=$2 PBS_JOBID=$2.stub JOB_ID=$2 LSB_JOBID=$2
    trap : TERM USR1
    bash "$1/$2.sh" >>"$3" 2>>"$4" &
    job=$!
    if [ "$5" ]; then { sleep "$5" && kill -9 0; } >/dev/null 2>&1 & fi
    wait $job; code=$?
    while kill -0 $job 2>/dev/null; do wait $job; code=$?; done
    echo $code >"$1/$2.code"
    kill -9 0
' job "$Q" $number "$out" "$err" "$limit" </dev/null >/dev/null 2>&1 &
echo $! >"$Q/$number.pid"
until [ -e "$Q/$number.ready" ]; do sleep 0.01; done
"""
# The number of a process that ended may be another's by now.
_ALIVE = r"""
alive() { { tr '\0' '\n' <"/proc/$(cat "$Q/$1.pid")/cmdline" | grep -qxF "$Q"; } 2>/dev/null; }
"""
_CANCEL = (
    _ALIVE
    + r"""
alive "$1" && kill -9 -- -$(cat "$Q/$1.pid")
exit 0
"""
)
# Of each job: its number, and P(ending), R(unning), F(ailed), C(ancelled) or D(one).
_LIST = (
    _ALIVE
    + r"""
jobs() {
    for file in "$Q"/*.pid; do
        [ -e "$file" ] || continue
        number=$(basename "$file" .pid)
        if [ -e "$Q/$number.code" ]; then
            [ "$(cat "$Q/$number.code")" = 0 ] && echo $number D || echo $number F
        elif ! alive $number; then echo $number C
        elif [ -e "$Q/$number.began" ]; then echo $number R
        else echo $number P
        fi
    done
}
"""
)
_TOOLS = {
    "slurm": {
        "sbatch": _SUBMIT + 'echo "Submitted batch job $number"',
        "scancel": _CANCEL,
        "squeue": _LIST
        + r"""jobs | sed -e 's/ P$/ PENDING Resources/' -e 's/ R$/ RUNNING None/' \
            -e 's/ F$/ FAILED NonZeroExitCode/' -e 's/ C$/ CANCELLED None/' \
            -e 's/ D$/ COMPLETED None/'""",
    },
    "pbs": {
        "qsub": _SUBMIT + 'echo "$number.stub"',
        "qdel": _CANCEL,
        "qstat": _LIST
        + r"""printf '\nstub:\nJob ID  Username Queue Jobname SessID NDS TSK Memory Time  S Time\n'
        jobs | sed -n -e 's/ P$/ Q/' \
            -e 's/^\([0-9]*\) \([QR]\)$/\1.stub me work dask-worke 1 1 1 1gb 01:00 \2 00:01/p'""",
    },
    "sge": {
        "qsub": _SUBMIT + 'echo "Your job $number (\\"dask-worker\\") has been submitted"',
        "qdel": _CANCEL,
        "qstat": _LIST
        + r"""printf 'job-ID  prior   name       user  state submit/start at  queue\n-------\n'
        jobs | sed -n -e 's/ P$/ qw/' -e 's/ R$/ r/' \
            -e 's/^\([0-9]*\) \([a-z]*\)$/  \1 0.5 dask-worke me \2 11-27-2026 10:00 all.q 1/p'""",
    },
    "lsf": {
        "bsub": _SUBMIT + 'echo "Job <$number> is submitted to default queue <normal>."',
        "bkill": _CANCEL,
        "bjobs": _LIST
        + r"""found=$(jobs); [ "$found" ] || { echo "No job found" >&2; exit 255; }
        echo 'JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME'
        echo "$found" | sed -e 's/ P$/ PEND/' -e 's/ R$/ RUN/' \
            -e 's/ [FC]$/ EXIT/' -e 's/ D$/ DONE/' \
            -e 's/$/ normal here here dask-worker Nov 27 10:00/' \
            -e 's/^\([0-9]*\)/\1 me/'""",
    },
}


class StubQueue:
    """A queue in a folder.

    Parameters
    ----------
    folder : Path
        Empty. Its `bin` belongs in front of PATH.
    kind : str
        `slurm`, `pbs`, `sge` or `lsf`.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.kind = kind
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        for name, text in _TOOLS[kind].items():
            tool = self.bin / name
            tool.write_text(f"#!/bin/bash\nQ={folder}\n{text}\n", encoding="utf-8")
            tool.chmod(0o755)

    @property
    def path(self) -> str:
        """PATH with the tools of this queue in front."""
        return f"{self.bin}{os.pathsep}{os.environ['PATH']}"

    def refuse(self, words: str) -> None:
        """Refuse all jobs from now on."""
        (self.folder / "refuse").write_text(words, encoding="utf-8")

    def hold(self) -> None:
        """Keep all jobs pending from now on."""
        (self.folder / "hold").touch()

    def release(self) -> None:
        """Start what is pending."""
        (self.folder / "hold").unlink()

    def submitted(self) -> list[int]:
        """Numbers of all jobs."""
        return sorted(int(path.stem) for path in self.folder.glob("*.pid"))

    def running(self) -> list[int]:
        """Numbers of those that began, and have not ended."""
        return [
            number
            for number in self.submitted()
            if (self.folder / f"{number}.began").exists()
            and not (self.folder / f"{number}.code").exists()
            and self._alive(number)
        ]

    def kill(self, *numbers: int, by: int = signal.SIGKILL) -> None:
        """End all jobs, or these, without a warning; or tell them that they have to end."""
        for number in numbers or self.submitted():
            if self._alive(number):
                with suppress(ProcessLookupError):
                    os.killpg(self._leader(number), by)

    def all_end(self, seconds: float = 20.0) -> bool:
        """Whether no job is left within a while."""
        until = time.monotonic() + seconds
        while any(self._alive(number) for number in self.submitted()):
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
        return True

    def _leader(self, number: int) -> int:
        return int((self.folder / f"{number}.pid").read_text())

    def _alive(self, number: int) -> bool:
        """The number of a process that ended may be another's by now."""
        try:
            words = Path(f"/proc/{self._leader(number)}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(self.folder) in words


def words(kind: str, **changes: Any) -> dict[str, Any]:
    return {"kind": kind, "workers": 1, "memory": "2 GiB", "interface": "lo", **changes}


def connected(kind: str, folder: Path, **changes: Any) -> Any:
    spec = QueueCluster.model_validate(words(kind, **changes))
    return connect(spec, folder / "work", folder / "logs", {"scratch": folder / "token"})
