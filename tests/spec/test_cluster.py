"""The settings of a cluster: who does what, and what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from galbatch.spec.cluster import (
    Cluster,
    GroupChanges,
    QueueCluster,
    QueueGroup,
    SchedulerCluster,
)
from galbatch.spec.sizes import in_seconds

CLUSTER: TypeAdapter[Cluster] = TypeAdapter(Cluster)


def queue(**settings: Any) -> QueueCluster:
    return QueueCluster.model_validate({"kind": "slurm", **settings})


def test_a_group_can_change_all_that_the_jobs_have() -> None:
    assert {*GroupChanges.model_fields} == {*QueueGroup.model_fields}


def test_workers_are_processes() -> None:
    found = queue(workers=8, cores=4, memory="16 GiB").all_groups[""]
    assert (found.per_job, found.least, found.most) == (4, 8, 8)
    found = queue(workers=(2, 40)).all_groups[""]
    assert (found.per_job, found.least, found.most) == (1, 2, 40)
    assert queue(workers=4, cores=16, gpus=2, memory="64 GiB").all_groups[""].per_job == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "workers: expected a number of worker processes, e.g. 4, or"),
        ({"workers": 5, "cores": 4, "memory": "16 GiB"}, "write 4 or 8, or other"),
        ({"workers": 3, "cores": 4, "memory": "16 GiB"}, "write 4, or other"),
        ({"workers": (8, 2)}, "8 is more than 2"),
        ({"workers": 2, "groups": {"a": {"workers": 1}}}, "in each of the groups"),
        ({"groups": {"a": {}}}, "groups.a.workers: expected a number"),
        ({"groups": {"a": {"workers": 3, "gpus": 1, "processes": 3}}}, "3 for 1 GPUs: each has"),
        ({"groups": {"a": {"workers": 3, "stages": ["scan"]}}}, "groups: nobody does 'ingest'"),
        ({"groups": {"a": {"workers": 32, "cores": 32}}}, "groups.a.memory: 4 GiB for 32 workers"),
        ({"workers": 1, "job_name": "my name"}, "job_name"),
        ({"workers": 1, "account": "$(id)"}, "account"),
        *(
            ({"workers": 1, "driver": {word: "a b"}}, rf"driver\.{word}\n")
            for word in ("queue", "account")
        ),
        ({"workers": 1, "options": {"cores": 7}}, "options.cores: see the settings"),
        *(
            ({"workers": 1, "options": {word: []}}, f"options.{word}: see the settings")
            for word in (
                "protocol",
                "scheduler",
                "config_name",
                "extra",
                "env_extra",
                "job_extra",
                "header_skip",
            )
        ),
        ({"groups": {"a": {"workers": 1, "stages": []}}}, "stages"),
        ({"workers": 1, "worker_ports": "40099:40000"}, "40099:40000 is no range"),
        ({"workers": 1, "worker_ports": "40000:70000"}, "is no range within"),
        (
            {"workers": 4, "cores": 4, "memory": "8 GiB", "worker_ports": "40000:40003"},
            "take 8 ports",
        ),
        ({"kind": "htcondor", "workers": 1, "queue": "long"}, "htcondor has none"),
        (
            {"kind": "htcondor", "workers": 1, "directives": ['+Project = "a"', "--wall=5"]},
            "directives: '--wall=5' sets nothing; htcondor takes lines like",
        ),
        (
            {"kind": "htcondor", "workers": 1, "gpu_directives": ["gpus"], "gpus": 1},
            "directives: 'gpus' sets nothing",
        ),
        (
            {
                "kind": "htcondor",
                "workers": 1,
                "directives": ["a == 5"],
                "driver": {"directives": []},
            },
            "directives: 'a == 5' sets nothing",
        ),
        (
            {"workers": 1, "directives": ["#SBATCH --mem=3"]},
            "directives: '#SBATCH --mem=3': write '--mem=3' alone; #SBATCH is put in front of it",
        ),
        ({"kind": "sge", "workers": 1, "driver": {"directives": ["#$ -V"]}}, "driver.directives"),
        (
            {"groups": {"a": {"workers": 1, "gpus": 1, "gpu_directives": ["--gpus={gpu}"]}}},
            "groups.a.gpu_directives: '--gpus={gpu}': there is no number {gpu}; expected {cores}",
        ),
        (
            {"kind": "sge", "workers": 4, "cores": 4, "memory": "8 GiB"},
            r"directives: sge gives a job one core, not 4, unless it names a parallel env",
        ),
        (
            {"kind": "sge", "workers": 1, "driver": {"cores": 2}, "directives": ["-petty 2"]},
            "driver.directives: sge gives a job one core, not 2",
        ),
        (
            {"kind": "sge", "groups": {"a": {"workers": 2, "cores": 2}}},
            "groups.a.directives: sge gives",
        ),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        queue(**settings)


def test_sge_is_asked_for_cores_in_the_words_of_its_site() -> None:
    found = queue(kind="sge", workers=4, cores=4, memory="8 GiB", directives=["-pe smp {cores}"])
    assert found.driver_group.cores == 1 and found.driver_group.directives


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "memory, which"),
        ({"directives": ["-V"]}, "memory, which"),
        ({"directives": ["-N bigmem", "-q mem.q", "-v mem=4"]}, "memory, which"),
        ({"directives": ["-l arch=mem,h_rt=4"]}, "memory, which"),
        ({"directives": ["-l h_vmem=4G"]}, ""),
        ({"directives": ["-hard -l h_rt=60,mem_free=4G"]}, ""),
        ({"options": {"resource_spec": "mem_free=4G"}}, "the driver's memory, which"),
        ({"directives": ["-l h_rss=4G"], "driver": {"directives": []}}, "the driver's memory, "),
        ({"options": {"resource_spec": "mem_free=4G"},
          "driver": {"directives": ["-l mem_free=4G"]}}, ""),
        ({"kind": "slurm"}, ""),
    ],
)  # fmt: skip
def test_memory_that_sge_is_not_asked_for_is_said(settings: dict[str, Any], said: str) -> None:
    unasked = queue(**({"kind": "sge", "workers": 1} | settings)).unasked
    assert unasked.startswith(f"sge is not asked for {said}") if said else not unasked


def test_what_groups_say_themselves_is_not_asked_of_the_cluster() -> None:
    group = {"workers": 16, "memory": "64 GiB"}
    assert queue(cores=16, groups={"a": group}).all_groups["a"].per_job == 16


def test_groups_have_what_the_cluster_says_but_for_their_own() -> None:
    found = queue(
        queue="long",
        account="survey",
        groups={"cpu": {"workers": 40}, "gpu": {"workers": 2, "gpus": 1, "queue": "gpu"}},
    )
    cpu, gpu = found.all_groups["cpu"], found.all_groups["gpu"]
    assert (cpu.queue, cpu.account, cpu.gpus) == ("long", "survey", 0)
    assert (gpu.queue, gpu.account, gpu.gpus) == ("gpu", "survey", 1)


@pytest.mark.parametrize(
    ("cores", "gpus", "who_predicts"), [(32, 2, "gpu"), (33, 2, "cpu"), (1, 1, "gpu")]
)
def test_gpus_train_and_predict_where_there_are_enough(
    cores: int, gpus: int, who_predicts: str
) -> None:
    groups = {"cpu": {"workers": cores}, "gpu": {"workers": gpus, "gpus": 1}}
    done = queue(groups=groups).stages_of
    assert {"scan", "ingest"} <= {*done["cpu"]}
    assert "train" in done["gpu"] and "train" not in done["cpu"]
    assert [name for name, stages in done.items() if "predict" in stages] == [who_predicts]


def test_the_shortest_lifetime_is_of_seconds() -> None:
    found = queue(workers=1, walltime="00:01:00", lifetime=0.05).all_groups[""]
    assert found.lifetime * in_seconds(found.walltime) == pytest.approx(3)
    with pytest.raises(ValidationError, match="at least 00:01:00"):
        queue(workers=1, driver={"walltime": "00:00:59"})


def test_a_group_may_say_what_it_does() -> None:
    groups = {
        "cpu": {"workers": 4, "stages": ["scan", "ingest", "predict"]},
        "gpu": {"workers": 1, "gpus": 1, "stages": ["train"]},
    }
    done = queue(groups=groups).stages_of
    assert done == {"cpu": ("scan", "ingest", "predict"), "gpu": ("train",)}


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "localhost:1", "tcp://[::1]:1"])
def test_a_scheduler_of_this_machine_needs_no_certificates(address: str) -> None:
    assert SchedulerCluster(kind="scheduler", address=address).tls is None


@pytest.mark.parametrize(
    "address",
    ["tcp://node7", "node7", "tcp://node7:99999", "tcp://node7:0", "tcp://node7:abc",
     "tcp://127.0.0.1:x@evil:80", "http://node7:80", "tcp://:80", "tcp://node7:80/a", "tls://a b:1",
     "tcp://me:hush@node7:80"],
)  # fmt: skip
def test_an_address_without_host_or_port_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match=r"address\n.*should match pattern"):
        SchedulerCluster(kind="scheduler", address=address, tls=False)


@pytest.mark.parametrize(
    "address", ["node7.a-b:8786", "wss://node7:65535", "ws://[fe80::1%eth0]:1"]
)
def test_an_address_may_have_a_protocol(address: str) -> None:
    words = {"ca": "a", "certificate": "b", "key": "c"} if address.startswith("wss") else False
    spec = {"kind": "scheduler", "address": address, "tls": words}
    assert CLUSTER.validate_python(spec).address == address  # type: ignore[union-attr]


def test_a_scheduler_elsewhere_does() -> None:
    words = {"kind": "scheduler", "address": "tcp://node7:8786"}
    with pytest.raises(ValidationError, match="others may run programs in your name"):
        CLUSTER.validate_python(words)
    assert CLUSTER.validate_python({**words, "tls": False})
    with pytest.raises(ValidationError, match="expected tls://"):
        CLUSTER.validate_python({**words, "tls": {"ca": "a", "certificate": "b", "key": "c"}})
    with pytest.raises(ValidationError, match="needs certificates"):
        CLUSTER.validate_python({**words, "address": "tls://node7:8786"})
