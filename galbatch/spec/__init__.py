"""Every word a user may write in YAML, as frozen pydantic models."""

from galbatch.spec.job import Job
from galbatch.spec.load import load_job, load_survey
from galbatch.spec.survey import Survey

__all__ = ["Job", "Survey", "load_job", "load_survey"]
