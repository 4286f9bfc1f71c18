"""A fit by several processes within a run: one that dies ends them all, and the fit goes on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from faults.campaign import Run
from small import galbatch, galbatch_process, job_words, write_job

pytestmark = pytest.mark.timeout(300)
MODEL = job_words()["models"][0] | {"epochs": 8, "patience": 8}
NOTICED_WITHIN = 5.0


def write(folder: Path, cluster: dict[str, Any] | None = None, **training: Any) -> str:
    return write_job(
        folder,
        source={"kind": "mock", "rows": 800, "seed": 3, "batch_rows": 400},
        models=[MODEL],
        sinks=[],
        cluster=cluster or {"kind": "serial"},
        training=training,
    )


def members(run: Run) -> list[psutil.Process]:
    """The processes of the fit that is under way, in the order of their numbers."""
    found = [
        process
        for process in psutil.Process(run._process.pid).children(recursive=True)
        if "galbatch.stages.fit_process" in process.cmdline()
    ]
    return sorted(found, key=lambda process: process.pid)


def until(holds: Callable[[], Any], run: Run) -> None:
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end, run.said
        time.sleep(0.05)


def weights(folder: Path) -> dict[str, bytes]:
    model = folder / "store" / "models" / "photometric"
    return {path.name: path.read_bytes() for path in model.iterdir() if path.suffix == ".onnx"}


def epochs(folder: Path) -> list[float]:
    history = folder / "store" / "models" / "photometric" / "history.json"
    losses: list[float] = json.loads(history.read_text())["network"]["loss"]
    return losses


def test_a_process_that_dies_ends_the_others_and_the_fit_goes_on(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        write(folder, processes=2)
    done = galbatch_process("run", "job.yaml", cwd=whole)
    assert done.returncode == 0, done.stderr
    run = Run(killed)
    checkpoints = killed / "store" / "work" / "staging"
    until(lambda: any(checkpoints.rglob("state.npz")), run)
    both = members(run)
    assert len(both) == 2
    both[1].kill()
    died = time.monotonic()
    until(lambda: not any(process.is_running() for process in both), run)
    assert time.monotonic() - died < NOTICED_WITHIN
    assert run.wait() == 0, run.said
    assert weights(killed) == weights(whole)
    assert epochs(killed) == epochs(whole)


def test_another_number_of_processes_trains_nothing_again(tmp_path: Path) -> None:
    write(tmp_path)
    assert galbatch("run", "job.yaml", cwd=tmp_path).returncode == 0
    before = weights(tmp_path)
    write(tmp_path, processes=2)
    done = galbatch("run", "job.yaml", cwd=tmp_path)
    assert done.returncode == 0 and "nothing to do" in done.stdout
    assert weights(tmp_path) == before


@pytest.mark.parametrize(
    ("kind", "on_a_node", "said"),
    [
        ("serial", True, "error: training.interface: 'nowhere0' is not a valid network interface"),
        ("local", True, "error: training.interface: 'nowhere0' is not a valid network interface"),
        # Nodes may have what the machine lacks that asked for them.
        ("serial", False, ""),
        ("slurm", True, ""),
    ],
)
def test_a_network_that_is_not_there_is_said_before_anything_is_read(
    kind: str, on_a_node: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\nexit 1\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("SLURMD_NODENAME", raising=False)
    if on_a_node:
        monkeypatch.setenv("SLURMD_NODENAME", "n1")
    cluster = {"kind": kind, **({"workers": 1} if kind == "slurm" else {})}
    training = {"processes": 2, "launch": "srun", "interface": "nowhere0"}
    write(tmp_path, cluster=cluster, **training)
    done = galbatch("validate", "job.yaml", cwd=tmp_path)
    assert (done.returncode, done.stderr.startswith(said)) == (2 if said else 0, True), done.stderr
    if said:
        done = galbatch("run", "job.yaml", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith(said), done.stderr
        assert "galbatch scan" not in done.stderr
        assert not (tmp_path / "store").exists()
        srun.unlink()
        monkeypatch.setenv("PATH", str(srun.parent))
        done = galbatch("validate", "job.yaml", cwd=tmp_path)
        assert "training.launch: there is no program 'srun' on this machine" in done.stderr
