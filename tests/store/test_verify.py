"""What is damaged is named, all of it and once, and nothing that is sound is taken away."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from small import job_words

from galbatch.run import opened, run
from galbatch.spec import load_survey
from galbatch.spec.job import Job
from galbatch.stages.base import Site
from galbatch.stages.ingest import Ingest
from galbatch.stages.scan import Scan
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
