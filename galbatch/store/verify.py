"""Whether a store is what its receipts say, down to the last byte."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galbatch.errors import counted
from galbatch.store.arrays import GroupSpec, TableRows, check, metadata_problem
from galbatch.store.commit import explain_disk_errors
from galbatch.store.facts import CatalogueFacts
from galbatch.store.layout import Layout
from galbatch.store.locations import is_remote, readable, remove_tree
from galbatch.store.model_facts import PredictFacts, PublishedFacts
from galbatch.store.publish import collection_problem
from galbatch.store.receipts import ReceiptBook
from galbatch.store.rows import ArraysBeside
from galbatch.store.tables import FILE
from galbatch.store.units import CATALOGUE_UNIT, predictions_of, version_of, versions_of
from galbatch.values import Receipt

STAGES = ("store", "scan", "ingest", "train", "predict", "append", "report")
_MEMORY = "1GiB"
_TWICE = """
    SELECT id, count(*) AS times FROM ids GROUP BY id HAVING count(*) > 1 ORDER BY id LIMIT 1
"""
_WHERE = """
    SELECT DISTINCT place FROM ids
    WHERE id IN (SELECT id FROM ids GROUP BY id HAVING count(*) > 1) ORDER BY place
"""


@dataclass(frozen=True)
class Damage:
    """Something that is not as it should be.

    Parameters
    ----------
    where : str
        File or folder, relative to the store.
    problem : str
        What was expected and what was found.
    files : tuple of Path
        Files to remove, so that the next run makes them again.
    """

    where: str
    problem: str
    files: tuple[Path, ...]

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


def verify(layout: Layout) -> Iterator[Damage]:
    """Look at everything in a store: receipts, digests, row counts, ids, HATS metadata.

    Reads every file once, and ids once more; memory does not grow with the store.

    Parameters
    ----------
    layout : Layout

    Yields
    ------
    Damage
        Nothing where the store is sound.
    """
    said: set[Path] = set()
    for damage in _all(layout):
        # One file may be wrong in more ways than one.
        if damage.files and said.issuperset(damage.files):
            continue
        said.update(damage.files)
        yield damage


def withdraw(layout: Layout, damage: Damage) -> int:
    """Move damaged files to the quarantine: the next run makes these again, and nothing else.

    Parameters
    ----------
    layout : Layout
    damage : Damage

    Returns
    -------
    int
        Files that were moved: not those that were gone already.

    Raises
    ------
    SpecError
        If they cannot be moved.
    """
    there = [path for path in damage.files if path.exists()]
    for path in there:
        kept = layout.damaged(path)
        if is_remote(path):
            kept.write_bytes(path.read_bytes())
            path.unlink()
            continue
        with explain_disk_errors(path):
            kept.parent.mkdir(parents=True, exist_ok=True)
            _make_room(kept)
            path.replace(kept)
    return len(there)


def _make_room(path: Path) -> None:
    """Remove what was kept there before, a folder perhaps."""
    if path.is_dir():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Receipts:
    """The receipts of a store by stage and unit.

    Parameters
    ----------
    known : mapping of str to mapping of str to Receipt
        All that can be read.
    sound : the same
        Those whose outputs are what was written.
    """

    known: Mapping[str, Mapping[str, Receipt]]
    sound: Mapping[str, Mapping[str, Receipt]]


def _all(layout: Layout) -> Iterator[Damage]:
    """Everything that is wrong, in the order in which one thing is made from another."""
    book = ReceiptBook(layout)
    known: dict[str, dict[str, Receipt]] = {stage: {} for stage in STAGES}
    sound: dict[str, dict[str, Receipt]] = {stage: {} for stage in STAGES}
    unreadable: dict[str, list[str]] = {stage: [] for stage in STAGES}
    for stage in STAGES:
        for path in book.paths(stage):
            receipt = book.read(path)
            if receipt is None or layout.receipt(stage, receipt.unit) != path:
                unreadable[stage].append(path.name)
                yield Damage(layout.relative(path), "was edited or damaged", (path,))
                continue
            known[stage][receipt.unit] = receipt
            found = list(_outputs(layout, book, receipt))
            yield from found
            if not found:
                sound[stage][receipt.unit] = receipt
    published = known["ingest"].get(CATALOGUE_UNIT)
    if published is None:
        return
    receipts = _Receipts(known, sound)
    catalogue = CatalogueFacts.from_json(published.facts)
    yield from _partitions(layout, catalogue, receipts, not unreadable["ingest"])
    models = versions_of(known["predict"])
    for model in models:
        # The name of a receipt's file begins as its unit does.
        damaged = {version_of(name) for name in unreadable["predict"]}
        complete = damaged <= set(models) - {model}
        yield from _predictions(layout, model, catalogue, receipts, complete)
    yield from _ids(layout, catalogue, sound["ingest"])
    yield from _properties(layout, published.digest, receipts)


def _outputs(layout: Layout, book: ReceiptBook, receipt: Receipt) -> Iterator[Damage]:
    for name, problem in book.damages(receipt, deep=True):
        path = layout.output(name)
        # What lives only during a run may be in a scratch folder that just the job knows.
        if path.is_relative_to(layout.work) and not layout.shards.exists():
            continue
        inside = path.is_dir()
        files = tuple(sorted(p for p in path.rglob("*") if p.is_file())) if inside else (path,)
        yield Damage(name, problem, files)


def _partitions(
    layout: Layout, catalogue: CatalogueFacts, receipts: _Receipts, complete: bool
) -> Iterator[Damage]:
    """Every partition of the catalogue is there, with its rows, and no other."""
    sound = True
    counts: Counter[int] = Counter()
    for stored in catalogue.partitions:
        receipt = receipts.sound["ingest"].get(stored.partition.name)
        if not stored.digest or receipt is None:
            sound = False
            continue
        output = receipt.outputs[0]
        with readable(layout.output(output)) as source:
            rows = pq.read_metadata(source).num_rows
        expected = stored.partition.rows
        if (receipt.digest, rows) != (stored.digest, expected):
            problem = f"expected {counted(expected, 'row')} ({stored.digest[:8]}), found {rows:,}"
            yield Damage(output, f"{problem} ({receipt.digest[:8]})", (layout.output(output),))
            sound = False
        files = pc.value_counts(_column(layout.output(output), FILE)[FILE])
        counts.update({one["values"]: one["counts"] for one in files.to_pylist()})
    if sound:
        yield from _law_of_rows(layout, catalogue, counts)
    written = receipts.known["ingest"]
    names = {stored.partition.name for stored in catalogue.partitions if stored.digest}
    complete = complete and written.keys() >= names
    yield from _strays(layout, layout.dataset(), written.values(), complete)
    if catalogue.arrays:
        current = {name: written[name] for name in names if name in written}
        sound_ones = {name: one for name, one in receipts.sound["ingest"].items() if name in names}
        yield from _arrays(layout, None, catalogue, catalogue.arrays, (current, sound_ones))


def _law_of_rows(
    layout: Layout, catalogue: CatalogueFacts, counts: Mapping[int, int]
) -> Iterator[Damage]:
    """Records that stand in a file = its rows in the catalogue + its rows in quarantine."""
    for unit, source in catalogue.sources.items():
        rows = counts.get(source.number, 0)
        if rows + source.in_quarantine == source.records:
            continue
        problem = (
            f"{source.records:,} records stand in it, but {rows:,} are in the catalogue and "
            f"{source.in_quarantine:,} in quarantine"
        )
        held = tuple(
            layout.partition(stored.partition)
            for stored in catalogue.partitions
            if source.number in stored.files
        )
        yield Damage(unit, problem, held)


def _predictions(
    layout: Layout,
    model: str,
    catalogue: CatalogueFacts,
    receipts: _Receipts,
    complete: bool,
) -> Iterator[Damage]:
    """Every prediction has the rows of its partition, under the same ids, in the same order."""
    column = catalogue.id
    for unit, receipt in _units(receipts.sound["predict"], model).items():
        partition = receipts.sound["ingest"].get(unit)
        if partition is None or partition.digest != receipt.depends["rows"]:
            continue  # of an earlier catalogue, or of a damaged one: it says so itself
        output = receipt.outputs[0]
        ours = _column(layout.output(output), column)
        theirs = _column(layout.output(partition.outputs[0]), column)
        if not ours[column].combine_chunks().equals(theirs[column].combine_chunks()):
            problem = f"its ids are not those of {partition.outputs[0]}"
            yield Damage(output, problem, (layout.output(output),))
    written = _units(receipts.known["predict"], model)
    published = receipts.known["predict"].get(model)
    complete = complete and published is not None
    yield from _strays(layout, layout.dataset(model), written.values(), complete)
    arrays = PublishedFacts.from_json(published.facts).arrays if published else None
    if arrays:
        units = (written, _units(receipts.sound["predict"], model))
        yield from _arrays(layout, model, catalogue, arrays, units)


def _arrays(
    layout: Layout,
    model: str | None,
    catalogue: CatalogueFacts,
    arrays: Mapping[str, Any],
    receipts: tuple[Mapping[str, Receipt], Mapping[str, Receipt]],
) -> Iterator[Damage]:
    """Every row has its arrays, under its id, in whole shards of its partition.

    `receipts` are those of the partitions that are known, and of those that are sound.
    """
    known, sound = receipts
    root = layout.relative(layout.arrays(model))

    def rows_of(partition: str) -> TableRows:
        path = layout.output(sound[partition].outputs[0])
        with readable(path) as source, pq.ParquetFile(source) as file:
            ids = file.read(columns=[catalogue.id])[catalogue.id].to_numpy()
            beside = ArraysBeside.from_metadata(file.schema_arrow.metadata)
        if beside is None:
            return TableRows(ids, PredictFacts.from_json(sound[partition].facts).missing)
        return TableRows(ids, beside.missing, beside.first)

    if not GroupSpec.is_read(arrays):
        unread = "was written by another version of galbatch: run the job, which makes it anew"
        yield Damage(root, unread, ())
        return
    spec = GroupSpec.from_json(arrays)
    written = {partition: receipt.outputs for partition, receipt in known.items()}
    misplaced = metadata_problem(layout, model, spec, written)
    if misplaced:
        # Without sound metadata, shards belong to no partition; their digests were checked above.
        yield Damage(root, misplaced, (layout.arrays(model) / "zarr.json",))
        return
    rows = {partition: receipt.rows for partition, receipt in sound.items()}
    for problem in check(layout, model, spec, rows, rows_of, known.keys()):
        yield Damage(root, str(problem), problem.files)


def _units(receipts: Mapping[str, Receipt], model: str) -> dict[str, Receipt]:
    """The receipts of a model's partitions, by partition."""
    predictions = predictions_of(receipts, model)
    return {name: receipt for name, receipt in predictions.items() if receipt.outputs}


