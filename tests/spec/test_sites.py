"""Sites: what jobs of one place have in common, and who wins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from small import REPOSITORY, write_job

from galbatch.errors import SpecError
from galbatch.spec import load_job
from galbatch.spec.cluster import LocalCluster, QueueCluster
from galbatch.spec.sites import site_profile, sites_folder

EXAMPLES = sorted((REPOSITORY / "docs" / "sites").glob("*.yaml"))
PROFILE = """\
# The cluster of the institute.
scratch: /scratch/me
cluster:
  kind: slurm
  queue: long
  workers: 8
  driver: {queue: service, walltime: "48:00:00"}
"""


@pytest.fixture(autouse=True)
def sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = sites_folder()
    assert folder == tmp_path / "config" / "galbatch" / "sites"
    folder.mkdir(parents=True)
    (folder / "institute.yaml").write_text(PROFILE)
    return folder


def of_job(folder: Path, *overrides: str, without: str = "", **changes: Any) -> Any:
    path = Path(write_job(folder, **{"site": "institute", **changes}))
    words = yaml.safe_load(path.read_text())
    words.pop(without, None)
    path.write_text(yaml.safe_dump(words, sort_keys=False))
    return load_job(str(path), overrides)


def test_a_job_has_what_its_site_says(tmp_path: Path) -> None:
    job = of_job(tmp_path, without="cluster")
    assert job.scratch == "/scratch/me"
    assert isinstance(job.cluster, QueueCluster)
    assert (job.cluster.queue, job.cluster.workers) == ("long", 8)
    assert job.cluster.driver_group.walltime == "48:00:00"


def test_the_words_of_the_job_win_key_by_key(tmp_path: Path) -> None:
    cluster = {"workers": 20, "driver": {"walltime": "12:00:00"}}
    job = of_job(tmp_path, "cluster.account=survey", cluster=cluster, scratch="mine")
    assert job.scratch == "mine"
    found = job.cluster
    assert (found.kind, found.workers, found.queue, found.account) == (
        "slurm", 20, "long", "survey"
    )  # fmt: skip
    assert (found.driver.queue, found.driver.walltime) == ("service", "12:00:00")


@pytest.mark.parametrize("overrides", [(), ("cluster.kind=local",)])
def test_nothing_is_taken_of_another_kind_of_cluster(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    cluster = {"kind": "local"} if not overrides else {}
    job = of_job(tmp_path, *overrides, cluster=cluster)
    assert job.cluster == LocalCluster()
    assert job.scratch is None
    assert of_job(tmp_path, *overrides, cluster=cluster, scratch="mine").scratch == "mine"


def test_scratch_of_a_site_without_a_cluster_is_for_every_job(tmp_path: Path, sites: Path) -> None:
    (sites / "institute.yaml").write_text("scratch: /scratch/me\n")
    assert of_job(tmp_path, cluster={"kind": "local"}).scratch == "/scratch/me"
    assert of_job(tmp_path, scratch=None).scratch is None


GROUPS = """\
cluster:
  kind: slurm
  queue: long
  groups:
    cpu: {workers: 8}
    gpu: {workers: 2, gpus: 1, queue: gpu}
