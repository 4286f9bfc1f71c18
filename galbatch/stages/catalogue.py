"""What every stage must know of the catalogue: whence its rows come, and whether it is whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galbatch.errors import SpecError
from galbatch.readers.base import expand
from galbatch.spec.job import MockSource
from galbatch.stages.base import Site
from galbatch.store.receipts import receipt_key
from galbatch.values import Partition

SCAN_VERSION = 1
INGEST_VERSION = 1
CATALOGUE_UNIT = "catalogue"


@dataclass(frozen=True)
class Origin:
    """One source of rows.

    Parameters
    ----------
    unit : str
        File, or the simulated sky.
    number : int
        Its place among the sources.
    size : int or None
        Bytes of the file, or simulated rows.
    key : str
        What the scan of it depends on.
    """

    unit: str
    number: int
    size: int | None
    key: str


@dataclass(frozen=True)
class Catalogue:
    """The finished catalogue.

    Parameters
    ----------
    partitions : tuple of Partition
    digest : str
        Of its content.
    facts : mapping
        What the scan and the ingest found: rows read and rejected, labels, aliases.
    """

    partitions: tuple[Partition, ...]
    digest: str
    facts: Mapping[str, Any]

    @property
    def rows(self) -> int:
        """Rows in all partitions."""
        return sum(partition.rows for partition in self.partitions)


def origins(site: Site) -> tuple[Origin, ...]:
    """The sources of the job, in order, with the keys that their scans must have.

    Raises
    ------
    SpecError
        If a file is missing.
    """
    source, survey = site.job.source, site.survey
    meaning = survey.model_dump(mode="json", include={"id", "sky", "columns", "labels"})
    if isinstance(source, MockSource):
        words = {"source": source.model_dump(mode="json"), "survey": survey.model_dump(mode="json")}
        unit = f"mock-{survey.name}"
        key = receipt_key("scan", SCAN_VERSION, words, (), unit)
        return (Origin(unit, 0, source.rows, key),)
    words = {"source": source.model_dump(mode="json", exclude={"paths"}), "survey": meaning}
    found = []
    for number, path in enumerate(expand(source.paths)):
        status = Path(path).stat()
        seen = {**words, "bytes": status.st_size, "modified": status.st_mtime_ns}
        key = receipt_key("scan", SCAN_VERSION, seen, (), path)
        found.append(Origin(path, number, status.st_size, key))
    return tuple(found)


def catalogue_key(site: Site, scans: Mapping[str, str]) -> str:
    """What the catalogue depends on: the scans it is made of, and how it is cut."""
    words = {"partition": site.job.partition.model_dump(mode="json"), "scans": dict(scans)}
    return receipt_key("ingest", INGEST_VERSION, words, (), CATALOGUE_UNIT)


def finished_catalogue(site: Site) -> Catalogue | None:
    """The catalogue, if it is whole and made from the sources as they are now."""
    book = site.book
    receipt = book.get("ingest", CATALOGUE_UNIT)
    if receipt is None:
        return None
    made_of = dict(receipt.facts["scans"])
    try:
        # A source that could not be read is not among them: it is tried again.
        scans = {one.unit: one.key for one in origins(site) if one.unit in made_of}
    except SpecError:
        # The files were moved away: the catalogue that was made of them stands for them.
        scans = made_of
    if made_of != scans or receipt.key != catalogue_key(site, scans):
        return None
    if not book.holds(receipt, receipt.key):
        return None
    partitions = tuple(Partition(**record) for record in receipt.facts["partitions"])
    if not all(site.layout.partition(partition).is_file() for partition in partitions):
        return None
    return Catalogue(partitions, receipt.digest, receipt.facts)
