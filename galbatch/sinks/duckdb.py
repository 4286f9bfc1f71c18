"""A table in a DuckDB file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from galbatch.errors import DataError, SpecError, TransientError
from galbatch.sinks.base import Origin, Piece
from galbatch.sinks.sql import comment, literal, quoted, title
from galbatch.spec.job import DuckdbSink

RECEIPTS = "galbatch_receipts"
RECEIPT = "galbatch_receipt"
"""Column of a prediction table: the receipt that its row was written with."""

MEMORY = "30%"
"""Of the machine's memory, what DuckDB may use: workers run beside it."""
_CHECKPOINT = "256MB"
"""Bytes written between two checkpoints: DuckDB's own default is one for each piece or two."""
_MAGIC = slice(8, 12)
"""Where a DuckDB file says that it is one."""
_CREATE_RECEIPTS = f"""
CREATE TABLE IF NOT EXISTS {RECEIPTS} (
    number BIGINT NOT NULL, table_name VARCHAR NOT NULL, unit VARCHAR NOT NULL,
    key VARCHAR NOT NULL, fingerprint VARCHAR NOT NULL, row_count BIGINT NOT NULL
)
"""
_TYPES = {
    pa.bool_(): "BOOLEAN", pa.int8(): "TINYINT", pa.int16(): "SMALLINT", pa.int32(): "INTEGER",
    pa.int64(): "BIGINT", pa.uint8(): "UTINYINT", pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER", pa.uint64(): "UBIGINT", pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE", pa.string(): "VARCHAR", pa.large_string(): "VARCHAR",
}  # fmt: skip


