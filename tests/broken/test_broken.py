"""A slice of the campaign, and what Hypothesis finds where a reader alone is asked.

A seed that fails is looked at with `python tests/broken/campaign.py --replay SEED`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from broken.campaign import trial
from broken.catalogues import ENDINGS, catalogues, seeded
from broken.judge import in_pieces, judge
from broken.reading import contradictions
from broken.truth import Catalogue
from broken.writers import packed
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from galbatch.errors import GalbatchError
from galbatch.readers.open import open_reader

FILES = 100
READER_EXAMPLES = 150


def test_rows_in_are_rows_stored_and_quarantined() -> None:
    files, seed, failed = 0, 0, []
    while files < FILES:
        one = trial(seed)
        files += len(one.catalogue.files)
        if one.verdict.problems:
            failed.append(str(one))
        seed += 1
    assert not failed, "\n".join(failed)


@given(catalogue=catalogues())
@settings(max_examples=8, derandomize=True, database=None, phases=[Phase.generate])
def test_whatever_hypothesis_chooses(
    tmp_path_factory: pytest.TempPathFactory, catalogue: Catalogue
) -> None:
    note(str(catalogue))
    assert not judge(catalogue, tmp_path_factory.mktemp("broken")).problems


def test_the_truth_is_what_others_read() -> None:
    found = [(seed, one) for seed in range(300, 360) for one in contradictions(seeded(seed))]
    assert not found


def whole_file(ending: str) -> bytes:
    """A file of this format with nothing wrong: the first that a seed makes."""
    if ending.startswith(".csv."):
        return packed(whole_file(".csv"), ending.removeprefix(".csv"))
    for seed in range(10_000):
        for file in seeded(seed).files:
            sound = file.refusal == "never" and file.readable
            sound = sound and all(record.fate == "stored" for record in file.records)
            if sound and file.name.partition(".")[2] == ending[1:]:
                return file.content
    raise AssertionError(f"no seed makes a sound {ending}")


def read(path: Path) -> tuple[dict[int, dict[str, object]], list[int], int | None]:
    """Rows by number, the numbers of rejected rows, and the records by the other count.

    None for that where the file breaks.
    """
    reader = open_reader(None, str(path))
    rows: dict[int, dict[str, object]] = {}
    rejected: list[int] = []
    try:
        header = reader.header(str(path))
        types = {column.name: column.type or pa.string() for column in header.columns}
        batches = reader.batches(str(path), types, 7)
        for batch in batches:
            for number, row in zip(batch.rows.tolist(), batch.table.to_pylist(), strict=True):
                assert number not in rows
                rows[number] = row
            rejected += [one.row for one in batch.rejected]
        return rows, rejected, batches.records
    except GalbatchError as error:
        assert "Traceback" not in str(error)
        assert str(path) in str(error)
        return rows, rejected, None


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_cut_at_any_byte(tmp_path: Path, ending: str) -> None:
    content = whole_file(ending)
    path = tmp_path / f"cut{ending}"
    path.write_bytes(content)
    whole, none, records = read(path)
    assert whole
    assert not none
    assert records == len(whole)

    @given(at=st.integers(0, len(content) - 1))
    @settings(max_examples=READER_EXAMPLES // len(ENDINGS), derandomize=True, database=None)
    def cut(at: int) -> None:
        path.write_bytes(content[:at])
        rows, rejected, records = read(path)
        if ending != ".csv" and records is not None:
            # What is missing was of no account: padding, say.
            assert str(rows) == str(whole)
            return
        same = [row for row in rows if str(rows[row]) == str(whole[row])]
        # Of text, the row that the cut goes through is as good as any.
        assert set(rows) - set(same) <= ({max(rows)} if ending == ".csv" and rows else set())
        assert sorted([*rows, *rejected]) == list(range(1, len(rows) + len(rejected) + 1))
        if records is not None:
            assert records == len(rows) + len(rejected)

    cut()


PIECES = st.sampled_from(
    ['"', ",", "\n", "\r", "\r\n", "1", "a", " ", '""', ',"', '",', "\n\n", "é"]
)


@given(
    text=st.lists(PIECES, max_size=40).map("".join),
    header=st.sampled_from(["a,b\n", "a,b\r\n", "a,b\r", "a,b,c\n"]),
    size=st.sampled_from([1 << 18, 3, 8, 31]),
)
@settings(max_examples=READER_EXAMPLES, derandomize=True, database=None)
def test_any_text_has_its_rows_counted(
    tmp_path_factory: pytest.TempPathFactory, header: str, text: str, size: int
) -> None:
    path = tmp_path_factory.mktemp("text") / "any.csv"
    path.write_bytes((header + text).encode())
    rows, rejected, records = read(path)
    with in_pieces(size):
        assert read(path) == (rows, rejected, records)
    numbers = sorted([*rows, *rejected])
    assert numbers == list(range(1, len(numbers) + 1))
    assert records in (None, len(numbers))
    assert len(numbers) <= np.sum([bool(line.strip()) for line in text.splitlines()])
