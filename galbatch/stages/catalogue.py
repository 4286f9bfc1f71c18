"""What every stage must know of the catalogue: whence its rows come, and whether it is whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from galbatch.errors import DataError, SpecError
from galbatch.readers.paths import expand
from galbatch.readers.remote import is_url
from galbatch.readers.stamps import stamp
from galbatch.spec.job import FilesSource, MockSource
from galbatch.stages.apart import keep_apart, refuse_what_comes
from galbatch.stages.base import Look, Site
from galbatch.store.arrays import IdKind, id_kind
from galbatch.store.commit import digest_file
from galbatch.store.layout import CATALOGUE, Layout
from galbatch.store.receipts import Need, words_digest
from galbatch.store.tables import is_readable
from galbatch.values import Partition, Receipt

SCAN_VERSION = 4
INGEST_VERSION = 3
MOCK_TILE_ROWS = 2**18
"""A simulated sky is made in parts of so many rows, each a source of its own."""
CATALOGUE_UNIT = CATALOGUE
# No stage has these names: a failed task is quarantined under that of its stage.
REJECTED, REPEATED = "rows", "repeated"
"""Kinds of units in the quarantine: rows of a source that are not sound, or that repeat an id."""


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

    def as_it_is(self) -> Origin:
        """The source as it is now: its file may have changed since this was found out.

        Raises
        ------
        DataError
            If the file is gone.
        """
        if not self._is_file:
            return self
        found = _stamp(self.unit)
        if found is None:
            raise DataError(self.unit, "is not there any more")
        size, modified = found
        depends = {**self.need.depends, "bytes": size, "modified": modified}
        return replace(self, size=size, need=replace(self.need, depends=depends))

    def is_as_it_was(self) -> bool:
        """Whether its file has not changed since."""
        depends = self.need.depends
        return not self._is_file or _stamp(self.unit) == (depends["bytes"], depends["modified"])

    @property
    def _is_file(self) -> bool:
        return "bytes" in self.need.depends


def _stamp(file: str) -> tuple[int, int | str] | None:
    try:
        return stamp(file)
    except FileNotFoundError:
        return None


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
    def ids(self) -> IdKind:
        """How arrays keep the ids."""
        types = dict(zip(self.facts["columns"], self.facts["types"], strict=True))
        return id_kind(types[self.facts["id"]])

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
    unrecorded : frozenset of str
        Sources whose rejected rows are not in the quarantine any more.
    """

    base: Receipt | None
    held: tuple[Held, ...]
    lost: Mapping[Partition, str]
    unreceipted: Mapping[Partition, str]
    fresh: tuple[Origin, ...]
    again: tuple[Origin, ...]
    origins: tuple[Origin, ...]
    gone: tuple[str, ...]
    unrecorded: frozenset[str] = frozenset()

    @property
    def version(self) -> str:
        """Which catalogue is published; empty where none is."""
        return self.base.key if self.base else ""

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
        if origin.unit in self.unrecorded:
            return "its rejected rows are not in the quarantine any more"
        return "its ids are not repeated any more in a file that changed"


def standing(site: Site) -> Standing:
    """Compare the sources with the published catalogue, and its files with their receipts.

    Raises
    ------
    SpecError
        If a file is missing that was never read, or the job no longer names one that was.
    """
    if not isinstance(site, Look):
        return _standing(site)
    if "standing" not in site.known:
        site.known["standing"] = _standing(site)
    found: Standing = site.known["standing"]
    return found


def _standing(site: Site) -> Standing:
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
    changed = {
        origin.unit
        for origin in found
        if origin.unit not in known or known[origin.unit]["key"] != origin.need.key
    }
    if base is None:
        return Standing(None, (), {}, {}, found, (), found, ())
    # Those that a run which was stopped had begun to ingest stay news.
    scans = site.book.all("scan")
    changed |= {
        origin.unit
        for origin in found
        if origin.unit in scans
        and scans[origin.unit].key == origin.need.key
        and scans[origin.unit].facts["news_to"] == base.key
    }
    lost = _unrecorded(site, base, [one for one in found if one.unit not in changed])
    state = _compared(site, base, changed | lost, found, gone)
    # What is taken from the quarantine, and not just kept there, is read.
    again = [origin for origin in state.again if origin.unit not in gone]
    damaged = _unrecorded(site, base, again, deep=True)
    if damaged:
        state = _compared(site, base, changed | lost | damaged, found, gone)
    return replace(state, unrecorded=frozenset(lost | damaged))


def _compared(
    site: Site,
    base: Receipt,
    changed: set[str],
    found: tuple[Origin, ...],
    gone: tuple[str, ...],
) -> Standing:
    """How things stand, given the sources with news."""
    book, sources = site.book, base.facts["sources"]
    fresh = tuple(
        origin
        for origin in found
        if origin.unit in changed or not changed.isdisjoint(sources[origin.unit]["repeats"])
    )
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


def _unrecorded(
    site: Site, base: Receipt, origins: Iterable[Origin], *, deep: bool = False
) -> set[str]:
    """Sources whose rejected rows are not in the quarantine any more."""
    guarded = {
        name: (size, digest)
        for name, size, digest in zip(base.outputs, base.sizes, base.digests, strict=True)
    }

    def sound(name: str) -> bool:
        path = site.layout.output(name)
        size, digest = guarded.get(name, (-1, ""))
        if not path.exists() or path.stat().st_size != size:
            return False
        return not deep or digest_file(path) == digest

    sources = base.facts["sources"]
    return {
        origin.unit
        for origin in origins
        if not all(map(sound, records(site.layout, origin.unit, sources[origin.unit])))
    }


def records(layout: Layout, source: str, words: Mapping[str, Any]) -> tuple[str, ...]:
    """The files in the quarantine that a source must have, relative to the store.

    Parameters
    ----------
    layout : Layout
    source : str
    words : mapping
        What the catalogue knows of it.
    """
    units = []
    if words["rejected"]:
        units.append(f"{REJECTED}.{source}")
    if words["duplicates"]:
        units.append(f"{REPEATED}.{source}")
    return tuple(layout.relative(layout.rejected(unit)) for unit in units)


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
    # Values are converted into the unit of the photometry, but for its sentinels.
    photometry = {"photometry": {"quantity", "unit", "error", "vectors", "sentinels"}}
    whole = dict.fromkeys(("id", "sky", "columns", "labels"), True)
    return site.survey.model_dump(mode="json", include={**whole, **photometry})


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
    keep_apart(site, names)
    if not sources:
        refuse_what_comes(site)
    last = max((words["number"] for words in sources.values()), default=-1)
    meaning = words_digest(_meaning(site))
    found = []
    for name in names:
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
            # A file that came and went before it was ingested may have had the same one.
            "number": number,
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
