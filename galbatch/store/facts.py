"""Facts in receipts of the catalogue, for later stages: one frozen class for each kind.

`to_json` and `from_json` are inverses; the order of the keys is part of a receipt's bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from galbatch.store.partitions import PixelCounts
from galbatch.store.shards import Shard
from galbatch.values import TARGETS, Partition, Receipt, Target

RowRanges = Mapping[int, tuple[int, int]]
"""The first and last row of each source file, by the number of the file."""


@dataclass(frozen=True)
class Counts:
    """How many values lie between edges.

    Parameters
    ----------
    edges : tuple of float, length n + 1
    counts : tuple of int, length n
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return {"edges": list(self.edges), "counts": list(self.counts)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Counts:
        """The inverse of `to_json`."""
        return cls(tuple(record["edges"]), tuple(record["counts"]))


@dataclass(frozen=True)
class ScanFacts:
    """What the scan of a source file found.

    Parameters
    ----------
    number : int
        `_file` of its rows.
    merged_into : str or None
        Key of the catalogue that its rows are to be merged into (empty for the first one); None
        where the file is read again for partitions that were lost.
    shards : tuple of Shard
    records : int
        That the file holds, by its format's own count.
    rejected : int
        Rows in quarantine.
    labelled : mapping of Target to int
        Rows with a label.
    stars : int
        Rows labelled as stars.
    aliases : tuple of str
        ``RAdeg -> RA``.
    absent : tuple of str
        Columns of the survey that the file lacks.
    notes : tuple of str
        What a user should know of it, a line each.
    """

    number: int
    merged_into: str | None
    shards: tuple[Shard, ...]
    records: int
    rejected: int
    labelled: Mapping[Target, int]
    stars: int
    aliases: tuple[str, ...]
    absent: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return {
            "number": self.number,
            "news_to": self.merged_into,
            "shards": [shard.to_json() for shard in self.shards],
            "records": self.records,
            "rejected": self.rejected,
            "labelled": dict(self.labelled),
            "stars": self.stars,
            "aliases": list(self.aliases),
            "absent": list(self.absent),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ScanFacts:
        """The inverse of `to_json`."""
        return cls(
            number=record["number"],
            merged_into=record["news_to"],
            shards=tuple(map(Shard.from_json, record["shards"])),
            records=record["records"],
            rejected=record["rejected"],
            labelled=dict(record["labelled"]),
            stars=record["stars"],
            aliases=tuple(record["aliases"]),
            absent=tuple(record["absent"]),
            notes=tuple(record["notes"]),
        )


@dataclass(frozen=True)
class SourceFacts:
    """What the catalogue keeps of a source file: the scan's receipt goes when all is ingested.

    Parameters
    ----------
    key : str
        Of the receipt of its scan.
    rows : int
        That the scan took.
    number, records, rejected, labelled, stars, aliases, absent, notes
        As in `ScanFacts`.
    duplicates : int
        Rows in quarantine because they repeat an id.
    repeats : tuple of str
        Sources that have the ids which it repeats.
    content : str
        Digest of what the catalogue has of it; empty before that is known.
    """

    key: str
    rows: int
    number: int
    records: int
    rejected: int
    labelled: Mapping[Target, int]
    stars: int
    aliases: tuple[str, ...]
    absent: tuple[str, ...]
    notes: tuple[str, ...]
    duplicates: int = 0
    repeats: tuple[str, ...] = ()
    content: str = ""

    @classmethod
    def of(cls, scan: Receipt) -> SourceFacts:
        """From the receipt of a scan."""
        facts = ScanFacts.from_json(scan.facts)
        return cls(
            key=scan.key,
            rows=scan.rows,
            number=facts.number,
            records=facts.records,
            rejected=facts.rejected,
            labelled=facts.labelled,
            stars=facts.stars,
            aliases=facts.aliases,
            absent=facts.absent,
            notes=facts.notes,
        )

    @property
    def in_quarantine(self) -> int:
        """Rows that are not in the catalogue."""
        return self.rejected + self.duplicates

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        lists = {name: list(getattr(self, name)) for name in ("aliases", "absent", "notes")}
        return asdict(self) | lists | {"repeats": list(self.repeats)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> SourceFacts:
        """The inverse of `to_json`."""
        lists = ("aliases", "absent", "notes", "repeats")
        return cls(**{**record, **{name: tuple(record[name]) for name in lists}})


@dataclass(frozen=True)
class Totals:
    """What the scans of all sources found.

    Parameters
    ----------
    records : int
        By the count of the files themselves.
    read : int
        Rows in the catalogue or rejected.
    rejected : int
    labelled : mapping of Target to int
    stars : int
    aliases : tuple of str
        Of any file.
    absent : tuple of str
        Columns that every file lacks.
    notes : tuple of str
        Of any file.
    """

    records: int
    read: int
    rejected: int
    labelled: Mapping[Target, int]
    stars: int
    aliases: tuple[str, ...]
    absent: tuple[str, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, sources: Iterable[SourceFacts]) -> Totals:
        """Over these sources."""
        facts = list(sources)
        rejected = sum(fact.rejected for fact in facts)
        absent = [set(fact.absent) for fact in facts]
        return cls(
            records=sum(fact.records for fact in facts),
            read=sum(fact.rows for fact in facts) + rejected,
            rejected=rejected,
            labelled={t: sum(fact.labelled.get(t, 0) for fact in facts) for t in TARGETS},
            stars=sum(fact.stars for fact in facts),
            aliases=tuple(sorted({alias for fact in facts for alias in fact.aliases})),
            absent=tuple(sorted(set.intersection(*absent))) if absent else (),
            notes=tuple(sorted({note for fact in facts for note in fact.notes})),
        )

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        lists = {name: list(getattr(self, name)) for name in ("aliases", "absent", "notes")}
        return asdict(self) | lists

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Totals:
        """The inverse of `to_json`."""
        return cls(
            records=record["records"],
            read=record["read"],
            rejected=record["rejected"],
            labelled=dict(record["labelled"]),
            stars=record["stars"],
            aliases=tuple(record["aliases"]),
            absent=tuple(record["absent"]),
            notes=tuple(record["notes"]),
        )


@dataclass(frozen=True)
class PartitionFacts:
    """The rows of one partition.

    Parameters
    ----------
    magnitudes : Counts
        Of the reference band.
    files : mapping of int to (int, int)
        The first and last row of each source that it has rows of.
    counts : mapping of int to int
        Rows of each source.
    sky : PixelCounts or None
        Where they are; None for a survey without a sky.
    """

    magnitudes: Counts
    files: RowRanges
    counts: Mapping[int, int]
    sky: PixelCounts | None

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return {
            "magnitudes": self.magnitudes.to_json(),
            "files": _ranges_to_json(self.files),
            "counts": {str(number): rows for number, rows in self.counts.items()},
            "sky": _sky_to_json(self.sky),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> PartitionFacts:
        """The inverse of `to_json`."""
        return cls(
            magnitudes=Counts.from_json(record["magnitudes"]),
            files=_ranges_from_json(record["files"]),
            counts={int(number): rows for number, rows in record["counts"].items()},
            sky=_sky_from_json(record["sky"]),
        )


@dataclass(frozen=True)
class StoredPartition:
    """A partition of the published catalogue.

    Parameters
    ----------
    partition : Partition
    digest : str
        Of its file; empty for one that could not be written.
    size : int
        Bytes of its file.
    files : mapping of int to (int, int)
        The sources of its rows, each with its first and last row number here.
    """

    partition: Partition
    digest: str
    size: int
    files: RowRanges

    @classmethod
    def of(cls, partition: Partition, receipt: Receipt) -> StoredPartition:
        """From the receipt of its partition."""
        files = PartitionFacts.from_json(receipt.facts).files
        return cls(replace(partition, rows=receipt.rows), receipt.digest, receipt.sizes[0], files)

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        partition = self.partition
        return {
            "kind": partition.kind,
            "order": partition.order,
            "index": partition.index,
            "rows": partition.rows,
            "digest": self.digest,
            "size": self.size,
            "files": _ranges_to_json(self.files),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> StoredPartition:
        """The inverse of `to_json`."""
        partition = Partition(record["kind"], record["order"], record["index"], record["rows"])
        return cls(partition, record["digest"], record["size"], _ranges_from_json(record["files"]))


@dataclass(frozen=True)
class CatalogueFacts:
    """The published catalogue.

    Parameters
    ----------
    totals : Totals
    sources : mapping of str to SourceFacts
        By the file.
    partitions : tuple of StoredPartition
    duplicates : int
        Rows in quarantine because they repeat an id.
    histogram : PixelCounts or None
        Where the rows are on the sky; None for a survey without one.
    id : str
        Column of the ids.
    columns, types : tuple of str
        Of every partition; Arrow's names of types.
    arrays : mapping or None
        What those of the columns that are arrays are kept as (`arrays.GroupSpec.to_json`).
    """

    totals: Totals
    sources: Mapping[str, SourceFacts]
    partitions: tuple[StoredPartition, ...]
    duplicates: int
    histogram: PixelCounts | None
    id: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    arrays: Mapping[str, Any] | None = None

    @property
    def id_type(self) -> str:
        """Arrow's name of the type of the ids."""
        return self.types[self.columns.index(self.id)]

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return self.totals.to_json() | {
            "sources": {unit: source.to_json() for unit, source in self.sources.items()},
            "partitions": [stored.to_json() for stored in self.partitions],
            "duplicates": self.duplicates,
            "histogram": _sky_to_json(self.histogram),
            "id": self.id,
            "columns": list(self.columns),
            "types": list(self.types),
            **({} if self.arrays is None else {"arrays": self.arrays}),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> CatalogueFacts:
        """The inverse of `to_json`."""
        sources = record["sources"].items()
        return cls(
            totals=Totals.from_json(record),
            sources={unit: SourceFacts.from_json(source) for unit, source in sources},
            partitions=tuple(map(StoredPartition.from_json, record["partitions"])),
            duplicates=record["duplicates"],
            histogram=_sky_from_json(record["histogram"]),
            id=record["id"],
            columns=tuple(record["columns"]),
            types=tuple(record["types"]),
            arrays=record.get("arrays"),
        )

    @staticmethod
    def numbers(catalogue: Receipt) -> dict[str, int]:
        """The number of every source, of a catalogue that any version of the code has written."""
        return {unit: source["number"] for unit, source in catalogue.facts["sources"].items()}


def _ranges_to_json(files: RowRanges) -> dict[str, list[int]]:
    return {str(number): list(rows) for number, rows in files.items()}


def _ranges_from_json(record: Mapping[str, Any]) -> dict[int, tuple[int, int]]:
    return {int(number): (low, high) for number, (low, high) in record.items()}


def _sky_to_json(histogram: PixelCounts | None) -> dict[str, Any] | None:
    if histogram is None:
        return None
    return {
        "order": histogram.order,
        "pixels": histogram.pixels.tolist(),
        "counts": histogram.counts.tolist(),
    }


def _sky_from_json(record: Mapping[str, Any] | None) -> PixelCounts | None:
    if record is None:
        return None
    pixels, counts = (np.array(record[name], np.int64) for name in ("pixels", "counts"))
    return PixelCounts(record["order"], pixels, counts)
