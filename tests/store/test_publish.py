"""What other programs open: a HATS collection, or plain Parquet datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lsdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hats.io.validation import is_valid_catalog

from galbatch.errors import DataError
from galbatch.store.commit import digest_output
from galbatch.store.layout import Layout
from galbatch.store.partitions import plan_row_ranges
from galbatch.store.publish import finish_catalogue, finish_extension, retract
from galbatch.store.shard_schema import catalogue_schema
from galbatch.store.tables import commit_parquet

NAMES = {number: f"file {number}" for number in range(100)}


def files(layout: Layout) -> dict[str, bytes]:
    return {
        layout.relative(path): path.read_bytes()
        for path in layout.root.rglob("*")
        if path.is_file() and layout.work not in path.parents
    }


def valid(path: Path) -> bool:
    from hats.io.validation import is_valid_catalog

    return bool(is_valid_catalog(path, strict=True))


def test_hats_finds_nothing_wrong(store: Any) -> None:
    store.predict(store.partitions)
    store.publish(store.partitions)
    layout = store.layout
    assert valid(layout.root)
    assert valid(layout.catalogue)
    assert valid(layout.extension("photometric"))
    import hats

    catalogue = hats.read_hats(layout.catalogue)
    assert catalogue.catalog_info.total_rows == 3000
    assert catalogue.catalog_info.obs_title == "A toy survey"
    from hats.io.skymap import read_skymap

    assert read_skymap(catalogue, None).sum() == 3000
    common = pq.read_schema(layout.dataset() / "_common_metadata")
    assert common.field("r").metadata[b"unit"] == b"mag"


@pytest.mark.slow
def test_lsdb_joins_the_predictions(store: Any) -> None:
    import dask
    import lsdb

    store.predict(store.partitions[:-1])
    store.publish(store.partitions[:-1])
    with dask.config.set(scheduler="synchronous"):
        catalogue = lsdb.open_catalog(store.layout.root)
        assert list(catalogue.all_extensions) == ["photometric"]
        frame = catalogue.load_extension("photometric").compute()
    assert len(frame) == 3000
    assert frame["z_mode"].isna().sum() == store.partitions[-1].rows
    known = frame[frame["z_mode"].notna()]
    np.testing.assert_allclose(known["z_mode"].astype(float), known["ID"] / 1e3, rtol=1e-6)
    assert {"RA", "Dec", "r", "abs_mag_b", "z_pdf"} <= set(frame.columns)


def test_publishing_again_changes_no_byte(store: Any, toy: Any, tmp_path: Path) -> None:
    store.predict(store.partitions)
    store.publish(store.partitions)
    before = files(store.layout)
    finish_catalogue(
        store.layout, store.survey, store.partitions, fingerprint="c1", histogram=store.histogram
    )
    written = store.publish(store.partitions)
    assert files(store.layout) == before
    assert written == {name: digest_output(store.layout.output(name)) for name in written}
    other = toy.store(tmp_path / "other")
    other.predict(other.partitions)
    other.publish(other.partitions)
    assert files(other.layout) == before


def test_what_is_left_of_an_earlier_plan_is_removed(store: Any) -> None:
    stray = store.layout.dataset() / "Norder=12" / "Dir=0" / "Npix=7.parquet"
    commit_parquet(stray, pa.table({"a": [1]}))
    (stray.parent / ".Npix=8.parquet.abc.tmp").write_bytes(b"half")
    finish_catalogue(
        store.layout, store.survey, store.partitions, fingerprint="c1", histogram=store.histogram
    )
    assert not stray.parent.parent.exists()
    assert valid(store.layout.root)


def test_predictions_of_another_catalogue_are_not_listed(store: Any) -> None:
    store.predict(store.partitions)
    store.publish(store.partitions)
    listed = "all_extensions=photometric photometric.properties"
    assert listed in store.layout.collection.read_text()
    finish_catalogue(
        store.layout, store.survey, store.partitions, fingerprint="c2", histogram=store.histogram
    )
    assert "all_extensions" not in store.layout.collection.read_text()
    store.publish(store.partitions, catalogue="c2")
    assert listed in store.layout.collection.read_text()


def test_what_is_being_made_anew_cannot_be_opened(store: Any) -> None:
    store.predict(store.partitions)
    store.publish(store.partitions)
    retract(store.layout, store.survey, "photometric")
    assert "all_extensions" not in store.layout.collection.read_text()
    assert valid(store.layout.root)
    assert not valid(store.layout.extension("photometric"))
    retract(store.layout, store.survey)
    assert not valid(store.layout.root)
    retract(store.layout, store.survey)


@pytest.mark.parametrize("text", ["", "obs_collection=photometric\n", "\x00"])
def test_damaged_properties_are_not_listed_until_they_are_written_again(
    store: Any, text: str
) -> None:
    store.predict(store.partitions)
    store.publish(store.partitions)
    layout = store.layout
    before = files(layout)
    layout.extension_properties("photometric").write_text(text)
    finish_catalogue(
        layout, store.survey, store.partitions, fingerprint="c1", histogram=store.histogram
    )
    assert b"all_extensions" not in layout.collection.read_bytes()
    store.publish(store.partitions)
    assert files(layout) == before
    (layout.catalogue / "hats.properties").write_text(text)
    with pytest.raises(DataError, match="galbatch verify"):
        retract(layout, store.survey, "photometric")


def test_a_missing_partition_is_named(store: Any) -> None:
    path = store.layout.partition(store.partitions[2])
    path.unlink()
    with pytest.raises(DataError, match=f"{path.name}: 1 partition not written"):
        finish_catalogue(
            store.layout, store.survey, store.partitions, fingerprint="c1",
            histogram=store.histogram,
        )  # fmt: skip


def test_a_survey_without_sky_is_a_plain_dataset(tmp_path: Path, toy: Any) -> None:
    layout, survey = Layout(tmp_path), toy.survey(sky=False)
    shards = [toy.shard(layout, "a", toy.rows(np.arange(250), sky=False), 0)]
    schema = catalogue_schema(layout, shards, "ID", NAMES)
    ranges = plan_row_ranges(sum(shard.rows for shard in shards), 100)
    for partition in ranges:
        table = toy.read(layout, shards, partition, schema, 100)
        commit_parquet(layout.partition(partition), table, {})
        predicted = table.select(["ID"]).append_column("z_mode", table["r"])
        commit_parquet(layout.partition(partition, "m"), predicted, {})
    finish_catalogue(layout, survey, ranges, fingerprint="c")
    finish_extension(layout, survey, "m", ranges, ["z_mode"], fingerprint="m", catalogue="c")
    assert pq.read_metadata(layout.dataset() / "_metadata").num_rows == 250
    assert not layout.collection.exists()
    frame = pd.read_parquet(layout.dataset())
    assert frame["ID"].tolist() == list(range(250))
    assert len(pd.read_parquet(layout.dataset("m"))) == 250


def test_many_partitions_do_without_all_their_footers(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("galbatch.store.publish.MOST_IN_METADATA", 2)
    assert len(store.partitions) > 2
    finish_catalogue(
        store.layout, store.survey, store.partitions, fingerprint="c1", histogram=store.histogram
    )
    assert not (store.layout.dataset() / "_metadata").exists()
    assert is_valid_catalog(store.layout.catalogue, strict=True)
    assert len(lsdb.open_catalog(store.layout.root).compute()) == 3000
