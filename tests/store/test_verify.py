"""What is damaged is named, all of it and once, and nothing that is sound is taken away."""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small import job_words
from typer.testing import CliRunner

from galbatch.cli import app
from galbatch.mock.observe import mock_batches
from galbatch.run.loop import run
from galbatch.run.status import status
from galbatch.run.store import opened
from galbatch.spec import load_survey
from galbatch.spec.job import Job
from galbatch.stages.ingest import Ingest
from galbatch.stages.scan import Scan
from galbatch.stages.site import Site
from galbatch.store.commit import digest_file
from galbatch.store.layout import Layout
from galbatch.store.receipts import ReceiptBook
from galbatch.store.tables import commit_parquet
from galbatch.store.verify import verify, withdraw


class Silent:
    """Nobody watches."""

    def start(self, *_: Any) -> None: ...
    def progress(self, *_: Any) -> None: ...
    def retry(self, *_: Any) -> None: ...
    def failed(self, *_: Any) -> None: ...
    def end(self, *_: Any) -> None: ...
    def waiting(self, *_: Any) -> None: ...


def run_stages(site: Site, *stages: Any) -> Any:
    with opened(site):
        return run(stages, site, lambda: nullcontext(None), Silent())


def site_in(folder: Path, scratch: Path | None = None) -> Site:
    words = job_words(
        survey="zcosmos",
        source={"kind": "mock", "rows": 600, "seed": 3},
        partition={"rows": 150, "max_order": 10},
        models=[{"kind": "photometric"}],
        sinks=[],
        split=None,
    )
    return Site(Job.model_validate(words), load_survey("zcosmos"), Layout(folder, scratch))


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a catalogue and nothing else."""
    folder = tmp_path_factory.mktemp("ingested") / "store"
    run_stages(site_in(folder), Scan(), Ingest())
    return folder


@pytest.fixture
def site(ingested: Path, tmp_path: Path) -> Site:
    """A copy of it."""
    shutil.copytree(ingested, tmp_path / "store")
    return site_in(tmp_path / "store")


def flip(path: Path, place: float = 0.5) -> None:
    """Change one bit: the size is the same."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)


def files_of(layout: Layout) -> dict[str, str]:
    """Digests of what the store has published."""
    paths = [*layout.catalogue.rglob("*"), layout.collection, layout.sources, layout.identity]
    return {layout.relative(p): digest_file(p) for p in paths if p.is_file()}


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_all_that_is_damaged_is_named_once(site: Site) -> None:
    layout = site.layout
    assert list(verify(layout)) == []
    before = files_of(layout)
    partitions = sorted(layout.dataset().rglob("Npix=*.parquet"))
    broken = [
        *partitions[:2],
        layout.catalogue / "partition_info.csv",
        layout.catalogue / "hats.properties",
        layout.collection,
        layout.sources,
    ]
    for path in broken[1:]:
        cut_in_half(path)
    flip(broken[0])
    found = list(verify(layout))
    named = [path for damage in found for path in damage.files]
    assert sorted(named) == sorted(broken)
    assert sum(withdraw(layout, damage) for damage in found) == len(broken)
    run_stages(site, Scan(), Ingest())
    assert files_of(layout) == before
    assert list(verify(layout)) == []


@pytest.mark.parametrize("loss", ["gone", "half", "bit"])
def test_what_lists_the_collection_is_written_again(site: Site, loss: str) -> None:
    collection = site.layout.collection
    before = collection.read_bytes()
    if loss == "gone":
        collection.unlink()
    elif loss == "half":
        cut_in_half(collection)
    else:
        flip(collection, 0.9)
    (damage,) = verify(site.layout)
    assert damage.files == (collection,)
    withdraw(site.layout, damage)
    run_stages(site, Scan(), Ingest())
    assert collection.read_bytes() == before
    assert list(verify(site.layout)) == []


def test_what_is_gone_is_not_moved(site: Site) -> None:
    (partition, *_) = sorted(site.layout.dataset().rglob("Npix=*.parquet"))
    partition.unlink()
    (damage,) = verify(site.layout)
    assert "is gone" in str(damage)
    assert withdraw(site.layout, damage) == 0


def test_the_other_row_of_a_changed_id_is_left_alone(site: Site) -> None:
    one, other = sorted(site.layout.dataset().rglob("Npix=*.parquet"))[:2]
    theirs = pq.ParquetFile(other).read()
    column = site.survey.id.column
    ours = pq.ParquetFile(one).read()
    ids = ours[column].to_pylist()
    ids[0] = theirs[column][0].as_py()
    place = ours.schema.get_field_index(column)
    changed = ours.set_column(place, ours.schema.field(place), [ids])
    commit_parquet(one, changed)
    named = {path for damage in verify(site.layout) for path in damage.files}
    assert named == {one}


def test_two_sound_partitions_with_one_id_are_both_named(site: Site) -> None:
    # Not damage of the disk, but of whoever wrote them: the receipts say so as well.
    one, other = sorted(site.layout.dataset().rglob("Npix=*.parquet"))[:2]
    shutil.copy(one, other)
    book, digest = ReceiptBook(site.layout), digest_file(one)
    name = site.layout.relative(other)
    (receipt,) = [found for found in book.all("ingest").values() if found.outputs == (name,)]
    book.put(replace(receipt, digest=digest, digests=(digest,)))
    found = [str(damage) for damage in verify(site.layout)]
    assert any("the id" in line and "is there 2 times" in line for line in found)


