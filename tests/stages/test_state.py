"""The snapshot of a store: read once, and the same for as long as it lives."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from small import partitions
from world import site_of

from galbatch.plan import plan
from galbatch.run.status import status
from galbatch.stages.predict import Predict
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.receipts import ReceiptBook


@pytest.fixture
def site(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A finished store that may be changed."""
    monkeypatch.chdir(copy)
    return site_of(copy)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each receipt is read."""
    counts: Counter[str] = Counter()
    read = ReceiptBook.read

    def counted(book: ReceiptBook, path: Path) -> Any:
        counts[f"{path.parent.name}/{path.name}"] += 1
        return read(book, path)

    monkeypatch.setattr(ReceiptBook, "read", counted)
    return counts


def test_status_reads_each_receipt_once(site: Site, reads: Counter[str]) -> None:
    state = status(plan(site.job, site.survey), site)
    assert state["left"] == []
    paths = site.layout.receipts.rglob("*.json")
    there = {f"{path.parent.name}/{path.name}" for path in paths} - {"store/identity.json"}
    assert len(there) > 10
    # What a stage asks for by name may not be there; what is there is read, and once.
    assert there <= reads.keys()
    assert set(reads.values()) == {1}, reads.most_common(3)


def test_status_reads_each_receipt_once_while_work_is_left(site: Site, reads: Counter[str]) -> None:
    for path in partitions(site.layout.root.parent, "predictions/photometric")[:2]:
        path.unlink()
    shutil.rmtree(site.layout.report)
    state = status(plan(site.job, site.survey), site)
    assert [row["left"] for row in state["stages"] if row["stage"] == "predict"] == [2]
    assert set(reads.values()) == {1}, reads.most_common(3)


def test_a_snapshot_stays_as_it_is(site: Site) -> None:
    before = Snapshot(site)
    receipts, catalogue = before.receipts.all("predict"), before.catalogue
    assert catalogue is not None
    published = before.receipts.get("train", "photometric")
    site.book.forget("predict", "photometric")
    site.book.forget("train", "photometric")
    site.layout.partition(catalogue.partitions[0]).unlink()
    assert before.receipts.all("predict") is receipts and "photometric" in receipts
    assert before.receipts.get("train", "photometric") is published is not None
    assert before.catalogue is catalogue
    after = Snapshot(site)
    assert "photometric" not in after.receipts.all("predict")
    assert after.receipts.get("train", "photometric") is None
    assert after.catalogue is None


def test_what_was_not_there_stays_away(site: Site) -> None:
    receipt = site.book.get("report", "page")
    assert receipt is not None
    site.book.forget("report", "page")
    before = Snapshot(site)
    assert before.receipts.get("report", "page") is None
    site.book.put(receipt)
    assert before.receipts.get("report", "page") is None
    assert before.receipts.all("report") == {}
    assert Snapshot(site).receipts.get("report", "page") is not None


def test_nobody_can_change_a_snapshot(site: Site) -> None:
    snapshot = Snapshot(site)
    with pytest.raises(TypeError):
        snapshot.receipts.all("predict")["x"] = None  # type: ignore[index]
    with pytest.raises(AttributeError):
        snapshot.site = site  # type: ignore[misc]


def test_stages_that_are_asked_twice_read_nothing_more(site: Site, reads: Counter[str]) -> None:
    snapshot = Snapshot(site)
    first = Predict().pending(snapshot)
    counts = dict(reads)
    assert Predict().pending(snapshot) == first
    assert dict(reads) == counts
