"""What every sink must do: take each partition exactly once, whatever happens.

A kind of database has a subclass in `test_sinks.py`, which says how the test looks into it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galbatch.errors import DataError, SpecError
from galbatch.sinks.base import Origin, Piece, Sink

ORIGIN = Origin("toy", "photometric", "ID")
_DIES = """
import sys
from pathlib import Path
from galbatch.sinks.base import Origin, Piece
path, name, unit, key, piece = sys.argv[1:]
with sink(path).open(Origin("toy", name, "ID")) as table:
    table.append(Piece(unit, key, Path(piece), "f"))
"""


def piece(folder: Path, unit: str, ids: Any, model: int, key: str = "", **extra: Any) -> Piece:
    """A partition's predictions: z follows from id and model."""
    ids = np.asarray(ids)
    fields = [
        pa.field("ID", pa.int64()),
        pa.field("z", pa.float32(), metadata={"description": "it's the redshift", "ucd": "a;b"}),
        pa.field("mass", pa.float32(), metadata={"unit": "dex(Msun)"}),
        pa.field("pdf", pa.list_(pa.float32(), 3)),
    ]
    columns = [
        pa.array(ids),
        pa.array((ids / 100 + model).astype(np.float32)),
        pa.array(np.where(ids % 5 == 0, np.nan, 1.0).astype(np.float32)),
        pa.FixedSizeListArray.from_arrays(np.repeat(ids, 3).astype(np.float32), 3),
    ]
    table = pa.table(columns, schema=pa.schema(fields))
    for name, values in extra.items():
        table = table.append_column(name, values)
    folder = folder / "Norder=1" / "Dir=0"  # must not be taken for columns
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{unit}-{model}.parquet"
    pq.write_table(table, path)
    return Piece(unit, key or f"{unit}/{model}/{len(ids)}", path, f"model{model}")


def expected(ids: Any, model: int) -> list[tuple[int, float]]:
    return [(i, float(np.float32(i / 100 + model))) for i in ids]