def test_bit_rot_is_not_copied_into_new_files(tmp_path: Path) -> None:
    survey = load_survey("zcosmos")
    tables = list(mock_batches(survey, 600, 3, 300))
    words = site_in(tmp_path / "store").job.model_dump(mode="json") | {
        "source": {"kind": "files", "paths": [f"{tmp_path}/*.parquet"]}
    }
    site = Site(Job.model_validate(words), survey, Layout(tmp_path / "store"))
    pq.write_table(tables[0], tmp_path / "a.parquet")
    run_stages(site, Scan(), Ingest())
    column = survey.bands[0].value
    assert column is not None
    (path, *_) = sorted(site.layout.dataset().rglob("Npix=*.parquet"))
    flip(path, middle_of(path, column) / path.stat().st_size)
    pq.ParquetFile(path).read()  # which notices nothing

    pq.write_table(tables[1], tmp_path / "b.parquet")
    outcome = run_stages(site, Scan(), Ingest())
    (failed,) = outcome.quarantined
    assert path.name in failed.reason and "galbatch verify" in failed.reason
    assert_no_wrong_value(site, column, tables)
    outcome = run_stages(site, Scan(), Ingest())
    assert not outcome.quarantined
    assert_no_wrong_value(site, column, tables, rows=600)
    assert list(verify(site.layout)) == []


def middle_of(path: Path, column: str) -> int:
    """A byte in the pages of a column."""
    with pq.ParquetFile(path) as file:
        group = file.metadata.row_group(0)
        (chunk,) = [
            group.column(number)
            for number in range(group.num_columns)
            if group.column(number).path_in_schema == column
        ]
        return int(chunk.data_page_offset + chunk.total_compressed_size // 2)


def assert_no_wrong_value(
    site: Site, column: str, tables: list[pa.Table], rows: int | None = None
) -> None:
    key = site.survey.id.column
    truth = pa.concat_tables(tables).to_pandas().set_index(key)[column]
    paths = site.layout.dataset().rglob("Npix=*.parquet")
    found = pa.concat_tables(pq.ParquetFile(path).read([key, column]) for path in paths)
    values = found.to_pandas().set_index(key)[column]
    assert rows is None or len(values) == rows
    np.testing.assert_array_equal(values, truth.loc[values.index].astype(values.dtype))


def test_shards_in_a_scratch_folder_are_no_damage_of_the_store(tmp_path: Path) -> None:
    site = site_in(tmp_path / "store", tmp_path / "scratch")
    run_stages(site, Scan())  # killed before the ingest
    assert list(verify(site.layout)) == []
    assert list(verify(Layout(tmp_path / "store"))) == []
    (shard, *_) = site.layout.shards.glob("*.arrow")
    flip(shard)
    assert [damage.files for damage in verify(site.layout)] == [(shard,)]


def test_a_folder_in_the_place_of_a_receipt_is_damage(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = site.layout.receipt("ingest", "x")
    wrong.mkdir()
    outcome = run_stages(site, Scan(), Ingest())
    assert not outcome.worked
    (damage,) = verify(site.layout)
    assert damage.files == (wrong,)
    # Receipts are looked through many times: it is said once.
    assert caplog.text.count("is no receipt") == 1
    assert withdraw(site.layout, damage) == 1
    assert list(verify(site.layout)) == []


def test_the_identity_is_looked_at_as_well(site: Site) -> None:
    layout = site.layout
    before = layout.identity.read_bytes()
    layout.identity.write_bytes(before.replace(b"small", b"smalm"))
    (damage,) = verify(layout)
    assert damage.files == (layout.identity,)
    withdraw(layout, damage)
    assert not run_stages(site, Scan(), Ingest()).worked
    assert layout.identity.read_bytes() == before
    assert list(verify(layout)) == []


def test_the_command_says_what_it_moved(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sorted(site.layout.dataset().rglob("Npix=*.parquet"))
    paths[0].unlink()
    flip(paths[1])
    command = ["verify", str(site.layout.root)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        looked = CliRunner().invoke(app, command)
    assert looked.exit_code == 1
    assert "2 damaged, nothing was moved, since the store cannot be written" in looked.stderr
    assert paths[1].exists()
    moved = CliRunner().invoke(app, command)
    assert moved.exit_code == 1
    assert "2 damaged, 1 moved to" in moved.stderr
    assert not paths[1].exists()


def test_status_says_what_of_the_catalogue_is_damaged(site: Site) -> None:
    plan = (Scan(), Ingest())
    assert [row["notes"] for row in status(plan, site)["stages"]] == [[], []]
    lost = site.layout.catalogue / "partition_info.csv"
    lost.unlink()
    (note,) = status(plan, site)["stages"][1]["notes"]
    assert note.startswith(f"{site.layout.relative(lost)} is gone")
    run_stages(site, *plan)
    assert lost.exists()
    assert status(plan, site)["stages"][1]["notes"] == []
