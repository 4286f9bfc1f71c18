"""News in the source are merged into what is there: the catalogue is always that of its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from world import STAGES, World

from galbatch.errors import SpecError
from galbatch.run.status import status
from galbatch.stages.ingest import Ingest
from galbatch.stages.state import Snapshot
from galbatch.store.layout import Layout
from galbatch.store.quarantine import rejected_rows


@pytest.fixture(params=["zcosmos", "lsst_dc2"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """A survey with a sky and one without."""
    world = World(tmp_path, request.param)
    world.write("a", world.frames[0])
    world.write("b", world.frames[1])
    world.run()
    return world


def test_a_new_file_is_read_alone(world: World) -> None:
    before = {path: path.stat().st_mtime_ns for path in world.site.layout.dataset().rglob("*.p*")}
    world.write("c", world.frames[2].head(5))
    outcome = world.run()
    assert [(one.stage, one.units, one.rows > 0) for one in outcome.records] == [
        ("scan", 1, True),
        ("ingest", outcome.records[1].units, True),
    ]
    world.expect(*world.frames[:2], world.frames[2].head(5))
    untouched = [path for path, when in before.items() if path.exists()
                 and path.stat().st_mtime_ns == when]  # fmt: skip
    assert len(untouched) >= len(before) - 5
    assert world.run().records[1].units == 0


def test_a_changed_file_replaces_its_own_rows(world: World) -> None:
    changed = world.frames[0].iloc[10:250].copy()
    column = world.survey.bands[0].value
    changed[column] = changed[column] + 1
    world.write("a", changed)
    state = Snapshot(world.site).catalogue_state
    assert [state.why(origin) for origin in state.changed] == ["the file changed"]
    world.run()
    world.expect(changed, world.frames[1])
    found = world.catalogue()
    assert found.groupby("_file").size().tolist() == [240, 300]


def test_a_touched_file_leaves_the_same_bytes(world: World) -> None:
    before = world.bytes()
    world.write("a", world.frames[0])
    assert world.run().records[0].units == 1
    if world.survey.sky is not None:
        assert world.bytes() == before
    world.expect(*world.frames[:2])


def test_a_file_that_is_gone_stays_in_the_catalogue(world: World) -> None:
    (world.folder / "a.parquet").unlink()
    assert all(one.units == 0 for one in world.run().records)
    world.expect(*world.frames[:2])


def test_a_file_that_the_job_no_longer_names_is_refused(world: World) -> None:
    words = {**world.words, "source": {"kind": "files", "paths": [f"{world.folder}/b.parquet"]}}
    with pytest.raises(SpecError, match=r"holds rows of .*a\.parquet.* no longer names"):
        world.run(world.site_of("store", words))


def test_a_store_is_not_its_own_source(world: World) -> None:
    source = {"kind": "files", "paths": _rows(world)}
    with pytest.raises(SpecError, match="is in the store itself"):
        world.run(world.site_of("store", {**world.words, "source": source}))


def _rows(world: World) -> list[str]:
    return [str(path) for path in sorted(world.site.layout.dataset().rglob("*.parquet"))]


def test_what_must_be_cut_anew_needs_all_its_files(world: World) -> None:
    site = world.site_of("store", {**world.words, "partition": {"rows": 90, "max_order": 10}})
    world.run(site)
    assert len(world.catalogue(site)) == 600
    (world.folder / "a.parquet").unlink()
    with pytest.raises(SpecError, match=r"must be made again.* but .*a\.parquet is gone"):
        world.run()


def test_a_lost_partition_is_made_anew_from_its_own_sources(world: World) -> None:
    world.write("c", world.frames[2])
    world.run()
    before = world.bytes()
    found = Snapshot(world.site).catalogue
    assert found is not None
    first, second = (world.site.layout.partition(one) for one in found.partitions[:2])
    first.unlink()
    second.write_bytes(second.read_bytes()[:-100])
    state = status(STAGES, world.site)
    assert "is gone" in str(state["stages"][0]["reasons"])
    outcome = world.run()
    assert outcome.records[1].units == 2
    assert world.bytes() == before


def test_an_edited_receipt_is_mended_from_the_file(world: World) -> None:
    before = world.bytes()
    found = Snapshot(world.site).catalogue
    assert found is not None
    path = world.site.layout.receipt("ingest", found.partitions[0].name)
    path.write_text(path.read_text().replace('"rows"', '"raws"', 1))
    outcome = world.run()
    assert [one.units for one in outcome.records] == [0, 1]
    assert world.bytes() == before
    assert all(one.units == 0 for one in world.run().records)


def test_ids_that_are_there_already_are_left_out_and_come_back(world: World) -> None:
    """A row of c repeats one of a; when a gives it up, c is read again."""
    column = world.survey.id.column
    c = world.frames[2].head(100).copy()
    c.loc[c.index[3], column] = world.frames[0][column].iloc[5]
    if world.survey.id.parts:
        pytest.skip("the id is made of two columns")
    world.write("c", c)
    world.run()
    world.expect(*world.frames[:2], c)
    (row,) = rejected_rows(world.site.layout, f"repeated.{world.folder}/c.parquet")
    assert row.row == 4
    a = world.frames[0].drop(index=world.frames[0].index[5])
    world.write("a", a)
    world.run()
    world.expect(a, world.frames[1], c)
    assert rejected_rows(world.site.layout) == ()


def test_a_column_that_grows_wider_is_so_everywhere(world: World) -> None:
    column = world.survey.bands[0].value
    wide = world.frames[2].astype({column: "float64"})
    world.write("c", wide)
    world.run()
    world.expect(*world.frames[:2], wide)


def crash(after: int) -> Callable[..., Any]:
    """Do so many tasks of the ingest, then die: before the receipt of the last."""

    class Crash(Exception):
        pass

    done = 0

    def wrapper(self: Ingest, *arguments: Any) -> Any:
        nonlocal done
        done += 1
        receipts = _run(self, *arguments)
        if done == after:
            site = arguments[0]
            site.book.forget("ingest", receipts[0].unit)
            raise KeyboardInterrupt
        return receipts

    return wrapper


_run = Ingest.run


@pytest.mark.parametrize("after", [1, 2, 4])
def test_killed_while_news_are_merged_it_ends_the_same(
    world: World, after: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    changed = world.frames[0].sample(frac=0.8, random_state=1).reset_index(drop=True)
    more = pd.concat([world.frames[2], world.frames[3]])

    def news(world: World) -> None:
        world.write("a", changed)
        world.write("c", more)

    news(world)
    with monkeypatch.context() as patched:
        patched.setattr(Ingest, "run", crash(after))
        with pytest.raises(KeyboardInterrupt):
            world.run()
    assert Snapshot(world.site).catalogue is None
    world.run()
    world.expect(changed, world.frames[1], more)

    other = World.__new__(World)
    other.__dict__.update(world.__dict__)
    other.folder = tmp_path / "uninterrupted"
    other.folder.mkdir()
    words = {**world.words, "source": {**world.words["source"],
             "paths": [f"{other.folder}/*.parquet"]}}  # fmt: skip
    other.site = replace(world.site_of("x", words), layout=Layout(other.folder / "store"))
    other.write("a", world.frames[0])
    other.write("b", world.frames[1])
    other.run()
    news(other)
    other.run()
    assert other.bytes() == world.bytes()


def test_a_file_that_cannot_be_read_does_not_hold_up_the_rest(world: World) -> None:
    world.write("c", world.frames[2])
    path = world.folder / "c.parquet"
    path.write_bytes(path.read_bytes()[:2000])
    world.write("d", world.frames[3])
    outcome = world.run()
    assert [row.file for row in outcome.quarantined] == [f"scan {path}"]
    world.expect(*world.frames[:2], world.frames[3])
    world.write("c", world.frames[2])
    assert world.run().quarantined == ()
    world.expect(*world.frames)
