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
from galbatch.store.receipts import ReceiptBook, receipt_key
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


def receipt(root: Path, unit: str = "o3-p7", text: bytes = b"data") -> Receipt:
    digest = commit_bytes(root / "out" / "a", text)
    return Receipt("predict", unit, "k", digest, 5, ("out/a",), 0.5, {"z": [1.5, None], "n": "ä"})


def test_a_receipt_comes_back(tmp_path: Path, book: ReceiptBook) -> None:
    book.put(receipt(tmp_path))
    record = replace(receipt(tmp_path), sizes=(4,))
    assert book.get("predict", "o3-p7") == record
    assert book.all("predict") == {"o3-p7": record}
    assert book.valid("predict", "o3-p7", "k", deep=True) == record
    assert book.get("predict", "other") is None
    assert book.all("train") == {}
    book.forget("predict", "o3-p7")
    book.forget("predict", "o3-p7")
    assert book.get("predict", "o3-p7") is None


def test_another_key_or_a_lost_output_is_not_valid(tmp_path: Path, book: ReceiptBook) -> None:
    book.put(receipt(tmp_path))
    assert book.valid("predict", "o3-p7", "other") is None
    (tmp_path / "out" / "a").write_bytes(b"DATA")
    assert book.valid("predict", "o3-p7", "k") is not None
    assert book.valid("predict", "o3-p7", "k", deep=True) is None
    (tmp_path / "out" / "a").write_bytes(b"")
    assert book.valid("predict", "o3-p7", "k") is None
    (tmp_path / "out" / "a").unlink()
    assert book.valid("predict", "o3-p7", "k") is None


@pytest.mark.parametrize(
    ("old", "new"),
    [('"rows": 5', '"rows": 6'), ('"version": 1', '"version": 2'), ("{", ""), ('"key"', '"kex"')],
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
    one = receipt_key("predict", 1, {"model": first}, ("a", "b"), "u")
    other = receipt_key("predict", 1, {"model": second}, ("a", "b"), "u")
    assert (one == other) == (
        json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    )


def test_every_part_of_a_key_counts() -> None:
    parts = [
        ("predict", 1, {"a": 1, "b": 2}, ("x", "y"), "u"),
        ("append", 1, {"a": 1, "b": 2}, ("x", "y"), "u"),
        ("predict", 2, {"a": 1, "b": 2}, ("x", "y"), "u"),
        ("predict", 1, {"a": 1}, ("x", "y"), "u"),
        ("predict", 1, {"a": 1, "b": 2}, ("xy",), "u"),
        ("predict", 1, {"a": 1, "b": 2}, ("y", "x"), "u"),
        ("predict", 1, {"a": 1, "b": 2}, ("x", "y"), "v"),
    ]
    assert len({receipt_key(*part) for part in parts}) == len(parts)
    assert receipt_key(*parts[0]) == receipt_key("predict", 1, {"b": 2, "a": 1}, ["x", "y"], "u")


def test_receipts_are_listed_quickly(tmp_path: Path, book: ReceiptBook) -> None:
    layout, record = Layout(tmp_path), replace(receipt(tmp_path, "first"), sizes=(4,))
    book.put(record)
    text = layout.receipt("predict", "first").read_text(encoding="utf-8")
    checksum = json.loads(text)["checksum"]
    from galbatch.store.receipts import _hash

    for number in range(2_000):  # not put(): syncing each to the disk is what takes the time
        other = replace(record, unit=f"o8-p{number}")
        page = text.replace('"first"', f'"{other.unit}"').replace(checksum, _hash(other.to_json()))
        layout.receipt("predict", other.unit).write_text(page, encoding="utf-8")
    best = 9e9
    for _ in range(3):
        began = time.process_time()
        found = book.all("predict")
        best = min(best, time.process_time() - began)
    assert len(found) == 2_001
    assert best < 0.3
