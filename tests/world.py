"""Files of a small survey, and a store that follows them."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from small import job_words

from galbatch.mock.observe import mock_batches
from galbatch.run.loop import run
from galbatch.run.store import opened
from galbatch.spec import load_job, load_survey
from galbatch.spec.job import Job
from galbatch.stages.ingest import Ingest
from galbatch.stages.predict import Predict
from galbatch.stages.scan import Scan
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.layout import Layout

STAGES = (Scan(), Ingest())


class Silent:
    """Nobody watches."""

    def start(self, *_: Any) -> None: ...
    def progress(self, *_: Any) -> None: ...
    def retry(self, *_: Any) -> None: ...
    def failed(self, *_: Any) -> None: ...
    def end(self, *_: Any) -> None: ...
    def waiting(self, *_: Any) -> None: ...


def site_of(folder: Path, *changes: str) -> Site:
    """The job of a folder, with changes as `--set` takes them, and the store beside it."""
    job = load_job(str(folder / "job.yaml"), changes)
    return Site(job, load_survey(job.survey), Layout(folder / "store"))


def predict(site: Site, stage: Predict | None = None) -> Any:
    """Do what one stage has left, in this process."""
    with opened(site):
        return run((stage or Predict(),), site, lambda: nullcontext(None), Silent())


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
        found = Snapshot(site).catalogue
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
