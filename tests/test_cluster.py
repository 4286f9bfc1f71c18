"""Where the work is done: what can be told without a queue or a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from galbatch.cluster import _queue, connect
from galbatch.errors import SpecError
from galbatch.spec.job import Cluster, CudaCluster, QueueCluster, SchedulerCluster, SerialCluster

WORDS: TypeAdapter[Cluster] = TypeAdapter(Cluster)


def test_serial_needs_no_client(tmp_path: Path) -> None:
    with connect(SerialCluster(kind="serial"), tmp_path) as client:
        assert client is None


def test_local_workers_listen_on_loopback_only(tmp_path: Path) -> None:
    spec = WORDS.validate_python({"kind": "local", "workers": 1, "memory": "1 GiB"})
    with connect(spec, tmp_path) as client:
        assert client.scheduler_info()["address"].startswith("tcp://127.0.0.1:")
        assert client.submit(sum, (1, 2)).result() == 3
        limits = {w["memory_limit"] for w in client.scheduler_info()["workers"].values()}
        assert limits == {2**30}


def test_a_missing_scheduler_is_explained(tmp_path: Path) -> None:
    spec = SchedulerCluster(kind="scheduler", address="nonsense://nowhere")
    with pytest.raises(SpecError, match="no Dask scheduler answers"), connect(spec, tmp_path):
        pass


def test_no_gpu_is_explained(tmp_path: Path) -> None:
    with (
        pytest.raises(SpecError, match="no GPU workers"),
        connect(CudaCluster(kind="cuda"), tmp_path),
    ):
        pass


@pytest.mark.parametrize("kind", ["slurm", "pbs", "sge", "lsf"])
def test_the_words_of_a_queue_reach_its_job_script(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dask_jobqueue")

    spec = QueueCluster.model_validate(
        {
            "kind": kind,
            "workers": 1,
            "cores": 2,
            "memory": "8 GiB",
            "walltime": "02:30:00",
            "queue": "long",
            "account": "survey",
            "interface": "lo",
            "directives": ["--comment=galbatch"],
            "prologue": ["module load python"],
        }
    )
    asked: list[int] = []
    import dask_jobqueue

    base = dask_jobqueue.core.JobQueueCluster
    monkeypatch.setattr(base, "scale", lambda self, n: asked.append(n))
    cluster = _queue(spec, tmp_path)
    try:
        script = cluster.job_script()
    finally:
        cluster.close()
    assert asked[0] == 1
    for word in ("long", "survey", "--comment=galbatch", "module load python"):
        assert word in script
    assert "export MALLOC_TRIM_THRESHOLD_=1073741824" in script
