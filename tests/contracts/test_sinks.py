"""Every kind of sink keeps the promises of `contracts.sinks.SinkContract`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from contracts.sinks import SinkContract
from small import REPOSITORY
from toy_sink import ToyDatabase, ToySink

from galbatch.sinks.base import Sink
from galbatch.sinks.open import SINKS, sink_of
from galbatch.spec.job import DuckdbSink, Job


class TestDuckdb(SinkContract):
    """DuckDB keeps them."""

    dying = (
        "import os, signal, duckdb\n"
        "from galbatch.sinks.open import sink_of\n"
        "from galbatch.spec.job import DuckdbSink\n"
        "class Dying:\n"
        "    def __init__(self, database): self.database = database\n"
        "    def __getattr__(self, name): return getattr(self.database, name)\n"
        "    def commit(self): os.kill(os.getpid(), signal.SIGKILL)\n"
        "connect = duckdb.connect\n"
        "duckdb.connect = lambda *a, **b: Dying(connect(*a, **b))\n"
        "def sink(path): return sink_of(DuckdbSink(kind='duckdb', path=path))\n"
    )

    def sink(self, path: str, table: str | None = None) -> Sink:
        return sink_of(DuckdbSink(kind="duckdb", path=path, table=table))

    def read(self, path: str, column: str) -> list[tuple[int, Any]]:
        with duckdb.connect(path, read_only=True) as database:
            if not database.execute(
                "FROM duckdb_tables() WHERE table_name = 'photometric'"
            ).fetchall():
                return []
            ask = f"SELECT ID, {column} FROM photometric ORDER BY ALL"
            return database.execute(ask).fetchall()

    def tables(self, path: str) -> int:
        with duckdb.connect(path, read_only=True) as database:
            return len(database.execute("FROM duckdb_tables()").fetchall())

    @contextmanager
    def refusing(self, path: str) -> Iterator[None]:
        with duckdb.connect(path) as database:
            database.execute("CREATE TABLE kept AS FROM galbatch_receipts")
            database.execute("DROP TABLE galbatch_receipts")
            database.execute(
                "CREATE TABLE galbatch_receipts (number BIGINT, table_name VARCHAR, unit VARCHAR,"
                " key VARCHAR, fingerprint VARCHAR CHECK (fingerprint <> 'model2'),"
                " row_count BIGINT)"
            )
            database.execute("INSERT INTO galbatch_receipts FROM kept")
        yield
        with duckdb.connect(path) as database:
            database.execute("DROP TABLE galbatch_receipts")
            database.execute("ALTER TABLE kept RENAME TO galbatch_receipts")


class TestToy(SinkContract):
    """So does what a test has written, and put into the table of kinds."""

    dying = (
        "import os, signal, sys\n"
        f"sys.path.insert(0, {str(REPOSITORY / 'tests')!r})\n"
        "from toy_sink import ToyDatabase, ToySink\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "def sink(path): return ToyDatabase(ToySink(path=path))\n"
    )

    @pytest.fixture(autouse=True)
    def _known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(SINKS, "toy", ToyDatabase)

    def sink(self, path: str, table: str | None = None) -> Sink:
        return sink_of(ToySink(path=path, table=table))

    def _content(self, path: str) -> dict[str, Any]:
        return json.loads(Path(path).read_bytes()) if Path(path).exists() else {}

    def read(self, path: str, column: str) -> list[tuple[int, Any]]:
        pieces = self._content(path).get("photometric", {"pieces": {}})["pieces"].values()
        rows = [row for piece in pieces for row in piece["rows"].values()]
        return sorted((row["ID"], row[column]) for row in rows)

    def tables(self, path: str) -> int:
        return len(self._content(path))

    @contextmanager
    def refusing(self, path: str) -> Iterator[None]:
        new = Path(path).with_suffix(".new")
        new.mkdir()
        yield
        new.rmdir()


def test_what_users_can_write_has_a_class() -> None:
    union = Job.model_json_schema()["properties"]["sinks"]["items"]["discriminator"]["mapping"]
    assert set(union) == set(SINKS)
