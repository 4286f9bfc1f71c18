"""Files that change while a run reads them: read again, or set aside, and never left out unsaid."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest
from world import STAGES, Silent, World

from galbatch.cluster import connect as cluster_of
from galbatch.errors import DataError, TransientError
from galbatch.readers.stamps import stamp
from galbatch.run.loop import Outcome, run
from galbatch.run.status import status
from galbatch.run.store import opened
from galbatch.spec.cluster import SchedulerCluster
from galbatch.stages import scan
from galbatch.stages.site import Site
from galbatch.store.quarantine import rejected_rows
from galbatch.store.receipts import ReceiptBook
from galbatch.values import Receipt

TOO_OFTEN = "changed while it was read, 3 times (run again when it is complete)"


class Heard(Silent):
    """Remembers what was tried again."""

    def __init__(self) -> None:
        self.again: list[str] = []

    def retry(self, *words: Any) -> None:
        self.again.append(str(words[0].error))


@contextmanager
def alone(site: Site) -> Iterator[None]:
    """This process."""
    yield None


@contextmanager
def on_dask(site: Site) -> Iterator[Any]:
    """Workers that are threads of this process, so that they see what a test has changed."""
    from distributed import LocalCluster

    with LocalCluster(
        1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address="127.0.0.1:0"
    ) as cluster:
        spec = SchedulerCluster(kind="scheduler", address=cluster.scheduler_address)
        with cluster_of(spec, site.layout.work, site.layout.logs, site.layout.shared) as workers:
            yield workers


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two files of a survey without a sky, not read yet."""
    world = World(tmp_path, "lsst_dc2", rows=240)
    world.write("a", world.frames[0])
    world.write("b", world.frames[1])
    return world


def carried_out(
    world: World, connect: Callable[[Site], Any] = alone, site: Site | None = None
) -> tuple[Outcome, list[str]]:
    site, heard = site or world.site, Heard()
    with opened(site):
        return run(STAGES, site, lambda: connect(site), heard), heard.again


def when_read(
    monkeypatch: pytest.MonkeyPatch, file: str, change: Callable[[], None], times: int = 10**9
) -> list[str]:
    """Do something each time that rows of a file have been read; which were read is returned."""
    read: list[str] = []
    taken = scan.catalogue_rows

    def spied(survey: Any, batch: Any, units: Any, unit: str) -> Any:
        read.append(Path(unit).stem)
        if Path(unit).stem == file and read.count(file) <= times:
            change()
        return taken(survey, batch, units, unit)

    monkeypatch.setattr(scan, "catalogue_rows", spied)
    return read


@pytest.mark.parametrize("connect", [alone, on_dask])
@pytest.mark.parametrize("rows", [60, 90], ids=["touched", "more rows"])
def test_a_file_that_changes_while_it_is_read_is_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch, connect: Callable[[Site], Any], rows: int
) -> None:
    longer = pd.concat([world.frames[0], world.frames[2]]).head(rows)
    read = when_read(monkeypatch, "a", lambda: world.write("a", longer), times=1)
    outcome, again = carried_out(world, connect)
    assert sorted(read) == ["a", "a", "b"]
    assert again == [
        f"{world.folder}/a.parquet: changed while it was read (run again when it is complete)"
    ]
    assert (outcome.quarantined, outcome.left) == ((), ())
    world.expect(longer, world.frames[1])
    assert all(one.units == 0 for one in world.run().records)


