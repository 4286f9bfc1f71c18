"""Which rows a page shows: the best for each role, whatever the partitions they lie in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from galbatch.shown import Role
from galbatch.stages.shown_rows import MOST, BestRows, rows_to_show
from galbatch.values import Partition

VALUES = np.random.default_rng(3).permutation(100).astype(float)
KINDS = ["STAR" if number % 4 == 0 else "GALAXY" for number in range(100)]


def best(role: Role, parts: int) -> BestRows:
    found = BestRows(role)
    for number, places in enumerate(np.array_split(np.arange(100), parts)):
        kinds = [KINDS[place] for place in places]
        table = pa.table({"d": VALUES[places], "kind": kinds})
        found.add(Partition("rows", 0, number, len(places)), table)
    return found


@pytest.mark.parametrize("parts", [1, 7])
@pytest.mark.parametrize(
    ("order", "expected"), [("largest", 99.0), ("smallest", 0.0), ("median", 49.5)]
)
def test_the_best_row_is_found(order: str, expected: float, parts: int) -> None:
    found = best(Role("why", "d", order), parts).best()[0]  # type: ignore[arg-type]
    first = np.cumsum([0, *map(len, np.array_split(np.arange(100), parts))])
    value = VALUES[first[found.partition.index] + found.place]
    assert abs(value - expected) <= 0.5


def test_only_rows_of_a_kind_and_none_below_a_limit() -> None:
    found = best(Role("why", "d", "smallest", ("kind", "STAR"), 50.0), 3)
    wanted = min(value for value, kind in zip(VALUES, KINDS, strict=True)
                 if kind == "STAR" and value >= 50)  # fmt: skip
    first = np.cumsum([0, *map(len, np.array_split(np.arange(100), 3))])
    place = found.best()[0]
    assert VALUES[first[place.partition.index] + place.place] == wanted


def test_a_row_that_is_shown_already_gives_way_to_the_next() -> None:
    same = [best(Role(f"reason {number}", "d", "largest"), 2) for number in range(8)]
    chosen = rows_to_show(same)
    assert len(chosen) == MOST and len(set(chosen)) == MOST
    reasons = list(chosen.values())
    assert reasons[0].startswith("reason 0; reason 1")
    assert reasons[1] == "after that one, reason 1"
