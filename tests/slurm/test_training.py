"""A fit by processes on two nodes of a real SLURM."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from slurm.runs import MODEL, write_small
from slurm.service import Slurm

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]


def losses(folder: Path) -> list[float]:
    history = folder / "store" / "models" / "photometric" / "history.json"
    found: list[float] = json.loads(history.read_text())["network"]["loss"]
    return found


def test_processes_on_two_nodes_learn_what_one_does(
    reference: Path, slurm: Slurm, tmp_path: Path
) -> None:
    training = {"processes": 2, "launch": "srun", "interface": "lo"}
    model = MODEL | {"dropout": 0.0}
    for name, words in (("one", {}), ("two", {"training": training})):
        folder = tmp_path / name
        write_small(folder, {"kind": "serial"}, models=[model], **words)
        done = subprocess.run(
            ["salloc", "-N", "2", "-n", "2", "--mem=3000", "-p", "main",
             sys.executable, "-m", "galbatch.cli", "run", "job.yaml"],
            cwd=folder, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
