"""What a killed run has left running does no harm to the next one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from faults.campaign import Moment, Run, begin_at, contents
from small import job_words, of_photometric, write_job
from world import Silent, World

from galbatch.cluster import connect
from galbatch.errors import SpecError
from galbatch.run.execute import execute
from galbatch.run.on_dask import distributed
from galbatch.run.store import opened
from galbatch.spec import load_job, load_survey
from galbatch.spec.cluster import LocalCluster
from galbatch.stages.fit_process import fit_in_subprocess
from galbatch.stages.scan import Scan
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.stages.train import Fit, Train, fit_folder
from galbatch.store import fence
from galbatch.store.fence import Fenced, Holder
from galbatch.store.layout import Layout
from galbatch.store.receipts import Need

pytestmark = pytest.mark.timeout(600)
ANOTHER = Holder("another", 7, "elsewhere").to_bytes()
ENDS_WITHIN = 10.0
LONG = {
    "kind": "photometric",
    "members": 1,
    "width": 16,
    "layers": 1,
    "bins": 40,
    "epochs": 10_000,
    "patience": 10_000,
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, "alhambra", rows=400)
    world.write("a", world.frames[0])
    return world


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def fits(folder: Path) -> list[psutil.Process]:
    """Fits that work in this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if "galbatch.stages.fit_process" in process.cmdline() and process.cwd() == str(folder):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def test_a_task_of_a_run_that_is_over_lands_nowhere(world: World) -> None:
    """As on a worker that outlives its driver."""
    site = world.site
    with opened(site):
        old = fence.attempt()
    with opened(site):
        pending = Scan().pending(Snapshot(site))
        stage = Scan().begin(Snapshot(site), pending)
        before = files(world.folder)
        with fence.working_for(old):
            result = execute(stage, site, pending.tasks[0], lambda *_: None)
        assert isinstance(result.error, Fenced)
        assert files(world.folder) == before


def test_a_task_that_is_under_way_when_its_store_is_taken_over_lands_nowhere(world: World) -> None:
    site, seen = world.site, []

    def report(*_: Any) -> None:
        if not seen:
            site.layout.lock.write_bytes(ANOTHER)
            seen.append(files(site.layout.root))

    with opened(site):
        pending = Scan().pending(Snapshot(site))
        result = execute(Scan().begin(Snapshot(site), pending), site, pending.tasks[0], report)
        assert isinstance(result.error, Fenced)
        assert "another run has taken over this store" in str(result.error)
        assert [files(site.layout.root)] == seen


def test_workers_know_whom_they_work_for(world: World) -> None:
    site, local = world.site, LocalCluster(kind="local", workers=1, memory="2 GiB")
    places = site.layout
    with opened(site), connect(local, places.work, places.logs, places.shared) as workers:
        assert workers is not None
        pending = Scan().pending(Snapshot(site))
        stage = Scan().begin(Snapshot(site), pending)
        site.layout.lock.write_bytes(ANOTHER)
        (result,) = distributed(workers, stage, site, pending.tasks, Silent())
    assert isinstance(result.error, Fenced)


def test_who_is_ousted_from_a_new_store_does_not_empty_it(world: World) -> None:
    site = world.site
    with pytest.raises(SpecError, match="a mistake"), opened(site):
        site.layout.lock.write_bytes(ANOTHER)
        site.layout.sources.write_bytes(b"another's")
        raise SpecError("", "a mistake")
    assert site.layout.sources.read_bytes() == b"another's"


def test_a_fit_takes_up_its_checkpoints_under_a_name_of_its_own(world: World) -> None:
    fit = Fit("net", Need("train", "net", {}), "c" * 64)
    mine = fit_folder(world.site, "net", fit)
    (mine / "state").write_bytes(b"mine")
    other = fit_folder(world.site, "net-deep", fit)
    again = fit_folder(world.site, "net", fit)
    assert (again / "state").read_bytes() == b"mine"
    assert again != mine
    assert not mine.exists()
    changed = fit_folder(world.site, "net", Fit("net", Need("train", "net", {"a": 1}), "c" * 64))
    assert sorted(world.site.layout.staging.iterdir()) == sorted([changed, other])
    assert list(changed.iterdir()) == []


def test_a_driver_killed_in_training_leaves_nothing_to_the_next_run(
    finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    begin_at(finished, folder, "train")
    (folder / "small.duckdb").unlink()
    write_job(folder, models=[LONG])
    first = Run(folder)
    assert first.reach("train")
    staging = folder / "store" / "work" / "staging"
    end = time.monotonic() + 120
    while not (kept := [*staging.rglob("state.npz")]):
        assert time.monotonic() < end, first.said
        time.sleep(0.05)
    (old,) = fits(folder)
    assert first.kill(Moment("train", 0.0, "driver"), 0.0)
    write_job(folder, models=job_words()["models"][:1])
    second = Run(folder)
    _, alive = psutil.wait_procs([old], timeout=ENDS_WITHIN)
    assert alive == [], "the fit outlives its run"
    assert second.wait() == 0, second.said
    assert of_photometric(contents(folder)) == of_photometric(contents(finished))
    assert not any(path.exists() for path in kept)
    assert list((folder / "store").rglob(".*.tmp")) == []


def test_a_fit_whose_parent_outlives_its_run_ends(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a worker of a cluster: only the lock says that the run is over."""
    folder = tmp_path / "copy"
    begin_at(finished, folder, "train")
    monkeypatch.chdir(folder)
    job = load_job(write_job(folder, models=[LONG]), ())
    site = Site(job, load_survey(job.survey), Layout(folder / "store"))
    (task,) = Train().pending(Snapshot(site)).tasks
    taken: list[float] = []

    def report(*_: Any) -> None:
        if not taken:
            site.layout.lock.write_bytes(ANOTHER)
            taken.append(time.monotonic())

    with opened(site):
        fitted = fit_folder(site, task.unit, task.payload)
        with pytest.raises(SpecError, match="another run has taken over this store"):
            fit_in_subprocess(site, "photometric", fitted, report)
    assert time.monotonic() - taken[0] < ENDS_WITHIN
    assert fits(folder) == []
    assert not site.layout.model("photometric").exists()
