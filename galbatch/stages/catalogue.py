"""What every stage must know of the catalogue: whence its rows come, and whether it is whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from galbatch.errors import SpecError
from galbatch.readers.base import expand, stamp
from galbatch.readers.remote import is_url
from galbatch.spec.job import FilesSource, MockSource
from galbatch.stages.base import Site
from galbatch.store.commit import digest_file
from galbatch.store.layout import CATALOGUE
from galbatch.store.receipts import Need, words_digest
from galbatch.store.tables import is_readable
from galbatch.values import Partition, Receipt

SCAN_VERSION = 2
INGEST_VERSION = 2
MOCK_TILE_ROWS = 2**18
"""A simulated sky is made in parts of so many rows, each a source of its own."""
CATALOGUE_UNIT = CATALOGUE


@dataclass(frozen=True)
class Origin:
    """One source of rows.

    Parameters
    ----------
    unit : str
        File, or the simulated sky.
    number : int
        `_file` of its rows: it stays the same as long as the store lives.
    size : int or None
        Bytes of the file, or simulated rows.
    need : Need
        What the scan of it depends on.
    """

    unit: str
    number: int
    size: int | None
    need: Need


@dataclass(frozen=True)
class Held:
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
    files: Mapping[int, tuple[int, int]]

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
            "files": {str(number): list(rows) for number, rows in self.files.items()},
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Held:
        """The inverse of `to_json`."""
        partition = Partition(record["kind"], record["order"], record["index"], record["rows"])
        files = {int(number): (low, high) for number, (low, high) in record["files"].items()}
        return cls(partition, record["digest"], record["size"], files)


@dataclass(frozen=True)
class Catalogue:
    """The finished catalogue.

    Parameters
    ----------
    partitions : tuple of Partition
    digests : mapping of Partition to str
        Of their files.
    digest : str
        Of its content.
    facts : mapping
        What the scan and the ingest found: rows read and rejected, labels, aliases.
    """

    partitions: tuple[Partition, ...]
    digests: Mapping[Partition, str]
    digest: str
    facts: Mapping[str, Any]

    @property
    def rows(self) -> int:
        """Rows in all partitions."""
        return sum(partition.rows for partition in self.partitions)


@dataclass(frozen=True)
class Standing:
    """How the sources and the published catalogue stand to each other.

    Parameters
    ----------
    base : Receipt or None
        Of the catalogue as it was last published, if it is cut in the way that the job says.
    held : tuple of Held
        Its partitions.
    lost : mapping of Partition to str
        Those of them that must be made anew from their sources, and why.
    unreceipted : mapping of Partition to str
        Those whose file is sound but whose receipt is not, and why.
    fresh : tuple of Origin
        Sources that are new, or not what they were.
    again : tuple of Origin
        Sources without any news that must be read again for the partitions that are lost.
    origins : tuple of Origin
        All sources that there are now.
    gone : tuple of str
        Sources of the catalogue that are not there any more: their rows stay.
    """

    base: Receipt | None
    held: tuple[Held, ...]
    lost: Mapping[Partition, str]
    unreceipted: Mapping[Partition, str]
    fresh: tuple[Origin, ...]
    again: tuple[Origin, ...]
    origins: tuple[Origin, ...]
    gone: tuple[str, ...]

    @property
    def sources(self) -> Mapping[str, Any]:
        """What is known of the sources of the published catalogue."""
        return self.base.facts["sources"] if self.base else {}

    def why(self, origin: Origin) -> str:
        """Why a source must be read; empty where nothing of it was read before."""
        if origin in self.again:
            return "; ".join(sorted(set(self.lost.values())))
        if origin.unit not in self.sources:
            return "new" if self.base else ""
        if self.sources[origin.unit]["key"] != origin.need.key:
            return "the file changed"
        return "its ids are not repeated any more in a file that changed"


def standing(site: Site) -> Standing:
    """Compare the sources with the published catalogue, and its files with their receipts.

    Raises
    ------
    SpecError
        If a file is missing that was never read, or the job no longer names one that was.
    """
    book = site.book
    base = book.get("ingest", CATALOGUE_UNIT)
    known: Mapping[str, Any] = base.facts["sources"] if base else {}
    found, gone = _origins(site, known)
    if base is not None and {**base.depends, "sources": None} != _cut_words(site):
        if gone:
            raise SpecError(
                str(site.layout.root),
                f"must be made anew ('partition' or the survey changed), but {gone[0]} is gone",
                "bring it back, or choose another 'store'",
            )
        base, known = None, {}
        found, gone = _origins(site, known)
    sources = known
    changed = {
        origin.unit
        for origin in found
        if origin.unit not in sources or sources[origin.unit]["key"] != origin.need.key
    }
    fresh = tuple(
        origin
        for origin in found
        if origin.unit in changed or not changed.isdisjoint(sources[origin.unit]["repeats"])
    )
    if base is None:
        return Standing(None, (), {}, {}, fresh, (), found, ())
    held = tuple(Held.from_json(record) for record in base.facts["partitions"])
    under_way = any(book.valid(origin.need) for origin in fresh)
    lost, unreceipted = _damage(site, held, under_way=under_way)
    wanted = {number for one in held if one.partition in lost for number in one.files}
    numbers = {origin.number: origin for origin in found} | {
        sources[unit]["number"]: _vanished(unit, sources[unit]["number"]) for unit in gone
    }
    again = tuple(
        origin
        for number, origin in sorted(numbers.items())
        if number in wanted and origin not in fresh
    )
    return Standing(base, held, lost, unreceipted, fresh, again, found, gone)


def catalogue_need(site: Site, sources: Mapping[str, Any]) -> Need:
    """What the published catalogue depends on: how it is cut, and the content of its sources."""
    content = {unit: words["content"] for unit, words in sources.items()}
    return Need("ingest", CATALOGUE_UNIT, {**_cut_words(site), "sources": content})


def finished_catalogue(site: Site) -> Catalogue | None:
    """The catalogue, if it is whole and made from the sources as they are now.

    Sources that could not be read and partitions that could not be written do not count: they
    are quarantined, and tried again by the next run.
    """
    return whole(site, standing(site))


def whole(site: Site, state: Standing) -> Catalogue | None:
    """The same, where it is known how things stand."""
    book, base = site.book, state.base
    failed = {one.partition for one in state.held if not one.digest}
    if base is None or state.unreceipted or state.lost.keys() - failed or book.damage(base):
        return None
    if any(book.valid(origin.need) for origin in (*state.fresh, *state.again)):
        return None
    kept = [one for one in state.held if one.digest]
    return Catalogue(
        tuple(one.partition for one in kept),
        {one.partition: one.digest for one in kept},
        base.digest,
        base.facts,
    )


def _cut_words(site: Site) -> dict[str, Any]:
    return {
        "code": INGEST_VERSION,
        "partition": site.job.partition.model_dump(mode="json"),
        "survey": words_digest(_meaning(site)),
        "sources": None,
    }


def _meaning(site: Site) -> dict[str, Any]:
    return site.survey.model_dump(mode="json", include={"id", "sky", "columns", "labels"})


def _origins(site: Site, sources: Mapping[str, Any]) -> tuple[tuple[Origin, ...], tuple[str, ...]]:
    """The sources of the job, in order, and those that are gone."""
    source, survey = site.job.source, site.survey
    if isinstance(source, MockSource):
        words = {
            "code": SCAN_VERSION,
            "source": source.model_dump(mode="json", exclude={"batch_rows"}),
            "survey": words_digest(survey.model_dump(mode="json")),
        }
        tiles = []
        for number, first in enumerate(range(0, source.rows, MOCK_TILE_ROWS)):
            unit = f"mock-{survey.name}-{number}"
            size = min(MOCK_TILE_ROWS, source.rows - first)
            tiles.append(Origin(unit, number, size, Need("scan", unit, words)))
        return tuple(tiles), ()
    names = _files(source, sources)
    last = max((words["number"] for words in sources.values()), default=-1)
    meaning = words_digest(_meaning(site))
    found = []
    for name in names:
        if name.startswith(f"{site.layout.root}/"):
            raise SpecError(
                "source.paths", f"{name} is in the store itself", "choose another 'store'"
            )
        if name in sources:
            number = sources[name]["number"]
        else:
            last += 1
            number = last
        size, modified = stamp(name)
        words = {
            "code": SCAN_VERSION,
            "format": source.format.model_dump(mode="json") if source.format else None,
            "survey": meaning,
            "bytes": size,
            "modified": modified,
        }
        found.append(Origin(name, number, size, Need("scan", name, words)))
    gone = tuple(sorted(sources.keys() - set(names)))
    for unit in gone:
        if not any(_names(pattern, unit) for pattern in source.paths):
            raise SpecError(
                str(site.layout.root),
                f"holds rows of {unit}, which 'source.paths' no longer names",
                "name it again, or choose another 'store'",
            )
    return tuple(found), gone


def _files(source: FilesSource, known: Iterable[str]) -> tuple[str, ...]:
    """The files that are there. One that was read before may have been moved away since."""
    found: dict[str, None] = {}
    for pattern in source.paths:
        try:
            found |= dict.fromkeys(expand((pattern,)))
        except SpecError:
            if not any(_names(pattern, unit) for unit in known):
                raise
    return tuple(found)


def _names(pattern: str, unit: str) -> bool:
    path = pattern if is_url(pattern) else str(Path(pattern).expanduser())
    return fnmatch(unit, path) or unit.startswith(f"{path}/") or unit == path


def _vanished(unit: str, number: int) -> Origin:
    return Origin(unit, number, None, Need("scan", unit, {"bytes": None}))


def _damage(
    site: Site, held: tuple[Held, ...], *, under_way: bool
) -> tuple[dict[Partition, str], dict[Partition, str]]:
    """Partitions whose file cannot be relied on, and those of which just the receipt is bad.

    While news are being ingested (`under_way`), partitions are replaced one by one: another size
    than that of the published catalogue is no damage then.
    """
    layout = site.layout
    receipts = site.book.all("ingest")
    lost: dict[Partition, str] = {}
    unreceipted: dict[Partition, str] = {}
    for one in held:
        path, receipt = layout.partition(one.partition), receipts.get(one.partition.name)
        name = layout.relative(path)
        if not one.digest:
            lost[one.partition] = f"{one.partition.name} could not be written"
        elif not path.is_file():
            lost[one.partition] = f"{name} is gone"
        elif receipt is not None and receipt.digest == one.digest:
            if path.stat().st_size != one.size and not (under_way and is_readable(path)):
                lost[one.partition] = f"{name} is damaged"
        elif under_way:
            if not is_readable(path):
                lost[one.partition] = f"{name} is damaged"
        elif path.stat().st_size == one.size and digest_file(path) == one.digest:
            unreceipted[one.partition] = f"the receipt of {one.partition.name} is not sound"
        else:
            lost[one.partition] = f"{name} is damaged"
    return lost, unreceipted
