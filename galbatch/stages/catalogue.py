"""The published catalogue: whether it is whole, and what of it and its sources has changed."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from galbatch.errors import SpecError
from galbatch.stages import code
from galbatch.stages.site import Site
from galbatch.stages.sources import SourceFile, list_sources, survey_meaning
from galbatch.store.arrays import IdKind, id_kind
from galbatch.store.commit import digest_file
from galbatch.store.facts import CatalogueFacts, ScanFacts, SourceFacts, StoredPartition
from galbatch.store.layout import Layout
from galbatch.store.locations import is_remote
from galbatch.store.receipts import Need, Receipts, json_digest
from galbatch.store.tables import is_readable
from galbatch.store.units import CATALOGUE_UNIT, REJECTED, REPEATED, rejected_unit
from galbatch.values import Partition, Receipt


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
    facts : CatalogueFacts
    """

    partitions: tuple[Partition, ...]
    digests: Mapping[Partition, str]
    digest: str
    facts: CatalogueFacts

    @property
    def ids(self) -> IdKind:
        """How arrays keep the ids."""
        return id_kind(self.facts.id_type)

    @property
    def rows(self) -> int:
        """Rows in all partitions."""
        return sum(partition.rows for partition in self.partitions)


@dataclass(frozen=True)
class CatalogueState:
    """The published catalogue compared with its sources, and its files with their receipts.

    Parameters
    ----------
    base : Receipt or None
        Of the catalogue as it was last published, if its partitions are made in the way that the
        job says.
    facts : CatalogueFacts or None
        What that receipt tells.
    lost : mapping of Partition to str
        Partitions that must be made again from their sources, and why.
    without_receipt : mapping of Partition to str
        Those whose file is sound but whose receipt is not, and why.
    changed : tuple of SourceFile
        Sources that are new, or not what they were.
    reread : tuple of SourceFile
        Unchanged sources that must be read again for the partitions that are lost.
    files : tuple of SourceFile
        All sources that there are now.
    gone : tuple of str
        Sources of the catalogue that are not there any more: their rows stay.
    unrecorded : frozenset of str
        Sources whose rejected rows are not in the quarantine any more.
    """

    base: Receipt | None
    facts: CatalogueFacts | None
    lost: Mapping[Partition, str]
    without_receipt: Mapping[Partition, str]
    changed: tuple[SourceFile, ...]
    reread: tuple[SourceFile, ...]
    files: tuple[SourceFile, ...]
    gone: tuple[str, ...]
    unrecorded: frozenset[str] = frozenset()

    @property
    def version(self) -> str:
        """Which catalogue is published; empty where none is."""
        return self.base.key if self.base else ""

    @property
    def sources(self) -> Mapping[str, SourceFacts]:
        """What is known of the sources of the published catalogue."""
        return self.facts.sources if self.facts else {}

    @property
    def stored(self) -> tuple[StoredPartition, ...]:
        """The partitions of the published catalogue."""
        return self.facts.partitions if self.facts else ()

    @property
    def on_disk(self) -> tuple[StoredPartition, ...]:
        """Those of them that can be read."""
        return tuple(stored for stored in self.stored if stored.partition not in self.lost)

    @property
    def to_scan(self) -> tuple[SourceFile, ...]:
        """Sources that must be read, for the one reason or the other."""
        return (*self.changed, *self.reread)

    def why(self, file: SourceFile) -> str:
        """Why a source must be read; empty where nothing of it was read before."""
        if file in self.reread:
            return "; ".join(sorted(set(self.lost.values())))
        if file.unit not in self.sources:
            return "new" if self.base else ""
        if self.sources[file.unit].key != file.need.key:
            return "the file changed"
        if file.unit in self.unrecorded:
            return "its rejected rows are not in the quarantine any more"
        return "its ids are not repeated any more in a file that changed"


def sources_now(site: Site) -> tuple[SourceFile, ...]:
    """The sources of the job that there are now, without a look at what the store has of them.

    Raises
    ------
    NoFileError
        If a file is missing that was never read.
    SpecError
        If the job no longer names one that was, or names what its own run writes.
    """
    base = Receipts(site.layout).get("ingest", CATALOGUE_UNIT)
    return list_sources(site, CatalogueFacts.numbers(base) if base else {})[0]


