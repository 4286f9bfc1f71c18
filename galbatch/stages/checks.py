"""What can be said about a job before anything runs."""

from __future__ import annotations

from collections.abc import Iterator

from galbatch.errors import SpecError, did_you_mean
from galbatch.readers.base import check_catalogues, expand, open_reader
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


def check_sources(job: Job, survey: Survey) -> Iterator[str]:
    """Read the header of every source file and match its columns with the survey's.

    Yields
    ------
    str
        One line for each file: its columns, and the spellings that differ from the survey's.

    Raises
    ------
    SpecError
        Naming the file and the column.
    """
    if isinstance(job.source, MockSource):
        yield f"{job.source.rows:,} simulated objects"
        return
    check_catalogues(job.source.paths)
    for path in expand(job.source.paths):
        with at_hand(path) as copy:
            found = open_reader(job.source.format, copy).header(copy).names
        columns = [name for name in found if name not in OWN]
        resolution = resolve_columns(survey, columns, path)
        taken = f", {'; '.join(resolution.aliases)}" if resolution.aliases else ""
        yield f"{path}: {len(columns)} columns{taken}"
