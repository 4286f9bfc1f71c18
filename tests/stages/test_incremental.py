"""News in the source are merged into what is there: the catalogue is always that of its files."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small import job_words

from galbatch.errors import SpecError
from galbatch.mock.observe import mock_batches
from galbatch.run import opened, run, status
from galbatch.spec import load_survey
from galbatch.spec.job import Job
from galbatch.stages.base import Site
from galbatch.stages.catalogue import finished_catalogue, standing
from galbatch.stages.ingest import Ingest
from galbatch.stages.scan import Scan
from galbatch.store.layout import Layout
from galbatch.store.quarantine import rejected_rows

STAGES = (Scan(), Ingest())


class Silent:
    """Nobody watches."""

    def start(self, *_: Any) -> None: ...
    def progress(self, *_: Any) -> None: ...
    def retry(self, *_: Any) -> None: ...
    def failed(self, *_: Any) -> None: ...
    def end(self, *_: Any) -> None: ...


class World:
    """Files of a small survey and the store that follows them."""

    def __init__(self, folder: Path, survey: str, rows: int = 1200) -> None:
        self.folder = folder
        self.survey = load_survey(survey)
        tables = list(mock_batches(self.survey, rows, 7, rows // 4))
        self.frames = [table.to_pandas() for table in tables]
        words = job_words(
            survey=survey,
            source={"kind": "files", "paths": [f"{folder}/*.parquet"], "bad_rows": 0.2},
            partition={"rows": 150, "max_order": 10},
            models=[{"kind": "photometric"}],
            sinks=[],
            split=None,
        )
        self.site = self.site_of("store", words)
        self.words = words

    def site_of(self, store: str, words: dict[str, Any]) -> Site:
        return Site(Job.model_validate(words), self.survey, Layout(self.folder / store))

    def write(self, name: str, frame: pd.DataFrame) -> None:
        path = self.folder / f"{name}.parquet"
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
        # A file that is written twice within the clock's grain is another one all the same.
        self.clock = getattr(self, "clock", 1_700_000_000) + 1
        os.utime(path, (self.clock, self.clock))

    def run(self, site: Site | None = None) -> Any:
        site = site or self.site
        with opened(site):
            return run(STAGES, site, lambda: nullcontext(None), Silent())

    def catalogue(self, site: Site | None = None) -> pd.DataFrame:
        site = site or self.site
        found = finished_catalogue(site)
        assert found is not None
        parts = [pq.ParquetFile(site.layout.partition(one)).read() for one in found.partitions]
        assert [part.num_rows for part in parts] == [one.rows for one in found.partitions]
        for one, part in zip(found.partitions, parts, strict=True):
            if one.kind == "healpix":
                healpix = part["_healpix_29"].to_numpy()
                assert (healpix >> 2 * (29 - one.order) == one.index).all()
                assert (np.diff(healpix) >= 0).all()
        files = set(site.layout.dataset().rglob("*.parquet"))
        assert files == {site.layout.partition(one) for one in found.partitions}
        return pa.concat_tables(parts).to_pandas()

    def expect(self, *frames: pd.DataFrame) -> None:
        """The catalogue holds these rows and no other, whatever their order."""
        found = self.catalogue()
        key = self.survey.id.column
        expected = pd.concat(frames).drop_duplicates(key).sort_values(key)
        found = found.sort_values(key)[expected.columns]
        pd.testing.assert_frame_equal(
            found.reset_index(drop=True), expected.reset_index(drop=True), check_dtype=False
        )

    def bytes(self) -> dict[str, bytes]:
        root = self.site.layout.dataset()
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.parquet")}


@pytest.fixture(params=["zcosmos", "lsst_dc2"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """A survey with a sky and one without."""
    world = World(tmp_path, request.param)
    world.write("a", world.frames[0])
    world.write("b", world.frames[1])
    world.run()
    return world


def test_a_new_file_is_read_alone(world: World) -> None:
    before = {path: path.stat().st_mtime_ns for path in world.site.layout.dataset().rglob("*.p*")}
    world.write("c", world.frames[2].head(5))
    outcome = world.run()
    assert [(one.stage, one.units, one.rows > 0) for one in outcome.records] == [
        ("scan", 1, True),
        ("ingest", outcome.records[1].units, True),
    ]
    world.expect(*world.frames[:2], world.frames[2].head(5))
    untouched = [path for path, when in before.items() if path.exists()
                 and path.stat().st_mtime_ns == when]  # fmt: skip
    assert len(untouched) >= len(before) - 5
    assert world.run().records[1].units == 0


def test_a_changed_file_replaces_its_own_rows(world: World) -> None:
    changed = world.frames[0].iloc[10:250].copy()
    column = world.survey.bands[0].value
    changed[column] = changed[column] + 1
    world.write("a", changed)
    state = standing(world.site)
    assert [state.why(origin) for origin in state.fresh] == ["the file changed"]
    world.run()
    world.expect(changed, world.frames[1])
    found = world.catalogue()
    assert found.groupby("_file").size().tolist() == [240, 300]


def test_a_touched_file_leaves_the_same_bytes(world: World) -> None:
    before = world.bytes()
    world.write("a", world.frames[0])
    assert world.run().records[0].units == 1
    if world.survey.sky is not None:
        assert world.bytes() == before
    world.expect(*world.frames[:2])


def test_a_file_that_is_gone_stays_in_the_catalogue(world: World) -> None:
    (world.folder / "a.parquet").unlink()
    assert all(one.units == 0 for one in world.run().records)
    world.expect(*world.frames[:2])


def test_a_file_that_the_job_no_longer_names_is_refused(world: World) -> None:
    words = {**world.words, "source": {"kind": "files", "paths": [f"{world.folder}/b.parquet"]}}
    with pytest.raises(SpecError, match=r"holds rows of .*a\.parquet.* no longer names"):
        world.run(world.site_of("store", words))


def test_a_store_is_not_its_own_source(world: World) -> None:
    source = {"kind": "files", "paths": _rows(world)}
    with pytest.raises(SpecError, match="is in the store itself"):
        world.run(world.site_of("store", {**world.words, "source": source}))


def _rows(world: World) -> list[str]:
    return [str(path) for path in sorted(world.site.layout.dataset().rglob("*.parquet"))]


def test_what_must_be_cut_anew_needs_all_its_files(world: World) -> None:
    site = world.site_of("store", {**world.words, "partition": {"rows": 90, "max_order": 10}})
    world.run(site)
    assert len(world.catalogue(site)) == 600
    (world.folder / "a.parquet").unlink()
    with pytest.raises(SpecError, match=r"must be made anew.* but .*a\.parquet is gone"):
        world.run()


def test_a_lost_partition_is_made_anew_from_its_own_sources(world: World) -> None:
    world.write("c", world.frames[2])
    world.run()
    before = world.bytes()
    found = finished_catalogue(world.site)
    assert found is not None
    first, second = (world.site.layout.partition(one) for one in found.partitions[:2])
    first.unlink()
    second.write_bytes(second.read_bytes()[:-100])
    state = status(STAGES, world.site)
    assert "is gone" in str(state["stages"][0]["reasons"])
    outcome = world.run()
    assert outcome.records[1].units == 2
    assert world.bytes() == before


def test_an_edited_receipt_is_mended_from_the_file(world: World) -> None:
    before = world.bytes()
    found = finished_catalogue(world.site)
    assert found is not None
    path = world.site.layout.receipt("ingest", found.partitions[0].name)
    path.write_text(path.read_text().replace('"rows"', '"raws"', 1))
    outcome = world.run()
    assert [one.units for one in outcome.records] == [0, 1]
    assert world.bytes() == before
    assert all(one.units == 0 for one in world.run().records)


def test_ids_that_are_there_already_are_left_out_and_come_back(world: World) -> None:
    """A row of c repeats one of a; when a gives it up, c is read again."""
    column = world.survey.id.column
    c = world.frames[2].head(100).copy()
    c.loc[c.index[3], column] = world.frames[0][column].iloc[5]
    if world.survey.id.parts:
        pytest.skip("the id is made of two columns")
    world.write("c", c)
    world.run()
    world.expect(*world.frames[:2], c)
    (row,) = rejected_rows(world.site.layout, f"scan.{world.folder}/c.parquet.repeated")
    assert row.row == 4
    a = world.frames[0].drop(index=world.frames[0].index[5])
    world.write("a", a)
    world.run()
    world.expect(a, world.frames[1], c)
    assert rejected_rows(world.site.layout) == ()


def test_a_column_that_grows_wider_is_so_everywhere(world: World) -> None:
    column = world.survey.bands[0].value
    wide = world.frames[2].astype({column: "float64"})
    world.write("c", wide)
    world.run()
    world.expect(*world.frames[:2], wide)


def crash(after: int) -> Callable[..., Any]:
    """Do so many tasks of the ingest, then die: before the receipt of the last."""

    class Crash(Exception):
        pass

    done = 0

    def wrapper(self: Ingest, *arguments: Any) -> Any:
        nonlocal done
        done += 1
        receipts = _run(self, *arguments)
        if done == after:
            site = arguments[0]
            site.book.forget("ingest", receipts[0].unit)
            raise KeyboardInterrupt
        return receipts

    return wrapper


_run = Ingest.run


@pytest.mark.parametrize("after", [1, 2, 4])
def test_killed_while_news_are_merged_it_ends_the_same(
    world: World, after: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    changed = world.frames[0].sample(frac=0.8, random_state=1).reset_index(drop=True)
    more = pd.concat([world.frames[2], world.frames[3]])

    def news(world: World) -> None:
        world.write("a", changed)
        world.write("c", more)

    news(world)
    with monkeypatch.context() as patched:
        patched.setattr(Ingest, "run", crash(after))
        with pytest.raises(KeyboardInterrupt):
            world.run()
    assert finished_catalogue(world.site) is None
    world.run()
    world.expect(changed, world.frames[1], more)

    other = World.__new__(World)
    other.__dict__.update(world.__dict__)
    other.folder = tmp_path / "uninterrupted"
    other.folder.mkdir()
    words = {**world.words, "source": {**world.words["source"],
             "paths": [f"{other.folder}/*.parquet"]}}  # fmt: skip
    other.site = replace(world.site_of("x", words), layout=Layout(other.folder / "store"))
    other.write("a", world.frames[0])
    other.write("b", world.frames[1])
    other.run()
    news(other)
    other.run()
    assert other.bytes() == world.bytes()


def test_a_file_that_cannot_be_read_does_not_hold_up_the_rest(world: World) -> None:
    world.write("c", world.frames[2])
    path = world.folder / "c.parquet"
    path.write_bytes(path.read_bytes()[:2000])
    world.write("d", world.frames[3])
    outcome = world.run()
    assert [row.file for row in outcome.quarantined] == [f"scan {path}"]
    world.expect(*world.frames[:2], world.frames[3])
    world.write("c", world.frames[2])
    assert world.run().quarantined == ()
    world.expect(*world.frames)
