"""Groups of jobs, lifetimes and safety on a real SLURM."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest
from faults.campaign import Run
from slurm.runs import CLUSTER, MODEL, digests, until, write_small
from slurm.service import GPU_NODES, Slurm
from small import galbatch_process

pytestmark = pytest.mark.timeout(600)
GROUPS = {
    "cpu": {"workers": 2, "queue": "cpu"},
    "gpu": {"workers": 1, "gpus": 1, "queue": "gpu", "stages": ["train", "predict"]},
}


def nodes_of(slurm: Slurm, word: str) -> set[str]:
    """The nodes on which a process has a word in its command line."""
    found = set()
    for pid, command in slurm.processes().items():
        if word in command:
            try:
                found.add(psutil.Process(pid).environ().get("SLURMD_NODENAME", ""))
            except psutil.Error:
                continue
    return found


def test_the_fit_is_where_the_gpus_are(reference: Path, slurm: Slurm, tmp_path: Path) -> None:
    words = {name: word for name, word in CLUSTER.items() if name not in ("workers", "queue")}
    write_small(tmp_path, {**words, "groups": GROUPS})
    run = Run(tmp_path)
    found: set[str] = set()

    def seen() -> bool:
        found.update(nodes_of(slurm, "galbatch.stages.fit_process"))
        return bool(found)

    until(seen, run)
    devices = {
        psutil.Process(pid).environ().get("CUDA_VISIBLE_DEVICES")
        for pid, command in slurm.processes().items()
        if "galbatch.stages.fit_process" in command
    }
    assert run.wait() == 0, run.said
    assert found <= {*GPU_NODES}, found
    assert devices <= {"0", "1"}, devices
    assert digests(tmp_path) == digests(reference)


@pytest.mark.slow
def test_work_of_minutes_in_walltimes_of_one(slurm: Slurm, tmp_path: Path) -> None:
    """More than a minute of fits and predictions, by jobs that may last a minute each."""
    long = {"models": [MODEL | {"epochs": 150, "patience": 150, "members": 2}]}
    serial = tmp_path / "serial"
    write_small(serial, {"kind": "serial"}, **long)
    done = galbatch_process("run", "job.yaml", cwd=serial)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "queue"
    write_small(folder, {"walltime": "00:01:00", "lifetime": 0.5, "queue": "short"}, **long)
    run = Run(folder)
    assert run.wait() == 0, run.said
    left = [line for line in run.said if re.search(r"left before the walltime; replaced", line)]
    assert len(left) >= 2, run.said
    assert digests(folder) == digests(serial)