@pytest.mark.parametrize("connect", [alone, on_dask])
def test_a_file_that_grows_for_ever_is_set_aside_and_the_others_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch, connect: Callable[[Site], Any]
) -> None:
    longer = world.frames[0]

    def grow() -> None:
        nonlocal longer
        longer = pd.concat([longer, world.frames[2].iloc[len(longer) - 60 :].head(1)])
        world.write("a", longer)

    with monkeypatch.context() as patched:
        read = when_read(patched, "a", grow)
        outcome, _ = carried_out(world, connect)
    assert read.count("a") == 3
    path = world.folder / "a.parquet"
    (failed,) = outcome.quarantined
    assert (failed.file, failed.reason) == (f"scan {path}", f"{path}: {TOO_OFTEN}")
    assert outcome.left == (f"scan: 1 file left: {path}: {TOO_OFTEN}",)
    world.expect(world.frames[1])

    outcome, _ = carried_out(world)
    assert len(longer) == 63
    world.expect(longer, world.frames[1])
    assert outcome.left == () and rejected_rows(world.site.layout) == ()


def test_where_no_file_holds_still_the_run_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.folder / "b.parquet").unlink()
    when_read(monkeypatch, "a", lambda: world.write("a", world.frames[0]))
    with pytest.raises(TransientError, match=r"a\.parquet: changed while it was read, 3 times"):
        carried_out(world)


