"""What is particular to DuckDB."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galbatch.errors import SpecError, TransientError
from galbatch.sinks import duckdb as room
from galbatch.sinks.base import Origin, Piece, open_sink
from galbatch.spec.job import DuckdbSink

ORIGIN = Origin("toy", "m", "ID")


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
    with open_sink(spec, ORIGIN) as sink:
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


def test_killed_between_rows_and_commit_nothing_is_there(spec: DuckdbSink, piece: Piece) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from galbatch.sinks.base import Origin, Piece, open_sink\n"
        "from galbatch.sinks import duckdb as room; from galbatch.spec.job import DuckdbSink\n"
        "real = room._one\n"
        "def one(database, sql, values=None):\n"
        "    value = real(database, sql, values)\n"
        "    if sql.startswith('INSERT'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return value\n"
        "room._one = one\n"
        "spec = DuckdbSink(kind='duckdb', path=sys.argv[1])\n"
        "with open_sink(spec, Origin('toy', 'm', 'ID')) as sink:\n"
        "    sink.append(Piece('p1', sys.argv[3], Path(sys.argv[2]), 'f'))"
    )

    def killed(key: str) -> bool:
        command = [sys.executable, "-c", script, spec.path, str(piece.path), key]
        return subprocess.run(command, check=False).returncode == -signal.SIGKILL

    def append(key: str) -> int:
        with open_sink(spec, ORIGIN) as sink:
            return sink.append(Piece("p1", key, piece.path, "f"))

    assert killed("k1")
    assert ask(spec, "SELECT count(*) FROM duckdb_tables()") == [(0,)]
    assert append("k1") == 1000
    assert killed("k2")
    assert ask(spec, "SELECT key, row_count FROM galbatch_receipts") == [("k1", 1000)]
    rows = "SELECT count(*), min(galbatch_receipt), max(galbatch_receipt) FROM m"
    assert ask(spec, rows) == [(1000, 1, 1)]
    assert append("k2") == 1000
    assert append("k2") == 0
    assert ask(spec, "SELECT key, row_count FROM galbatch_receipts") == [("k2", 1000)]
    assert ask(spec, rows) == [(1000, 2, 2)]


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
            open_sink(spec, ORIGIN)
        other.kill()


def test_a_file_that_is_no_database_is_refused(spec: DuckdbSink) -> None:
    Path(spec.path).write_bytes(b"x" * 20_000)
    with pytest.raises(SpecError, match="DuckDB"):
        open_sink(spec, ORIGIN)
    assert Path(spec.path).read_bytes() == b"x" * 20_000


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(SpecError):
        open_sink(DuckdbSink(kind="duckdb", path=str(tmp_path / "f" / "a.duckdb")), ORIGIN)


@pytest.mark.parametrize("made", ["TABLE m (ID BIGINT)", "VIEW m AS SELECT 1 AS ID"])
def test_what_galbatch_did_not_make_is_left_alone(
    spec: DuckdbSink, piece: Piece, made: str
) -> None:
    with duckdb.connect(spec.path) as database:
        database.execute(f"CREATE {made}")
    with open_sink(spec, ORIGIN) as sink, pytest.raises(SpecError, match="did not make it"):
        sink.append(piece)
    assert ask(spec, "SELECT count(*) FROM duckdb_tables()")[0][0] == int("TABLE" in made)


def test_too_little_memory_is_said(
    spec: DuckdbSink, piece: Piece, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(room._SETTINGS, "memory_limit", "2MB")
    with open_sink(spec, ORIGIN) as sink, pytest.raises(SpecError, match="needs more memory"):
        sink.append(piece)


def test_a_table_that_was_dropped_is_filled_again(spec: DuckdbSink, piece: Piece) -> None:
    with open_sink(spec, ORIGIN) as sink:
        sink.append(piece)
    with duckdb.connect(spec.path) as database:
        database.execute("DROP TABLE m")
    with open_sink(spec, ORIGIN) as sink:
        assert sink.append(piece) == 1000
    assert ask(spec, "SELECT count(*) FROM galbatch_receipts") == [(1,)]


def test_the_receipts_table_is_no_place_for_predictions(spec: DuckdbSink) -> None:
    taken = spec.model_copy(update={"table": "Galbatch_Receipts"})
    with pytest.raises(SpecError, match="taken"):
        open_sink(taken, ORIGIN)


def test_the_users_own_tables_stay(spec: DuckdbSink, piece: Piece) -> None:
    with duckdb.connect(spec.path) as database:
        database.execute("CREATE TABLE notes AS SELECT 42 AS answer")
    with open_sink(spec, ORIGIN) as sink:
        sink.append(piece)
    assert ask(spec, "FROM notes") == [(42,)]
    assert not Path(spec.path + ".wal").exists()


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.duckdb"])
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"ID,RA,Dec\n1,2,3\n")
    with pytest.raises(SpecError, match="expected a DuckDB database"):
        open_sink(DuckdbSink(kind="duckdb", path=str(path)), ORIGIN)
    assert path.read_bytes() == b"ID,RA,Dec\n1,2,3\n"


def test_nothing_is_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match="in memory"):
        open_sink(DuckdbSink(kind="duckdb", path=":memory:"), ORIGIN)
