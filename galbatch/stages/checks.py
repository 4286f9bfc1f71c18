"""What can be said about a job before anything runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from galbatch.errors import SpecError, counted, did_you_mean
from galbatch.readers.base import expand, open_reader
from galbatch.readers.remote import at_hand
from galbatch.sinks.base import check_sink
from galbatch.spec.job import Job, MockSource, PhotometricModel, SkySplit
from galbatch.spec.resolve import resolve_columns
from galbatch.spec.survey import Survey
from galbatch.stages.base import Site
from galbatch.stages.train import is_trained
from galbatch.store.layout import Layout
from galbatch.store.places import local_copy, place
from galbatch.store.tables import OWN
from galbatch.training.transfer import read_pretrained
from galbatch.values import TARGETS

_NAMED = 5
"""Files and spellings that a summary names, at most."""


def agree(job: Job, survey: Survey) -> None:
    """Check that a job asks for nothing that its survey does not have.

    Raises
    ------
    SpecError
        Naming the word of the job.
    """
    if isinstance(job.split, SkySplit) and survey.sky is None:
        raise SpecError("split.kind", f"survey '{survey.name}' has no positions", "use kind: id")
    if job.source.kind == "mock" and survey.mock is None:
        raise SpecError("source.kind", f"survey '{survey.name}' has no 'mock' section")
    if job.split is not None and job.split.test + job.split.validation >= 1:
        raise SpecError("split", "test and validation leave nothing to train on")
    for sink in job.sinks:
        check_sink(sink)
    for model in job.models:
        where = f"models.{model.name}"
        if model.name.lower() == survey.name.lower():
            raise SpecError(where, "a model cannot have the survey's name", "rename it")
        for target in model.targets or ():
            if survey.labels.of(target) is None:
                known = [word for word in TARGETS if survey.labels.of(word)]
                raise SpecError(
                    f"{where}.targets",
                    f"survey '{survey.name}' has no label for '{target}'",
                    f"it has: {', '.join(known) or 'none'}",
                )
        if isinstance(model, PhotometricModel):
            for band in model.bands or ():
                if band not in survey.band_names:
                    raise SpecError(
                        f"{where}.bands",
                        f"survey '{survey.name}' has no band '{band}'",
                        did_you_mean(band, survey.band_names),
                    )
            if model.pretrained is not None:
                _check_pretrained(job, survey, model)
            if model.clean.extinction and survey.extinction is None:
                raise SpecError(
                    f"{where}.clean.extinction",
                    f"survey '{survey.name}' has no E(B-V) column",
                    "name it as 'extinction' in the survey's file",
                )


def _check_pretrained(job: Job, survey: Survey, model: PhotometricModel) -> None:
    """A model to begin with is needed until the one that begins with it is trained."""
    assert model.pretrained is not None
    try:
        with local_copy(place(model.pretrained)) as folder:
            read_pretrained(folder, model, model.bands or survey.band_names)
    except SpecError:
        if not is_trained(Site(job, survey, Layout(place(job.store))), model):
            raise


@dataclass(frozen=True)
class Header:
    """What the header of a source file says.

    Parameters
    ----------
    file : str
    columns : int
        How many it has.
    aliases : tuple of str
        ``RAdeg -> RA``: spellings that differ from the survey's.
    """

    file: str
    columns: int
    aliases: tuple[str, ...] = ()

    def __str__(self) -> str:
        taken = f", {'; '.join(self.aliases)}" if self.aliases else ""
        return f"{self.file}: {counted(self.columns, 'column')}{taken}"


def check_sources(job: Job, survey: Survey) -> Iterator[Header]:
    """Read the header of every source file and match its columns with the survey's.

    Yields
    ------
    Header
        Of each file; none for a simulated sky.

    Raises
    ------
    SpecError
        Naming the file and the column.
    """
    if isinstance(job.source, MockSource):
        return
    for path in expand(job.source.paths):
        with at_hand(path) as copy:
            found = open_reader(job.source.format, copy).columns(copy)
        columns = [name for name in found if name not in OWN]
        resolution = resolve_columns(survey, columns, path)
        yield Header(path, len(columns), resolution.aliases)


def summarise(headers: Sequence[Header]) -> tuple[str, ...]:
    """What the headers of many files say, in a few lines.

    Parameters
    ----------
    headers : sequence of Header
        One at least.

    Returns
    -------
    tuple of str
        ``500 files, 113 columns each``; ``3 files spell RA as RAdeg: a.csv, b.csv, c.csv``.
    """
    by_columns: dict[int, list[str]] = defaultdict(list)
    by_alias: dict[str, list[str]] = defaultdict(list)
    for header in headers:
        by_columns[header.columns].append(header.file)
        for alias in header.aliases:
            by_alias[alias].append(header.file)
    usual = max(by_columns, key=lambda columns: len(by_columns[columns]))
    files, each = counted(len(headers), "file"), counted(usual, "column")
    lines = [f"{files}, {each} {'each' if len(by_columns) == 1 else 'in most'}"]
    for columns, found in sorted(by_columns.items()):
        if columns != usual:
            lines.append(f"{counted(columns, 'column')} in {_named(found)}")
    # Files of one kind spell many columns otherwise: they are told together.
    spelt: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for alias, found in by_alias.items():
        spelling, _, name = alias.partition(" -> ")
        spelt[tuple(found)].append(f"{name} as {spelling}")
    for who, names in spelt.items():
        if len(who) == len(headers):
            lines.append(f"all spell {_few(names)}")
        else:
            spell = "spells" if len(who) == 1 else "spell"
            lines.append(f"{counted(len(who), 'file')} {spell} {_few(names)}: {_few(who)}")
    return tuple(lines)


def _named(files: Sequence[str]) -> str:
    """How many files, and the first of them."""
    return f"{counted(len(files), 'file')}: {_few(files)}"


def _few(words: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = len(words) - _NAMED
    return ", ".join(words[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
