"""HATS catalogues as sources: which files, in which order, and what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hats.catalog.dataset.collection_properties import CollectionProperties
from hats.catalog.dataset.table_properties import TableProperties
from hats.catalog.partition_info import PartitionInfo
from hats.io import paths
from hats.pixel_math.healpix_pixel import HealpixPixel
from hats.pixel_math.spatial_index import compute_spatial_index
from small import REPOSITORY, job_words

from galbatch.errors import SpecError
from galbatch.mock.observe import mock_batches
from galbatch.readers import expand, open_reader
from galbatch.readers.hats import is_pixel_file
from galbatch.readers.parquet import ParquetReader
from galbatch.readers.paths import check_catalogues
from galbatch.run.loop import run
from galbatch.run.store import opened
from galbatch.spec import load_survey
from galbatch.spec.job import Job
from galbatch.stages.checks import check_sources
from galbatch.stages.ingest import Ingest
from galbatch.stages.scan import Scan
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.layout import Layout

SURVEY = load_survey("zcosmos")
PIXELS = [HealpixPixel(1, 17), HealpixPixel(0, 11), HealpixPixel(1, 16), HealpixPixel(2, 76)]


def write(
    folder: Path,
    pixels: list[HealpixPixel],
    *,
    suffix: str = ".parquet",
    kind: str = "object",
    table: pa.Table | None = None,
) -> Path:
    """A HATS catalogue by the hats library; two files for each pixel that is a folder."""
    names = ("0.parquet", "1.parquet") if suffix == "/" else ("",)
    for pixel in pixels:
        place = Path(str(paths.pixel_catalog_file(folder, pixel, npix_suffix=suffix)))
        for name in names:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table or pa.table({"x": [pixel.pixel]}), place / name)
    extra = {"margin_threshold": 1.0, "primary_catalog": "things"} if kind == "margin" else {}
    TableProperties(
        catalog_name="test", catalog_type=kind, total_rows=1, ra_column="ra", dec_column="dec",
        npix_suffix=suffix, **extra,
    ).to_properties_file(folder)  # fmt: skip
    PartitionInfo(pixels).write_to_file(catalog_path=folder)
    return folder


def names(folder: Path, pixels: list[HealpixPixel], suffix: str = ".parquet") -> list[str]:
    return [str(paths.pixel_catalog_file(folder, one, npix_suffix=suffix)) for one in pixels]


def in_order(pixels: list[HealpixPixel]) -> list[HealpixPixel]:
    return sorted(pixels, key=lambda one: one.pixel * 4 ** (10 - one.order))


@pytest.mark.parametrize("suffix", [".parquet", ".snappy.parquet", ".data"])
@pytest.mark.parametrize("marks", ["hats.properties", "properties", "both"])
@pytest.mark.parametrize("listed", [True, False])
def test_a_catalogue_is_its_pixels_in_order(
    tmp_path: Path, suffix: str, marks: str, listed: bool
) -> None:
    pixels = [*PIXELS, HealpixPixel(8, 123_456)]
    folder = write(tmp_path / "things", pixels, suffix=suffix)
    if marks != "both":
        (folder / {"hats.properties": "properties"}.get(marks, "hats.properties")).unlink()
    if not listed:
        (folder / "partition_info.csv").unlink()
    found = expand([str(folder)])
    assert list(found) == names(folder, in_order(pixels), suffix)
    assert expand([f"{folder}/"]) == found
    assert all(is_pixel_file(path) for path in found)
    for path in found:
        reader = open_reader(None, path)
        assert isinstance(reader, ParquetReader)
        assert reader.header(path).names == ("x",)


def test_pixels_that_are_folders(tmp_path: Path) -> None:
    folder = write(tmp_path / "things", PIXELS, suffix="/")
    for hidden in ("_metadata", ".0.parquet.tmp"):
        Path(names(folder, PIXELS, "/")[0], hidden).touch()
    expected = [f"{one}/{n}.parquet" for one in names(folder, in_order(PIXELS), "/") for n in "01"]
    assert list(expand([str(folder)])) == expected
    assert all(is_pixel_file(path) for path in expected)


def test_a_collection_is_its_primary_catalogue(tmp_path: Path) -> None:
    folder = write(tmp_path / "things", PIXELS)
    write(tmp_path / "margin", PIXELS, kind="margin")
    CollectionProperties(name="all", hats_primary_table_url="things").to_properties_file(tmp_path)
    assert list(expand([str(tmp_path)])) == names(folder, in_order(PIXELS))
    with pytest.raises(SpecError, match=r"is a HATS margin, not a catalogue .*: things"):
        expand([str(tmp_path / "margin")])
    shutil.rmtree(folder)
    with pytest.raises(SpecError, match="its primary catalogue 'things' is not there"):
        expand([str(tmp_path)])


def test_what_the_path_says_is_no_column(tmp_path: Path) -> None:
    table = pa.table({"x": [1], "Norder": [0], "Dir": [0], "Npix": [11]})
    (path,) = expand([str(write(tmp_path / "old", [HealpixPixel(0, 11)], table=table))])
    assert open_reader(None, path).header(path).names == ("x",)
    # Elsewhere they are anybody's columns.
    pq.write_table(table, tmp_path / "other.parquet")
    path = str(tmp_path / "other.parquet")
    assert open_reader(None, path).header(path).names == ("x", "Norder", "Dir", "Npix")


def test_a_catalogue_that_is_not_whole(tmp_path: Path) -> None:
    folder = write(tmp_path / "things", PIXELS)
    Path(names(folder, PIXELS)[0]).unlink()
    with pytest.raises(SpecError, match=r"1 of the 4 pixels .* not there, e\.g\. .*Npix=17"):
        expand([str(folder)])
    (folder / "partition_info.csv").write_text("order,pixel\n1,2\n")
    with pytest.raises(SpecError, match="expected the columns Norder and Npix"):
        expand([str(folder)])
    (folder / "partition_info.csv").unlink()
    assert len(expand([str(folder)])) == 3
    shutil.rmtree(folder / "dataset")
    (folder / "dataset").mkdir()
    with pytest.raises(SpecError, match="has no pixels"):
        expand([str(folder)])


def test_rows_that_a_catalogue_says_it_has(tmp_path: Path) -> None:
    folder = write(tmp_path / "things", PIXELS)
    CollectionProperties(name="all", hats_primary_table_url="things").to_properties_file(tmp_path)
    for name in ("hats.properties", "properties"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("hats_nrows=1\n", "hats_nrows=4\n"))
    for place in (folder, tmp_path):
        check_catalogues([str(place), str(tmp_path / "*.parquet"), "s3://bucket/things"])
    pq.write_table(pa.table({"x": [1, 2, 3]}), names(folder, PIXELS)[2])
    for place in (folder, tmp_path):
        with pytest.raises(SpecError, match=r"4 rows \(hats_nrows\), its 4 files hold 6 .*\*\*"):
            check_catalogues([str(place)])
    # The way out that the message tells.
    assert set(expand([f"{folder}/dataset/**/*.parquet"])) == set(names(folder, PIXELS))
    Path(names(folder, PIXELS)[2]).write_bytes(b"PAR1")
    check_catalogues([str(folder)])


def test_a_folder_that_is_no_catalogue(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"is a folder, not a file \(.*/\* takes the files in it"):
        expand([str(tmp_path)])
    folder = write(tmp_path / "things", PIXELS)
    (folder / "hats.properties").unlink()
    (folder / "properties").unlink()
    with pytest.raises(SpecError, match=r"is a folder, not a file \(.*hats\.properties"):
        expand([str(folder)])


def test_the_hats_library_is_not_imported(tmp_path: Path) -> None:
    folder = write(tmp_path / "things", PIXELS)
    script = (
        "import sys; from galbatch.readers import expand, open_reader\n"
        "for path in expand(sys.argv[1:]): open_reader(None, path).header(path).names\n"
        "assert 'hats' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True, cwd=REPOSITORY)


class Silent:
    def start(self, *_: Any) -> None: ...
    def progress(self, *_: Any) -> None: ...
    def retry(self, *_: Any) -> None: ...
    def failed(self, *_: Any) -> None: ...
    def end(self, *_: Any) -> None: ...
    def waiting(self, *_: Any) -> None: ...


def site(source: Path | str, store: Path, **changes: Any) -> Site:
    words = job_words(
        survey="zcosmos",
        source={"kind": "files", "paths": [str(source)]},
        models=[{"kind": "photometric"}],
        sinks=[],
        split=None,
        **{"partition": {"rows": 150, "max_order": 10}, **changes},
    )
    return Site(Job.model_validate(words), SURVEY, Layout(store))


def ingest(place: Site) -> pd.DataFrame:
    with opened(place):
        outcome = run((Scan(), Ingest()), place, lambda: nullcontext(None), Silent())
    assert outcome.quarantined == ()
    found = Snapshot(place).catalogue
    assert found is not None
    parts = [pq.ParquetFile(place.layout.partition(one)).read() for one in found.partitions]
    frame = pa.concat_tables(parts).to_pandas()
    assert frame.columns.is_unique
    return frame.sort_values(SURVEY.id.column).reset_index(drop=True)


def sky(rows: int = 600) -> pa.Table:
    (table,) = mock_batches(SURVEY, rows, 7, rows)
    return table


def test_a_catalogue_of_lsdb(tmp_path: Path) -> None:
    import lsdb

    table = sky()
    assert SURVEY.sky is not None
    catalogue = lsdb.from_dataframe(
        table.to_pandas(), ra_column=SURVEY.sky.ra, dec_column=SURVEY.sky.dec,
        lowest_order=4, highest_order=9, partition_rows=100, margin_threshold=None,
    )  # fmt: skip
    catalogue.write_catalog(tmp_path / "theirs", catalog_name="theirs", as_collection=False)
    files = expand([str(tmp_path / "theirs")])
    assert len(files) > 3
    place = site(tmp_path / "theirs", tmp_path / "store")
    assert len(list(check_sources(place.job, SURVEY))) == len(files)
    found = ingest(place)
    expected = table.to_pandas().sort_values(SURVEY.id.column).reset_index(drop=True)
    pd.testing.assert_frame_equal(found[expected.columns], expected, check_dtype=False)
    assert set(found) - set(expected) == {"_healpix_29", "_file", "_row"}
    assert found["_file"].nunique() == len(files)


def test_a_store_of_galbatch_is_a_source_again(tmp_path: Path) -> None:
    pq.write_table(sky(), tmp_path / "sky.parquet")
    first = ingest(site(tmp_path / "sky.parquet", tmp_path / "one"))
    place = site(tmp_path / "one", tmp_path / "two", partition={"rows": 300, "max_order": 10})
    second = ingest(place)
    own = ["_file", "_row"]
    pd.testing.assert_frame_equal(second.drop(columns=own), first.drop(columns=own))
    np.testing.assert_array_equal(
        second["_healpix_29"],
        compute_spatial_index(second[SURVEY.sky.ra], second[SURVEY.sky.dec]),
    )
    # Its place among its own source's rows, not that of the store before.
    assert second.groupby("_file")["_row"].min().eq(1).all()
    assert second["_file"].nunique() == len(expand([str(tmp_path / "one")])) > 1
    with opened(place):
        again = run((Scan(), Ingest()), place, lambda: nullcontext(None), Silent())
    assert all(one.units == 0 for one in again.records)


def test_news_of_a_catalogue_are_read_alone(tmp_path: Path) -> None:
    pq.write_table(sky(), tmp_path / "sky.parquet")
    ingest(site(tmp_path / "sky.parquet", tmp_path / "one"))
    place = site(tmp_path / "one", tmp_path / "two")
    ingest(place)
    os.utime(expand([str(tmp_path / "one")])[1], (1, 1))
    with opened(place):
        outcome = run((Scan(), Ingest()), place, lambda: nullcontext(None), Silent())
    assert outcome.records[0].units == 1