def compare_with_sources(site: Site, receipts: Receipts) -> CatalogueState:
    """Compare the sources with the published catalogue, and its files with their receipts.

    Raises
    ------
    SpecError
        If a file is missing that was never read, or the job no longer names one that was.
    """
    base = receipts.get("ingest", CATALOGUE_UNIT)
    files, gone = list_sources(site, CatalogueFacts.numbers(base) if base else {})
    if base is not None and {**base.depends, "sources": None} != _partitioning(site):
        if gone:
            raise SpecError(
                str(site.layout.root),
                f"must be made again ('partition' or the survey changed), but {gone[0]} is gone",
                "bring it back, or choose another 'store'",
            )
        base = None
        files, gone = list_sources(site, {})
    if base is None:
        return CatalogueState(None, None, {}, {}, files, (), files, ())
    comparison = _Comparison(
        site, receipts, base, CatalogueFacts.from_json(base.facts), files, gone
    )
    return comparison.state()


@dataclass(frozen=True)
class _Comparison:
    """The published catalogue, and the sources as they are."""

    site: Site
    receipts: Receipts
    base: Receipt
    facts: CatalogueFacts
    files: tuple[SourceFile, ...]
    gone: tuple[str, ...]

    def state(self) -> CatalogueState:
        """How they stand to each other."""
        changed = self._changed()
        lost = self._unrecorded(file for file in self.files if file.unit not in changed)
        state = self._given(changed | lost)
        # What is taken from the quarantine, and not just kept there, is read.
        reread = [file for file in state.reread if file.unit not in self.gone]
        damaged = self._unrecorded(reread, deep=True)
        if damaged:
            state = self._given(changed | lost | damaged)
        return replace(state, unrecorded=frozenset(lost | damaged))

    def _changed(self) -> set[str]:
        """Files that are new or not what they were."""
        sources, scans = self.facts.sources, self.receipts.all("scan")

        def is_changed(file: SourceFile) -> bool:
            source, key = sources.get(file.unit), file.need.key
            if source is None or source.key != key:
                return True
            # Those that a run which was stopped had begun to ingest stay changed.
            scan = scans.get(file.unit)
            return (
                scan is not None
                and scan.key == key
                and ScanFacts.from_json(scan.facts).merged_into == self.base.key
            )

        return {file.unit for file in self.files if is_changed(file)}

    def _given(self, changed: set[str]) -> CatalogueState:
        """How things stand, given the sources that changed."""
        sources, stored = self.facts.sources, self.facts.partitions
        merged = tuple(
            file
            for file in self.files
            if file.unit in changed or not changed.isdisjoint(sources[file.unit].repeats)
        )
        under_way = any(self.receipts.valid(file.need) for file in merged)
        lost, without_receipt = _damage(self.site, self.receipts, stored, under_way=under_way)
        wanted = {number for one in stored if one.partition in lost for number in one.files}
        by_number = {file.number: file for file in self.files} | {
            sources[unit].number: SourceFile.gone(unit, sources[unit].number) for unit in self.gone
        }
        reread = tuple(
            file
            for number, file in sorted(by_number.items())
            if number in wanted and file not in merged
        )
        return CatalogueState(
            self.base, self.facts, lost, without_receipt, merged, reread, self.files, self.gone
        )

    def _unrecorded(self, files: Iterable[SourceFile], *, deep: bool = False) -> set[str]:
        """Sources whose rejected rows are not in the quarantine any more."""
        layout, base = self.site.layout, self.base
        guarded = {
            name: (size, digest)
            for name, size, digest in zip(base.outputs, base.sizes, base.digests, strict=True)
        }

        def is_sound(name: str) -> bool:
            path = layout.output(name)
            size, digest = guarded.get(name, (-1, ""))
            if not path.exists() or path.stat().st_size != size:
                return False
            return not deep or digest_file(path) == digest

        sources = self.facts.sources
        return {
            file.unit
            for file in files
            if not all(map(is_sound, quarantine_files(layout, file.unit, sources[file.unit])))
        }


