from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from galbatch.errors import SpecError
from galbatch.mock.observe import mock_batches
from galbatch.spec import load_survey
from galbatch.stages.mock import write_mock

ROWS = 300


def truth(name: str) -> pa.Table:
    return next(mock_batches(load_survey(name), ROWS, 4, ROWS))


def test_parquet_is_the_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "new" / "mock.parquet"
    write_mock(load_survey("alhambra"), ROWS, 4, path)
    assert pq.read_table(path).equals(truth("alhambra"))


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
@pytest.mark.parametrize("name", ["alhambra", "jpas"])
def test_csv(tmp_path: Path, ending: str, name: str) -> None:
    path = tmp_path / f"mock{ending}"
    write_mock(load_survey(name), ROWS, 4, path)
    table, expected = pacsv.read_csv(path), truth(name)
    assert table.num_rows == ROWS
    if name == "alhambra":
        assert table.column_names == expected.column_names
        magnitude = table["F814W"].to_numpy()
        assert magnitude == pytest.approx(expected["F814W"].to_numpy(), rel=1e-6)
    else:
        assert set(expected.column_names) - set(table.column_names) == {"OBJID"}
        first = np.array(table["MAG_AUTO"][0].as_py().split(" "), np.float32)
        assert first == pytest.approx(np.array(expected["MAG_AUTO"][0].as_py()), rel=1e-6)


@pytest.mark.parametrize("ending", [".fits", ".fits.gz"])
def test_fits(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"mock{ending}"
    write_mock(load_survey("jpas"), ROWS, 4, path)
    expected = truth("jpas")
    with fits.open(path) as file:
        file.verify("exception")
        table = file[1]
        assert table.columns["MAG_AUTO"].format == "60E"
        assert table.columns["ALPHA_J2000"].unit == "deg"
        assert len(table.data) == ROWS
        values = np.array(expected["MAG_AUTO"].to_pylist(), np.float32)
        assert np.array_equal(table.data["MAG_AUTO"], values)
        assert np.array_equal(table.data["NUMBER"], expected["NUMBER"].to_numpy())


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.csv.gz", "b.csv.gz"):
        write_mock(load_survey("lsst_dc2"), ROWS, 4, tmp_path / name)
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "mock.csv"
    path.write_text("mine")
    with pytest.raises(SpecError, match=r"mock\.csv: exists already \(--force"):
        write_mock(load_survey("lsst_dc2"), ROWS, 4, path)
    assert path.read_text() == "mine"
    write_mock(load_survey("lsst_dc2"), ROWS, 4, path, force=True)
    assert path.read_text().startswith("id,mag_u_lsst")


@pytest.mark.parametrize("name", ["mock.txt", "mock", "mock.csv.bz2"])
def test_unknown_endings(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match="unknown kind of file"):
        write_mock(load_survey("lsst_dc2"), ROWS, 4, tmp_path / name)


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(SpecError, match="cannot be written"):
        write_mock(load_survey("lsst_dc2"), ROWS, 4, blocked / "mock.csv")
    assert list(tmp_path.iterdir()) == [blocked]
