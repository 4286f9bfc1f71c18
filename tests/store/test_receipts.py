"""The records that make a run resumable."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galbatch.store.commit import commit_bytes
from galbatch.store.layout import Layout
from galbatch.store.receipts import Need, ReceiptBook, json_digest
from galbatch.values import Receipt

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@pytest.fixture
def book(tmp_path: Path) -> ReceiptBook:
    return ReceiptBook(Layout(tmp_path))


DEPENDS = {"code": 2, "model": {"epochs": 40, "bands": ["r", "i"]}, "rows": "a" * 64}


def need(unit: str = "o3-p7", **changes: object) -> Need:
    return Need("predict", unit, DEPENDS | changes)


def receipt(root: Path, unit: str = "o3-p7", text: bytes = b"data") -> Receipt:
    digest = commit_bytes(root / "out" / "a", text)
    facts = {"z": [1.5, None], "n": "ä"}
    return need(unit).receipt(
        digest=digest, rows=5, outputs={"out/a": digest}, seconds=0.5, facts=facts
    )


def test_a_receipt_comes_back(tmp_path: Path, book: ReceiptBook) -> None:
    book.put(receipt(tmp_path))
    record = replace(receipt(tmp_path), sizes=(4,))
    assert book.get("predict", "o3-p7") == record
    assert book.all("predict") == {"o3-p7": record}
    assert book.valid(need()) == record
    assert book.damage(record, deep=True) == ""
    assert book.get("predict", "other") is None
    assert book.all("train") == {}
    book.forget("predict", "o3-p7")
    book.forget("predict", "o3-p7")
    assert book.get("predict", "o3-p7") is None


def test_another_need_or_a_lost_output_is_not_valid(tmp_path: Path, book: ReceiptBook) -> None:
    book.put(receipt(tmp_path))
    assert book.valid(need(code=3)) is None
    record = book.valid(need())
    assert record is not None
    (tmp_path / "out" / "a").write_bytes(b"DATA")
    assert book.valid(need()) is not None
    assert "another SHA-256" in book.damage(record, deep=True)
    (tmp_path / "out" / "a").write_bytes(b"")
    assert book.valid(need()) is None
    (tmp_path / "out" / "a").unlink()
    assert book.valid(need()) is None


def test_why_a_unit_must_be_done_again(tmp_path: Path, book: ReceiptBook) -> None:
    assert book.why(None, need()) == ""
    book.put(receipt(tmp_path))
    record = book.get("predict", "o3-p7")
    assert book.why(record, need()) == ""
    assert book.why(record, need(code=3)) == "code: 2 -> 3"
    other = {"epochs": 12, "bands": ["r", "i", "z"]}
    assert book.why(record, need(model=other)) == (
        'model.bands.2: none -> "z"; model.epochs: 40 -> 12'
    )
    assert book.why(record, need(rows="b" * 64)) == "rows: aaaaaaaa -> bbbbbbbb"
    (tmp_path / "out" / "a").write_bytes(b"DAT")
    assert book.why(record, need()) == "out/a has 3 bytes, 4 were written"
    (tmp_path / "out" / "a").unlink()
    assert book.why(record, need()) == "out/a is gone"
    Layout(tmp_path).receipt("predict", "o3-p7").write_text("{}", encoding="utf-8")
    assert book.why(book.get("predict", "o3-p7"), need()) == "its receipt was edited or damaged"


@pytest.mark.parametrize(
    ("old", "new"),
    [('"rows": 5', '"rows": 6'), ('"version": 2', '"version": 1'), ("{", ""), ('"key"', '"kex"')],
)
def test_an_edited_receipt_is_noticed(
    tmp_path: Path, book: ReceiptBook, old: str, new: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    book.put(receipt(tmp_path))
    path = Layout(tmp_path).receipt("predict", "o3-p7")
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert book.get("predict", "o3-p7") is None
    assert book.all("predict") == {}
    assert "done again" in caplog.text


def test_receipts_are_for_people_too(tmp_path: Path, book: ReceiptBook) -> None:
    book.put(receipt(tmp_path))
    text = Layout(tmp_path).receipt("predict", "o3-p7").read_text(encoding="utf-8")
    assert '"unit": "o3-p7"' in text
    assert "ä" in text
    assert json.loads(text)["receipt"]["rows"] == 5


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=5, unique=True))
def test_any_unit_can_be_recorded(
    tmp_path_factory: pytest.TempPathFactory, units: list[str]
) -> None:
    root = tmp_path_factory.mktemp("units")
    units = [unit.encode("utf-8", "replace").decode() for unit in dict.fromkeys(units)]
    book = ReceiptBook(Layout(root))
    for unit in units:
        book.put(Receipt("scan", unit, "k", "", 0, (), 0.0))
    assert set(book.all("scan")) == set(units)
    assert all(book.get("scan", unit).unit == unit for unit in units)  # type: ignore[union-attr]


@given(json_values, json_values)
def test_keys_differ_as_what_they_stand_for_does(first: object, second: object) -> None:
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (need(model=first).key == need(model=second).key) == same


def test_every_part_of_a_key_counts() -> None:
    needs = [need(), need("o3-p8"), need(code=3), need(more=None), Need("append", "o3-p7", DEPENDS)]
    assert len({one.key for one in needs}) == len(needs)
    assert need().key == Need("predict", "o3-p7", dict(reversed(DEPENDS.items()))).key


def test_receipts_are_listed_quickly(tmp_path: Path, book: ReceiptBook) -> None:
    layout, record = Layout(tmp_path), replace(receipt(tmp_path, "first"), sizes=(4,))
    book.put(record)
    text = layout.receipt("predict", "first").read_text(encoding="utf-8")
    checksum = json.loads(text)["checksum"]

    for number in range(2_000):  # not put(): syncing each to the disk is what takes the time
        other = replace(record, unit=f"o8-p{number}")
        page = text.replace('"first"', f'"{other.unit}"').replace(
            checksum, json_digest(other.to_json())
        )
        layout.receipt("predict", other.unit).write_text(page, encoding="utf-8")
    best = 9e9
    for _ in range(3):
        began = time.process_time()
        found = book.all("predict")
        best = min(best, time.process_time() - began)
    assert len(found) == 2_001
    assert best < 0.3
