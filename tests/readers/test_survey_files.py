"""The real files: the same catalogue in two formats reads the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits

from galbatch.readers import open_reader
from galbatch.spec import Survey, load_survey
from galbatch.spec.resolve import resolve_columns


def read(survey: Survey, path: str) -> pa.Table:
    reader = open_reader(None, path)
    names = resolve_columns(survey, reader.header(path).names, path).names
    kinds = {column.name: pa.type_for_alias(column.kind) for column in survey.columns}
    types = {spelling: kinds[name] for spelling, name in names.items() if name in kinds}
    batches = list(reader.batches(path, types, 5000))
    assert not any(batch.rejected for batch in batches)
    return pa.concat_tables([batch.table for batch in batches])


def test_zcosmos(survey_data: Path) -> None:
    survey = load_survey("zcosmos")
    folder = survey_data / "zcosmos_bright"
    joined = read(survey, str(folder / "zcosmos_bright_joined.parquet"))
    text = read(survey, str(folder / "zcosmost_bright20k.csv"))
    assert text.num_rows == joined.num_rows == 17_358
    for name in text.column_names:
        there, here = joined[name].to_numpy(), text[name].to_numpy()
        np.testing.assert_array_equal(here, there, err_msg=name)


def test_zcosmos_masses(survey_data: Path) -> None:
    path = str(survey_data / "zcosmos_bright" / "zcosmos_sample.fits")
    reader = open_reader(None, path)
    names = reader.header(path).names
    with fits.open(path) as file:
        assert names == tuple(file[1].columns.names)
        batches = reader.batches(path, dict.fromkeys(names, pa.float64()), 5000)
        table = pa.concat_tables([batch.table for batch in batches])
        for name in names:
            np.testing.assert_array_equal(table[name].to_numpy(), file[1].data[name])


def test_lsst_dc2(survey_data: Path) -> None:
    survey = load_survey("lsst_dc2")
    folder = survey_data / "rail_dc2"
    groups = read(survey, str(folder / "test_dc2_training_9816.hdf5"))
    columns = read(survey, str(folder / "test_dc2_training_9816.pq"))
    assert groups.select(columns.column_names).equals(columns)
    validation = str(folder / "test_dc2_validation_9816.hdf5")
    assert read(survey, validation).num_rows == 20_449


def test_spectra_are_vectors(survey_data: Path) -> None:
    path = str(survey_data / "sdss_spectra_110" / "sdss_spectra_110.parquet")
    wanted = pa.list_(pa.float32(), 4076)
    batches = list(open_reader(None, path).batches(path, {"flux": wanted, "cls": pa.string()}, 50))
    assert [len(batch.rows) for batch in batches] == [50, 50, 10]
    flux = pa.concat_tables([batch.table for batch in batches])["flux"]
    assert flux.type == wanted
    assert flux.to_pylist() == pq.read_table(path)["flux"].to_pylist()
