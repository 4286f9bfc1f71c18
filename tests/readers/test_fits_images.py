"""FITS images beside a table: which are columns, and what their numbers are."""

from __future__ import annotations

import gzip
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from small import job_words
from world import STAGES, Silent

from galbatch.columns import to_numpy
from galbatch.errors import DataError, SpecError
from galbatch.intake.types import arrow_type
from galbatch.readers.fits import FitsReader
from galbatch.run.loop import run
from galbatch.run.store import opened
from galbatch.spec.job import FilesSource, Job
from galbatch.spec.survey import Survey
from galbatch.stages.base import Site
from galbatch.stages.headers import read_headers
from galbatch.stages.state import Snapshot
from galbatch.store.layout import Layout

IDS = np.arange(5)


def table(name: str = "FIBERMAP", rows: int = 5) -> fits.BinTableHDU:
    return fits.BinTableHDU.from_columns([fits.Column("id", "K", array=np.arange(rows))], name=name)


def write(folder: Path, *hdus: fits.ImageHDU, primary: np.ndarray | None = None) -> str:
    path = folder / "spectra.fits"
    fits.HDUList([fits.PrimaryHDU(primary), table(), *hdus]).writeto(path, overwrite=True)
    return str(path)


def column(path: str, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    found = list(FitsReader().batches(path, {"id": pa.int64(), name: kind}, 2))
    assert [row for batch in found for row in batch.rows.tolist()] == [1, 2, 3, 4, 5]
    return pa.concat_tables([batch.table for batch in found])[name]


def test_images_with_as_many_rows_are_columns(tmp_path: Path) -> None:
    cube = np.arange(60.0).reshape(5, 3, 4)
    path = write(
        tmp_path,
        fits.ImageHDU(cube, name="CUBE"),
        fits.ImageHDU(np.ones((5, 300), np.float32)),
        fits.ImageHDU(np.ones((4, 300)), name="OTHER"),
        fits.ImageHDU(np.arange(5), name="EXPOSURES"),
        fits.ImageHDU(name="NOTHING"),
        primary=np.zeros((5, 7), np.int16),
    )
    header = FitsReader().header(path)
    assert header.names == ("id", "PRIMARY", "CUBE", "HDU3", "EXPOSURES")
    assert [one.beside for one in header.columns] == [False, True, True, True, True]
    found = column(path, "CUBE", pa.fixed_shape_tensor(pa.float64(), [3, 4]))
    np.testing.assert_array_equal(to_numpy(found), cube)
    assert column(path, "EXPOSURES", pa.int32()).to_pylist() == [0, 1, 2, 3, 4]
    assert column(path, "PRIMARY", pa.list_(pa.int16(), 7)).to_pylist() == [[0] * 7] * 5
    with pytest.raises(SpecError, match="has no column 'OTHER'"):
        column(path, "OTHER", pa.null())
    assert header.apart == (("OTHER", "the image has 4 rows, the table 5"),)


@pytest.mark.parametrize("packed", [False, True])
def test_scaled_and_unsigned_images(tmp_path: Path, packed: bool) -> None:
    random = np.random.default_rng(3)
    unsigned = {
        f"U{8 * size}": random.integers(0, 2 ** (8 * size), (5, 6), f"u{size}", endpoint=False)
        if size < 8
        else np.full((5, 6), 2**63 + 7, np.uint64)
        for size in (2, 4, 8)
    }
    blank = fits.ImageHDU(np.array([[1, -1, 3]] * 5, np.int16), name="BLANK")
    blank.header["BLANK"] = -1
    blank.header["BUNIT"] = "uJy"
    path = write(
        tmp_path,
        *(fits.ImageHDU(values, name=name) for name, values in unsigned.items()),
        fits.ImageHDU(np.array([[-128, 127]] * 5, np.int8), name="I8"),
        blank,
        fits.ImageHDU(np.array([[0, 3]] * 5, np.int16), name="SCALED"),
    )
    fits.setval(path, "BSCALE", value=0.5, extname="SCALED")
    fits.setval(path, "BZERO", value=10, extname="SCALED")
    if packed:
        content = gzip.compress(Path(path).read_bytes())
        path += ".gz"
        Path(path).write_bytes(content)
    for name, values in unsigned.items():
        kind = pa.from_numpy_dtype(values.dtype)
        found = column(path, name, pa.fixed_shape_tensor(kind, [6]))
        np.testing.assert_array_equal(to_numpy(found), values)
    assert column(path, "I8", pa.list_(pa.int8(), 2)).to_pylist() == [[-128, 127]] * 5
    assert column(path, "SCALED", pa.list_(pa.float64(), 2)).to_pylist() == [[10, 11.5]] * 5
    assert column(path, "BLANK", pa.list_(pa.int16(), 3)).to_pylist() == [[1, None, 3]] * 5
    units = {one.name: one.unit for one in FitsReader().header(path).columns if one.unit}
    assert units == {"BLANK": "uJy"}


def test_images_that_cannot_be_read_are_refused_when_they_are_wanted(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        fits.ImageHDU(np.zeros((5, 2)), name="TWICE"),
        fits.ImageHDU(np.zeros((5, 3)), name="TWICE"),
        fits.CompImageHDU(np.zeros((5, 40), np.float32), name="TILES"),
        fits.ImageHDU(np.zeros((5, 2)), name="id"),
    )
    header = FitsReader().header(path)
    assert header.names == ("id", "TWICE", "TILES", "ID")
    with pytest.raises(SpecError, match="'TWICE': several images are called so"):
        column(path, "TWICE", pa.fixed_shape_tensor(pa.float64(), [2]))
    with pytest.raises(SpecError, match="'TILES': it is a compressed image: unpack it"):
        column(path, "TILES", pa.fixed_shape_tensor(pa.float32(), [40]))
    assert column(path, "id", pa.int64()).to_pylist() == [0, 1, 2, 3, 4]


def test_several_tables_one_after_the_other_have_no_images(tmp_path: Path) -> None:
    path = str(tmp_path / "a.fits")
    images = [fits.ImageHDU(np.zeros((5, 2)), name="FLUX")]
    fits.HDUList([fits.PrimaryHDU(), table("A"), table("B"), *images]).writeto(path)
    assert FitsReader("all").header(path).names == ("id",)
    assert FitsReader("B").header(path).names == ("id", "FLUX")


def test_an_image_that_is_missing_from_a_file_that_is_cut(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        fits.ImageHDU(np.zeros((5, 3000)), name="FLUX"),
        fits.ImageHDU(np.zeros((5, 3000)), name="IVAR"),
    )
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: content.index(b"IVAR") - 2880])
    kind = pa.fixed_shape_tensor(pa.float64(), [3000])
    with pytest.raises(DataError, match="early"):
        column(path, "IVAR", kind)
    with pytest.raises(DataError, match="the FITS image FLUX ends early, after row 4 of 5"):
        list(FitsReader("FIBERMAP").batches(path, {"FLUX": kind}, 2))


