"""A format that galbatch does not know: one file with a reader, and one line in the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from world import World

from galbatch.readers import Batch, Batches, FileColumn, Header, expand, open_reader
from galbatch.readers.conform import make_batch
from galbatch.readers.formats import FORMATS, FileFormat
from galbatch.spec.base import Settings
from galbatch.stages.checks import check_sources


class FeatherFormat(Settings):
    """Arrow on a disk."""


class FeatherReader:
    """Reads one record batch after the other."""

    def header(self, path: str) -> Header:
        schema = pa.ipc.open_file(path).schema
        return Header(tuple(FileColumn(field.name, field.type) for field in schema))

    def batches(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Batches:
        return Batches(self._read(path, types, rows), lambda: self._table(path).num_rows)

    def _read(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Iterator[Batch]:
        table = self._table(path)
        for start in range(0, table.num_rows, rows):
            part = table.slice(start, rows)
            numbers = np.arange(start + 1, start + 1 + part.num_rows, dtype=np.int64)
            yield make_batch(path, numbers, {name: part[name] for name in types}, types)

    def _table(self, path: str) -> pa.Table:
        return pa.ipc.open_file(path).read_all()


class FeatherWorld(World):
    """A small survey whose files are of that format."""

    def write(self, name: str, frame: pd.DataFrame) -> None:
        table = pa.Table.from_pandas(frame, preserve_index=False)
        with pa.ipc.new_file(self.folder / f"{name}.feather", table.schema) as file:
            file.write_table(table)


@pytest.fixture(autouse=True)
def _one_line_in_the_table() -> Iterator[None]:
    FORMATS.append(FileFormat(FeatherFormat, (".feather",), lambda options, path: FeatherReader()))
    yield
    del FORMATS[-1]


def test_it_is_found_by_its_ending(tmp_path: Path) -> None:
    world = FeatherWorld(tmp_path, "zcosmos")
    world.write("a", world.frames[0])
    path = str(tmp_path / "a.feather")
    reader = open_reader(None, path)
    assert isinstance(reader, FeatherReader)
    batches = reader.batches(path, {world.survey.id.column: pa.int64()}, 128)
    assert sum(len(batch.rows) for batch in batches) == batches.records == len(world.frames[0])


def test_it_goes_through_scan_and_ingest(tmp_path: Path) -> None:
    world = FeatherWorld(tmp_path, "zcosmos")
    words = {**world.words, "source": {"kind": "files", "paths": [f"{tmp_path}/*.feather"]}}
    world.site = world.site_of("store", words)
    for name, frame in zip("ab", world.frames, strict=False):
        world.write(name, frame)
    assert all(not facts.problem for facts in check_sources(world.site.job, world.survey))
    world.run()
    world.expect(*world.frames[:2])


def test_a_folder_may_be_one_file(tmp_path: Path) -> None:
    for name in ("a.FOLDER", "b.folder", "c"):
        (tmp_path / name).mkdir()
    FORMATS[-1] = FileFormat(FeatherFormat, (".folder",), FORMATS[-1].reader, folder=True)
    assert expand([f"{tmp_path}/*"]) == (f"{tmp_path}/a.FOLDER", f"{tmp_path}/b.folder")
    assert expand([f"{tmp_path}/b.folder"]) == (f"{tmp_path}/b.folder",)
