"""Nothing that is done for a run gets into a store that another run has taken over."""

from __future__ import annotations

import errno
import fcntl
from contextvars import copy_context
from pathlib import Path

import numpy as np
import pytest

from galbatch.errors import TransientError
from galbatch.store import fence
from galbatch.store.arrays import ArraySpec, ArrayWriter, GroupSpec, allocate
from galbatch.store.commit import commit_bytes, commit_folder
from galbatch.store.fence import Attempt, Fenced, Holder, read_holder
from galbatch.store.identity import Identity, examine, hold
from galbatch.store.layout import Layout
from galbatch.store.receipts import Need, ReceiptBook

ME = Identity("mine", "toy", {"kind": "files"})
ANOTHER = Holder("another", 7, "elsewhere")
TAKEN = r"another run has taken over this store \(process 7 on elsewhere\)"


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_outside_of_a_run_everything_may_be_written(tmp_path: Path) -> None:
    assert fence.attempt() is None
    fence.check()
    commit_bytes(tmp_path / "a", b"x")


def test_who_holds_a_store_may_write_until_another_takes_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "store")
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    (prepared / "card.json").write_bytes(b"{}")
    book, need = ReceiptBook(layout), Need("predict", "o3-p7", {})
    receipt = need.receipt(digest="", rows=1, outputs={}, seconds=0.0)
    with hold(layout, ME):
        commit_bytes(layout.sources, b"mine")
        layout.lock.write_bytes(ANOTHER.to_bytes())
        before = files(tmp_path)
        with pytest.raises(Fenced, match=TAKEN):
            commit_bytes(layout.sources, b"stale")
        with pytest.raises(Fenced, match=TAKEN):
            commit_folder(prepared, layout.model("photometric"))
        with pytest.raises(Fenced, match=TAKEN):
            book.put(receipt)
        assert not fence.holds()
        assert files(tmp_path) == before
    # What another holds is not given back for it.
    assert read_holder(layout.lock) == ANOTHER


def test_what_a_run_has_left_running_writes_no_more_when_it_is_over(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "store")
    with hold(layout, ME):
        old = fence.attempt()
    with fence.working_for(old), pytest.raises(Fenced, match="holds the store no longer"):
        commit_bytes(layout.sources, b"stale")
    with pytest.raises(KeyboardInterrupt), hold(layout, ME):
        stopped = fence.attempt()
        raise KeyboardInterrupt
    with fence.working_for(stopped), pytest.raises(Fenced, match="holds the store no longer"):
        commit_bytes(layout.sources, b"stale")
    with hold(layout, ME):
        ours = fence.attempt()
        with fence.working_for(old), pytest.raises(Fenced, match="another run has taken over"):
            commit_bytes(layout.sources, b"stale")
        assert fence.attempt() == ours != old
        commit_bytes(layout.sources, b"ours")
    assert layout.sources.read_bytes() == b"ours"


def test_who_verifies_a_store_keeps_out_what_a_killed_run_left_as_well(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "store")
    with hold(layout, ME):
        old = fence.attempt()
    with examine(layout), fence.working_for(old), pytest.raises(Fenced):
        commit_bytes(layout.sources, b"stale")


def test_shards_of_another_run_are_neither_removed_nor_written(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "store")
    spec = GroupSpec((ArraySpec("pz", (3,), ("z",), chunk_rows=4),), shard_rows=4)
    ids, values = np.arange(4), np.ones((4, 3), np.float32)
    with hold(layout, ME):
        old = fence.attempt()
        (span,) = allocate(layout, "net", spec, {"o3-p7": 4}).values()
        stale = ArrayWriter(layout, "net", spec, span)
    with hold(layout, ME):
        with ArrayWriter(layout, "net", spec, span) as writer:
            writer.write(ids, {"pz": values})
            writer.commit()
        before = files(layout.arrays("net"))
        with fence.working_for(old):
            with pytest.raises(Fenced), stale:
                stale.write(ids, {"pz": 2 * values})
            with pytest.raises(Fenced):
                ArrayWriter(layout, "net", spec, span)
            with pytest.raises(Fenced):
                allocate(layout, "net", spec, {"o3-p7": 8})
        assert files(layout.arrays("net")) == before


def test_on_a_disk_without_locks_the_second_run_ends_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    layout = Layout(tmp_path)
    first, its = hold(layout, ME), copy_context()
    its.run(first.__enter__)
    with hold(layout, ME):
        commit_bytes(layout.sources, b"second")
        with pytest.raises(Fenced):
            its.run(commit_bytes, layout.sources, b"stale")
    assert "a second one takes the store over, and the first one stops" in caplog.text
    with hold(layout, ME):
        third = layout.lock.read_bytes()
        its.run(first.__exit__, None, None, None)
        assert layout.lock.read_bytes() == third


def test_a_lock_that_cannot_be_read_is_looked_at_again(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(TransientError, match="cannot be read"):
        Attempt(tmp_path / "lock", "x").check()


@pytest.mark.parametrize("page", [b"process 7 on elsewhere\n", b"[1]", b"{}", b"\xff", b"null"])
def test_the_lock_of_an_earlier_galbatch_is_of_another_run(tmp_path: Path, page: bytes) -> None:
    (tmp_path / "lock").write_bytes(page)
    assert read_holder(tmp_path / "lock") == Holder("", 0, "")
    with pytest.raises(Fenced):
        Attempt(tmp_path / "lock", "x").check()