def test_what_was_in_the_store_stays_when_no_file_holds_still(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run()
    world.write("a", world.frames[2])
    when_read(monkeypatch, "a", lambda: world.write("a", world.frames[2]))
    outcome, _ = carried_out(world)
    assert len(outcome.left) == 1
    world.expect(*world.frames[:2])


def test_a_change_after_the_work_was_planned_is_in_what_is_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = scan.Scan.begin

    def late(stage: Any, site: Site, pending: Any) -> Any:
        if pending.tasks[0].unit.endswith("a.parquet"):
            world.write("a", world.frames[2])
        return begin(stage, site, pending)

    monkeypatch.setattr(scan.Scan, "begin", late)
    receipts: list[Receipt] = []
    put = ReceiptBook.put

    def remember(book: ReceiptBook, receipt: Receipt) -> None:
        receipts.append(receipt)
        put(book, receipt)

    monkeypatch.setattr(ReceiptBook, "put", remember)
    outcome, again = carried_out(world)
    (one,) = [receipt for receipt in receipts if receipt.unit.endswith("a.parquet")]
    assert (one.depends["bytes"], one.depends["modified"]) == stamp(one.unit)
    assert (again, outcome.left) == ([], ())
    world.expect(world.frames[2], world.frames[1])


def test_a_file_that_changes_when_it_has_been_read_is_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = when_read(monkeypatch, "b", lambda: world.write("a", world.frames[2]), times=1)
    outcome, again = carried_out(world)
    assert read == ["a", "b", "a"]
    assert len(again) == 1
    assert outcome.records[0].units == 2
    assert outcome.left == ()
    world.expect(world.frames[2], world.frames[1])


def test_one_that_always_changes_when_it_has_been_read_is_set_aside(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = ReceiptBook.put

    def then_touch(book: ReceiptBook, receipt: Receipt) -> None:
        put(book, receipt)
        if receipt.stage == "scan" and receipt.unit.endswith("a.parquet"):
            world.write("a", world.frames[0])

    monkeypatch.setattr(ReceiptBook, "put", then_touch)
    outcome, again = carried_out(world)
    assert len(again) == 2
    assert [one.reason for one in outcome.quarantined] == [f"{world.folder}/a.parquet: {TOO_OFTEN}"]
    assert (outcome.records[0].units, outcome.records[0].failed) == (1, 1)
    assert len(outcome.left) == 1
    world.expect(world.frames[1])


def test_a_file_that_came_while_others_were_read_is_read_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    when_read(monkeypatch, "b", lambda: world.write("c", world.frames[2]))
    outcome, again = carried_out(world)
    assert (again, outcome.left) == ([], ())
    world.expect(*world.frames[:3])


def test_damage_that_a_file_had_while_it_was_written_is_no_damage(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = scan.open_reader

    def half_written(format: Any, path: str) -> Any:
        monkeypatch.setattr(scan, "open_reader", reader)
        world.write("a", world.frames[2])
        raise DataError(path, "is cut short")

    monkeypatch.setattr(scan, "open_reader", half_written)
    outcome, again = carried_out(world)
    assert len(again) == 1 and "changed while it was read" in again[0]
    assert outcome.left == ()
    world.expect(world.frames[2], world.frames[1])


def test_a_file_that_goes_before_it_is_read_is_set_aside(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = world.folder / "b.parquet"
    when_read(monkeypatch, "a", lambda: path.unlink(missing_ok=True))
    outcome, _ = carried_out(world)
    assert [one.reason for one in outcome.quarantined] == [f"{path}: is not there any more"]
    world.expect(world.frames[0])


def test_a_file_that_goes_when_it_was_read_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = world.folder / "a.parquet"
    when_read(monkeypatch, "b", lambda: path.unlink(missing_ok=True))
    outcome, _ = carried_out(world)
    assert outcome.left == ()
    world.expect(world.frames[1])
    (lost,) = rejected_rows(world.site.layout)
    assert (lost.file, lost.row) == (f"scan {path}", 0)
    assert "went away after it was read" in lost.reason
    assert not carried_out(world)[0].worked
    assert rejected_rows(world.site.layout) == ()


def test_a_file_that_changes_when_all_is_read_is_what_is_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = ReceiptBook.put

    def then_change(book: ReceiptBook, receipt: Receipt) -> None:
        put(book, receipt)
        if receipt.stage == "ingest":
            world.write("a", world.frames[2])

    monkeypatch.setattr(ReceiptBook, "put", then_change)
    outcome, _ = carried_out(world)
    left = (f"scan: 1 file left: {world.folder}/a.parquet: the file changed",)
    assert outcome.left == left
    assert tuple(status(STAGES, world.site)["left"]) == left
    world.expect(*world.frames[:2])
    monkeypatch.undo()
    outcome, _ = carried_out(world)
    assert outcome.left == ()
    world.expect(world.frames[2], world.frames[1])


def test_a_run_with_nothing_to_do_asks_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run()
    asked: list[str] = []
    pending = scan.Scan.pending

    def counted(stage: Any, site: Site) -> Any:
        asked.append(stage.name)
        return pending(stage, site)

    monkeypatch.setattr(scan.Scan, "pending", counted)
    outcome, _ = carried_out(world)
    assert (len(asked), outcome.left) == (1, ())


@pytest.mark.parametrize("times", [1, 10**9])
def test_an_object_that_changes_while_it_is_read(
    world: World, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    system = fsspec.filesystem("memory")
    content = {name: (world.folder / f"{name}.parquet").read_bytes() for name in "ab"}

    def put(name: str) -> None:
        system.pipe_file(f"/changing/{name}.parquet", content[name])

    for name in content:
        put(name)
    words = {**world.words, "source": {"kind": "files", "paths": ["memory:///changing/*.parquet"]}}
    site = world.site_of("store", words)
    read = when_read(monkeypatch, "a", lambda: put("a"), times)
    try:
        outcome, _ = carried_out(world, site=site)
    finally:
        system.rm("/changing", recursive=True)
    if times == 1:
        assert (read.count("a"), outcome.left) == (2, ())
    else:
        assert outcome.left == (f"scan: 1 file left: memory:///changing/a.parquet: {TOO_OFTEN}",)


@pytest.mark.parametrize("protocol", ["", "file://"])
def test_a_stamp_tells_a_change_of_size_and_of_time(tmp_path: Path, protocol: str) -> None:
    path = tmp_path / "a.csv"
    stamps = []
    for text, seconds in (("id\n1\n", 1), ("id\n2\n", 2), ("id\n2\n3\n", 2)):
        path.write_text(text)
        os.utime(path, (seconds, seconds))
        stamps.append(stamp(f"{protocol}{path}"))
    assert len(set(stamps)) == 3
    assert stamp(f"{protocol}{path}") == stamps[-1]
