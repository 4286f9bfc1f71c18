"""Job + Survey -> the stages, in order: pure, printable, comparable."""

from __future__ import annotations

from galbatch.spec.job import Job
from galbatch.spec.survey import Survey
from galbatch.stages.append import Append
from galbatch.stages.base import AnyStage
from galbatch.stages.checks import agree
from galbatch.stages.ingest import Ingest
from galbatch.stages.predict import Predict
from galbatch.stages.report import DrawReport
from galbatch.stages.scan import Scan
from galbatch.stages.train import Train


def plan(job: Job, survey: Survey, *, retrain: bool = False) -> tuple[AnyStage, ...]:
    """The stages that a job is made of.

    Parameters
    ----------
    job : Job
    survey : Survey
    retrain : bool
        Train another version of each model whose catalogue has changed since.

    Returns
    -------
    tuple of Stage

    Raises
    ------
    SpecError
        If the job asks for something that this survey does not have.
    """
    agree(job, survey)
    stages: tuple[AnyStage, ...] = (Scan(), Ingest(), Train(retrain=retrain), Predict())
    if job.sinks:
        stages += (Append(),)
    return (*stages, DrawReport())
