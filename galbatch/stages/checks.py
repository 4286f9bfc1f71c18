"""What can be said about a job before anything runs."""

from __future__ import annotations

import math
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from galbatch.errors import SpecError, counted, did_you_mean
from galbatch.models.families import family_of, needs_labels
from galbatch.readers.paths import check_catalogues
from galbatch.readers.remote import is_url
from galbatch.sinks.open import sink_of
from galbatch.spec.cluster import QueueCluster
from galbatch.spec.job import AnyModel, Job, MockSource, SkySplit
from galbatch.spec.optional import optional_columns
from galbatch.spec.survey import Survey
from galbatch.stages.compare_files import UnreadFiles, compare, few
from galbatch.stages.deliveries import origin_of
from galbatch.stages.fit_process import address_of, pretrained_folder
from galbatch.stages.headers import FileFacts, read_headers
from galbatch.stages.overlap import other_stores
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.facts import SourceFacts
from galbatch.store.identity import Identity, check_identity
from galbatch.store.locations import check_writable
from galbatch.store.tables import OWN, read_schema
from galbatch.training.fit import trainer_of
from galbatch.values import TARGETS

_AWAY = 3
"""Files in object storage whose headers are read before a run, at most."""
_HERE = ("serial", "local", "cuda")
"""Clusters whose workers, and fits, are on this machine."""


def agree(job: Job, survey: Survey) -> None:
    """Check that a job asks for nothing that its survey does not have.

    Raises
    ------
    SpecError
        Naming the word of the job.
    """
    if isinstance(job.split, SkySplit) and survey.sky is None:
        raise SpecError("split.kind", f"survey '{survey.name}' has no positions", "use kind: id")
    if job.source.kind == "mock" and not survey.is_simulated:
        raise SpecError("source.kind", f"survey '{survey.name}' has no 'mock' section")
    if job.split is not None and job.split.test + job.split.validation >= 1:
        raise SpecError("split", "test and validation leave nothing to train on")
    for sink in job.sinks:
        sink_of(sink).check()
    _check_survey(survey, needs_labels=needs_labels(job.models))
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
        family_of(model.kind).check(model, survey)
        _check_pretrained(job, survey, model)
        _check_files(job, survey, model)


def _check_survey(survey: Survey, *, needs_labels: bool) -> None:
    """What a survey is read for must hold numbers, one in a row."""
    if needs_labels and not any(survey.labels.of(target) for target in TARGETS):
        raise SpecError(
            f"survey {survey.name}",
            "names no column with labels: there is nothing to train on",
            "write 'labels'",
        )
    for name, uses in optional_columns(survey).items():
        column, several = survey.column[name], {"thesis_inputs", "photometry.vectors.mask"}
        if column.dtype == "string" or (column.shape and not several.issuperset(uses)):
            values = f"{math.prod(column.shape)} values in a row"
            what = "text" if column.dtype == "string" else values
            raise SpecError(
                f"survey {survey.name}: {uses[0]}",
                f"expected a column of numbers, '{name}' holds {what}",
                "correct its dtype and shape in 'columns', or name another",
            )


def _check_pretrained(job: Job, survey: Survey, model: AnyModel) -> None:
    """A model to begin with is needed until the one that begins with it is trained."""
    try:
        with pretrained_folder(model) as folder:
            if folder is not None:
                trainer_of(model.kind).check_pretrained(model, survey, folder)
    except SpecError:
        if not Snapshot(Site.of(job, survey)).versions.is_trained(model):
            raise


def _check_files(job: Job, survey: Survey, model: AnyModel) -> None:
    """What a fit reads besides the catalogue is needed until the model is trained."""
    lost = [file for file in model.files if not Path(file).is_file()]
    if lost and not Snapshot(Site.of(job, survey)).versions.is_trained(model):
        raise SpecError(
            f"models.{model.name}",
            f"there is no file {lost[0]} (in {Path.cwd()})",
            "it is read relative to the current directory",
        )


