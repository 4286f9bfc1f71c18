"""The column of redshifts that brings spectra to rest: whether a survey has it."""

from __future__ import annotations

from galbatch.errors import SpecError, did_you_mean
from galbatch.spec.survey import Survey


def check_redshift(column: str, survey: Survey, where: str) -> None:
    """Refuse a column that cannot hold the redshifts of spectra as observed.

    Parameters
    ----------
    column : str
        That a model's setting `redshift` names.
    survey : Survey
        With spectra.
    where : str
        What an error points to, e.g. ``models.infovae``.

    Raises
    ------
    SpecError
        If the spectra are at rest, or there is no such column, or it holds no numbers.
    """
    where = f"{where}.redshift"
    if survey.spectra is not None and survey.spectra.frame == "rest":
        raise SpecError(
            where,
            f"the spectra of survey '{survey.name}' are at rest; leave it out",
            "correct 'frame' under 'spectra' if they are as they were observed",
        )
    if column not in survey.column:
        raise SpecError(
            where,
            f"survey '{survey.name}' has no column '{column}'",
            did_you_mean(column, survey.column),
        )
    found = survey.column[column]
    if found.dtype == "string" or found.shape:
        raise SpecError(
            where,
            f"expected a column of numbers, '{column}' holds "
            + ("text" if found.dtype == "string" else "arrays"),
        )
