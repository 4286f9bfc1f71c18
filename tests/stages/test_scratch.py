"""What a run leaves in folders that are not its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from world import World

from galbatch.errors import SpecError
from galbatch.stages.ingest import Ingest
from galbatch.stages.site import Site
from galbatch.stages.train import Train
from galbatch.store.layout import Layout


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A source of one file, and no store yet."""
    world = World(tmp_path, "zcosmos")
    world.write("a", world.frames[0])
    return world


def with_scratch(world: World, scratch: Path, store: str = "store", file: str = "*") -> Site:
    words = {**world.words["source"], "paths": [f"{world.folder}/{file}.parquet"]}
    site = world.site_of(store, {**world.words, "source": words})
    return replace(site, layout=Layout(site.layout.root, scratch))


def misspelt(world: World) -> None:
    column = world.survey.bands[0].value
    world.write("a", world.frames[0].rename(columns={column: "nobody"}))


def test_a_mistake_leaves_the_users_folders_as_they_were(world: World) -> None:
    scratch, store = world.folder / "scratch", world.folder / "store"
    scratch.mkdir()
    store.mkdir()
    (scratch / "precious.txt").write_text("mine")
    misspelt(world)
    with pytest.raises(SpecError, match="is not in the file"):
        world.run(with_scratch(world, scratch))
    assert [path.name for path in scratch.iterdir()] == ["precious.txt"]
    assert store.is_dir()
    assert list(store.iterdir()) == []


def test_a_mistake_leaves_no_folder_that_was_not_there(world: World) -> None:
    misspelt(world)
    with pytest.raises(SpecError):
        world.run(with_scratch(world, world.folder / "new" / "scratch", "far/away"))
    assert [path.name for path in world.folder.iterdir()] == ["a.parquet"]


def stopped(self: Ingest, *arguments: object) -> None:
    raise KeyboardInterrupt


def test_two_stores_with_the_same_scratch_keep_to_their_own_rows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write("b", world.frames[1])
    scratch = world.folder / "scratch"
    sites = {name: with_scratch(world, scratch, f"st-{name}", name) for name in "ab"}
    with monkeypatch.context() as patched:
        patched.setattr(Ingest, "run", stopped)
        for site in sites.values():
            with pytest.raises(KeyboardInterrupt):
                world.run(site)
    key = world.survey.id.column
    for number, (name, site) in enumerate(sites.items()):
        outcome = world.run(site)
        assert outcome.records[0].units == 0, f"the shards of {name} are there"
        found = world.catalogue(site)[key]
        assert sorted(found) == sorted(world.frames[number][key])


def test_a_shard_that_is_not_what_was_written_is_made_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Ingest, "run", stopped)
        with pytest.raises(KeyboardInterrupt):
            world.run()
    shard = next(world.site.layout.shards.iterdir())
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1  # one bit: the size is the same
    shard.write_bytes(data)
    assert world.run().records[0].units == 1
    world.expect(world.frames[0])


def test_a_shard_that_is_gone_stops_the_run_and_quarantines_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = Ingest.run

    def later(self: Ingest, site: Site, *arguments: Any) -> Any:
        for shard in site.layout.shards.iterdir():
            shard.unlink()
        return ingest(self, site, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Ingest, "run", later)
        with pytest.raises(SpecError, match=r"scan wrote .* rows there, and it is gone"):
            world.run()
    assert not world.site.layout.root.exists()
    world.run()
    world.expect(world.frames[0])


def test_a_models_checkpoints_are_not_those_of_another_whose_name_begins_alike(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from galbatch.stages import train
    from galbatch.stages.base import Task
    from galbatch.store.receipts import Need

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit_in_subprocess", stop)
    need, catalogue = Need("train", "net", {}), "c" * 64
    staging = world.site.layout.staging
    old = staging / f"model-net-{'0' * 12}-{'1' * 12}"
    other = staging / f"model-net-deep-{'0' * 12}-{'1' * 12}"
    for folder in (old, other):
        folder.mkdir(parents=True)
    task = Task("net", None, train.Fit("net", need, catalogue))
    with pytest.raises(KeyboardInterrupt):
        Train().run(world.site, task, lambda *_: None)
    assert not old.exists()
    assert other.exists()