class DuckdbDatabase:
    """A DuckDB file that a job names.

    Parameters
    ----------
    spec : DuckdbSink
    memory : str
        What DuckDB may use while it appends: a share of the machine's memory, or a size.
    """

    def __init__(self, spec: DuckdbSink, memory: str = MEMORY) -> None:
        self._spec = spec
        self._path = Path(spec.path).expanduser()
        self._memory = memory

    @property
    def identity(self) -> str:
        """Kind and path, as the job has them."""
        return f"{self._spec.kind}.{self._spec.path}"

    @property
    def files(self) -> tuple[Path, ...]:
        """The file itself."""
        return (self._path,)

    def describe(self) -> str:
        """``DuckDB out.duckdb``."""
        return f"DuckDB {self._spec.path}"

    def check(self) -> None:
        """Refuse a file that is no DuckDB database, before anything is written into it.

        Raises
        ------
        SpecError
            If the file that is there does not begin as a database does, or cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                start = file.read(_MAGIC.stop)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise SpecError(str(self._path), f"cannot be read: {error.strerror}") from error
        if start and start[_MAGIC] != b"DUCK":
            raise SpecError(
                str(self._path),
                "expected a DuckDB database, it is another file",
                "give another 'path'",
            )

    def check_table(self, origin: Origin) -> None:
        """Refuse a table that is not for these predictions, as far as is seen without writing.

        Raises
        ------
        SpecError
            If the name is taken, the file cannot be opened, or its table is of others. Nothing is
            said while another process writes to it.
        """
        table = self._table(origin)
        where = f"{self._path}, table {table}"
        self.check()
        if not self._path.is_file() or not self._path.stat().st_size:
            return
        try:
            with duckdb.connect(str(self._path), read_only=True) as database:
                found = database.execute(
                    "SELECT 1 FROM duckdb_tables() WHERE table_name = ?", [table]
                ).fetchall()
                if found:
                    _check_title(database, table, title(origin), where)
        except duckdb.Error as error:
            if "lock" not in str(error).lower():
                text = str(error).splitlines()[0]
                raise SpecError(str(self._path), f"DuckDB: {text}") from error

    def exists(self) -> bool:
        """Whether the file is there."""
        return self._path.exists()

    def open(self, origin: Origin) -> DuckdbTable:
        """Connect to the file, making it where there is none.

        Raises
        ------
        SpecError
            If it cannot be opened or made, or the table's name is taken.
        TransientError
            If another process has it open.
        """
        table = self._table(origin)
        self.check()
        return DuckdbTable(self._path, table, origin, self._memory)

    def _table(self, origin: Origin) -> str:
        table = self._spec.table or origin.model
        if table.lower() == RECEIPTS:
            where = f"{self._path}, table {table}"
            raise SpecError(where, "this table's name is taken", "give another 'table'")
        return table


class DuckdbTable:
    """Predictions of one model in a table of a DuckDB file.

    Rows are keyed by the survey's id. `galbatch_receipts` remembers which partitions are there,
    and is written in the same transaction as their rows.

    Parameters
    ----------
    path : Path
        The file.
    table : str
    origin : Origin
    memory : str
        What DuckDB may use.
    """

    def __init__(self, path: Path, table: str, origin: Origin, memory: str) -> None:
        self._path = path
        self._table = table
        self._quoted = quoted(table)
        self._origin = origin
        self._title = title(origin)
        self._memory = memory
        self._checked: pa.Schema | None = None
        with self._explained():
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SpecError(str(self._path), f"cannot be written: {error}") from error
            self._database = duckdb.connect(
                str(self._path),
                config={"memory_limit": memory, "checkpoint_threshold": _CHECKPOINT},
            )
            self._check_place()

    @property
    def where(self) -> str:
        """Database and table, for people."""
        return f"{self._path}, table {self._table}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._database.close()

    def lacks(self, keys: Mapping[str, str]) -> str:
        """What keeps the table from holding these pieces and no others; empty where it does.

        Parameters
        ----------
        keys : mapping of str to str
            Key of each unit.
        """
        with self._explained():
            if not (self._exists(RECEIPTS) and self._exists(self._table)):
                return f"table {self._table} is gone"
            found = self._database.execute(
                f"SELECT unit, key FROM {RECEIPTS} WHERE table_name = ?", [self._table]
            ).fetchall()
        return "" if dict(found) == dict(keys) else f"table {self._table} holds other pieces"

    def append(self, piece: Piece) -> int:
        """Insert a piece's rows, or put them in place of the rows its unit had before.

        Parameters
        ----------
        piece : Piece

        Returns
        -------
        int
            Rows written; 0 where the database has this piece already.

        Raises
        ------
        SpecError
            If the table has other columns (but for optional ones), is not galbatch's, or the disk
            is full.
        DataError
            If the piece's file cannot be read.
        TransientError
            If the database is busy.
        """
        schema, expected = _schema(piece.path)
        with self._transaction() as database:
            self._prepare(schema)
            found = database.execute(
                f"SELECT number, key FROM {RECEIPTS} WHERE table_name = ? AND unit = ?",
                [self._table, piece.unit],
            ).fetchall()
            if any(key == piece.key for _, key in found):
                return 0
            number = _one(database, f"SELECT coalesce(max(number), 0) + 1 FROM {RECEIPTS}")
            rows = self._insert(piece.path, schema.names, number)
            # Over rows that are there, DuckDB takes one of those with the same id, silently.
            if rows != expected:
                raise SpecError(
                    str(piece.path),
                    f"expected {expected:,} different values of {self._origin.id_column}, "
                    f"there are {rows:,}",
                    "run `galbatch verify`, and then the job again",
                )
            # After, not before: DuckDB does not let a transaction delete a key and insert it again.
            for old, _ in found:
                self._remove(old)
            database.execute(
                f"INSERT INTO {RECEIPTS} VALUES (?, ?, ?, ?, ?, ?)",
                [number, self._table, piece.unit, piece.key, piece.fingerprint, rows],
            )
        return rows

    def keep(self, units: Collection[str]) -> int:
        """Remove the rows of all other units.

        Parameters
        ----------
        units : collection of str
            The partitions that the catalogue has now.

        Returns
        -------
        int
            Rows removed.
        """
        with self._transaction() as database:
            if not self._exists(RECEIPTS):
                return 0
            found = database.execute(
                f"SELECT number, unit FROM {RECEIPTS} WHERE table_name = ?", [self._table]
            ).fetchall()
            kept = set(units)
            return sum(self._remove(number) for number, unit in found if unit not in kept)

    def _check_place(self) -> None:
        """Refuse a path that DuckDB opened as a database in memory, whose rows would be lost."""
        ((found,),) = self._database.execute(
            "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
        ).fetchall()
        if found is None or Path(found).resolve() != self._path.resolve():
            self._database.close()
            raise SpecError(
                str(self._path),
                "is no place for a database: DuckDB would keep it in memory and lose it",
                "give a path that ends with .duckdb",
            )

    def _insert(self, path: Path, columns: Sequence[str], number: int) -> int:
        """Write new rows, replacing rows that have the same id."""
        names = [quoted(name) for name in columns]
        key = quoted(self._origin.id_column)
        known = _one(
            self._database,
            f"SELECT count(*) FROM read_parquet(?, hive_partitioning = false) AS piece "
            f"SEMI JOIN {self._quoted} USING ({key})",
            [str(path)],
        )
        updates = [f"{name} = excluded.{name}" for name in (*names, RECEIPT) if name != key]
        # Without the clause it is three times faster.
        conflict = f"ON CONFLICT ({key}) DO UPDATE SET {', '.join(updates)}" if known else ""
        return _one(
            self._database,
            f"INSERT INTO {self._quoted} ({', '.join((*names, RECEIPT))}) "
            f"SELECT {', '.join(names)}, CAST(? AS BIGINT) "
            f"FROM read_parquet(?, hive_partitioning = false) {conflict}",
            [number, str(path)],
        )

    def _remove(self, number: int) -> int:
        rows = _one(self._database, f"DELETE FROM {self._quoted} WHERE {RECEIPT} = ?", [number])
        self._database.execute(f"DELETE FROM {RECEIPTS} WHERE number = ?", [number])
        return rows

    def _prepare(self, schema: pa.Schema) -> None:
        """Make the table, or check that galbatch made it, with the same columns."""
        if self._checked is not None and schema.equals(self._checked):
            return
        if self._origin.id_column not in schema.names:
            raise ValueError(f"no column '{self._origin.id_column}' to be the key")
        wanted = {name: _sql_type(schema.field(name), self.where) for name in schema.names}
        wanted[RECEIPT] = "BIGINT"
        self._database.execute(_CREATE_RECEIPTS)
        if self._exists(self._table):
            self._compare(schema, wanted)
        else:
            # A table that was dropped holds no pieces any more.
            self._database.execute(f"DELETE FROM {RECEIPTS} WHERE table_name = ?", [self._table])
            self._create(schema, wanted)
        self._checked = schema

    def _create(self, schema: pa.Schema, wanted: dict[str, str]) -> None:
        columns = [f"{quoted(name)} {kind}" for name, kind in wanted.items()]
        key = f"PRIMARY KEY ({quoted(self._origin.id_column)})"
        self._database.execute(f"CREATE TABLE {self._quoted} ({', '.join([*columns, key])})")
        self._database.execute(f"COMMENT ON TABLE {self._quoted} IS {literal(self._title)}")
        for field in schema:
            self._describe(field)
        column = f"{self._quoted}.{RECEIPT}"
        self._database.execute(f"COMMENT ON COLUMN {column} IS 'number in {RECEIPTS}'")

    def _describe(self, field: pa.Field[Any]) -> None:
        text = comment(field)
        if text:
            column = f"{self._quoted}.{quoted(field.name)}"
            self._database.execute(f"COMMENT ON COLUMN {column} IS {literal(text)}")

    def _follow(self, schema: pa.Schema, wanted: dict[str, str], columns: dict[str, str]) -> None:
        """Add optional columns that a piece has, and drop those it lacks."""
        gone = sorted(self._origin.optional & columns.keys() - wanted.keys())
        for name in gone:
            self._database.execute(f"ALTER TABLE {self._quoted} DROP COLUMN {quoted(name)}")
            del columns[name]
        for name in schema.names:
            if name in self._origin.optional and name not in columns:
                added = f"{quoted(name)} {wanted[name]}"
                self._database.execute(f"ALTER TABLE {self._quoted} ADD COLUMN {added}")
                self._describe(schema.field(name))
                columns[name] = wanted[name]
        if gone:
            # All pieces lack the columns now: they are written again when the columns return.
            self._database.execute(
                f"UPDATE {RECEIPTS} SET key = '' WHERE table_name = ?", [self._table]
            )

    def _compare(self, schema: pa.Schema, wanted: dict[str, str]) -> None:
        _check_title(self._database, self._table, self._title, self.where)
        columns = dict(
            self._database.execute(
                "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ?"
                " AND database_name = current_database() AND schema_name = current_schema()",
                [self._table],
            ).fetchall()
        )
        self._follow(schema, wanted, columns)
        for name in (*wanted, *columns):
            if wanted.get(name) != columns.get(name):
                raise SpecError(
                    self.where,
                    f"column '{name}': expected {wanted.get(name, 'none')}, "
                    f"the table has {columns.get(name, 'none')}",
                    "the model predicts other columns now: drop the table, or give another 'table'",
                )

    def _exists(self, table: str) -> bool:
        return bool(
            _one(
                self._database,
                "SELECT count(*) FROM information_schema.tables WHERE table_name = ?"
                " AND table_catalog = current_database() AND table_schema = current_schema()",
                [table],
            )
        )

    @contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._explained():
            self._database.begin()
            try:
                yield self._database
                self._database.commit()
            except BaseException:
                self._checked = None  # a table made in this transaction is gone again
                self._rollback()
                raise

    def _rollback(self) -> None:
        # An error may have ended the transaction; what went wrong is told by that error.
        try:
            self._database.rollback()
        except duckdb.Error:
            return

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            text = str(error).splitlines()[0]
            lower = str(error).lower()
            # What runs out while committing comes as a TransactionException.
            if "memory_limit" in lower or isinstance(error, duckdb.OutOfMemoryException):
                raise SpecError(
                    self.where,
                    f"needs more memory than {self._memory} of this machine's: {text}",
                    "the primary key takes about 21 bytes a row; append on a larger machine",
                ) from error
            if "no space left" in lower:
                raise SpecError(str(self._path), "no space left on device", "make room") from error
            if "conflicting lock" in lower:
                raise TransientError(
                    str(self._path), f"another process has it open: {text}", "close it"
                ) from error
            if isinstance(error, duckdb.DependencyException):
                raise SpecError(
                    self.where,
                    f"DuckDB: {text}",
                    "drop the indexes on the table, or give the sink another 'table'",
                ) from error
            if isinstance(error, duckdb.TransactionException):
                raise TransientError(self.where, f"DuckDB: {text}") from error
            raise SpecError(self.where, f"DuckDB: {text}") from error


def _check_title(
    database: duckdb.DuckDBPyConnection, table: str, expected: str, where: str
) -> None:
    """Check by its comment that a table holds the predictions of a model."""
    found = database.execute(
        "SELECT comment FROM duckdb_tables() WHERE table_name = ?"
        " AND database_name = current_database() AND schema_name = current_schema()",
        [table],
    ).fetchall()
    title = found[0][0] if found else None
    if title != expected:
        says = f"it says '{title}'" if title else "galbatch did not make it"
        raise SpecError(
            where,
            f"expected {expected}; {says}",
            "give the sink another 'table', or drop this one",
        )


def _schema(path: Path) -> tuple[pa.Schema, int]:
    """The columns of a piece, and how many rows it has."""
    try:
        metadata = pq.read_metadata(path)
        return metadata.schema.to_arrow_schema(), metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        raise DataError(str(path), f"cannot be read: {error}", "delete it and run again") from error


def _one(database: duckdb.DuckDBPyConnection, sql: str, values: list[Any] | None = None) -> int:
    ((value,),) = database.execute(sql, values or []).fetchall()
    return int(value)


def _sql_type(field: pa.Field[Any], where: str) -> str:
    kind = field.type
    if pa.types.is_fixed_size_list(kind) and kind.value_type in _TYPES:
        return f"{_TYPES[kind.value_type]}[{kind.list_size}]"
    if kind in _TYPES:
        return _TYPES[kind]
    raise SpecError(where, f"column '{field.name}' has a type without a place in it: {kind}")