def check_sources(job: Job, survey: Survey) -> Iterator[FileFacts]:
    """Make every check of a run that needs just headers and the first rows of a few files.

    Nothing is written. `run` makes the same checks of what is new before it reads anything to its
    end (`check_changed_files`).

    Yields
    ------
    FileFacts
        Of each source file; none for a simulated sky.

    Raises
    ------
    SpecError
        Naming the file and the column, or the word of the job or the survey. What files are
        together is known, and said, behind the last of them.
    """
    snapshot = Snapshot(Site.of(job, survey))
    check_places(snapshot)
    if isinstance(job.source, MockSource):
        _check_mock(job, survey)
        return
    check_catalogues(job.source.paths)
    state = snapshot.catalogue_state
    facts = []
    files = [file.unit for file in state.files]
    for one in read_headers(job.source, survey, files, first_run=state.base is None):
        facts.append(one)
        yield one
    compare(job, survey, facts, _unread_files(snapshot, files))


def source_notes(job: Job, survey: Survey, facts: Sequence[FileFacts]) -> tuple[str, ...]:
    """What a user should know of the source files together.

    Parameters
    ----------
    job, survey : Job, Survey
    facts : sequence of FileFacts
        All that `check_sources` gave.

    Returns
    -------
    tuple of str
        A line each: optional columns that files lack, columns that are not of one type, labels
        that were seen, files of other jobs' stores.
    """
    if isinstance(job.source, MockSource):
        return ()
    files = [one.file for one in facts]
    unread = _unread_files(Snapshot(Site.of(job, survey)), files)
    return (*compare(job, survey, facts, unread), *other_stores(files))


def check_changed_files(site: Site) -> None:
    """The same checks of the sources that a run is to read, before a worker is called for.

    Headers that an earlier run has seen to are not read again.

    Raises
    ------
    SpecError
        Naming the file and the column, or the word of the job or the survey.
    """
    snapshot = Snapshot(site)
    check_places(snapshot)
    job, survey = site.job, site.survey
    if isinstance(job.source, MockSource):
        _check_mock(job, survey)
        return
    state = snapshot.catalogue_state
    files = [one.unit for one in state.changed if snapshot.receipts.valid(one.need) is None]
    # A file in object storage is copied to be looked at.
    away = [file for file in files if is_url(file)][_AWAY:]
    files = [file for file in files if file not in set(away)]
    if files:
        check_catalogues(job.source.paths)
        facts = list(read_headers(job.source, survey, files, first_run=state.base is None))
        compare(job, survey, facts, _unread_files(snapshot, files, unseen=bool(away)))


def check_places(snapshot: Snapshot) -> None:
    """Check that a run may write where the job says.

    Raises
    ------
    SpecError
        If the store is another job's or no store, a folder cannot be written, a database's
        table is of others, or processes that are to train from here cannot be begun.
    """
    site = snapshot.site
    check_writable(site.layout.root, "store")
    check_identity(site.layout, identity_of(site))
    disk = "scratch" if site.job.scratch else "store"
    check_writable(site.layout.work, disk)
    if isinstance(site.job.cluster, QueueCluster):
        check_writable(site.layout.logs, disk)
    _check_training(site.job)
    for spec in site.job.sinks:
        sink = sink_of(spec)
        for file in sink.files:
            check_writable(file.absolute().parent, "sinks")
        for model in site.job.models:
            version = snapshot.versions.current(model)
            sink.check_table(origin_of(site, spec, model.name, version))


def _check_training(job: Job) -> None:
    """What processes of a fit need of this machine, where it is this one that begins them."""
    training = job.training
    if training.launch != "srun" or training.processes == 1 or job.cluster.kind not in _HERE:
        return
    if shutil.which("srun") is None:
        problem = "there is no program 'srun' on this machine"
        raise SpecError("training.launch", problem, "train in an allocation of SLURM")
    # On a node. Another machine, from which nodes were asked for, may have other interfaces.
    if training.interface is not None and "SLURMD_NODENAME" in os.environ:
        address_of(training.interface)


