"""Jobs of a queue: groups that differ, lifetimes, numbers that follow the work, and safety."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from queues import connected
from toy import Heard, site, tasks, toy

from galbatch.cluster import queue
from galbatch.errors import SpecError, TransientError
from galbatch.run.on_dask import distributed

pytest.importorskip("dask_jobqueue")
pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("quickly")]

GROUPS = {
    "cpu": {"workers": 2},
    "gpu": {"workers": 2, "cores": 2, "gpus": 2, "prologue": ["export CUDA_VISIBLE_DEVICES=5,7"]},
}


def came(workers: Any, number: int) -> list[dict[str, Any]]:
    """What Dask knows of the workers, when so many have come."""
    while workers.threads() < number:
        workers.watch(lambda _: None)
        time.sleep(0.05)
    return list(workers.client.scheduler_info(n_workers=-1)["workers"].values())


def test_each_group_has_what_it_asks_for_and_does_its_stages(tmp_path: Path, stub: Any) -> None:
    found = stub("slurm")
    with connected("slurm", tmp_path, workers=None, groups=GROUPS) as workers:
        everybody = came(workers, 4)
        assert found.submitted() == [101, 102, 103]
        scripts = [(found.folder / f"{n}.sh").read_text() for n in found.submitted()]
        assert sum("#SBATCH --gres=gpu:2" in script for script in scripts) == 1
        done_by = {
            info["name"]: {key for key, value in info["resources"].items() if value}
            for info in everybody
        }
        assert sorted(map(sorted, done_by.values())) == [
            ["ingest", "scan"], ["ingest", "scan"], ["predict", "train"], ["predict", "train"],
        ]  # fmt: skip
        assert workers.resources("train") == {"train": 1.0}
        devices = workers.client.run(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
        assert sorted(devices.values(), key=str) == ["5,7", "7,5", None, None]
        asked = [
            workers.client.submit(
                lambda _: os.environ.get("CUDA_VISIBLE_DEVICES"),
                i,
                resources={stage: 1.0},
                pure=False,
            )
            for stage in ("ingest", "train")
            for i in range(3)
        ]
        answers = workers.client.gather(asked)
        assert answers[:3] == [None] * 3 and None not in answers[3:]
    assert found.all_end()


def test_workers_leave_before_their_walltime_and_others_come(tmp_path: Path, stub: Any) -> None:
    found = stub("slurm")
    stage, heard = toy(tmp_path, seconds=0.4), Heard()
    limits = {"walltime": "00:01:00", "lifetime": 0.065}
    with connected("slurm", tmp_path, **limits) as workers:
        results = list(distributed(workers, stage, site(tmp_path), tasks(30), heard))
    assert len(stage.done()) == len(results) == 30
    assert all(result.error is None for result in results)
    assert sum("left before the walltime; replaced" in text for text in heard.said) >= 2
    assert len(found.submitted()) >= 3
    assert found.all_end()


def test_a_task_that_outlives_every_walltime_ends_the_run(tmp_path: Path, stub: Any) -> None:
    stub("slurm")
    stage, heard = toy(tmp_path, seconds=60), Heard()
    limits = {"walltime": "00:01:00", "lifetime": 0.05}
    with (
        connected("slurm", tmp_path, **limits) as workers,
        pytest.raises(TransientError, match=r"no task got further in 3 lifetimes of 3 s .*longer"),
    ):
        list(distributed(workers, stage, site(tmp_path), tasks(1), heard))


def test_jobs_come_and_go_with_the_work(tmp_path: Path, stub: Any) -> None:
    found = stub("slurm")
    stage = toy(tmp_path, seconds=1.0)
    with connected("slurm", tmp_path, workers=(1, 3)) as workers:
        assert list(workers._cluster.worker_spec) and len(workers._cluster.worker_spec) == 1
        list(distributed(workers, stage, site(tmp_path), tasks(9), Heard()))
        assert len(found.submitted()) == 3
        until = time.monotonic() + 30
        while len(workers._cluster.worker_spec) > 1:
            assert time.monotonic() < until
            workers.watch(lambda _: None)
            time.sleep(0.1)
    assert found.all_end()


def test_nobody_else_can_speak_to_the_run(tmp_path: Path, stub: Any) -> None:
    from distributed import Client, Security

    stub("slurm")
    with connected("slurm", tmp_path, interface=None) as workers:
        came(workers, 1)
        address = workers.client.scheduler.address
        assert address.startswith("tls://")
        (keys,) = (tmp_path / "work").glob("keys-*")
        assert stat.S_IMODE(keys.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in keys.iterdir()} == {0o600}
        plain = address.replace("tls://", "tcp://")
        for stranger in ((plain, None), (address, Security.temporary())):
            with pytest.raises((OSError, TimeoutError)), contextlib.redirect_stderr(None):
                Client(stranger[0], security=stranger[1], timeout="2s", set_as_default=False)
        open_ports = {
            connection.laddr.port
            for connection in psutil.Process().net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
            and connection.laddr.ip not in ("127.0.0.1", "::1")
        }
        assert open_ports == {int(address.rpartition(":")[2])}
    assert not keys.exists()


@pytest.mark.parametrize("name", ["with space", "with$(touch PWNED)"])
def test_a_folder_that_a_script_cannot_name_is_refused(
    tmp_path: Path, stub: Any, name: str
) -> None:
    found = stub("slurm")
    folder = tmp_path / name
    with (
        pytest.raises(SpecError, match="a sign in its name that scripts do not take"),
        connected("slurm", folder),
    ):
        pass
    assert found.submitted() == []


def test_a_worker_does_one_task_at_a_time(tmp_path: Path, stub: Any) -> None:
    stub("slurm")
    with connected("slurm", tmp_path, cores=4, processes=1, memory="4 GiB") as workers:
        (worker,) = came(workers, 1)
        assert worker["nthreads"] == 1


@pytest.mark.parametrize("bokeh", [True, False])
def test_the_way_to_the_dashboard_is_said(
    tmp_path: Path, stub: Any, monkeypatch: pytest.MonkeyPatch, bokeh: bool
) -> None:
    stub("slurm")
    spec = (lambda name: name) if bokeh else (lambda name: None)
    with connected("slurm", tmp_path) as workers:
        monkeypatch.setattr(queue.importlib.util, "find_spec", spec)
        notes = workers.notes
        monkeypatch.undo()
    assert [note.startswith("dashboard: ssh -L ") for note in notes] == [True] * bokeh