def small_survey() -> Survey:
    return Survey.model_validate(
        {
            "name": "small",
            "title": "Small",
            "id": {"column": "id"},
            "reference_band": "r",
            "photometry": {"quantity": "magnitude"},
            "bands": [{"name": "r", "wavelength": 6200, "width": 1000, "value": "m", "error": "e"}],
            "labels": {"redshift": {"column": "z", "low": 0, "high": 6}},
            "columns": [
                {"name": "id", "dtype": "int64"},
                *({"name": name} for name in ("m", "e", "z")),
                {"name": "spectrum", "shape": [300], "aliases": ["flux"]},
            ],
        }
    )


def test_what_the_survey_does_not_name_is_left_out_and_said(tmp_path: Path) -> None:
    survey = small_survey()
    columns = [fits.Column("id", "K", array=IDS)]
    columns += [fits.Column(name, "D", array=np.ones(5)) for name in ("m", "e", "z")]
    flux = np.random.default_rng(1).normal(size=(5, 300)).astype(np.float32)
    path = str(tmp_path / "a.fits")
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.BinTableHDU.from_columns(columns),
            fits.ImageHDU(flux, name="FLUX"),
            fits.ImageHDU(np.zeros((5, 30), np.float32), name="IVAR"),
            fits.ImageHDU(np.zeros(5), name="EXPOSURE"),
            fits.CompImageHDU(np.zeros((5, 40), np.float32), name="TILES"),
        ]
    ).writeto(path)
    source = FilesSource(kind="files", paths=(path,))
    (facts,) = read_headers(source, survey, [path], first_run=True)
    assert facts.problem == ""
    assert facts.fields["spectrum"].type == arrow_type(survey.column["spectrum"])
    assert not {"IVAR", "EXPOSURE", "TILES"} & {*facts.fields}
    assert facts.notes[-1].endswith("are left out: 'IVAR' [30], 'EXPOSURE' [], 'TILES' []")
    words = job_words(
        source=source.model_dump(mode="json"), models=[{"kind": "photometric"}], sinks=[],
        split={"kind": "id"},
    )  # fmt: skip
    site = Site(Job.model_validate(words), survey, Layout(tmp_path / "store"))
    with opened(site):
        run(STAGES, site, lambda: nullcontext(None), Silent())
    found = Snapshot(site).catalogue
    assert found is not None
    assert found.rows == 5
    assert not {"FLUX", "IVAR", "EXPOSURE", "TILES"} & {*found.facts.columns}


def test_an_image_of_another_length_is_refused_where_the_survey_names_it(tmp_path: Path) -> None:
    columns = [fits.Column("id", "K", array=IDS)]
    columns += [fits.Column(name, "D", array=np.ones(5)) for name in ("m", "e", "z")]
    table = fits.BinTableHDU.from_columns(columns)
    path = str(tmp_path / "a.fits")
    image = fits.ImageHDU(np.zeros((4, 300), np.float32), name="FLUX")
    fits.HDUList([fits.PrimaryHDU(), table, image]).writeto(path)
    source = FilesSource(kind="files", paths=(path,))
    problem = "column 'spectrum' cannot be read from 'FLUX': the image has 4 rows, the table 5"
    with pytest.raises(SpecError, match=problem):
        list(read_headers(source, small_survey(), [path], first_run=True))