def identity_of(site: Site) -> Identity:
    """Who makes the store of a job."""
    # Files may come and change; the catalogue follows.
    source = site.job.source.model_dump(mode="json", exclude={"batch_rows", "bad_rows", "paths"})
    return Identity(site.job.name, site.survey.name, source)


def _check_mock(job: Job, survey: Survey) -> None:
    """A simulated sky has all columns of its survey, and no other."""
    for condition in job.report.where:
        if condition.column not in survey.column:
            raise SpecError(
                "report.where",
                f"survey '{survey.name}' has no column '{condition.column}'",
                did_you_mean(condition.column, survey.column),
            )


def _unread_files(snapshot: Snapshot, files: Iterable[str], *, unseen: bool = False) -> UnreadFiles:
    """What is known of sources whose headers are not read now."""
    state = snapshot.catalogue_state
    read = set(files)
    sources = dict(state.sources)
    scanned = 0
    for file in state.changed:
        receipt = snapshot.receipts.valid(file.need)
        sources.pop(file.unit, None)
        if receipt is not None and file.unit not in read:
            sources[file.unit] = SourceFacts.of(receipt)
            scanned += 1
    fields: dict[str, pa.Field] = {}
    if state.on_disk:
        schema = read_schema(snapshot.site.layout.partition(state.on_disk[0].partition))
        fields = {one.name: one for one in schema if one.name not in OWN}
    return UnreadFiles(
        fields,
        {unit: source.absent for unit, source in sources.items() if unit not in read},
        {t: sum(source.labelled.get(t, 0) for source in sources.values()) for t in TARGETS},
        unseen=unseen or scanned > 0,
    )


def summarise(facts: Sequence[FileFacts]) -> tuple[str, ...]:
    """What the headers of many files say, in a few lines.

    Parameters
    ----------
    facts : sequence of FileFacts
        One at least.

    Returns
    -------
    tuple of str
        ``500 files, 113 columns each``; ``3 files spell RA as RAdeg: a.csv, b.csv, c.csv``; what is
        noted of files; and a line for each file that a run would set aside.
    """
    sound = [one for one in facts if not one.problem]
    by_columns: dict[int, list[str]] = defaultdict(list)
    by_alias: dict[str, list[str]] = defaultdict(list)
    by_note: dict[str, list[str]] = defaultdict(list)
    for one in sound:
        by_columns[one.columns].append(one.file)
        for alias in one.aliases:
            by_alias[alias].append(one.file)
        for note in one.notes:
            by_note[note].append(one.file)
    lines = []
    for columns, files in sorted(by_columns.items(), key=lambda item: -len(item[1])):
        if len(by_columns) == 1:
            lines.append(f"{counted(len(sound), 'file')}, {counted(columns, 'column')} each")
        else:
            lines.append(f"{counted(columns, 'column')} in {_named(files)}")
    # Files of one kind spell many columns otherwise: they are told together.
    spelt: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for alias, files in by_alias.items():
        spelling, _, name = alias.partition(" -> ")
        spelt[tuple(files)].append(f"{name} as {spelling}")
    for who, names in spelt.items():
        if len(who) == len(sound):
            lines.append(f"all spell {few(names)}")
        else:
            spell = "spells" if len(who) == 1 else "spell"
            lines.append(f"{counted(len(who), 'file')} {spell} {few(names)}: {few(who)}")
    for note, files in by_note.items():
        lines.append(f"{'all' if len(files) == len(sound) else _named(files)}: {note}")
    return (*lines, *(str(one) for one in facts if one.problem))


def _named(files: Sequence[str]) -> str:
    """How many files, and the first of them."""
    return f"{counted(len(files), 'file')}: {few(files)}"