"""


def groups_of(job: Any) -> dict[str, tuple[int, str | None]]:
    return {name: (group.most, group.queue) for name, group in job.cluster.all_groups.items()}


@pytest.mark.parametrize(
    ("cluster", "groups"),
    [
        ({}, {"cpu": (8, "long"), "gpu": (2, "gpu")}),
        ({"workers": 4}, {"": (4, "long")}),
        ({"workers": [2, 4], "groups": None}, {"": (4, "long")}),
        ({"groups": {"gpu": None}}, {"cpu": (8, "long")}),
        ({"groups": {"cpu": {"workers": 3}, "gpu": {"queue": None}}},
         {"cpu": (3, "long"), "gpu": (2, "long")}),
        ({"groups": {"cpu": None, "gpu": None}, "workers": 1}, None),
    ],
)  # fmt: skip
def test_a_job_may_have_other_workers_than_its_site(
    tmp_path: Path, sites: Path, cluster: Any, groups: dict[str, Any] | None
) -> None:
    (sites / "institute.yaml").write_text(GROUPS)
    expected = groups or {"": (1, "long")}
    assert groups_of(of_job(tmp_path, cluster=cluster)) == expected
    overrides = [f"cluster.{key}={json.dumps(value)}" for key, value in cluster.items()]
    assert groups_of(of_job(tmp_path, *overrides, without="cluster")) == expected


def test_groups_of_a_job_replace_the_workers_of_its_site(tmp_path: Path) -> None:
    job = of_job(tmp_path, cluster={"groups": {"cpu": {"workers": 3}}})
    assert groups_of(job) == {"cpu": (3, "long")}


def test_workers_that_are_counted_twice_are_refused_in_the_job_s_line(
    tmp_path: Path, sites: Path
) -> None:
    (sites / "institute.yaml").write_text(GROUPS)
    with pytest.raises(SpecError, match=r"job.yaml: line \d+: 'cluster.workers': give the number"):
        of_job(tmp_path, cluster={"workers": 4, "groups": {"gpu": None}})


def test_a_group_that_a_site_has_not_is_not_taken_away(tmp_path: Path, sites: Path) -> None:
    (sites / "institute.yaml").write_text(GROUPS)
    said = r"job.yaml: line \d+: the site has no group 'gpus' to take away \(did you mean 'gpu'"
    with pytest.raises(SpecError, match=said):
        of_job(tmp_path, cluster={"groups": {"gpus": None}})
    with pytest.raises(SpecError, match=r"'cluster.groups.gpus': expected 'key: value' lines"):
        of_job(tmp_path, cluster={"kind": "pbs", "workers": 1, "groups": {"gpus": None}})


def test_lines_of_a_site_that_is_not_taken_are_not_named(tmp_path: Path) -> None:
    with pytest.raises(
        SpecError, match=r"job.yaml: line \d+: 'cluster.workers': expected a number"
    ):
        of_job(tmp_path, cluster={"kind": "pbs"})


def test_a_cluster_that_is_none_is_refused_in_its_line(tmp_path: Path, sites: Path) -> None:
    said = "'cluster': expected 'key: value' lines, got"
    for cluster, got in (([1], "a list"), (None, "nothing"), ("slurm", "'slurm'")):
        with pytest.raises(SpecError, match=rf"job.yaml: line \d+: {said} {got}"):
            of_job(tmp_path, cluster=cluster)
    (sites / "institute.yaml").write_text("scratch: /s\ncluster: [1]\n")
    with pytest.raises(SpecError, match=rf"institute.yaml: line 2: {said} a list"):
        of_job(tmp_path, cluster={"kind": "local"})


def test_a_site_may_be_named_on_the_command_line(tmp_path: Path) -> None:
    path = Path(write_job(tmp_path, cluster={"kind": "slurm"}))
    assert load_job(str(path), ["site=institute"]).cluster.queue == "long"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("cluster:\n  kind: slurm\n  workers: 2\n  qeue: long\n",
         "line 4: unknown setting 'cluster.qeue' (did you mean 'queue'?)"),
        ("cluster: {kind: slrm, workers: 2}\n",
         "line 1: 'cluster.kind' cannot be 'slrm' (did you mean 'slurm'?)"),
        ("cluster:\n  kind: slurm\n  workers: 2\n  driver:\n    walltime: 24\n",
         "line 5: 'cluster.driver.walltime': expected hours:minutes:seconds"),
        ("cluster:\n  kind: slurm\n  groups:\n    gpu:\n      workers: 64\n      cores: 64\n",
         "line 4: 'cluster.groups.gpu.memory': 4 GiB for 64 workers"),
        ("scratch: 7\n", "line 1: 'scratch': expected a path, got 7"),
        ("# a site\nstore: /data\n", "line 2: a site has no 'store'"),
        ("- scratch\n", "expected 'key: value' lines at the top of the file"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_sites_own_line(
    tmp_path: Path, sites: Path, profile: str, said: str
) -> None:
    (sites / "institute.yaml").write_text(profile)
    with pytest.raises(SpecError) as error:
        of_job(tmp_path, without="cluster")
    text = str(error.value)
    assert text.startswith(f"{sites / 'institute.yaml'}: {said}"), text
    assert "\n" not in text


def test_what_is_wrong_in_the_job_is_said_with_its_own_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"job\.yaml: line \d+: unknown setting 'cluster.worker'"):
        of_job(tmp_path, cluster={"worker": 3})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("institut", r"site 'institut': is not in .*/sites \(did you mean 'institute'\?\)"),
        (7, r"line \d+: 'site': expected a letter"),
        ("../secret", "is not in"),
    ],
)
def test_a_site_that_is_not_there(tmp_path: Path, name: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        of_job(tmp_path, site=name)


def test_the_first_site_is_told_where_to_be(tmp_path: Path, sites: Path) -> None:
    (sites / "institute.yaml").unlink()
    with pytest.raises(SpecError, match=rf"write {sites}/institute\.yaml"):
        of_job(tmp_path)


def test_the_examples_are_of_each_queue() -> None:
    assert [file.stem for file in EXAMPLES] == ["lsf", "pbs", "slurm"]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_is_a_site(file: Path, tmp_path: Path, sites: Path) -> None:
    (sites / "institute.yaml").write_text(file.read_text())
    job = of_job(tmp_path, without="cluster")
    assert job.cluster.kind == file.stem
    assert job.scratch
    job = of_job(tmp_path, cluster={"groups": {"cpu": {"workers": 64}}})
    assert job.cluster.all_groups["cpu"].workers == 64
    assert site_profile("institute").document.content.keys() <= {"cluster", "scratch"}
