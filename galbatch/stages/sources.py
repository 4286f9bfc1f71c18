"""The files that a job's rows come from, as they are now."""

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
from galbatch.stages import code
from galbatch.stages.overlap import keep_apart, refuse_what_comes
from galbatch.stages.site import Site
from galbatch.store.receipts import Need, json_digest
from galbatch.store.units import mock_unit

MOCK_TILE_ROWS = 2**18
"""A simulated sky is made in parts of so many rows, each a source of its own."""


@dataclass(frozen=True)
class SourceFile:
    """A file that rows come from, or a part of a simulated sky.

    Parameters
    ----------
    unit : str
        Its path, or the name of the part.
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

    def as_it_is(self) -> SourceFile:
        """The file as it is now: it may have changed since it was listed.

        Raises
        ------
        DataError
            If it is gone.
        """
        if not self._is_file:
            return self
        stamped = _stamp(self.unit)
        if stamped is None:
            raise DataError(self.unit, "is not there any more")
        size, modified = stamped
        depends = {**self.need.depends, "bytes": size, "modified": modified}
        return replace(self, size=size, need=replace(self.need, depends=depends))

    def is_as_it_was(self) -> bool:
        """Whether it has not changed since."""
        depends = self.need.depends
        return not self._is_file or _stamp(self.unit) == (depends["bytes"], depends["modified"])

    @property
    def _is_file(self) -> bool:
        return "bytes" in self.need.depends

    @classmethod
    def gone(cls, unit: str, number: int) -> SourceFile:
        """One that was read before and is not there any more."""
        return cls(unit, number, None, Need("scan", unit, {"bytes": None}))


def _stamp(file: str) -> tuple[int, int | str] | None:
    try:
        return stamp(file)
    except FileNotFoundError:
        return None


def survey_meaning(site: Site) -> dict[str, Any]:
    """What of the survey says how a file becomes rows of the catalogue."""
    # Values are converted into the unit of the photometry, but for its sentinels.
    photometry = {"photometry": {"quantity", "unit", "error", "vectors", "sentinels"}}
    # Said only where there are arrays: catalogues without them stay what they are.
    axes = ("axes",) if site.survey.arrays else ()
    whole = dict.fromkeys(("id", "sky", "columns", "labels", *axes), True)
    return site.survey.model_dump(mode="json", include={**whole, **photometry})


def list_sources(
    site: Site, numbers: Mapping[str, int]
) -> tuple[tuple[SourceFile, ...], tuple[str, ...]]:
    """The sources of the job, in order, and those that are gone.

    Parameters
    ----------
    site : Site
    numbers : mapping of str to int
        Of the files that the store has rows of.

    Raises
    ------
    SpecError
        If a file is missing that was never read, or the job no longer names one that was.
    """
    if isinstance(site.job.source, MockSource):
        return _mock_sources(site, site.job.source), ()
    source = site.job.source
    names = _files(source, numbers)
    keep_apart(site, names)
    if not numbers:
        refuse_what_comes(site)
    meaning = json_digest(survey_meaning(site))
    last = max(numbers.values(), default=-1)
    files = []
    for name in names:
        number = numbers.get(name)
        if number is None:
            number = last = last + 1
        size, modified = stamp(name)
        depends = {
            "code": code.SCAN,
            "format": source.format.model_dump(mode="json") if source.format else None,
            "survey": meaning,
            "bytes": size,
            "modified": modified,
            # A file that came and went before it was ingested may have had the same one.
            "number": number,
        }
        files.append(SourceFile(name, number, size, Need("scan", name, depends)))
    gone = tuple(sorted(numbers.keys() - set(names)))
    for unit in gone:
        if not any(_matches(pattern, unit) for pattern in source.paths):
            raise SpecError(
                str(site.layout.root),
                f"holds rows of {unit}, which 'source.paths' no longer names",
                "name it again, or choose another 'store'",
            )
    return tuple(files), gone


def _mock_sources(site: Site, source: MockSource) -> tuple[SourceFile, ...]:
    survey = site.survey
    depends = {
        "code": code.SCAN,
        "source": source.model_dump(mode="json", exclude={"batch_rows"}),
        "survey": json_digest(survey.model_dump(mode="json")),
    }
    tiles = []
    for number, first in enumerate(range(0, source.rows, MOCK_TILE_ROWS)):
        unit = mock_unit(survey.name, number)
        size = min(MOCK_TILE_ROWS, source.rows - first)
        tiles.append(SourceFile(unit, number, size, Need("scan", unit, depends)))
    return tuple(tiles)


def _files(source: FilesSource, known: Iterable[str]) -> tuple[str, ...]:
    """The files that are there. One that was read before may have been moved away since."""
    names: dict[str, None] = {}
    for pattern in source.paths:
        try:
            names |= dict.fromkeys(expand((pattern,)))
        except SpecError:
            if not any(_matches(pattern, unit) for unit in known):
                raise
    return tuple(names)


def _matches(pattern: str, unit: str) -> bool:
    path = pattern if is_url(pattern) else str(Path(pattern).expanduser())
    return fnmatch(unit, path) or unit.startswith(f"{path}/") or unit == path
