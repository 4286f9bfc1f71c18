"""What was left out of the catalogue: it stays out, it is recorded, and it is forgotten in time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from world import STAGES, World

from galbatch.errors import SpecError
from galbatch.run.status import status
from galbatch.stages import ingest
from galbatch.stages.state import Snapshot
from galbatch.store.quarantine import quarantine, rejected_counts, rejected_rows
from galbatch.store.verify import verify, withdraw
from galbatch.values import RejectedRow


@pytest.fixture(params=["zcosmos", "lsst_dc2"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """Three files, for a survey with a sky and for one without; c repeats five ids of a."""
    world = World(tmp_path, request.param)
    key = world.survey.id.column
    c = world.frames[2].head(100).copy()
    c.iloc[:5, c.columns.get_loc(key)] = world.frames[0][key].iloc[:5].to_numpy()
    world.frames[2] = c
    for name, frame in zip("abc", world.frames, strict=False):
        world.write(name, frame)
    world.run()
    assert len(world.catalogue()) == 695
    return world


def repeated(world: World) -> list[int]:
    return [
        row.row for row in rejected_rows(world.site.layout, f"repeated.{world.folder}/c.parquet")
    ]


def lose_partitions(world: World) -> None:
    for path in list(world.site.layout.dataset().rglob("*.parquet")):
        path.unlink()


def test_without_its_records_a_lost_catalogue_comes_back_without_duplicates(world: World) -> None:
    shutil.rmtree(world.site.layout.quarantine)
    lose_partitions(world)
    world.run()
    world.expect(*world.frames[:3])
    assert len(world.catalogue()) == 695
    assert repeated(world) == [1, 2, 3, 4, 5]
    assert all(one.units == 0 for one in world.run().records)


def test_records_that_are_lost_are_made_again(world: World) -> None:
    before = world.bytes()
    shutil.rmtree(world.site.layout.quarantine)
    state = status(STAGES, world.site)["stages"][0]
    assert state["reasons"] == {"its rejected rows are not in the quarantine any more": 1}
    world.run()
    assert repeated(world) == [1, 2, 3, 4, 5]
    world.expect(*world.frames[:3])
    if world.survey.sky is not None:
        assert world.bytes() == before
    assert all(one.units == 0 for one in world.run().records)


def test_records_that_were_altered_are_not_believed(world: World) -> None:
    path = world.site.layout.rejected(f"repeated.{world.folder}/c.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    lose_partitions(world)
    world.run()
    world.expect(*world.frames[:3])
    assert len(world.catalogue()) == 695
    assert repeated(world) == [1, 2, 3, 4, 5]


def test_verify_misses_what_is_not_recorded(world: World) -> None:
    assert list(verify(world.site.layout)) == []
    path = world.site.layout.rejected(f"repeated.{world.folder}/c.parquet")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    (damage,) = verify(world.site.layout)
    assert damage.files == (path,)
    withdraw(world.site.layout, damage)
    world.run()
    assert list(verify(world.site.layout)) == []
    assert repeated(world) == [1, 2, 3, 4, 5]
    world.expect(*world.frames[:3])


def test_records_of_a_file_that_is_gone_are_missed_no_more_than_once(world: World) -> None:
    (world.folder / "c.parquet").unlink()
    shutil.rmtree(world.site.layout.quarantine)
    world.run()
    assert Snapshot(world.site).catalogue is not None
    world.expect(*world.frames[:3])
    assert all(one.units == 0 for one in world.run().records)
    world.clock -= 1  # c comes back as it was
    world.write("c", world.frames[2])
    world.run()
    assert repeated(world) == [1, 2, 3, 4, 5]
    world.expect(*world.frames[:3])


@pytest.mark.parametrize("content", [b"", b"<html><body>404</body></html>\n"])
def test_a_new_file_that_is_none_is_set_aside(world: World, content: bytes) -> None:
    path = world.folder / "y.parquet"
    path.write_bytes(content)
    world.write("z", world.frames[3])
    outcome = world.run()
    (failed,) = outcome.quarantined
    assert (failed.file, failed.row, failed.exception) == (f"scan {path}", 0, "DataError")
    assert str(path) in failed.reason
    world.expect(*world.frames)
    path.unlink()
    world.run()
    assert rejected_rows(world.site.layout, f"scan.{path}") == ()
    assert status(STAGES, world.site)["quarantine"] == {
        f"column '{world.survey.id.column}': the id is that of another row": 5
    }


def test_a_new_file_of_another_kind_is_set_aside(world: World) -> None:
    column = world.survey.bands[0].value
    world.write("y", world.frames[3].rename(columns={column: "nobody"}))
    world.write("z", world.frames[3])
    (failed,) = world.run().quarantined
    assert f"column '{column}'" in failed.reason
    world.expect(*world.frames)


def test_a_run_that_dies_when_all_is_published_has_nothing_left_to_merge(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    world.write("z", world.frames[3])
    with monkeypatch.context() as patched:
        patched.setattr(ingest, "_clean", die)
        with pytest.raises(KeyboardInterrupt):
            world.run()
    before = world.bytes()
    assert all(one.units == 0 for one in world.run().records)
    assert world.bytes() == before
    assert world.site.book.all("scan") == {}


def test_a_new_file_without_rows_is_no_mistake(world: World) -> None:
    world.write("z", world.frames[3].head(0))
    assert world.run().quarantined == ()
    world.expect(*world.frames[:3])
    assert all(one.units == 0 for one in world.run().records)
    world.write("c", world.frames[2].head(0))
    world.run()
    world.expect(*world.frames[:2])
    assert rejected_counts(world.site.layout) == {}


def test_the_store_stays_when_its_only_file_breaks(tmp_path: Path) -> None:
    world = World(tmp_path, "zcosmos")
    world.write("a", world.frames[0])
    world.run()
    path = world.folder / "a.parquet"
    path.write_bytes(b"")
    assert [row.file for row in world.run().quarantined] == [f"scan {path}"]
    world.expect(world.frames[0])


def test_no_file_that_can_be_used_stops_the_first_run(tmp_path: Path) -> None:
    world = World(tmp_path, "zcosmos")
    for name in "ab":
        (world.folder / f"{name}.parquet").write_bytes(b"")
    with pytest.raises(SpecError, match="empty"):
        world.run()
    assert not world.site.layout.root.exists()


def test_a_partition_that_is_not_there_any_more_did_not_fail(world: World) -> None:
    failed = RejectedRow("ingest o9-p1", 0, "out of memory", "MemoryError")
    quarantine(world.site.layout, "ingest.o9-p1", (failed,))
    world.run()
    assert rejected_rows(world.site.layout, "ingest.o9-p1") == ()
    assert len(repeated(world)) == 5


def test_what_was_refused_leaves_with_its_file(world: World) -> None:
    bad = world.frames[3].copy()
    sky = world.survey.sky
    if sky is None:
        pytest.skip("no position to be wrong")
    bad[sky.dec] = 95.5
    world.write("z", bad)
    with pytest.raises(SpecError, match=r"row 1: column .*got 95\.5: all of the first 300 rows"):
        world.run()
    (world.folder / "z.parquet").unlink()
    world.run()
    assert sum(rejected_counts(world.site.layout).values()) == 5


def test_rows_are_rejected_with_what_arrived_and_counted_without(tmp_path: Path) -> None:
    world = World(tmp_path, "zcosmos")
    sky = world.survey.sky
    assert sky is not None
    bad = world.frames[0].copy()
    bad.iloc[3:7, bad.columns.get_loc(sky.dec)] = [91.5, -100.0, float("nan"), 1e9]
    world.write("a", bad)
    words = {**world.words["source"], "batch_rows": 5}
    world.run(world.site_of("store", {**world.words, "source": words}))
    reason = f"column '{sky.dec}': expected an angle from -90 to 90 degrees"
    assert rejected_counts(world.site.layout) == {reason: 4}
    rows = rejected_rows(world.site.layout)
    assert [row.row for row in rows] == [4, 5, 6, 7]
    assert [row.reason.removeprefix(reason) for row in rows] == [
        f", got {value}" for value in ("91.5", "-100", "nothing", "1000000000")
    ]
    assert {row.file for row in rows} == {f"{world.folder}/a.parquet"}
    assert len(rejected_rows(world.site.layout, at_most=2)) == 2


def test_a_part_of_an_id_that_cannot_be_one_rejects_its_row(tmp_path: Path) -> None:
    world = World(tmp_path, "jpas")
    name = world.survey.id.parts[0]
    bad = world.frames[0].copy()
    bad[name] = bad[name].astype("int64")
    bad.iloc[2:4, bad.columns.get_loc(name)] = [-1, 2**32]
    world.write("a", bad)
    world.run()
    rows = rejected_rows(world.site.layout)
    assert [(row.row, row.reason.split(", got ")[1]) for row in rows] == [
        (3, "-1"),
        (4, "4294967296"),
    ]
    assert len(world.catalogue()) == len(bad) - 2


def test_two_files_never_share_a_number(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two new files that were scanned, the first goes before they are ingested."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    world.write("d", world.frames[3].head(50))
    world.write("e", world.frames[3].iloc[50:100])
    with monkeypatch.context() as patched:
        patched.setattr(ingest.Ingest, "run", stop)
        with pytest.raises(KeyboardInterrupt):
            world.run()
    (world.folder / "d.parquet").unlink()
    world.write("f", world.frames[3].iloc[100:150])
    numbers = [origin.number for origin in Snapshot(world.site).catalogue_state.files]
    assert len(set(numbers)) == len(numbers)
    world.run()
    world.expect(*world.frames[:3], world.frames[3].iloc[50:150])
    (lost,) = rejected_rows(world.site.layout, f"scan.{world.folder / 'd.parquet'}")
    assert "went away after it was read" in lost.reason
    assert world.catalogue().groupby("_file").size().tolist() == [300, 300, 95, 50, 50]