class SinkContract(ABC):
    """The promises of a sink. A subclass says what to look at, and how to break it."""

    dying: str
    """Python that defines ``sink(path)``, and sees to it that the process which runs it is killed
    when it has written rows and is about to commit them."""

    @abstractmethod
    def sink(self, path: str, table: str | None = None) -> Sink:
        """The database at a path, by way of the table of kinds."""

    @abstractmethod
    def read(self, path: str, column: str) -> list[tuple[int, Any]]:
        """Id and a column of the table `photometric`, ascending; nothing where there is none.

        A database without this column raises whatever it likes.
        """

    @abstractmethod
    def tables(self, path: str) -> int:
        """How many tables there are, with those that galbatch keeps for itself."""

    @abstractmethod
    def refusing(self, path: str) -> AbstractContextManager[None]:
        """For a while, refuse what is written of a piece after its rows."""

    def place(self) -> str:
        """The path, or what stands for one, of a database that does not exist yet."""
        return str(self.folder / "db" / "results")

    @pytest.fixture(autouse=True)
    def _begin(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.path = self.place()

    def open(self, origin: Origin = ORIGIN, table: str | None = None) -> Any:
        return self.sink(self.path, table).open(origin)

    def rows(self) -> list[tuple[int, Any]]:
        return self.read(self.path, "z")

    def piece(self, unit: str, ids: Any, model: int, **extra: Any) -> Piece:
        return piece(self.folder, unit, ids, model, **extra)

    def test_it_says_what_it_is_and_whether_it_exists(self) -> None:
        sink, other = self.sink(self.path), self.sink(f"{self.path}2")
        assert sink.identity != other.identity
        assert sink.identity == self.sink(self.path, "mine").identity
        assert self.path in sink.describe() and self.path not in other.describe().split()
        assert not sink.exists()
        sink.check()
        sink.check_table(ORIGIN)
        assert not sink.exists()
        assert not any(file.parent.exists() for file in sink.files)
        with sink.open(ORIGIN) as table:
            assert "photometric" in table.where
            table.append(self.piece("p1", range(3), 1))
        assert sink.exists() and not other.exists()
        for file in sink.files:
            assert file.is_file()

    def test_files_of_others_are_refused_and_left_alone(self) -> None:
        sink = self.sink(self.path)
        for file in sink.files:
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(b"ID,RA,Dec\n1,2,3\n")
            for refuse in (sink.check, lambda: sink.check_table(ORIGIN), self.open):
                with pytest.raises(SpecError, match="it is another file"):
                    refuse()
            assert file.read_bytes() == b"ID,RA,Dec\n1,2,3\n"

    def test_a_table_of_others_is_refused_before_anything_is_written(self) -> None:
        sink = self.sink(self.path, "photometric")
        with sink.open(ORIGIN) as table:
            table.append(self.piece("p1", range(3), 1))
        sink.check()
        sink.check_table(ORIGIN)
        for other in (Origin("toy", "thesis", "ID"), Origin("jpas", "photometric", "ID")):
            with pytest.raises(SpecError, match="it says 'galbatch"):
                sink.check_table(other)
        assert self.rows() == expected(range(3), 1)

    def test_a_piece_is_appended_once(self) -> None:
        one = self.piece("p1", range(10), 1)
        with self.open() as table:
            assert table.append(one) == 10
            assert table.append(one) == 0
        with self.open() as table:
            assert table.append(one) == 0
            assert table.append(self.piece("p2", range(10, 15), 1)) == 5
        assert self.rows() == expected(range(15), 1)

    def test_another_model_replaces_the_rows(self) -> None:
        with self.open() as table:
            for unit, ids in (("p1", range(10)), ("p2", range(10, 20))):
                table.append(self.piece(unit, ids, 1))
            assert table.append(self.piece("p1", range(10), 2)) == 10
        assert self.rows() == expected(range(10), 2) + expected(range(10, 20), 1)

    def test_rows_that_a_partition_lost_are_gone(self) -> None:
        with self.open() as table:
            table.append(self.piece("p1", range(10), 1))
            table.append(self.piece("p1", range(3, 12), 2))
        assert self.rows() == expected(range(3, 12), 2)

    def test_another_partitioning_leaves_no_row_twice(self) -> None:
        with self.open() as table:
            table.append(self.piece("old1", range(10), 1))
            table.append(self.piece("old2", range(10, 20), 1))
            table.append(self.piece("new1", range(5, 15), 2))
        assert len(self.rows()) == 20
        with self.open() as table:
            assert table.keep({"new1"}) == 10
            assert table.keep({"new1"}) == 0
            assert table.append(self.piece("old1", range(5), 3)) == 5
        assert self.rows() == expected(range(5), 3) + expected(range(5, 15), 2)

    def test_an_error_between_rows_and_receipt_takes_both_back(self) -> None:
        with self.open() as table:
            table.append(self.piece("p1", range(10), 1))
        with self.refusing(self.path), self.open() as table:
            for _ in range(2):
                with pytest.raises(SpecError):
                    table.append(self.piece("p1", range(10), 2))
        assert self.rows() == expected(range(10), 1)
        with self.open() as table:
            assert table.append(self.piece("p1", range(10), 1)) == 0
            assert table.append(self.piece("p1", range(8), 2)) == 8
        assert self.rows() == expected(range(8), 2)

    def test_killed_between_rows_and_commit_nothing_is_there(self) -> None:
        def killed(one: Piece) -> bool:
            words = (self.path, ORIGIN.model, one.unit, one.key, str(one.path))
            command = [sys.executable, "-c", self.dying + _DIES, *words]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            assert done.returncode == -signal.SIGKILL, done.stderr
            return True

        def append(one: Piece) -> int:
            with self.open() as table:
                return int(table.append(one))

        first, second = (self.piece("p1", range(1000), model) for model in (1, 2))
        assert killed(first)
        assert self.tables(self.path) == 0 and self.rows() == []
        assert append(first) == 1000
        assert killed(second)
        assert self.rows() == expected(range(1000), 1)
        with self.open() as table:
            assert table.lacks({"p1": first.key}) == ""
        assert append(second) == 1000
        assert append(second) == 0
        assert self.rows() == expected(range(1000), 2)
        with self.open() as table:
            assert table.lacks({"p1": second.key}) == ""

    def test_a_repeated_id_within_a_piece_is_refused_whole(self) -> None:
        with self.open() as table:
            with pytest.raises(SpecError):
                table.append(self.piece("p1", [1, 2, 2], 1))
            assert table.append(self.piece("p1", [1, 2], 1)) == 2
            with pytest.raises(SpecError):  # where there are rows already
                table.append(self.piece("p1", [1, 2, 2], 2))
        assert self.rows() == expected([1, 2], 1)

    def test_other_columns_are_refused_by_name(self) -> None:
        with self.open() as table:
            table.append(self.piece("p1", range(3), 1))
            more = self.piece("p1", range(3), 2, extra=pa.array([1.0, 2, 3]))
            with pytest.raises(SpecError, match=r"column 'extra': .*has none"):
                table.append(more)
            odd = self.piece("p1", range(3), 3, extra=pa.array([{"a": 1}] * 3))
            with pytest.raises(SpecError, match="column 'extra' has a type"):
                table.append(odd)
        assert self.rows() == expected(range(3), 1)

    def test_optional_columns_come_and_go_with_the_pieces(self) -> None:
        origin = replace(ORIGIN, optional=frozenset({"noise", "other"}))

        def noise() -> list[Any]:
            return [value for _, value in self.read(self.path, "noise")]

        def both(model: int, *units: str, **extra: Any) -> None:
            ids = {"p1": range(3), "p2": range(3, 6)}
            with self.open(origin) as table:
                for unit in units or ids:
                    table.append(self.piece(unit, ids[unit], model, **extra))

        values = {"noise": pa.array([1.0, 2.0, 3.0], pa.float32())}
        both(1)
        both(2, **values)
        assert noise() == [1, 2, 3, 1, 2, 3] and self.rows() == expected(range(6), 2)
        # One piece without them, and no more: then they are asked for again.
        both(1, "p1")
        with pytest.raises(Exception, match="noise"):
            noise()
        both(2, **values)
        assert noise() == [1, 2, 3, 1, 2, 3] and self.rows() == expected(range(6), 2)
        # What is not optional is refused as ever, and nothing is changed.
        with pytest.raises(SpecError, match="column 'extra'"):
            both(3, extra=pa.array([1.0, 2, 3]))
        assert noise() == [1, 2, 3, 1, 2, 3] and self.rows() == expected(range(6), 2)

    def test_predictions_of_another_model_or_survey_are_refused(self) -> None:
        one = self.piece("p1", range(3), 1)
        with self.open(table="photometric") as table:
            table.append(one)
        for other in (Origin("toy", "thesis", "ID"), Origin("jpas", "photometric", "ID")):
            with (
                self.open(other, "photometric") as table,
                pytest.raises(SpecError, match="it says 'galbatch"),
            ):
                table.append(one)
        assert self.rows() == expected(range(3), 1)

    def test_two_models_share_a_database(self) -> None:
        for model in ("photometric", "thesis"):
            with self.open(Origin("toy", model, "ID")) as table:
                assert table.append(self.piece("p1", range(4), 1)) == 4
                assert table.keep(["p1"]) == 0
        assert self.rows() == expected(range(4), 1)

    def test_a_damaged_piece_is_data(self) -> None:
        path = self.folder / "bad.parquet"
        path.write_bytes(b"PAR1")
        with self.open() as table:
            with pytest.raises(DataError):
                table.append(Piece("p1", "k", path, "m"))
            with pytest.raises(DataError):
                table.append(Piece("p1", "k", self.folder / "none.parquet", "m"))
            assert table.keep([]) == 0

    def test_it_says_what_it_lacks(self) -> None:
        one, two = (self.piece(unit, [place], 1) for place, unit in enumerate(("p1", "p2")))
        with self.open() as table:
            assert "gone" in table.lacks({"p1": one.key})
            table.append(one)
            assert table.lacks({"p1": one.key}) == ""
            assert table.lacks({"p1": one.key, "p2": two.key})
            table.append(two)
            assert table.lacks({"p1": one.key})
            assert table.lacks({"p1": one.key, "p2": two.key}) == ""
            assert table.lacks({"p1": one.key, "p2": "of another model"})