def _strays(
    layout: Layout, dataset: Path, receipts: Iterable[Receipt], complete: bool
) -> Iterator[Damage]:
    """Files that no receipt names; not looked for where receipts are damaged (reported before)."""
    if not complete:
        return
    names = {layout.output(output) for receipt in receipts for output in receipt.outputs}
    for path in sorted(set(dataset.rglob("*.parquet")) - names):
        yield Damage(layout.relative(path), "belongs to no partition", (path,))


def _ids(
    layout: Layout, catalogue: CatalogueFacts, receipts: Mapping[str, Receipt]
) -> Iterator[Damage]:
    """No id is there twice, in the partitions that are what was written."""
    outputs = {layout.output(output) for one in receipts.values() for output in one.outputs}
    paths = sorted(outputs & set(layout.dataset().rglob("*.parquet")))
    batches = _batches(paths, catalogue.id)
    start = next(batches, None)
    if start is None:
        return
    with _spill(layout) as folder, duckdb.connect(config=_settings(folder)) as database:
        database.execute("SET preserve_insertion_order = false")
        database.register(
            "found", pa.RecordBatchReader.from_batches(start.schema, chain([start], batches))
        )
        database.execute("CREATE TEMP TABLE ids AS SELECT * FROM found")
        twice = database.execute(_TWICE).fetchall()
        if not twice:
            return
        numbers = database.execute(_WHERE).fetchall()
    value, times = twice[0]
    bad = tuple(paths[number] for (number,) in numbers)
    yield Damage(layout.relative(bad[0]), f"the id {value} is there {times} times", bad)