def quarantine_files(layout: Layout, source: str, facts: SourceFacts) -> tuple[str, ...]:
    """The files in the quarantine that a source must have, relative to the store.

    Parameters
    ----------
    layout : Layout
    source : str
    facts : SourceFacts
        What the catalogue knows of it.
    """
    kinds = [REJECTED] * bool(facts.rejected) + [REPEATED] * bool(facts.duplicates)
    paths = (layout.rejected(rejected_unit(kind, source)) for kind in kinds)
    return tuple(layout.relative(path) for path in paths)


def catalogue_need(site: Site, sources: Mapping[str, SourceFacts]) -> Need:
    """What the published catalogue depends on: its partitioning, the content of its sources."""
    content = {unit: source.content for unit, source in sources.items()}
    return Need("ingest", CATALOGUE_UNIT, {**_partitioning(site), "sources": content})


def finished(site: Site, receipts: Receipts, state: CatalogueState) -> Catalogue | None:
    """The catalogue, if it is whole and made from the sources as they are now.

    Sources that could not be read and partitions that could not be written do not count: they
    are quarantined, and tried again by the next run.
    """
    base, facts = state.base, state.facts
    failed = {one.partition for one in state.stored if not one.digest}
    if base is None or facts is None:
        return None
    if state.without_receipt or state.lost.keys() - failed or receipts.damage(base):
        return None
    if any(receipts.valid(file.need) for file in state.to_scan):
        return None
    kept = [one for one in state.stored if one.digest]
    return Catalogue(
        tuple(one.partition for one in kept),
        {one.partition: one.digest for one in kept},
        base.digest,
        facts,
    )


def _partitioning(site: Site) -> dict[str, Any]:
    return {
        "code": code.INGEST,
        "partition": site.job.partition.model_dump(mode="json"),
        "survey": json_digest(survey_meaning(site)),
        "sources": None,
    }


def _damage(
    site: Site, receipts: Receipts, stored: Iterable[StoredPartition], *, under_way: bool
) -> tuple[dict[Partition, str], dict[Partition, str]]:
    """Partitions whose file cannot be relied on, and those of which just the receipt is bad.

    While changed files are being ingested (`under_way`), partitions are replaced one by one:
    another size than that of the published catalogue is no damage then.
    """
    layout, written = site.layout, receipts.all("ingest")
    lost: dict[Partition, str] = {}
    without_receipt: dict[Partition, str] = {}
    for one in stored:
        if not one.digest:
            lost[one.partition] = f"{one.partition.name} could not be written"
            continue
        path, receipt = layout.partition(one.partition), written.get(one.partition.name)
        size = _file_size(path)
        as_written = receipt is not None and receipt.digest == one.digest
        arrays = _lost_array(receipts, receipt) if as_written else ""
        if size is None:
            lost[one.partition] = f"{layout.relative(path)} is gone"
        elif arrays:
            lost[one.partition] = arrays
        elif as_written and size == one.size:
            continue
        elif as_written or under_way:
            if not (under_way and is_readable(path)):
                lost[one.partition] = f"{layout.relative(path)} is damaged"
        elif size == one.size and digest_file(path) == one.digest:
            without_receipt[one.partition] = f"the receipt of {one.partition.name} is not sound"
        else:
            lost[one.partition] = f"{layout.relative(path)} is damaged"
    return lost, without_receipt


def _file_size(path: Path) -> int | None:
    """Bytes of a file; None where there is none."""
    if is_remote(path):
        return path.stat().st_size if path.is_file() else None
    try:
        found = path.stat()  # once: there are as many as partitions
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _lost_array(receipts: Receipts, receipt: Receipt | None) -> str:
    """Which of a partition's arrays is damaged or gone, at a glance; or nothing."""
    if receipt is None or len(receipt.outputs) == 1:
        return ""
    damages = receipts.damages(receipt)
    return next((f"{name} {what}" for name, what in damages if name != receipt.outputs[0]), "")
