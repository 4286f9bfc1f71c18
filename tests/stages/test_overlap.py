"""A store is never its own source, by whatever way it is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small import job_words
from world import World

from galbatch.errors import SpecError
from galbatch.spec import load_survey
from galbatch.spec.job import Job
from galbatch.stages.catalogue import CatalogueState
from galbatch.stages.checks import check_sources
from galbatch.stages.overlap import other_stores
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.layout import Layout
from galbatch.store.locations import location

SURVEY = load_survey("zcosmos")
ITSELF = "in the store itself"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`src` with a file, a link to it, and a folder beside."""
    (tmp_path / "src").mkdir()
    (tmp_path / "beside").mkdir()
    (tmp_path / "link").symlink_to("src")
    (tmp_path / "src" / "a.parquet").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def site(paths: str, store: str, **changes: Any) -> Site:
    words = job_words(
        survey="zcosmos",
        source={"kind": "files", "paths": [paths]},
        store=store,
        models=[{"kind": "photometric"}],
        split=None,
        **{"sinks": [], **changes},
    )
    job = Job.model_validate(words)
    scratch = Path(job.scratch).expanduser().absolute() if job.scratch else None
    return Site(job, SURVEY, Layout(location(job.store), scratch))


def state(site: Site) -> CatalogueState:
    return Snapshot(site).catalogue_state


@pytest.fixture
def world(folder: Path) -> World:
    world = World(folder, "zcosmos", 200)
    world.write("src/a", world.frames[0])
    return world


@pytest.mark.parametrize(
    ("paths", "store"),
    [
        ("src/**/*.parquet", "src/store"),
        ("./src/**/*.parquet", "src/store"),
        ("beside/../src/**/*.parquet", "src/store"),
        ("src/**/*.parquet", "beside/../src/store"),
        ("{}/src/**/*.parquet", "src/store"),
        ("src/**/*.parquet", "{}/src/store"),
        ("link/**/*.parquet", "src/store"),
        ("src/**/*.parquet", "link/store"),
        ("~/src/**/*.parquet", "src/store"),
        ("src/**/*.parquet", "~/src/store"),
        ("*/**/*.parquet", "src/deep/store"),
        ("src/**/*.fits", "src/store"),
        ("src/**", "src/store"),
    ],
)
def test_from_the_first_run_on(folder: Path, paths: str, store: str) -> None:
    (folder / "src" / "a.fits").touch()
    refused = site(paths.format(folder), store.format(folder))
    with pytest.raises(SpecError, match=rf"source\.paths: .*{ITSELF}.*a pattern that leaves it"):
        state(refused)
    with pytest.raises(SpecError, match=ITSELF):
        list(check_sources(refused.job, SURVEY))


def test_a_pattern_that_leaves_it_out(world: World, folder: Path) -> None:
    fine = site("src/*.parquet", "src/store")
    world.run(fine)
    assert Snapshot(fine).catalogue_state.base is not None
    world.run(fine)
    for paths in ("src/**/*.parquet", "link/store/*/*/*/*/*.parquet", "link/store"):
        with pytest.raises(SpecError, match=ITSELF):
            state(site(paths, "src/store"))
    # One link to one file.
    (folder / "src" / "b.parquet").symlink_to(next((folder / "src/store").rglob("Npix*")))
    with pytest.raises(SpecError, match=rf"src/b\.parquet is {ITSELF}"):
        state(fine)


@pytest.mark.usefixtures("folder")
def test_scratch_and_databases_are_no_sources_either() -> None:
    scratched = site("src/**/*.arrow", "beside/store", scratch="src")
    (Path("src") / "a.arrow").touch()
    with pytest.raises(SpecError, match=r"takes .*\.arrow, which the run writes"):
        state(scratched)
    # What others have in that folder is theirs.
    assert Snapshot(site("src/*.parquet", "beside/store", scratch="src")).catalogue_state.changed
    both = site("src/*", "beside/store", sinks=[{"kind": "duckdb", "path": "link/x.duckdb"}])
    with pytest.raises(SpecError, match=r"takes .*x\.duckdb, which the run writes"):
        state(both)
    (Path("src") / "x.duckdb").touch()
    with pytest.raises(SpecError, match=r"src/x\.duckdb is the database that 'sinks' names"):
        state(both)


def test_another_store_is_a_source_and_that_is_said(world: World) -> None:
    world.run(site("src/*.parquet", "src/store"))
    other = site("src/store", "beside/store")
    world.run(other)
    files = [origin.unit for origin in Snapshot(other).catalogue_state.files]
    (line,) = other_stores([*files, "src/a.parquet"])
    assert "in the store of job 'small', " in line and line.endswith("/src/store")
