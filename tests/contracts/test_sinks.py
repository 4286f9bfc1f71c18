"""What every sink must do: take each partition exactly once, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galbatch.errors import DataError, SpecError
from galbatch.sinks.base import Origin, Piece, Sink, open_sink
from galbatch.spec.job import DuckdbSink
from galbatch.spec.job import Sink as SinkSpec

ORIGIN = Origin("toy", "photometric", "ID")


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


@dataclass
class Case:
    """A kind of sink, and how to look into its database."""

    spec: SinkSpec
    rows: Callable[[], list[tuple[int, float]]]


@pytest.fixture(params=["duckdb"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    path = tmp_path / "db" / "results.duckdb"

    def rows() -> list[tuple[int, float]]:
        with duckdb.connect(str(path), read_only=True) as database:
            return database.execute("SELECT ID, z FROM photometric ORDER BY ID, z").fetchall()

    return Case(DuckdbSink(kind="duckdb", path=str(path)), rows)


def expected(ids: Any, model: int) -> list[tuple[int, float]]:
    return [(i, float(np.float32(i / 100 + model))) for i in ids]


def test_a_piece_is_appended_once(case: Case, tmp_path: Path) -> None:
    one = piece(tmp_path, "p1", range(10), 1)
    with open_sink(case.spec, ORIGIN) as sink:
        assert sink.append(one) == 10
        assert sink.append(one) == 0
    with open_sink(case.spec, ORIGIN) as sink:
        assert sink.append(one) == 0
        assert sink.append(piece(tmp_path, "p2", range(10, 15), 1)) == 5
    assert case.rows() == expected(range(15), 1)


def test_another_model_replaces_the_rows(case: Case, tmp_path: Path) -> None:
    with open_sink(case.spec, ORIGIN) as sink:
        for unit, ids in (("p1", range(10)), ("p2", range(10, 20))):
            sink.append(piece(tmp_path, unit, ids, 1))
        assert sink.append(piece(tmp_path, "p1", range(10), 2)) == 10
    assert case.rows() == expected(range(10), 2) + expected(range(10, 20), 1)


def test_rows_that_a_partition_lost_are_gone(case: Case, tmp_path: Path) -> None:
    with open_sink(case.spec, ORIGIN) as sink:
        sink.append(piece(tmp_path, "p1", range(10), 1))
        sink.append(piece(tmp_path, "p1", range(3, 12), 2))
    assert case.rows() == expected(range(3, 12), 2)


def test_another_partitioning_leaves_no_row_twice(case: Case, tmp_path: Path) -> None:
    with open_sink(case.spec, ORIGIN) as sink:
        sink.append(piece(tmp_path, "old1", range(10), 1))
        sink.append(piece(tmp_path, "old2", range(10, 20), 1))
        sink.append(piece(tmp_path, "new1", range(5, 15), 2))
        assert case_count(sink, case) == 20
        assert sink.keep({"new1"}) == 10
        assert sink.keep({"new1"}) == 0
        assert sink.append(piece(tmp_path, "old1", range(5), 3)) == 5
    assert case.rows() == expected(range(5), 3) + expected(range(5, 15), 2)


def case_count(sink: Sink, case: Case) -> int:
    del sink  # DuckDB lets the writing process itself read along
    assert isinstance(case.spec, DuckdbSink)
    with duckdb.connect(case.spec.path, config=_settings()) as database:
        return int(database.execute("SELECT count(*) FROM photometric").fetchall()[0][0])


def _settings() -> dict[str, Any]:
    from galbatch.sinks.duckdb import _SETTINGS

    return dict(_SETTINGS)


def test_an_error_between_rows_and_receipt_takes_both_back(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_sink(case.spec, ORIGIN) as sink:
        sink.append(piece(tmp_path, "p1", range(10), 1))
        monkeypatch.setattr(sink, "_remove", lambda number: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sink.append(piece(tmp_path, "p1", range(10), 2))
        monkeypatch.undo()
        assert case_count(sink, case) == 10
        assert sink.append(piece(tmp_path, "p1", range(8), 2)) == 8
    assert case.rows() == expected(range(8), 2)


def test_a_repeated_id_within_a_piece_is_refused_whole(case: Case, tmp_path: Path) -> None:
    with open_sink(case.spec, ORIGIN) as sink:
        with pytest.raises(SpecError):
            sink.append(piece(tmp_path, "p1", [1, 2, 2], 1))
        assert sink.append(piece(tmp_path, "p1", [1, 2], 1)) == 2
    assert case.rows() == expected([1, 2], 1)


def test_other_columns_are_refused_by_name(case: Case, tmp_path: Path) -> None:
    with open_sink(case.spec, ORIGIN) as sink:
        sink.append(piece(tmp_path, "p1", range(3), 1))
        more = piece(tmp_path, "p1", range(3), 2, extra=pa.array([1.0, 2, 3]))
        with pytest.raises(SpecError, match=r"column 'extra': expected DOUBLE, .* has none"):
            sink.append(more)
        odd = piece(tmp_path, "p1", range(3), 3, extra=pa.array([{"a": 1}] * 3))
        with pytest.raises(SpecError, match="column 'extra' has a type"):
            sink.append(odd)
    assert case.rows() == expected(range(3), 1)


def test_optional_columns_come_and_go_with_the_pieces(case: Case, tmp_path: Path) -> None:
    origin = replace(ORIGIN, optional=frozenset({"noise", "other"}))

    def noise() -> list[Any]:
        with duckdb.connect(case.spec.path, read_only=True) as database:
            found = database.execute("SELECT noise FROM photometric ORDER BY ID").fetchall()
        return [value for (value,) in found]

    def both(model: int, *units: str, **extra: Any) -> None:
        ids = {"p1": range(3), "p2": range(3, 6)}
        with open_sink(case.spec, origin) as sink:
            for unit in units or ids:
                sink.append(piece(tmp_path, unit, ids[unit], model, **extra))

    values = {"noise": pa.array([1.0, 2.0, 3.0], pa.float32())}
    both(1)
    both(2, **values)
    assert noise() == [1, 2, 3, 1, 2, 3] and case.rows() == expected(range(6), 2)
    # One piece without them, and no more: then they are asked for again.
    both(1, "p1")
    with pytest.raises(duckdb.BinderException):
        noise()
    both(2, **values)
    assert noise() == [1, 2, 3, 1, 2, 3] and case.rows() == expected(range(6), 2)
    # Somebody's index holds the columns.
    with duckdb.connect(case.spec.path) as database:
        database.execute("CREATE INDEX own ON photometric(z)")
    with pytest.raises(SpecError, match="drop the indexes"):
        both(1)
    with duckdb.connect(case.spec.path) as database:
        database.execute("DROP INDEX own")
    # What is not optional is refused as ever, and nothing is changed.
    with pytest.raises(SpecError, match="column 'extra'"):
        both(3, extra=pa.array([1.0, 2, 3]))
    assert noise() == [1, 2, 3, 1, 2, 3] and case.rows() == expected(range(6), 2)


def test_predictions_of_another_model_or_survey_are_refused(case: Case, tmp_path: Path) -> None:
    one = piece(tmp_path, "p1", range(3), 1)
    assert isinstance(case.spec, DuckdbSink)
    spec = case.spec.model_copy(update={"table": "photometric"})
    with open_sink(spec, ORIGIN) as sink:
        sink.append(one)
    for other in (Origin("toy", "thesis", "ID"), Origin("jpas", "photometric", "ID")):
        with open_sink(spec, other) as sink, pytest.raises(SpecError, match="it says 'galbatch"):
            sink.append(one)
    assert case.rows() == expected(range(3), 1)


def test_two_models_share_a_database(case: Case, tmp_path: Path) -> None:
    for model in ("photometric", "thesis"):
        with open_sink(case.spec, Origin("toy", model, "ID")) as sink:
            assert sink.append(piece(tmp_path, "p1", range(4), 1)) == 4
            assert sink.keep(["p1"]) == 0
    assert case.rows() == expected(range(4), 1)


def test_a_damaged_piece_is_data(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    path.write_bytes(b"PAR1")
    with open_sink(case.spec, ORIGIN) as sink:
        with pytest.raises(DataError):
            sink.append(Piece("p1", "k", path, "m"))
        with pytest.raises(DataError):
            sink.append(Piece("p1", "k", tmp_path / "none.parquet", "m"))
        assert sink.keep([]) == 0


def test_a_sink_says_what_it_lacks(case: Case, tmp_path: Path) -> None:
    one, two = (piece(tmp_path, unit, [place], 1) for place, unit in enumerate(("p1", "p2")))
    with open_sink(case.spec, ORIGIN) as sink:
        assert "gone" in sink.lacks({"p1": one.key})
        sink.append(one)
        assert sink.lacks({"p1": one.key}) == ""
        assert sink.lacks({"p1": one.key, "p2": two.key})
        sink.append(two)
        assert sink.lacks({"p1": one.key})
        assert sink.lacks({"p1": one.key, "p2": two.key}) == ""
        assert sink.lacks({"p1": one.key, "p2": "of another model"})