@contextmanager
def _spill(layout: Layout) -> Iterator[Path]:
    """Where a database may write; a disk of this machine where the store cannot be written."""
    try:
        layout.spill.mkdir(parents=True, exist_ok=True)
    except OSError:
        with tempfile.TemporaryDirectory(prefix="galbatch-") as folder:
            yield Path(folder)
    else:
        yield layout.spill


def _settings(folder: Path) -> dict[str, Any]:
    return {"memory_limit": _MEMORY, "temp_directory": str(folder)}


def _batches(paths: Sequence[Path], column: str) -> Iterator[pa.RecordBatch]:
    for number, path in enumerate(paths):
        table = _column(path, column).rename_columns(["id"])
        places = np.full(table.num_rows, number, np.int32)
        yield from table.append_column("place", pa.array(places)).to_batches()


def _column(path: Path, column: str) -> pa.Table:
    with readable(path) as source:
        return pq.ParquetFile(source).read(columns=[column])


def _properties(layout: Layout, catalogue: str, receipts: _Receipts) -> Iterator[Damage]:
    """The properties made from sound files; damaged files were reported before."""
    ours = not receipts.known["ingest"].keys() - receipts.sound["ingest"].keys()
    tables = {layout.catalogue: ours}
    known, sound = receipts.known["predict"], receipts.sound["predict"]
    for version in versions_of(known):
        units = {unit for unit in known if version_of(unit) == version}
        tables[layout.extension(version)] = version in known and units <= sound.keys()
    problem = collection_problem(layout, catalogue, deep=all(tables.values()))
    if problem:
        yield Damage(layout.relative(layout.collection), problem, (layout.collection,))
    yield from _hats(layout, [table for table, whole in tables.items() if whole])


def _hats(layout: Layout, tables: Iterable[Path]) -> Iterator[Damage]:
    """Problems that the hats library finds in the catalogue and in every extension."""
    from hats.io.validation import is_valid_catalog

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # hats logs what it finds; we say it
    try:
        for table in tables:
            properties = table / "hats.properties"
            try:
                valid = not properties.exists() or is_valid_catalog(table, strict=True)
                problem = "hats finds it invalid"
            except Exception as error:  # hats raises whatever the damaged file makes its parsers do
                valid, problem = False, f"hats cannot read it: {error}"
            if not valid:
                yield Damage(layout.relative(table), problem, (properties,))
    finally:
        logger.setLevel(level)
