"""What was rejected, with file, row and reason."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from galbatch.store.layout import Layout
from galbatch.store.quarantine import (
    quarantine,
    rejected_counts,
    rejected_rows,
    rejected_total,
    release,
)
from galbatch.values import RejectedRow


def test_rejected_rows_are_kept_counted_and_forgotten(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert rejected_counts(layout) == {}
    assert rejected_total(layout) == 0
    bad = [RejectedRow("data/a.csv", row, "the id is missing") for row in (3, 9)]
    (output,) = quarantine(layout, "data/a.csv", [*bad, RejectedRow("data/a.csv", 4, "no number")])
    quarantine(
        layout, "predict.o3-p7", [RejectedRow("predict o3-p7", 0, "out of memory", "MemoryError")]
    )
    assert rejected_total(layout) == 4
    assert list(rejected_counts(layout).items()) == [
        ("the id is missing", 2), ("no number", 1), ("out of memory", 1),
    ]  # fmt: skip
    assert [row.exception for row in rejected_rows(layout)] == ["", "", "", "MemoryError"]
    frame = pd.read_parquet(tmp_path / output)
    assert frame["row"].tolist() == [3, 9, 4]
    assert set(frame["file"]) == {"data/a.csv"}

    quarantine(layout, "data/a.csv", bad[:1])
    assert rejected_total(layout) == 2
    assert quarantine(layout, "data/a.csv", []) == {}
    release(layout, "predict.o3-p7")
    release(layout, "predict.o3-p7")
    assert rejected_total(layout) == 0
