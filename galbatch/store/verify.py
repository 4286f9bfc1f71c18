"""Whether a store is what its receipts say, down to the last byte."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from galbatch.store.arrays import TableRows, check, density_spec
from galbatch.store.layout import CATALOGUE, Layout
from galbatch.store.places import is_remote, readable
from galbatch.store.receipts import ReceiptBook
from galbatch.store.tables import is_readable
from galbatch.values import Partition, Receipt

STAGES = ("scan", "ingest", "train", "predict", "append", "report")
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
        What must go, so that the next run makes it anew.
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
    book = ReceiptBook(layout)
    sound: dict[str, dict[str, Receipt]] = {}
    for stage in STAGES:
        sound[stage] = {}
        for path in book.paths(stage):
            receipt = book.read(path)
            if receipt is None or layout.receipt(stage, receipt.unit) != path:
                yield Damage(layout.relative(path), "was edited or damaged", (path,))
                continue
            found = list(_outputs(layout, book, receipt))
            yield from found
            if not found:
                sound[stage][receipt.unit] = receipt
    catalogue = sound.get("ingest", {}).get(CATALOGUE)
    if catalogue is None:
        return
    yield from _partitions(layout, catalogue, sound["ingest"])
    for model in _models(sound.get("predict", {})):
        yield from _predictions(layout, model, catalogue, sound["ingest"], sound["predict"])
    yield from _ids(layout, catalogue)
    if layout.collection.exists():
        yield from _hats(layout, sound.get("predict", {}))


def withdraw(layout: Layout, damage: Damage) -> None:
    """Take what is damaged out of the way: the next run makes it anew, and nothing else.

    It is kept in the quarantine.

    Parameters
    ----------
    layout : Layout
    damage : Damage
    """
    for path in damage.files:
        if path.exists():
            kept = layout.damaged(path)
            if is_remote(path):
                kept.write_bytes(path.read_bytes())
                path.unlink()
                continue
            kept.parent.mkdir(parents=True, exist_ok=True)
            path.replace(kept)


def _outputs(layout: Layout, book: ReceiptBook, receipt: Receipt) -> Iterator[Damage]:
    problem = book.damage(receipt, deep=True)
    if not problem:
        return
    name = next(output for output in receipt.outputs if problem.startswith(output))
    path = layout.output(name)
    files = tuple(sorted(p for p in path.rglob("*") if p.is_file())) if path.is_dir() else (path,)
    yield Damage(name, problem.removeprefix(name).strip(), files)


def _partitions(
    layout: Layout, catalogue: Receipt, receipts: Mapping[str, Receipt]
) -> Iterator[Damage]:
    """Every partition of the catalogue is there, with its rows, and no other."""
    names = set()
    for words in catalogue.facts["partitions"]:
        receipt = receipts.get(_name(words))
        if not words["digest"] or receipt is None:
            continue
        (output,) = receipt.outputs
        names.add(layout.output(output))
        with readable(layout.output(output)) as source:
            rows = pq.read_metadata(source).num_rows
        if (receipt.digest, rows) != (words["digest"], words["rows"]):
            problem = f"expected {words['rows']:,} rows ({words['digest'][:8]}), found {rows:,}"
            yield Damage(output, f"{problem} ({receipt.digest[:8]})", (layout.output(output),))
    expected = {_name(words) for words in catalogue.facts["partitions"]}
    yield from _strays(layout, layout.dataset(), names, receipts.keys() >= expected)


def _predictions(
    layout: Layout,
    model: str,
    catalogue: Receipt,
    partitions: Mapping[str, Receipt],
    receipts: Mapping[str, Receipt],
) -> Iterator[Damage]:
    """Every prediction has the rows of its partition, under the same ids, in the same order."""
    names = set()
    for unit, receipt in receipts.items():
        if not unit.startswith(f"{model}.") or not receipt.outputs:
            continue
        output = receipt.outputs[0]
        names.add(layout.output(output))
        partition = partitions.get(unit.removeprefix(f"{model}."))
        if partition is None or partition.digest != receipt.depends["rows"]:
            continue  # of an earlier catalogue: it says so itself
        column = catalogue.facts["id"]
        ours = _column(layout.output(output), column)
        theirs = _column(layout.output(partition.outputs[0]), column)
        if not ours[column].combine_chunks().equals(theirs[column].combine_chunks()):
            problem = f"its ids are not those of {partition.outputs[0]}"
            yield Damage(output, problem, (layout.output(output),))
    yield from _strays(layout, layout.dataset(model), names, model in receipts)
    published = receipts.get(model)
    if published is not None and published.facts["arrays"]:
        yield from _arrays(layout, model, catalogue, published, receipts)


def _arrays(
    layout: Layout,
    model: str,
    catalogue: Receipt,
    published: Receipt,
    receipts: Mapping[str, Receipt],
) -> Iterator[Damage]:
    """Every row has its array, under its id, in whole shards of its partition."""
    column = catalogue.facts["id"]
    found = {
        unit.removeprefix(f"{model}."): receipt
        for unit, receipt in receipts.items()
        if unit.startswith(f"{model}.")
    }

    def table(partition: str) -> TableRows:
        path = layout.output(found[partition].outputs[0])
        with readable(path) as source:
            rows = pq.ParquetFile(source).read(columns=[column, "z_mode"])
        return TableRows(rows[column].to_numpy(), np.isfinite(rows["z_mode"].to_numpy()))

    kinds = dict(zip(catalogue.facts["columns"], catalogue.facts["types"], strict=True))
    spec = density_spec(
        published.facts["arrays"], "string" if kinds[column] == "string" else "int64"
    )
    rows = {partition: receipt.rows for partition, receipt in found.items()}
    for problem in check(layout, model, spec, rows, table):
        files = [
            layout.output(n) for one in found.values() for n in one.outputs if n in str(problem)
        ]
        metadata = layout.arrays(model) / "zarr.json"
        yield Damage(f"arrays/{model}", str(problem), tuple(files) or (metadata,))


def _strays(layout: Layout, dataset: Path, names: set[Path], complete: bool) -> Iterator[Damage]:
    """Files that no receipt speaks of; unless receipts are damaged, which was said before."""
    if not complete:
        return
    for path in sorted(set(dataset.rglob("*.parquet")) - names):
        yield Damage(layout.relative(path), "belongs to no partition", (path,))


def _ids(layout: Layout, catalogue: Receipt) -> Iterator[Damage]:
    """No id is there twice."""
    paths = [path for path in sorted(layout.dataset().rglob("*.parquet")) if is_readable(path)]
    batches = _batches(paths, catalogue.facts["id"])
    start = next(batches, None)
    if start is None:
        return
    layout.spill.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"memory_limit": _MEMORY, "temp_directory": str(layout.spill)}
    with duckdb.connect(config=settings) as database:
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


def _batches(paths: Sequence[Path], column: str) -> Iterator[pa.RecordBatch]:
    for number, path in enumerate(paths):
        table = _column(path, column).rename_columns(["id"])
        places = np.full(table.num_rows, number, np.int32)
        yield from table.append_column("place", pa.array(places)).to_batches()


def _column(path: Path, column: str) -> pa.Table:
    with readable(path) as source:
        return pq.ParquetFile(source).read(columns=[column])


def _hats(layout: Layout, receipts: Mapping[str, Receipt]) -> Iterator[Damage]:
    """What hats itself says of the catalogue, of every extension, and of the collection."""
    from hats.catalog.dataset.collection_properties import CollectionProperties
    from hats.io.validation import is_valid_catalog

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # hats logs what it finds; we say it
    try:
        tables = [layout.catalogue]
        try:
            listed = CollectionProperties.read_from_dir(layout.root).all_extensions or {}
        except Exception as error:  # whatever its parser raises
            yield Damage(
                layout.relative(layout.collection), f"cannot be read: {error}", (layout.collection,)
            )
            listed = {}
        tables += [layout.extension(name) for name in listed if name in receipts]
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


def _models(receipts: Mapping[str, Receipt]) -> list[str]:
    return sorted({unit.partition(".")[0] for unit in receipts})


def _name(words: Mapping[str, Any]) -> str:
    return Partition(words["kind"], words["order"], words["index"]).name
