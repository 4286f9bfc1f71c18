"""What is particular to DuckDB."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galbatch.errors import SpecError, TransientError
from galbatch.sinks.base import Origin, Piece
from galbatch.sinks.duckdb import DuckdbDatabase, DuckdbTable
from galbatch.spec.job import DuckdbSink

ORIGIN = Origin("toy", "m", "ID")


def opened(spec: DuckdbSink, origin: Origin = ORIGIN) -> DuckdbTable:
    return DuckdbDatabase(spec).open(origin)


@pytest.fixture
def spec(tmp_path: Path) -> DuckdbSink:
    return DuckdbSink(kind="duckdb", path=str(tmp_path / "a.duckdb"))


@pytest.fixture
def piece(tmp_path: Path) -> Piece:
    fields = [
        pa.field("ID", pa.int64(), metadata={"ucd": "meta.id"}),
        pa.field("od\"d, na'me", pa.float32(), metadata={"unit": "mag", "description": "it's"}),
        pa.field("pdf", pa.list_(pa.float32(), 3)),
    ]
    n = 1000
    columns = [
        pa.array(np.arange(n)),
        pa.array(np.ones(n, np.float32)),
        pa.FixedSizeListArray.from_arrays(np.arange(3 * n, dtype=np.float32), 3),
    ]
    path = tmp_path / "it's.parquet"
    pq.write_table(pa.table(columns, schema=pa.schema(fields)), path)
    return Piece("p1", "k1", path, "f1")


def ask(spec: DuckdbSink, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(spec.path, read_only=True) as database:
        return database.execute(sql).fetchall()


def test_columns_say_what_they_are(spec: DuckdbSink, piece: Piece) -> None:
    with opened(spec) as sink:
        sink.append(piece)
        assert sink.where == f"{spec.path}, table m"
    found = ask(spec, "SELECT column_name, data_type, comment FROM duckdb_columns() "
                      "WHERE table_name = 'm' ORDER BY column_index")  # fmt: skip
    assert found == [
        ("ID", "BIGINT", "(meta.id)"),
        ("od\"d, na'me", "FLOAT", "it's [mag]"),
        ("pdf", "FLOAT[3]", None),
        ("galbatch_receipt", "BIGINT", "number in galbatch_receipts"),
    ]
    assert ask(spec, "SELECT comment FROM duckdb_tables() WHERE table_name = 'm'") == [
        ("galbatch: predictions of model m, survey toy",)
    ]
    assert ask(spec, "FROM galbatch_receipts") == [(1, "m", "p1", "k1", "f1", 1000)]
    assert ask(spec, "SELECT pdf FROM m WHERE ID = 2") == [((6.0, 7.0, 8.0),)]
    assert ask(spec, "SELECT constraint_type FROM duckdb_constraints() WHERE table_name = 'm' "
                     "AND constraint_type = 'PRIMARY KEY'")  # fmt: skip


def test_a_transaction_that_fails_leaves_the_receipts_and_goes_on(
    spec: DuckdbSink, piece: Piece
) -> None:
    rows = "SELECT count(*), min(galbatch_receipt), max(galbatch_receipt) FROM m"
    with opened(spec) as table:
        assert table.append(piece) == 1000
    with duckdb.connect(spec.path) as database:  # a value of the receipts that is refused
        database.execute("CREATE TABLE kept AS FROM galbatch_receipts")
        database.execute("DROP TABLE galbatch_receipts")
        database.execute(
            "CREATE TABLE galbatch_receipts (number BIGINT, table_name VARCHAR, unit VARCHAR,"
            " key VARCHAR CHECK (key <> 'k2'), fingerprint VARCHAR, row_count BIGINT)"
        )
        database.execute("INSERT INTO galbatch_receipts FROM kept")
    with opened(spec) as table:
        with pytest.raises(SpecError, match="CHECK constraint"):
            table.append(replace(piece, key="k2"))
        assert table.lacks({"p1": "k1"}) == ""
    assert ask(spec, "SELECT key, row_count FROM galbatch_receipts") == [("k1", 1000)]
    assert ask(spec, rows) == [(1000, 1, 1)]
    with opened(spec) as table:
        with pytest.raises(SpecError, match="CHECK constraint"):
            table.append(replace(piece, key="k2"))
        assert table.append(replace(piece, key="k3")) == 1000
    assert ask(spec, "SELECT key, row_count FROM galbatch_receipts") == [("k3", 1000)]
    assert ask(spec, rows) == [(1000, 2, 2)]


def test_an_index_of_the_users_on_optional_columns_is_explained(
    spec: DuckdbSink, piece: Piece, tmp_path: Path
) -> None:
    origin = replace(ORIGIN, optional=frozenset({"pdf"}))
    with opened(spec, origin) as table:
        table.append(piece)
    with duckdb.connect(spec.path) as database:
        database.execute("CREATE INDEX own ON m(ID)")
    less = tmp_path / "less.parquet"
    pq.write_table(pq.read_table(piece.path).drop_columns("pdf"), less)
    with opened(spec, origin) as table, pytest.raises(SpecError, match="drop the indexes"):
        table.append(replace(piece, key="k2", path=less))
    assert ask(spec, "SELECT pdf FROM m WHERE ID = 2") == [((6.0, 7.0, 8.0),)]
    with duckdb.connect(spec.path) as database:
        database.execute("DROP INDEX own")
    with opened(spec, origin) as table:
        assert table.append(replace(piece, key="k2", path=less)) == 1000


def test_a_column_of_another_type_is_named_with_both(
    spec: DuckdbSink, piece: Piece, tmp_path: Path
) -> None:
    more = tmp_path / "more.parquet"
    table = pq.read_table(piece.path)
    pq.write_table(table.append_column("extra", pa.array(np.ones(len(table)))), more)
    with opened(spec) as sink:
        sink.append(piece)
        with pytest.raises(SpecError, match=r"column 'extra': expected DOUBLE, .* has none"):
            sink.append(replace(piece, key="k2", path=more))


def test_a_file_that_another_process_holds_is_busy(spec: DuckdbSink) -> None:
    script = (
        "import duckdb, sys\n"
        "with duckdb.connect(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, spec.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(TransientError, match="another process has it open"):
            opened(spec)
        other.kill()


def test_a_file_that_is_no_database_is_refused(spec: DuckdbSink) -> None:
    Path(spec.path).write_bytes(b"x" * 20_000)
    with pytest.raises(SpecError, match="DuckDB"):
        opened(spec)
    assert Path(spec.path).read_bytes() == b"x" * 20_000


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(SpecError):
        opened(DuckdbSink(kind="duckdb", path=str(tmp_path / "f" / "a.duckdb")))


@pytest.mark.parametrize("made", ["TABLE m (ID BIGINT)", "VIEW m AS SELECT 1 AS ID"])
def test_what_galbatch_did_not_make_is_left_alone(
    spec: DuckdbSink, piece: Piece, made: str
) -> None:
    with duckdb.connect(spec.path) as database:
        database.execute(f"CREATE {made}")
    with opened(spec) as sink, pytest.raises(SpecError, match="did not make it"):
        sink.append(piece)
    assert ask(spec, "SELECT count(*) FROM duckdb_tables()")[0][0] == int("TABLE" in made)


def test_too_little_memory_is_said(spec: DuckdbSink, piece: Piece) -> None:
    small = DuckdbDatabase(spec, memory="2MB")
    with small.open(ORIGIN) as sink, pytest.raises(SpecError, match="needs more memory than 2MB"):
        sink.append(piece)


def test_a_table_that_was_dropped_is_filled_again(spec: DuckdbSink, piece: Piece) -> None:
    with opened(spec) as sink:
        sink.append(piece)
    with duckdb.connect(spec.path) as database:
        database.execute("DROP TABLE m")
    with opened(spec) as sink:
        assert sink.append(piece) == 1000
    assert ask(spec, "SELECT count(*) FROM galbatch_receipts") == [(1,)]


def test_the_receipts_table_is_no_place_for_predictions(spec: DuckdbSink) -> None:
    taken = spec.model_copy(update={"table": "Galbatch_Receipts"})
    with pytest.raises(SpecError, match="taken"):
        opened(taken)


def test_the_users_own_tables_stay(spec: DuckdbSink, piece: Piece) -> None:
    with duckdb.connect(spec.path) as database:
        database.execute("CREATE TABLE notes AS SELECT 42 AS answer")
    with opened(spec) as sink:
        sink.append(piece)
    assert ask(spec, "FROM notes") == [(42,)]
    assert not Path(spec.path + ".wal").exists()


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.duckdb"])
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"ID,RA,Dec\n1,2,3\n")
    with pytest.raises(SpecError, match="expected a DuckDB database"):
        opened(DuckdbSink(kind="duckdb", path=str(path)))
    assert path.read_bytes() == b"ID,RA,Dec\n1,2,3\n"


def test_nothing_is_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match="in memory"):
        opened(DuckdbSink(kind="duckdb", path=":memory:"))
